//! Randomness and identifiers.

use std::fmt::Write as _;

use rand::{Rng as _, RngExt as _, TryRng as _, rngs::SysRng};
use uuid::Uuid;

/// Source of random values.
///
/// [`Random::fill`] is for secrets and reads the operating system's generator. The numbers are for jitter and
/// sampling and come from the thread's own cryptographic generator, which costs no system call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Random;

impl Random {
    /// The operating system's generator.
    pub fn system() -> Self {
        Self
    }

    /// Fills `bytes` from the operating system's generator. The only source for keys, secrets and nonces.
    ///
    /// # Panics
    /// When the operating system has no working generator: no secret can be made then.
    pub fn fill(&self, bytes: &mut [u8]) {
        SysRng.try_fill_bytes(bytes).expect("the operating system provides randomness");
    }

    /// A uniform 64-bit number.
    pub fn u64(&self) -> u64 {
        thread_rng().next_u64()
    }

    /// A uniform number in `0.0 ..= 1.0` (1.0 itself excluded).
    pub fn f64(&self) -> f64 {
        thread_rng().random::<f64>()
    }
}

/// Maker of identifiers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ids;

impl Ids {
    /// A maker of random identifiers.
    pub fn random() -> Self {
        Self
    }

    /// A random UUID (version 4), as object `uid`s have.
    pub fn uuid_v4(&self) -> Uuid {
        let mut bytes = [0; 16];
        thread_rng().fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// A request id: 32 lower-case hexadecimal digits. Made without a system call (`70` 2.6).
    pub fn request_id(&self) -> String {
        let mut id = String::with_capacity(32);
        let mut rng = thread_rng();
        // Writing to a `String` cannot fail.
        let _ = write!(id, "{:016x}{:016x}", rng.next_u64(), rng.next_u64());
        id
    }
}

fn thread_rng() -> rand::rngs::ThreadRng {
    rand::rng()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_differ_and_have_their_form() {
        let ids = Ids::random();
        let (first, second) = (ids.request_id(), ids.request_id());
        assert_ne!(first, second);
        assert_eq!(first.len(), 32);
        assert!(first.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()));

        assert_eq!(ids.uuid_v4().get_version_num(), 4);
        assert_ne!(ids.uuid_v4(), ids.uuid_v4());

        let random = Random::system();
        let (mut one, mut two) = ([0; 32], [0; 32]);
        random.fill(&mut one);
        random.fill(&mut two);
        assert_ne!(one, two);
        assert_ne!(random.u64(), random.u64());
        assert!((0.0..1.0).contains(&random.f64()));
    }
}
