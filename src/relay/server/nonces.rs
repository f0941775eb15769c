//! Replay protection: the nonces of recent signed requests.

use std::collections::{HashMap, VecDeque};

/// Used nonces, each until its window has passed on the relay's own clock.
#[derive(Default)]
pub struct NonceCache {
    until_us: HashMap<String, u64>,
    order: VecDeque<(u64, String)>,
}

impl NonceCache {
    /// Records a nonce for `keep_s` seconds; false if it is recorded already.
    pub fn take(&mut self, nonce: &str, keep_s: u64, now_us: u64) -> bool {
        self.expire(now_us);
        if self.until_us.contains_key(nonce) {
            return false;
        }
        let until_us = now_us + keep_s * 1_000_000;
        self.until_us.insert(nonce.to_owned(), until_us);
        self.order.push_back((until_us, nonce.to_owned()));
        true
    }

    /// Drops nonces whose window has passed. Windows differ, so an expired nonce may stand behind a
    /// current one; it then stays longer than needed, which is safe.
    fn expire(&mut self, now_us: u64) {
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
    fn a_nonce_is_accepted_once_until_its_window_ends() {
        let mut nonces = NonceCache::default();
        assert!(nonces.take("a", 600, 0));
        assert!(nonces.take("b", 120, 0));
        assert!(!nonces.take("b", 120, 119 * S));
        assert!(!nonces.take("a", 120, 599 * S));
        assert!(nonces.take("a", 120, 600 * S));
        assert!(nonces.take("b", 120, 600 * S));
        assert_eq!((nonces.until_us.len(), nonces.order.len()), (2, 2));
    }
}
