//! Edge data plane: listeners, strict framing, routing, enforcement, proxying.
