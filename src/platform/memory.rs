//! Allocator settings that keep the memory of one batch for the next.

/// Allocations up to this size come from the heap, and this much free memory stays at its end, bytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const RETAINED: std::ffi::c_int = 32 * 1024 * 1024;

/// Keeps freed batch buffers in the process.
///
/// By default the allocator returns a large buffer to the system after each batch. All processors
/// then stop to drop its pages, and the next batch needs new, zeroed ones.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a function of the C library")]
pub fn retain_freed_memory() {
    use nix::libc::{M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, mallopt};
    // SAFETY: mallopt sets two numbers of the allocator under the allocator's own lock. A value that
    // it rejects has no effect.
    unsafe {
        mallopt(M_MMAP_THRESHOLD, RETAINED);
        mallopt(M_TRIM_THRESHOLD, RETAINED);
    }
}

/// Does nothing: these settings exist only in glibc.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn retain_freed_memory() {}
