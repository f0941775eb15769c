//! `c2c-log trace`: the history of a message.

use clap::Args;

use super::exit::{CLEAN, ExitResult, ToolError};
use super::location::LogLocation;
use super::{files, render};
use crate::broker::Broker;
use crate::platform::clock;

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct TraceArgs {
    /// Show the message with this id
    message_id: String,
    #[command(flatten)]
    location: LogLocation,
    /// Show times in UTC
    #[arg(long)]
    utc: bool,
}

const EXAMPLES: &str = "\
Examples:
  c2c-log trace 01a22f0b-93d1-7c40-a6c5-2f1de4e9b5c0     show the message's history
  c2c-log trace --utc MESSAGE_ID /backup/broker          search a copy of a broker root";

impl TraceArgs {
    pub fn run(self) -> ExitResult {
        let log = files::open(&self.location)?;
        let mut broker = Broker::with_store(&log.root, log.store());
        let traces = broker
            .trace(&self.message_id)
            .map_err(|failure| ToolError::Failed(failure.message()))?;
        let mut text = String::new();
        for trace in &traces {
            let Some(message) = &trace.message else { continue };
            text.push_str(&format!(
                "{} {} -> {}\n",
                self.message_id, message.sent.from, message.sent.to
            ));
            for hop in &trace.hops {
                let time = clock::human(hop.time_us, self.utc);
                text.push_str(&format!(
                    "  {:>8}  {time}  {}  {}\n",
                    hop.sequence, hop.what, hop.who
                ));
            }
        }
        if traces.is_empty() {
            text = format!("this log has no record of message '{}'\n", self.message_id);
        }
        render::out(&text)?;
        Ok(CLEAN)
    }
}
