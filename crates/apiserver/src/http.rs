//! The HTTP face of the API server.

pub mod body;
pub mod negotiate;
pub mod options;
pub mod page;
pub mod respond;
