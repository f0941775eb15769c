//! Was a signed request seen before?

use std::collections::{HashMap, VecDeque};

/// Nonces that were used, each until its window has passed on the relay's own clock.
#[derive(Default)]
pub struct Nonces {
    until_us: HashMap<String, u64>,
    order: VecDeque<(u64, String)>,
}

impl Nonces {
    /// Takes a nonce for a time; false if it is taken already.
    pub fn take(&mut self, nonce: &str, keep_s: u64, now_us: u64) -> bool {
        self.forget(now_us);
        if self.until_us.contains_key(nonce) {
            return false;
        }
        let until_us = now_us + keep_s * 1_000_000;
        self.until_us.insert(nonce.to_owned(), until_us);
        self.order.push_back((until_us, nonce.to_owned()));
        true
    }

    /// The windows differ, so one that is over may stand behind one that is not: it is kept a while
    /// longer than needed, never shorter.
    fn forget(&mut self, now_us: u64) {
        while let Some((_, nonce)) = self.order.pop_front_if(|(until_us, _)| *until_us <= now_us) {
            self.until_us.remove(&nonce);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000;

    #[test]
    fn a_nonce_counts_once_until_its_time_is_over() {
        let mut nonces = Nonces::default();
        assert!(nonces.take("a", 600, 0));
        assert!(nonces.take("b", 120, 0));
        assert!(!nonces.take("b", 120, 119 * S));
        assert!(!nonces.take("a", 120, 599 * S));
        assert!(nonces.take("a", 120, 600 * S));
        assert!(nonces.take("b", 120, 600 * S));
        assert_eq!((nonces.until_us.len(), nonces.order.len()), (2, 2));
    }
}
