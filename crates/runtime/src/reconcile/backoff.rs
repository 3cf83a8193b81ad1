//! Growing waits between tries.

use std::time::Duration;

use crate::Random;

/// Waits of 1 s, 2 s, 4 s, ... up to 60 s, each shortened by up to a fifth at random so that many do not retry at once.
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    cap: Duration,
    tries: u32,
    random: Random,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_mins(1))
    }
}

impl Backoff {
    /// Doubling waits from `initial` to `cap`.
    pub fn new(initial: Duration, cap: Duration) -> Self {
        Self { initial, cap, tries: 0, random: Random::system() }
    }

    /// How long to wait before the next try.
    pub fn next_wait(&mut self) -> Duration {
        let factor = 2_u32.saturating_pow(self.tries);
        self.tries = self.tries.saturating_add(1);
        let full = self.initial.saturating_mul(factor).min(self.cap);
        full.mul_f64(1.0 - 0.2 * self.random.f64())
    }

    /// How many waits were given since the last success.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// A try succeeded: the next wait is the first again.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_start_over() {
        let mut backoff = Backoff::default();
        for full in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            let wait = backoff.next_wait().as_secs_f64();
            assert!(wait <= full && wait >= full * 0.8, "{wait} of {full}");
        }
        for _ in 0..100 {
            assert!(backoff.next_wait() <= Duration::from_mins(1));
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_secs(1));
    }
}
