//! The edge as clients meet it: real sockets, whole answers.

mod edge;
mod framing;
mod hostile;
mod hosts_and_paths;
mod hot_reload;
mod observability;
mod tls;
mod tokens;
mod upstreams;
mod websockets;
