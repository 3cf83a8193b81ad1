//! Starts a platform or its parts on free ports for tests; sample upstream and issuer; kubectl runner.

pub mod client;
pub mod command;
pub mod issuer;
pub mod kubectl;
pub mod platform;
pub mod upstream;
pub mod wait;

pub use client::KeepAlive;
pub use command::{Output, curl};
pub use kubectl::{Kubectl, kubectls};
pub use platform::{Platform, PlatformOptions};
pub use wait::{eventually, eventually_async};
