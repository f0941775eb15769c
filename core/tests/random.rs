//! Properties on random values, with a printed seed that reproduces a run.

use std::hash::{BuildHasher, RandomState};

use quickcheck::{Gen, QuickCheck, Testable};

/// Number of cases of a property.
pub struct Cases {
    pub fast: u64,
    /// With `C2C_TEST_SLOW=1`.
    pub slow: u64,
    /// Largest size of a random value, such as the length of a list.
    pub size: usize,
}

/// Checks a property on random values.
pub fn check(cases: &Cases, property: impl Testable) {
    let is_slow = std::env::var_os("C2C_TEST_SLOW").is_some_and(|value| value == "1");
    let count = if is_slow { cases.slow } else { cases.fast };
    let random = Gen::from_size_and_seed(cases.size, seed());
    QuickCheck::new().max_tests(count).tests(count).rng(random).quickcheck(property);
}

/// The seed from `C2C_TEST_SEED`, or a new one. It is printed, so that a failed test shows it.
fn seed() -> u64 {
    let seed = match std::env::var("C2C_TEST_SEED") {
        Ok(text) => text.parse().expect("C2C_TEST_SEED is a number"),
        Err(_) => RandomState::new().hash_one(0),
    };
    println!("C2C_TEST_SEED={seed} repeats this run");
    seed
}
