//! Which events are shown?

use crate::diagnosis::note;
use std::collections::VecDeque;
use std::time::Duration;

use c2c_log_format::EventHead;
use c2c_log_format::checksum::name_hash;
use c2c_log_format::id::fold;
use c2c_log_format::payload::{Payload, mailbox_hash, room_hash};
use clap::{Args, ValueEnum};

use super::files::{self, LogFiles, Row};
use super::{CLEAN, CORRUPT, Ended, Place, TORN, Trouble, render};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
    Hex,
}

#[derive(Args)]
pub struct Inspect {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    filter: Filter,
    /// Wait for more
    #[arg(short = 'f', long)]
    follow: bool,
    /// Only the last N
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,
    /// Newest first
    #[arg(short = 'r', long)]
    reverse: bool,
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    output: Output,
    /// Show message texts; they are left out otherwise
    #[arg(long)]
    bodies: bool,
    /// Times in UTC
    #[arg(long)]
    utc: bool,
}

/// Which events are wanted.
#[derive(Args, Clone)]
pub struct Filter {
    /// From this time on: RFC 3339 or seconds since 1970
    #[arg(long)]
    since: Option<String>,
    /// Up to this time
    #[arg(long)]
    until: Option<String>,
    #[arg(long, default_value_t = 0)]
    from_seq: u64,
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    to_seq: u64,
    /// Kind by name or its beginning, as `message` (repeat)
    #[arg(long)]
    kind: Vec<String>,
    /// Events about this alias
    #[arg(long)]
    alias: Option<String>,
    /// Events about this room
    #[arg(long)]
    room: Option<String>,
    #[arg(long)]
    message_id: Option<String>,
    /// Events whose payload contains this text
    #[arg(long)]
    grep: Option<String>,
}

/// A filter with everything computed that does not depend on the event.
pub struct Wanted {
    filter: Filter,
    since_us: u64,
    until_us: u64,
    kinds: Vec<u16>,
    message: Option<u64>,
    room: Option<u64>,
}

impl Filter {
    pub fn ready(&self) -> Result<Wanted, Trouble> {
        let time = |text: &Option<String>, otherwise| match text {
            None => Ok(otherwise),
            Some(text) => crate::clock::parse(text)
                .ok_or_else(|| Trouble::Unreadable(format!("'{text}' is no time"))),
        };
        let mut kinds = Vec::new();
        for wanted in &self.kind {
            let known = Payload::KINDS.iter().filter(|(_, name)| name.starts_with(wanted.as_str()));
            let before = kinds.len();
            kinds.extend(known.map(|(number, _)| *number));
            if kinds.len() == before {
                let names: Vec<_> = Payload::KINDS.iter().map(|(_, name)| *name).collect();
                let message = format!("no kind '{wanted}'; there are: {}", names.join(", "));
                return Err(Trouble::Unreadable(message));
            }
        }
        Ok(Wanted {
            since_us: time(&self.since, 0)?,
            until_us: time(&self.until, u64::MAX)?,
            kinds,
            message: self.message_id.as_deref().map(name_hash),
            room: self.room.as_deref().map(room_hash),
            filter: self.clone(),
        })
    }
}

impl Wanted {
    /// What the head alone can tell.
    pub fn by_head(&self, head: &EventHead, time_us: u64) -> bool {
        (self.filter.from_seq..=self.filter.to_seq).contains(&head.sequence)
            && (self.since_us..=self.until_us).contains(&time_us)
            && (self.kinds.is_empty() || self.kinds.contains(&head.kind))
            && self.message.is_none_or(|hash| head.message == hash)
            && self.room.is_none_or(|hash| head.scope == hash)
    }

    /// The rest, which needs the payload.
    pub fn by_payload(&self, row: &Row) -> bool {
        let text = || String::from_utf8_lossy(&row.payload);
        self.filter.grep.as_ref().is_none_or(|grep| text().contains(grep.as_str()))
            && self.filter.alias.as_ref().is_none_or(|alias| about(row, alias))
    }
}

/// Whether an event is about an alias: by the hashes in its head, or by a name in its payload.
fn about(row: &Row, alias: &str) -> bool {
    let hash = mailbox_hash(&fold(alias));
    if row.head.scope == hash || row.head.actor == hash {
        return true;
    }
    let payload: serde_json::Value = serde_json::from_slice(&row.payload).unwrap_or_default();
    ["from", "to", "alias", "old", "new"]
        .iter()
        .any(|key| payload[*key].as_str().is_some_and(|name| name.eq_ignore_ascii_case(alias)))
}

impl Inspect {
    pub fn run(self) -> Ended {
        let log = files::open(&self.place)?;
        let wanted = self.filter.ready()?;
        let (mut status, mut last) = (CLEAN, 0);
        if self.lines.is_some() || self.reverse {
            (status, last) = self.newest(&log, &wanted)?;
        } else {
            for base in &log.bases {
                status = status.max(self.segment(&log, *base, &wanted, 0, &mut |at, line| {
                    last = last.max(at);
                    render::out(&line)
                })?);
            }
        }
        if self.follow { self.follow(&log, &wanted, last) } else { Ok(status) }
    }

    /// Shows the last events; reads no segment before the one in which enough were found. Answers
    /// with the status and the last sequence shown.
    fn newest(&self, log: &LogFiles, wanted: &Wanted) -> Result<(u8, u64), Trouble> {
        let limit = self.lines.unwrap_or(usize::MAX);
        let (mut status, mut last) = (CLEAN, 0);
        let mut kept: Vec<VecDeque<String>> = Vec::new();
        let mut count = 0;
        for base in log.bases.iter().rev() {
            let mut lines = VecDeque::new();
            status = status.max(self.segment(log, *base, wanted, 0, &mut |at, line| {
                last = last.max(at);
                lines.push_back(line);
                if lines.len() > limit - count {
                    lines.pop_front();
                }
                Ok(())
            })?);
            count += lines.len();
            if self.reverse {
                lines.iter().rev().try_for_each(|line| render::out(line))?;
            } else {
                kept.push(lines);
            }
            if count >= limit {
                break;
            }
        }
        kept.iter().rev().flatten().try_for_each(|line| render::out(line))?;
        Ok((status, last))
    }

    fn segment(
        &self,
        log: &LogFiles,
        base: u64,
        wanted: &Wanted,
        after: u64,
        show: &mut dyn FnMut(u64, String) -> Result<(), Trouble>,
    ) -> Ended {
        let mut written = Ok(());
        let by_head =
            |head: &EventHead, time_us| head.sequence > after && wanted.by_head(head, time_us);
        let damages = log.rows(base, &by_head, &mut |row| {
            if written.is_ok() && wanted.by_payload(&row) {
                written = show(row.head.sequence, self.render(&row));
            }
        })?;
        written?;
        for damage in &damages {
            note(&format!("damage: segment {base} offset {}: {}", damage.offset, damage.error));
        }
        let corrupt = damages.iter().any(|damage| damage.followed);
        Ok(if corrupt {
            CORRUPT
        } else if damages.is_empty() {
            CLEAN
        } else {
            TORN
        })
    }

    fn render(&self, row: &Row) -> String {
        match self.output {
            Output::Text => render::text(row, self.bodies, self.utc),
            Output::Json => format!("{}\n", render::object(row, self.bodies)),
            Output::Hex => render::hex(row),
        }
    }

    /// Waits for appends and shows what they bring.
    fn follow(&self, log: &LogFiles, wanted: &Wanted, mut last: u64) -> Ended {
        let mut watcher = log.store();
        loop {
            let pulse = watcher.pulse();
            let log = files::open(&self.place)?;
            for base in log.bases.iter().rev().take(2).rev() {
                self.segment(&log, *base, wanted, last, &mut |at, line| {
                    last = last.max(at);
                    render::out(&line)
                })?;
            }
            watcher.wait(pulse, Duration::from_secs(1));
        }
    }
}
