//! Edge data plane: listeners, strict framing, routing, enforcement, proxying.

pub mod auth;
pub mod framing;
