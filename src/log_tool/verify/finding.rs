//! Findings of a check, and the report that collects them.

use c2c_log_format::Sequence;
use c2c_log_format::segment::file_name;
use c2c_log_format::verdict::Verdict;
use serde_json::{Value, json};

use crate::log_tool::exit::{CLEAN, CORRUPT, TORN};

/// One finding: an error, or a note about damage that does not count.
pub struct Finding {
    /// Base of the segment.
    pub segment: Sequence,
    /// Offset in the segment.
    pub offset: usize,
    /// First sequence concerned.
    pub first: Sequence,
    /// Last sequence concerned, if known.
    pub last: Option<Sequence>,
    pub verdict: Verdict,
    pub what: String,
    /// Length of the damaged range in bytes; 0 if there is none.
    pub len: usize,
    /// Whether an operator has accepted the damage.
    pub accepted: bool,
}

impl Finding {
    /// An error at the start of a segment, without a damaged range.
    pub fn at(segment: Sequence, first: Sequence, what: impl Into<String>) -> Self {
        Self {
            segment,
            offset: 0,
            first,
            last: None,
            verdict: Verdict::Corrupt,
            what: what.into(),
            len: 0,
            accepted: false,
        }
    }

    fn label(&self) -> &'static str {
        match self.verdict {
            _ if self.accepted => "accepted",
            Verdict::Clean => "note",
            Verdict::Torn => "torn",
            Verdict::Corrupt => "corrupt",
        }
    }

    /// The finding as one line of text.
    pub fn as_line(&self) -> String {
        let last = self.last.map_or_else(String::new, |last| format!("..{last}"));
        format!(
            "{}: {} offset {}: sequence {}{last}: {}\n",
            self.label(),
            file_name(self.segment),
            self.offset,
            self.first,
            self.what
        )
    }

    pub fn as_json(&self) -> Value {
        json!({
            "verdict": self.label(),
            "segment": file_name(self.segment),
            "offset": self.offset,
            "bytes": self.len,
            "first": self.first,
            "last": self.last,
            "what": self.what,
        })
    }
}

/// Result of checking a whole log.
pub struct Report {
    pub findings: Vec<Finding>,
    pub frames: u64,
    pub events: u64,
    pub bytes: u64,
    /// Number of checkpoints compared with a replay.
    pub checkpoints: usize,
}

impl Report {
    /// Exit status for the worst finding that is not accepted.
    pub fn status(&self) -> u8 {
        let open = self.findings.iter().filter(|finding| !finding.accepted);
        let worst = open.map(|finding| match finding.verdict {
            Verdict::Clean => CLEAN,
            Verdict::Torn => TORN,
            Verdict::Corrupt => CORRUPT,
        });
        worst.max().unwrap_or(CLEAN)
    }
}
