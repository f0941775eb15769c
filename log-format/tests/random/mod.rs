//! Properties on random values, with a printed seed that reproduces a run.

use std::hash::{BuildHasher, RandomState};

use quickcheck::{Gen, QuickCheck, Testable};

/// Cases of each property, and with `C2C_TEST_SLOW=1`.
const CASES: u64 = 100;
const CASES_SLOW: u64 = 2_000;
/// Largest size of a random value, such as the length of a list.
const SIZE: usize = 100;

/// Defines a test for each function: the property holds for all values of its arguments.
macro_rules! properties {
    ($(fn $name:ident($($argument:ident: $type:ty),+) -> $result:ty $body:block)+) => {
        $(
            #[test]
            fn $name() {
                fn property($($argument: $type),+) -> $result $body
                $crate::random::check(property as fn($($type),+) -> $result);
            }
        )+
    };
}
pub(crate) use properties;

/// Checks a property on random values.
pub fn check(property: impl Testable) {
    let is_slow = std::env::var_os("C2C_TEST_SLOW").is_some_and(|value| value == "1");
    let cases = if is_slow { CASES_SLOW } else { CASES };
    let random = Gen::from_size_and_seed(SIZE, seed());
    // A property may discard values.
    QuickCheck::new().max_tests(10 * cases).tests(cases).rng(random).quickcheck(property);
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
