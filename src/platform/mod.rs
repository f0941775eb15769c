//! Interfaces of the operating system: processes, files and sockets.
//!
//! Only this module names system calls, `/proc` and what differs between systems. It imports nothing
//! else of this package.

pub mod boot;
pub mod clock;
pub mod fs;
pub mod limits;
pub mod lock;
pub mod memory;
pub mod poll;
pub mod process;
pub mod signal;
pub mod socket;
pub mod start;
pub mod terminal;
pub mod user;
pub mod wait;

/// Seeds of the random unit tests.
#[cfg(test)]
pub mod test_seed {
    use std::hash::{BuildHasher, RandomState};

    use quickcheck::{Gen, QuickCheck, Testable};

    /// Largest size of a random value, such as the length of a list.
    const SIZE: usize = 100;

    fn given() -> Option<u64> {
        let text = std::env::var("C2C_TEST_SEED").ok()?;
        Some(text.parse().expect("C2C_TEST_SEED is a number"))
    }

    /// Checks a property on random values. The seed is printed, so that a failed test shows it.
    pub fn check(property: impl Testable) {
        let seed = given().unwrap_or_else(|| RandomState::new().hash_one(0));
        println!("C2C_TEST_SEED={seed} repeats this run");
        QuickCheck::new().rng(Gen::from_size_and_seed(SIZE, seed)).quickcheck(property);
    }

    /// Consecutive seeds, from `C2C_TEST_SEED`, or from 1.
    pub fn several(count: u64) -> impl Iterator<Item = u64> {
        let first = given().unwrap_or(1);
        (0..count).map(move |number| first.wrapping_add(number))
    }
}
