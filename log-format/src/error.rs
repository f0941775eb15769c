//! Decoding errors, with the offset of the problem.

use core::fmt;

/// A decoding error: the offset in the slice, and the problem at that offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormatError {
    /// Byte offset in the decoded slice.
    pub offset: usize,
    /// The problem at that offset.
    pub problem: Problem,
}

/// The kinds of decoding errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// The slice is too short.
    Short {
        /// Number of bytes needed at the offset.
        needed: usize,
        /// Number of bytes available at the offset.
        found: usize,
    },
    /// The magic bytes are missing.
    Magic,
    /// A header does not match its checksum.
    HeaderChecksum,
    /// A body does not match its checksum.
    BodyChecksum,
    /// A length, count or sequence is not one that any writer produces.
    Implausible,
    /// Space that must be zero is not.
    NotZero,
    /// The bytes were written by a newer major version of the format.
    FutureVersion {
        /// The major version of the bytes.
        major: u16,
    },
    /// The frame does not continue the chain of the frame before it.
    BrokenChain,
}

impl FormatError {
    pub(crate) const fn short(offset: usize, needed: usize, found: usize) -> Self {
        Self { offset, problem: Problem::Short { needed, found } }
    }

    pub(crate) const fn at(offset: usize, problem: Problem) -> Self {
        Self { offset, problem }
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, problem } = self;
        match problem {
            Problem::Short { needed, found } => {
                write!(f, "offset {offset}: {needed} bytes needed, {found} available")
            }
            Problem::Magic => write!(f, "offset {offset}: no magic bytes found"),
            Problem::HeaderChecksum => write!(f, "offset {offset}: header checksum does not match"),
            Problem::BodyChecksum => write!(f, "offset {offset}: body checksum does not match"),
            Problem::Implausible => write!(f, "offset {offset}: implausible value"),
            Problem::NotZero => write!(f, "offset {offset}: unused space is not zero"),
            Problem::FutureVersion { major } => {
                write!(f, "offset {offset}: format version {major} is newer than this program")
            }
            Problem::BrokenChain => {
                write!(f, "offset {offset}: does not continue the previous frame")
            }
        }
    }
}

impl core::error::Error for FormatError {}
