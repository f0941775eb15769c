//! Bounds-checked reading and writing of integers in byte slices.
//!
//! Only this module turns offsets into slices.

use crate::FormatError;

/// Returns `N` bytes at `offset`, or an error with the number of missing bytes.
pub fn array<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], FormatError> {
    let end = offset.checked_add(N);
    match end.and_then(|end| bytes.get(offset..end)) {
        Some(source) => {
            let mut out = [0; N];
            out.copy_from_slice(source);
            Ok(out)
        }
        None => Err(FormatError::short(offset, N, bytes.len().saturating_sub(offset))),
    }
}

/// Returns `len` bytes at `offset`, or an error with the number of missing bytes.
pub fn slice(bytes: &[u8], offset: usize, len: usize) -> Result<&[u8], FormatError> {
    let end = offset.checked_add(len);
    end.and_then(|end| bytes.get(offset..end)).ok_or(FormatError::short(
        offset,
        len,
        bytes.len().saturating_sub(offset),
    ))
}

/// Reads a little-endian `u16` at `offset`.
pub fn u16_at(bytes: &[u8], offset: usize) -> Result<u16, FormatError> {
    Ok(u16::from_le_bytes(array(bytes, offset)?))
}

/// Reads a little-endian `u32` at `offset`.
pub fn u32_at(bytes: &[u8], offset: usize) -> Result<u32, FormatError> {
    Ok(u32::from_le_bytes(array(bytes, offset)?))
}

/// Reads a little-endian `u64` at `offset`.
pub fn u64_at(bytes: &[u8], offset: usize) -> Result<u64, FormatError> {
    Ok(u64::from_le_bytes(array(bytes, offset)?))
}

/// Overwrites the bytes at `offset`.
///
/// # Panics
///
/// Panics if `target` ends before the last byte of `value`.
pub fn put(target: &mut [u8], offset: usize, value: &[u8]) {
    target[offset..offset + value.len()].copy_from_slice(value);
}

/// Returns whether every byte is zero.
pub fn all_zero(bytes: &[u8]) -> bool {
    first_nonzero(bytes).is_none()
}

/// Returns the offset of the first byte that is not zero.
pub fn first_nonzero(bytes: &[u8]) -> Option<usize> {
    let mut offset = 0;
    for block in bytes.chunks_exact(64) {
        if block.iter().fold(0, |acc, byte| acc | byte) != 0 {
            break;
        }
        offset += 64;
    }
    bytes[offset..].iter().position(|byte| *byte != 0).map(|at| offset + at)
}

/// Rounds up to a multiple of 8.
pub const fn align8(len: usize) -> usize {
    len.div_ceil(8) * 8
}
