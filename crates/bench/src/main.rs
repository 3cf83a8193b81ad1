//! Load generator, do-nothing proxy and reports.

fn main() {}
