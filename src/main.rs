//! Entry point of `c2c`.
//!
//! The program does not start through the standard library, whose set-up of the main thread reads
//! `/proc/self/maps` and takes a tenth of the time of an empty process; a hook runs after every tool
//! call. The safety measures of that set-up are repeated in `platform::start`.
#![no_main]

/// Called by the C runtime. The arguments are read through `std::env`.
// SAFETY: no other symbol of this program is called `main`.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "the C runtime calls the symbol `main`")]
pub extern "C" fn main() -> i32 {
    c2c::platform::start::run(c2c::cli::main)
}
