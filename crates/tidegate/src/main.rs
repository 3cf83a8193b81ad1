//! The binary: command line, configuration and wiring.

fn main() {}
