//! Judging scanned segments: damage, the chain between segments, and missing events.

use c2c_log_format::Sequence;
use c2c_log_format::limits::SEGMENT_HEADER_BYTES;
use c2c_log_format::scan::ScanDamage;
use c2c_log_format::segment::{OpenReason, SegmentHeader};
use c2c_log_format::verdict::{Evidence, Verdict, judge};

use super::finding::Finding;
use super::scan::ScannedSegment;

/// Judges all segments. `recorded_durable` is the sequence that the log's control data records as
/// durable.
pub fn judge_all(segments: &[ScannedSegment], recorded_durable: Sequence) -> Vec<Finding> {
    let proven = proven_durable(segments, recorded_durable);
    let mut findings = Vec::new();
    for (at, segment) in segments.iter().enumerate() {
        let next = segments.get(at + 1);
        judge_segment(segment, next, proven, &mut findings);
        findings.extend(next.and_then(|next| judge_chain(segment, next)));
    }
    let ends_early = |last: &&ScannedSegment| last.damages.is_empty() && last.next <= proven;
    if let Some(last) = segments.last().filter(ends_early) {
        findings.push(Finding {
            offset: last.bytes,
            last: Some(proven),
            ..Finding::at(last.base, last.next, "acknowledged events are missing at the end")
        });
    }
    findings
}

/// Highest sequence that is proven to have been on disk.
fn proven_durable(segments: &[ScannedSegment], recorded: Sequence) -> Sequence {
    let headers = segments.iter().filter_map(|segment| segment.header.ok());
    let in_headers = headers.map(|header| header.durable).max().unwrap_or(0);
    let in_frames = segments.iter().map(|segment| segment.durable).max().unwrap_or(0);
    in_headers.max(in_frames).max(recorded)
}

fn judge_segment(
    segment: &ScannedSegment,
    next: Option<&ScannedSegment>,
    proven: Sequence,
    findings: &mut Vec<Finding>,
) {
    if let Err(error) = segment.header {
        findings.push(Finding {
            len: SEGMENT_HEADER_BYTES,
            ..Finding::at(segment.base, segment.base, format!("segment header: {error}"))
        });
        return;
    }
    let next_header = next.and_then(|next| next.header.ok());
    // A later segment that was not opened by a rotation records how far this one counts.
    let cut = next_header.filter(|header| header.reason != OpenReason::Rotation);
    let is_sealed = segment.is_sealed || (next.is_some() && cut.is_none());
    for damage in &segment.damages {
        findings.push(judge_damage(segment.base, damage, cut.as_ref(), is_sealed, proven));
    }
}

fn judge_damage(
    base: Sequence,
    damage: &ScanDamage,
    cut: Option<&SegmentHeader>,
    is_sealed: bool,
    proven: Sequence,
) -> Finding {
    let counts = cut.is_none_or(|header| damage.first <= header.durable);
    let verdict = judge(Evidence {
        unused: false,
        followed: damage.followed && counts,
        sealed: is_sealed,
        proven: if cut.is_some() { counts } else { damage.first <= proven },
    });
    let mut what = damage.error.to_string();
    if verdict == Verdict::Torn {
        what.push_str(match cut {
            Some(_) => "; writing continued in a new segment",
            None => "; at the tail, possibly acknowledged",
        });
    }
    // Recovery has already dealt with a torn end that a new segment follows.
    let is_recovered = verdict == Verdict::Torn && cut.is_some();
    Finding {
        offset: damage.offset,
        last: damage.last,
        verdict: if is_recovered { Verdict::Clean } else { verdict },
        len: damage.len,
        ..Finding::at(base, damage.first, what)
    }
}

/// Checks that the next segment continues this one.
fn judge_chain(segment: &ScannedSegment, next: &ScannedSegment) -> Option<Finding> {
    let (Ok(header), Ok(next_header)) = (segment.header, next.header) else { return None };
    let finding = |what: &str| Some(Finding::at(next.base, next.base, what));
    if header.log_id != next_header.log_id && next_header.reason != OpenReason::Restored {
        return finding("the segment belongs to another log");
    }
    if next_header.previous_base != segment.base {
        return finding("a segment is missing before this one");
    }
    if !segment.damages.is_empty() {
        return None;
    }
    if !has_digest(segment, &next_header) {
        return finding("the previous segment does not match its digest");
    }
    if segment.next <= next_header.durable {
        return finding("acknowledged events are missing before this segment");
    }
    None
}

/// Whether a segment, or the part of it that counts, has the digest that the next header records.
fn has_digest(segment: &ScannedSegment, next: &SegmentHeader) -> bool {
    if segment.digest == next.previous_digest {
        return true;
    }
    if next.reason == OpenReason::Rotation {
        return false;
    }
    let prefix = segment.prefixes.iter().rev().find(|(end, _)| *end <= next.durable + 1);
    prefix.is_none_or(|(_, digest)| *digest == next.previous_digest)
}
