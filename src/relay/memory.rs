//! How does a relay keep the memory that the next batch needs again?

/// Up to this size pieces come from the heap, and so much of its end is kept, bytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: std::ffi::c_int = 32 * 1024 * 1024;

/// Buffers of a batch are not given back to the system after each one: all processors would stop to
/// forget their pages, and the next batch would have them made and cleared anew.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn keep() {
    use nix::libc::{M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, mallopt};
    // SAFETY: sets two numbers of the allocator, under its own lock; one that it refuses does nothing.
    unsafe {
        mallopt(M_MMAP_THRESHOLD, KEPT);
        mallopt(M_TRIM_THRESHOLD, KEPT);
    }
}

/// Other allocators have rules of their own.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep() {}
