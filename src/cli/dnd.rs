//! `c2c dnd`: show or set do-not-disturb.

use c2c_core::command;
use clap::Args;
use serde_json::json;

use super::context::{Context, Run};
use super::output;
use crate::error::Failure;
use crate::platform::clock;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c dnd on\n  \
    c2c dnd on --until 2026-12-01T09:00:00Z\n  \
    c2c dnd off")]
pub struct Dnd {
    /// New state; `status`, the default, shows the current one
    #[arg(value_parser = ["on", "off", "status"])]
    state: Option<String>,
    /// Time when do-not-disturb ends: RFC 3339 or seconds since 1970
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Run for Dnd {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.broker.refresh(&context.actor)?;
        let mut mailbox = context.own_mailbox()?;
        if let Some(state) = self.state.filter(|state| state != "status") {
            let until_us = self.until.as_deref().map(parse_until).transpose()?;
            let command = command::SetDnd { on: state == "on", until_us };
            context.broker.execute(&command, &context.actor)?;
            mailbox = context.own_mailbox()?;
        }
        let is_on = mailbox.is_dnd(clock::now_us());
        if context.common.json {
            let time = |us: Option<u64>| us.map(clock::rfc3339);
            return output::print_json(&json!({
                "ok": true,
                "dnd": is_on,
                "dnd_since": time(mailbox.dnd_since_us),
                "dnd_until": time(mailbox.dnd_until_us),
            }));
        }
        output::print(if is_on { "dnd: on\n" } else { "dnd: off\n" })
    }
}

/// Parses `--until`; returns microseconds since 1970.
fn parse_until(text: &str) -> Result<u64, Failure> {
    clock::parse(text).ok_or_else(|| {
        output::usage_error(&format!(
            "invalid --until '{text}': expected an RFC 3339 time or seconds since 1970"
        ))
    })
}
