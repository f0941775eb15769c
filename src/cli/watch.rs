//! `c2c watch`: what a command prints reaches an agent as messages.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
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
        let mut child = command.spawn().map_err(failed)?;
        // Holds the other ends of the pipe, which would never end.
        drop(command);
        let (lines, queue) = channel();
        let read = move || {
            let mut reader = BufReader::new(reader);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                if lines.send(text).is_err() {
                    return;
                }
            }
        };
        thread::spawn(read);
        let forwarded = self.forward(context, &queue);
        let status = match forwarded {
            Ok(()) => child.wait().map_err(failed)?,
            Err(failure) => {
                // Nobody would read what it prints from here on.
                let _ = child.kill();
                let _ = child.wait();
                return Err(failure);
            }
        };
        self.say(context, &format!("ended: {status}"))?;
        match status.code() {
            Some(0) => Ok(()),
            code => std::process::exit(code.unwrap_or(1)),
        }
    }
}

impl Watch {
    /// Until the command prints no more.
    fn forward(&self, context: &mut Context, lines: &Receiver<String>) -> Result<(), Failure> {
        let (mut text, mut until) = (String::new(), None::<Instant>);
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let next = match left {
                None => lines.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(left) => lines.recv_timeout(left),
            };
            match &next {
                Ok(line) => {
                    output::say(&format!("{line}\n"))?;
                    if self.grep.as_ref().is_none_or(|wanted| line.contains(wanted)) {
                        let end = line.floor_char_boundary(LINE_BYTES);
                        text.push_str(&line[..end]);
                        text.push_str(if end < line.len() { " ...\n" } else { "\n" });
                        until.get_or_insert_with(|| Instant::now() + GATHER);
                    }
                    if text.len() < FULL_BYTES {
                        continue;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            if !text.trim().is_empty() {
                self.say(context, text.trim_end())?;
            }
            (text, until) = (String::new(), None);
            if next == Err(RecvTimeoutError::Disconnected) {
                return Ok(());
            }
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
