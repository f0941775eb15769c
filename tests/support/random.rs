//! Pseudo-random numbers with a printed seed that reproduces a run.

/// The seed from `C2C_TEST_SEED`, or the one of the test. It is printed with the name of the test.
pub fn seed(test: &str, default: u64) -> u64 {
    let seed = match std::env::var("C2C_TEST_SEED") {
        Ok(text) => text.parse().expect("C2C_TEST_SEED is a number"),
        Err(_) => default,
    };
    eprintln!("{test}: C2C_TEST_SEED={seed}");
    seed
}

/// A linear congruential generator.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        let (factor, step) = (6_364_136_223_846_793_005, 1_442_695_040_888_963_407);
        self.0 = self.0.wrapping_mul(factor).wrapping_add(step);
        (self.0 >> 33) as usize % end
    }
}
