//! Is the log whole?

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::log::{Checkpoint, Whole, read_segment};
use crate::state::{Base, PROJECTION, State};
use c2c_log_format::checksum::SegmentDigest;
use c2c_log_format::event::events;
use c2c_log_format::frame::{FrameHeader, Seal};
use c2c_log_format::limits::{FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use c2c_log_format::scan::{Damage, Piece};
use c2c_log_format::segment::{Reason, SegmentHeader, file_name};
use c2c_log_format::verdict::{Facts, Verdict, judge};
use c2c_log_format::{FormatError, Sequence};
use clap::Args;
use serde_json::json;

use super::files::{self, LogFiles};
use super::{CLEAN, CORRUPT, Ended, Place, TORN, Trouble, render};

#[derive(Args)]
pub struct Verify {
    #[command(flatten)]
    place: Place,
    /// One JSON value
    #[arg(long, short = 'j')]
    json: bool,
    /// Directory to which segments were archived; may be given more than once
    #[arg(long, value_name = "DIR")]
    with: Vec<std::path::PathBuf>,
    /// Leave out the replay against checkpoints
    #[arg(long)]
    no_replay: bool,
}

/// What one segment holds.
struct Found {
    base: Sequence,
    header: Result<SegmentHeader, FormatError>,
    bytes: usize,
    frames: u64,
    events: u64,
    damages: Vec<Damage>,
    /// Sequence after the last good one.
    next: Sequence,
    last_frame: u32,
    digest: [u8; 32],
    /// Digest of the frames up to each: for segments that a later one cuts short.
    prefixes: Vec<(Sequence, [u8; 32])>,
    durable: Sequence,
    seal: Option<Sequence>,
}

/// One line of the result.
pub struct Finding {
    pub segment: Sequence,
    pub offset: usize,
    pub first: Sequence,
    pub last: Option<Sequence>,
    pub verdict: Verdict,
    pub what: String,
    pub len: usize,
    pub accepted: bool,
}

/// Everything that a check of the whole log says.
pub struct Report {
    pub findings: Vec<Finding>,
    pub frames: u64,
    pub events: u64,
    pub bytes: u64,
    pub checkpoints: usize,
}

impl Report {
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

impl Verify {
    pub fn run(self) -> Ended {
        let log = files::open_with(&self.place, &self.with)?;
        let report = check(&log, !self.no_replay)?;
        if self.json {
            let rows: Vec<_> = report.findings.iter().map(as_json).collect();
            render::out(&format!(
                "{:#}\n",
                json!({
                    "status": report.status(),
                    "segments": log.bases.len(),
                    "frames": report.frames,
                    "events": report.events,
                    "bytes": report.bytes,
                    "checkpoints": report.checkpoints,
                    "findings": rows,
                })
            ))?;
            return Ok(report.status());
        }
        let mut text = String::new();
        for finding in &report.findings {
            text.push_str(&line(finding));
        }
        let word = match report.status() {
            CLEAN => "clean",
            TORN => "torn tail",
            _ => "CORRUPT",
        };
        text.push_str(&format!(
            "{word}: {} events in {} frames, {} segments, {} bytes, {} checkpoints replayed\n",
            report.events,
            report.frames,
            log.bases.len(),
            report.bytes,
            report.checkpoints
        ));
        render::out(&text)?;
        Ok(report.status())
    }
}

fn word(finding: &Finding) -> &'static str {
    match finding.verdict {
        _ if finding.accepted => "accepted",
        Verdict::Clean => "note",
        Verdict::Torn => "torn",
        Verdict::Corrupt => "corrupt",
    }
}

fn line(finding: &Finding) -> String {
    let last = finding.last.map_or_else(String::new, |last| format!("..{last}"));
    format!(
        "{}: {} offset {}: sequence {}{last}: {}\n",
        word(finding),
        file_name(finding.segment),
        finding.offset,
        finding.first,
        finding.what
    )
}

fn as_json(finding: &Finding) -> serde_json::Value {
    json!({
        "verdict": word(finding),
        "segment": file_name(finding.segment),
        "offset": finding.offset,
        "bytes": finding.len,
        "first": finding.first,
        "last": finding.last,
        "what": finding.what,
    })
}

/// Name of the file that says an operator has accepted a piece of damage.
pub fn accepted_name(segment: Sequence, offset: usize) -> String {
    format!("accepted-{segment:020}-{offset:012}")
}

/// Checks the whole log.
pub fn check(log: &LogFiles, replay: bool) -> Result<Report, Trouble> {
    let found = scan_all(log)?;
    let mut findings = Vec::new();
    let (mark, wrong) = log.marks()?;
    let proven = proven_durable(mark, &found);
    findings.extend(wrong.into_iter().map(|what| of_file(&found, what)));
    for (at, segment) in found.iter().enumerate() {
        judge_segment(segment, found.get(at + 1), proven, &mut findings);
        if let Some(next) = found.get(at + 1) {
            check_chain(segment, next, &mut findings);
        }
    }
    if let Some(last) = found.last().filter(|last| last.damages.is_empty() && last.next <= proven) {
        findings.push(Finding {
            segment: last.base,
            offset: last.bytes,
            first: last.next,
            last: Some(proven),
            verdict: Verdict::Corrupt,
            what: "acknowledged events are missing at the end".into(),
            len: 0,
            accepted: false,
        });
    }
    for finding in &mut findings {
        let name = accepted_name(finding.segment, finding.offset);
        finding.accepted = log.directory.join(name).exists();
    }
    let mut report = Report {
        frames: found.iter().map(|segment| segment.frames).sum(),
        events: found.iter().map(|segment| segment.events).sum(),
        bytes: found.iter().map(|segment| segment.bytes as u64).sum(),
        checkpoints: 0,
        findings,
    };
    let (kept, damaged) = checkpoints(log);
    if begins_late(log) && kept.is_empty() {
        report.findings.push(Finding {
            segment: log.bases[0],
            offset: 0,
            first: 1,
            last: Some(log.bases[0] - 1),
            verdict: Verdict::Corrupt,
            what: "the segments before are missing, and no base stands for them".into(),
            len: 0,
            accepted: false,
        });
    } else if replay && report.findings.is_empty() {
        check_checkpoints(log, kept, &mut report)?;
    }
    if replay {
        report.findings.extend(damaged);
    }
    Ok(report)
}

/// Whether the first segments are archived where they are not seen.
fn begins_late(log: &LogFiles) -> bool {
    log.bases.first().is_some_and(|base| *base > 1)
}

/// All segments, as many at once as there are processors.
fn scan_all(log: &LogFiles) -> Result<Vec<Found>, Trouble> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Result<Found, Trouble>>> = Mutex::new(Vec::new());
    let bar = files::progress(log.bases.len() as u64);
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(log.bases.len());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(base) = log.bases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = log.segment(*base).map(|bytes| scan(*base, &bytes));
                    bar.inc(1);
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(found);
                }
            });
        }
    });
    bar.finish_and_clear();
    let done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut found = done.into_iter().collect::<Result<Vec<_>, _>>()?;
    found.sort_unstable_by_key(|segment| segment.base);
    Ok(found)
}

fn scan(base: Sequence, bytes: &[u8]) -> Found {
    let header = SegmentHeader::decode(bytes);
    let mut found = Found {
        base,
        header,
        bytes: bytes.len(),
        frames: 0,
        events: 0,
        damages: Vec::new(),
        next: base,
        last_frame: 0,
        digest: [0; 32],
        prefixes: Vec::new(),
        durable: 0,
        seal: None,
    };
    let Ok(header) = found.header else { return found };
    found.last_frame = header.previous_frame;
    let mut digest = SegmentDigest::new(&bytes[..SEGMENT_HEADER_BYTES]);
    let mut scanner = read_segment(bytes, &header);
    for piece in scanner.by_ref() {
        match piece {
            Piece::Frame { offset, header, body } => {
                let before = digest.clone();
                found.frame(offset, &header, body, before);
                digest.frame(&bytes[offset..offset + FRAME_HEADER_BYTES], body);
                if found.prefixes.len() > 64 {
                    found.prefixes.remove(0);
                }
                found
                    .prefixes
                    .push((header.sequence + Sequence::from(header.count), digest.finish()));
            }
            Piece::Damage(damage) => found.damages.push(damage),
        }
    }
    found.next = found.next.max(scanner.place().sequence);
    found.seal = scanner.seal();
    found.digest = digest.finish();
    found
}

impl Found {
    fn frame(&mut self, offset: usize, header: &FrameHeader, body: &[u8], digest: SegmentDigest) {
        self.frames += 1;
        self.durable = self.durable.max(header.durable_sequence);
        self.last_frame = header.crc;
        self.next = header.sequence + Sequence::from(header.count);
        let bad = |error: FormatError| Damage {
            offset,
            len: header.frame_len(),
            first: header.sequence,
            last: Some(header.last_sequence()),
            error,
            followed: true,
        };
        if header.seal {
            match Seal::decode(body) {
                Ok(seal) if seal.digest == digest.finish() || !self.damages.is_empty() => {}
                Ok(_) => self.damages.push(bad(broken_chain())),
                Err(error) => self.damages.push(bad(error)),
            }
            return;
        }
        for event in events(body, header.sequence, header.count) {
            match event {
                Ok(_) => self.events += 1,
                Err(error) => self.damages.push(bad(error)),
            }
        }
    }
}

fn broken_chain() -> FormatError {
    FormatError { offset: 0, problem: c2c_log_format::error::Problem::BrokenChain }
}

/// Something wrong with the file around the frames.
fn of_file(found: &[Found], what: String) -> Finding {
    Finding {
        segment: found.first().map_or(1, |segment| segment.base),
        offset: 0,
        first: 1,
        last: None,
        verdict: Verdict::Corrupt,
        what,
        len: 0,
        accepted: false,
    }
}

/// The highest sequence of which somebody was told that it is on disk.
fn proven_durable(mark: Sequence, found: &[Found]) -> Sequence {
    let headers = found.iter().filter_map(|segment| segment.header.ok());
    let named = headers.map(|header| header.durable).max().unwrap_or(0);
    let marks = found.iter().map(|segment| segment.durable).max().unwrap_or(0);
    named.max(marks).max(mark)
}

fn judge_segment(
    segment: &Found,
    next: Option<&Found>,
    proven: Sequence,
    findings: &mut Vec<Finding>,
) {
    if let Err(error) = segment.header {
        findings.push(Finding {
            segment: segment.base,
            offset: 0,
            first: segment.base,
            last: None,
            verdict: Verdict::Corrupt,
            what: format!("segment header: {error}"),
            len: SEGMENT_HEADER_BYTES,
            accepted: false,
        });
        return;
    }
    let next_header = next.and_then(|next| next.header.ok());
    for damage in &segment.damages {
        // A later segment that was opened after this damage says how far this one counts.
        let cut = next_header.filter(|header| header.reason != Reason::Rotation);
        let proven = match cut {
            Some(header) => damage.first <= header.durable,
            None => damage.first <= proven,
        };
        let facts = Facts {
            unused: false,
            followed: damage.followed && cut.is_none_or(|header| damage.first <= header.durable),
            sealed: segment.seal.is_some() || (next.is_some() && cut.is_none()),
            proven,
        };
        let verdict = judge(facts);
        let mut what = damage.error.to_string();
        if verdict == Verdict::Torn {
            what.push_str(match cut {
                Some(_) => "; writing went on in a new segment",
                None => "; tail, possibly acknowledged",
            });
        }
        let accepted_by_recovery = verdict == Verdict::Torn && cut.is_some();
        findings.push(Finding {
            segment: segment.base,
            offset: damage.offset,
            first: damage.first,
            last: damage.last,
            verdict: if accepted_by_recovery { Verdict::Clean } else { verdict },
            what,
            len: damage.len,
            accepted: false,
        });
    }
}

/// Whether the next segment continues this one.
fn check_chain(segment: &Found, next: &Found, findings: &mut Vec<Finding>) {
    let (Ok(header), Ok(follower)) = (segment.header, next.header) else { return };
    let mut bad = |what: &str| {
        findings.push(Finding {
            segment: next.base,
            offset: 0,
            first: next.base,
            last: None,
            verdict: Verdict::Corrupt,
            what: what.to_owned(),
            len: 0,
            accepted: false,
        });
    };
    if header.log_id != follower.log_id && follower.reason != Reason::Restored {
        return bad("belongs to another log");
    }
    if follower.previous_base != segment.base {
        return bad("does not follow the segment before: one is missing");
    }
    let intact = segment.damages.is_empty();
    let of_prefix = |end: Sequence| {
        let found = segment.prefixes.iter().rev().find(|(next, _)| *next <= end);
        found.is_none_or(|(_, digest)| *digest == follower.previous_digest)
    };
    let same = match follower.reason {
        Reason::Rotation => segment.digest == follower.previous_digest,
        _ => segment.digest == follower.previous_digest || of_prefix(follower.durable + 1),
    };
    if intact && !same {
        return bad("the segment before does not match its digest");
    }
    if intact && segment.next <= follower.durable {
        bad("acknowledged events are missing before this segment");
    }
}

/// Replays from the first event and compares with every checkpoint on the way.
fn check_checkpoints(
    log: &LogFiles,
    mut kept: Vec<Checkpoint>,
    report: &mut Report,
) -> Result<(), Trouble> {
    kept.retain(|checkpoint| checkpoint.header.projection == PROJECTION);
    kept.sort_unstable_by_key(|checkpoint| checkpoint.header.sequence);
    let Some(oldest) = kept.first() else { return Ok(()) };
    let mut state = State::default();
    if begins_late(log) {
        // The oldest state kept is where replay starts.
        let rows = Base::open(Arc::new(oldest.bytes.clone()), &oldest.header, Arc::new(|| None));
        state = State::from_base(rows.as_ref(), oldest.header.sequence);
    }
    let headers = kept.iter().map(|checkpoint| checkpoint.header);
    let headers: Vec<_> = headers.filter(|header| header.sequence > state.head).collect();
    let mut waiting = headers.into_iter().peekable();
    let bar = files::progress(log.bases.len() as u64);
    for base in &log.bases {
        let mut wrong = Vec::new();
        log.rows(*base, &|_, _| true, &mut |row| {
            let event = c2c_log_format::Event { head: row.head, payload: &row.payload };
            if row.head.sequence <= state.head {
                return;
            }
            state.apply_event(&event, row.time_us);
            while let Some(header) = waiting.next_if(|header| header.sequence == state.head) {
                report.checkpoints += 1;
                if state.encode().2 != header.digest {
                    wrong.push(header.sequence);
                }
            }
        })?;
        for sequence in wrong {
            report.findings.push(Finding {
                segment: *base,
                offset: 0,
                first: sequence,
                last: None,
                verdict: Verdict::Corrupt,
                what: format!("checkpoint at {sequence} differs from the replay: delete it"),
                len: 0,
                accepted: false,
            });
        }
        bar.inc(1);
        if waiting.peek().is_none() {
            break;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// The checkpoints and bases from which reading can start, and what is to say of damaged ones.
fn checkpoints(log: &LogFiles) -> (Vec<Checkpoint>, Vec<Finding>) {
    let (mut whole, mut damaged) = (Vec::new(), Vec::new());
    let names = std::fs::read_dir(&log.directory).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    for name in names.filter(|name| is_state(name)) {
        // A newer one may just have replaced it.
        let Ok(bytes) = std::fs::read(log.directory.join(&name)) else { continue };
        let bytes = Whole::Read(bytes.into());
        match Checkpoint::open(bytes.clone()).filter(Checkpoint::is_whole) {
            Some(found) if log.bases.contains(&found.header.segment) => whole.push(found),
            None if Checkpoint::is_damaged(bytes) => damaged.push(damaged_state(log, &name)),
            _ => {}
        }
    }
    (whole, damaged)
}

fn is_state(name: &str) -> bool {
    name.starts_with("checkpoint-0") || name.starts_with("base-0")
}

fn damaged_state(log: &LogFiles, name: &str) -> Finding {
    let remedy = match begins_late(log) && name.starts_with("base-") {
        true => "bring the archived segments back, then delete it",
        false => "delete it",
    };
    Finding {
        segment: log.bases.last().copied().unwrap_or(1),
        offset: 0,
        first: name.rsplit('-').next().and_then(|text| text.parse().ok()).unwrap_or(0),
        last: None,
        verdict: Verdict::Corrupt,
        what: format!("{name} is damaged: {remedy}"),
        len: 0,
        accepted: false,
    }
}
