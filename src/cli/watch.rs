//! `c2c watch`: what a command prints reaches an agent as messages.

use std::io::{self, BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::{Context, Run, output};
use crate::code::Code;
use crate::decide::{self, Refusal};
use crate::failure::Failure;

/// Lines that come close together are one message.
const GATHER: Duration = Duration::from_millis(500);
/// A message is sent when it has grown so large, bytes.
const FULL_BYTES: usize = 4 * 1024;
/// Lines that wait to be forwarded: then the command waits.
const LINES: usize = 64;
/// The part of one line that is forwarded, bytes.
const LINE_BYTES: usize = 2 * 1024;

#[derive(Args)]
pub struct Watch {
    /// Who gets the output
    #[arg(long, short = 't', value_name = "ALIAS")]
    to: String,
    /// Alias to send as, if this session has none yet
    #[arg(long, short = 'F', value_name = "ALIAS", visible_alias = "from-alias")]
    from: Option<String>,
    /// Only lines that hold this text
    #[arg(long, short = 'g', value_name = "TEXT")]
    grep: Option<String>,
    /// May wait for the recipient's next poll
    #[arg(long)]
    deferrable: bool,
    /// The command
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Run for Watch {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let failed = |e: std::io::Error| {
            let message = format!("{}: {e}", self.command[0].escape_default());
            Failure::from(Refusal::new(Code::InvalidArgument, "command", message))
        };
        // Standard output and standard error, in the order in which they come.
        let (reader, writer) = std::io::pipe().map_err(failed)?;
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).stdin(Stdio::null());
        command.stdout(writer.try_clone().map_err(failed)?).stderr(writer);
        // Before anything runs: whether there is such a recipient.
        self.say(context, &format!("watching: {}", self.command.join(" ")))?;
        let (news, queue) = sync_channel(LINES);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(e) => {
                self.say(context, &format!("ended: {e}"))?;
                return Err(failed(e));
            }
        };
        // Holds the other ends of the pipe, which would never end.
        drop(command);
        let lines = news.clone();
        thread::spawn(move || read_lines(BufReader::new(reader), &lines));
        let id = child.id();
        thread::spawn(move || {
            let status = child.wait();
            let _ = news.send(News::Ended(status));
        });
        let forwarded = self.forward(context, &queue);
        if forwarded.is_err() {
            // Nobody would read what it prints from here on.
            let id = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw);
            let _ = id.map(|id| rustix::process::kill_process(id, rustix::process::Signal::TERM));
        }
        let status = forwarded?.map_err(failed)?;
        self.say(context, &format!("ended: {status}"))?;
        match status.code() {
            Some(0) => Ok(()),
            code => std::process::exit(code.unwrap_or(1)),
        }
    }
}

/// What happens to the command.
enum News {
    Line(String),
    Ended(io::Result<ExitStatus>),
}

/// Reads line by line, of each as much as is forwarded.
fn read_lines(mut reader: impl BufRead, lines: &SyncSender<News>) {
    let mut line = Vec::new();
    loop {
        let Ok(bytes) = reader.fill_buf() else { return };
        if bytes.is_empty() {
            if !line.is_empty() {
                let _ = lines.send(News::Line(text_of(&line)));
            }
            return;
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let part = &bytes[..end.unwrap_or(bytes.len())];
        let room = (LINE_BYTES + 1).saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            if lines.send(News::Line(text_of(&line))).is_err() {
                return;
            }
            line.clear();
        }
    }
}

fn text_of(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end().to_owned()
}

impl Watch {
    /// Until the command has ended and prints no more; what it leaves behind may hold the pipe for
    /// longer.
    fn forward(
        &self,
        context: &mut Context,
        news: &Receiver<News>,
    ) -> Result<io::Result<ExitStatus>, Failure> {
        let (mut text, mut ended) = (String::new(), None);
        let mut until = None::<Instant>;
        loop {
            let next = match until {
                None => news.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(until) => news.recv_timeout(until.saturating_duration_since(Instant::now())),
            };
            let is_quiet = next.is_err();
            let full = match next {
                Ok(News::Ended(status)) => {
                    ended = Some(status);
                    until = Some(Instant::now() + GATHER);
                    continue;
                }
                Ok(News::Line(line)) => {
                    output::say(&format!("{line}\n"))?;
                    if self.grep.as_ref().is_none_or(|wanted| line.contains(wanted)) {
                        let end = line.floor_char_boundary(LINE_BYTES);
                        text.push_str(&line[..end]);
                        text.push_str(if end < line.len() { " ...\n" } else { "\n" });
                    }
                    let later = Instant::now() + GATHER;
                    until = until.filter(|_| ended.is_none()).or(Some(later));
                    text.len() >= FULL_BYTES
                }
                Err(_) => true,
            };
            if !full {
                continue;
            }
            if !text.trim().is_empty() {
                self.say(context, text.trim_end())?;
                text.clear();
            }
            // After its end a whole pause without a line is the end of all.
            if is_quiet && let Some(status) = ended {
                return Ok(status);
            }
            until = ended.as_ref().map(|_| Instant::now() + GATHER);
        }
    }

    fn say(&self, context: &mut Context, text: &str) -> Result<(), Failure> {
        let send = decide::Send {
            to: self.to.clone(),
            body: text.to_owned(),
            from: self.from.clone(),
            message_id: None,
            tag: None,
            reply_to: None,
            ttl_s: None,
            deferrable: self.deferrable,
        };
        context.broker.execute(&decide::Command::Send(send), &context.actor).map(|_| ())
    }
}
