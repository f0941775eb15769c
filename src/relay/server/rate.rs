//! Rate limits: one token bucket for each identity.
//!
//! An identity is a key, or the address of a client without one. The limits are far above what a
//! connector with hundreds of sessions needs.

use std::collections::HashMap;

use c2c_core::limits::RELAY_BURST_S;

/// Most buckets in memory. Above this, full buckets are dropped: they carry no information.
const BUCKETS_MAX: usize = 10_000;

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    at_us: u64,
}

/// Token buckets by identity.
pub struct RateLimiter {
    /// Tokens added to each bucket in a second; 0 for no limit.
    per_s: f64,
    buckets: HashMap<String, Bucket>,
}

impl RateLimiter {
    /// A limiter that allows `per_s` requests a second to each identity.
    pub fn new(per_s: u32) -> Self {
        Self { per_s: f64::from(per_s), buckets: HashMap::new() }
    }

    /// Takes one token. Without one, returns the seconds until the next.
    pub fn take(&mut self, identity: &str, now_us: u64) -> Result<(), f64> {
        if self.per_s == 0.0 {
            return Ok(());
        }
        let (per_s, burst) = (self.per_s, self.per_s * RELAY_BURST_S);
        let filled = |bucket: &Bucket| {
            let passed_s = now_us.saturating_sub(bucket.at_us) as f64 / 1e6;
            (bucket.tokens + passed_s * per_s).min(burst)
        };
        if self.buckets.len() >= BUCKETS_MAX && !self.buckets.contains_key(identity) {
            self.buckets.retain(|_, bucket| filled(bucket) < burst);
        }
        let tokens = self.buckets.get(identity).map_or(burst, filled);
        let left = if tokens >= 1.0 { tokens - 1.0 } else { tokens };
        self.buckets.insert(identity.to_owned(), Bucket { tokens: left, at_us: now_us });
        if tokens >= 1.0 { Ok(()) } else { Err((1.0 - tokens) / per_s) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_over_its_rate_waits_and_others_do_not() {
        let mut limiter = RateLimiter::new(10);
        for _ in 0..(10.0 * RELAY_BURST_S) as u64 {
            assert_eq!(limiter.take("a", 0), Ok(()));
        }
        let wait_s = limiter.take("a", 0).expect_err("too often");
        assert!(wait_s > 0.0 && wait_s <= 0.1, "{wait_s}");
        assert_eq!(limiter.take("b", 0), Ok(()));
        assert_eq!(limiter.take("a", (wait_s * 1e6).ceil() as u64 + 1), Ok(()));
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let mut limiter = RateLimiter::new(1);
        for at in 0..3 * BUCKETS_MAX as u64 {
            limiter.take(&format!("k{at}"), at * 100_000).expect("a first request");
        }
        assert!(limiter.buckets.len() <= BUCKETS_MAX);
    }
}
