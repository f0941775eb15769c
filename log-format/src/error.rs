//! What is wrong with these bytes, and where?

use core::fmt;

/// Why bytes could not be decoded: the offset in the slice, and what was expected there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormatError {
    /// Byte offset in the slice that was given.
    pub offset: usize,
    /// What was wrong there.
    pub problem: Problem,
}

/// The kinds of decoding trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// The slice ended: bytes needed, bytes there.
    Short {
        /// Bytes needed at the offset.
        needed: usize,
        /// Bytes found there.
        found: usize,
    },
    /// A fixed marker was missing.
    Magic,
    /// A header did not match its checksum.
    HeaderChecksum,
    /// A body did not match its checksum.
    BodyChecksum,
    /// A length, count or order that no writer produces.
    Implausible,
    /// Space that must be zero was not.
    NotZero,
    /// Written by a newer major version of the format.
    FutureVersion {
        /// The major version found.
        major: u16,
    },
    /// The frame does not follow the one before it.
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
                write!(f, "offset {offset}: {needed} bytes needed, {found} there")
            }
            Problem::Magic => write!(f, "offset {offset}: no frame starts here"),
            Problem::HeaderChecksum => write!(f, "offset {offset}: header checksum does not match"),
            Problem::BodyChecksum => write!(f, "offset {offset}: body checksum does not match"),
            Problem::Implausible => write!(f, "offset {offset}: a value no writer produces"),
            Problem::NotZero => write!(f, "offset {offset}: unused space is not zero"),
            Problem::FutureVersion { major } => {
                write!(f, "offset {offset}: format version {major} is newer than this program")
            }
            Problem::BrokenChain => write!(f, "offset {offset}: does not follow the frame before"),
        }
    }
}

impl core::error::Error for FormatError {}
