//! Compiles exposure objects into a route table and decides about one request; pure.
#![warn(missing_docs)]
