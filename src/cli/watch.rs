//! The `c2c watch` command, which forwards a command's output as messages.

use std::io::{self, BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::context::{Context, Run};
use super::output;
use crate::error::Failure;
use crate::platform::{clock, signal};
use c2c_core::code::Code;
use c2c_core::decide::{self, Rejection};

/// Lines within this time become one message.
const GATHER: Duration = Duration::from_millis(500);
/// Size at which a message is sent, bytes.
const FULL_BYTES: usize = 4 * 1024;
/// Lines that may wait to be forwarded; with more, the command blocks.
const LINES_MAX: usize = 64;
/// Bytes of one line that are forwarded.
const LINE_BYTES: usize = 2 * 1024;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c watch --to ann -- make test              forward the output of make to ann\n  \
    c2c watch --to ann --grep FAIL -- make test  forward matching lines only")]
pub struct Watch {
    /// Alias that receives the output
    #[arg(long, short = 't', value_name = "ALIAS")]
    to: String,
    /// Alias to send as, if this session has none
    #[arg(long, short = 'F', value_name = "ALIAS", visible_alias = "from-alias")]
    from: Option<String>,
    /// Forward only lines that contain this text
    #[arg(long, short = 'g', value_name = "TEXT")]
    grep: Option<String>,
    /// Let the messages wait for the recipient's next poll
    #[arg(long)]
    deferrable: bool,
    /// Command to run
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Run for Watch {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let failed = |e: std::io::Error| {
            let message = format!("{}: {e}", self.command[0].escape_default());
            Failure::from(Rejection::new(Code::InvalidArgument, "command", message))
        };
        // One pipe for standard output and standard error, to keep their order.
        let (reader, writer) = std::io::pipe().map_err(failed)?;
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).stdin(Stdio::null());
        command.stdout(writer.try_clone().map_err(failed)?).stderr(writer);
        // Fails for an unknown recipient before anything runs.
        self.send(context, &format!("watching: {}", self.command.join(" ")))?;
        let (events, queue) = sync_channel(LINES_MAX);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(e) => {
                self.send(context, &format!("ended: {e}"))?;
                return Err(failed(e));
            }
        };
        // The command holds the write ends of the pipe, which would otherwise never reach its end.
        drop(command);
        let lines = events.clone();
        thread::spawn(move || read_lines(BufReader::new(reader), &lines));
        let id = child.id();
        thread::spawn(move || {
            let status = child.wait();
            let _ = events.send(CommandEvent::Ended(status));
        });
        let forwarded = self.forward(context, &queue);
        if forwarded.is_err() {
            // Nothing reads further output.
            signal::terminate(id);
        }
        let status = forwarded?.map_err(failed)?;
        self.send(context, &format!("ended: {status}"))?;
        match status.code() {
            Some(0) => Ok(()),
            code => std::process::exit(code.unwrap_or(1)),
        }
    }
}

/// What a running command does.
enum CommandEvent {
    Line(String),
    Ended(io::Result<ExitStatus>),
}

/// Reads lines, each cut to the length that is forwarded.
fn read_lines(mut reader: impl BufRead, lines: &SyncSender<CommandEvent>) {
    let mut line = Vec::new();
    loop {
        let Ok(bytes) = reader.fill_buf() else { return };
        if bytes.is_empty() {
            if !line.is_empty() {
                let _ = lines.send(CommandEvent::Line(text_of(&line)));
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
            if lines.send(CommandEvent::Line(text_of(&line))).is_err() {
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
    /// Forwards lines until the command has ended and its output stops. Background processes of the
    /// command may hold the pipe open for longer.
    fn forward(
        &self,
        context: &mut Context,
        events: &Receiver<CommandEvent>,
    ) -> Result<io::Result<ExitStatus>, Failure> {
        let mut text = String::new();
        let mut ended = None;
        let mut until = None::<Instant>;
        loop {
            let next = match until {
                None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(until) => events.recv_timeout(clock::until(until)),
            };
            let is_quiet = next.is_err();
            let is_full = match next {
                Ok(CommandEvent::Ended(status)) => {
                    ended = Some(status);
                    until = Some(clock::monotonic() + GATHER);
                    continue;
                }
                Ok(CommandEvent::Line(line)) => {
                    output::print(&format!("{line}\n"))?;
                    if self.grep.as_ref().is_none_or(|pattern| line.contains(pattern)) {
                        let end = line.floor_char_boundary(LINE_BYTES);
                        text.push_str(&line[..end]);
                        text.push_str(if end < line.len() { " ...\n" } else { "\n" });
                    }
                    let later = clock::monotonic() + GATHER;
                    until = until.filter(|_| ended.is_none()).or(Some(later));
                    text.len() >= FULL_BYTES
                }
                Err(_) => true,
            };
            if !is_full {
                continue;
            }
            if !text.trim().is_empty() {
                self.send(context, text.trim_end())?;
                text.clear();
            }
            // A full pause without a line after the command has ended ends the output.
            if is_quiet && let Some(status) = ended {
                return Ok(status);
            }
            until = ended.as_ref().map(|_| clock::monotonic() + GATHER);
        }
    }

    fn send(&self, context: &mut Context, text: &str) -> Result<(), Failure> {
        let send = decide::Send {
            to: self.to.clone(),
            body: text.to_owned(),
            from: self.from.clone().map(Into::into),
            message_id: None,
            tag: None,
            reply_to: None,
            ttl_s: None,
            deferrable: self.deferrable,
        };
        context.broker.execute(&send, &context.actor).map(|_| ())
    }
}
