//! `c2c dead-letter`: list, replay or purge undeliverable messages.

use c2c_core::command::{self, Command};
use c2c_log_format::Sequence;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::context::{Context, Run};
use super::output;
use crate::error::Failure;
use crate::platform::clock;
use crate::present::envelope::for_terminal;
use crate::present::json_view;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c dead-letter list --limit 10\n  \
    c2c dead-letter replay MESSAGE_ID --to bob")]
pub struct DeadLetterArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// Show only the newest N dead letters
    #[arg(long, short = 'l', value_name = "N", default_value_t = 50, global = true)]
    limit: usize,
}

#[derive(Subcommand)]
enum Action {
    /// List dead letters
    #[command(after_help = "Examples:\n  c2c dead-letter list --limit 10")]
    List,
    /// Show one dead letter
    #[command(after_help = "Examples:\n  c2c dead-letter show MESSAGE_ID")]
    Show {
        /// Id of the message
        message_id: String,
    },
    /// Put dead letters back into a mailbox
    #[command(after_help = "Examples:\n  \
        c2c dead-letter replay\n  \
        c2c dead-letter replay MESSAGE_ID --to bob")]
    Replay {
        /// Id of the message [default: all]
        message_id: Option<String>,
        /// Deliver to this alias instead
        #[arg(long, value_name = "ALIAS")]
        to: Option<String>,
    },
    /// Remove dead letters from the list (the log keeps them)
    #[command(after_help = "Examples:\n  c2c dead-letter purge MESSAGE_ID")]
    Purge {
        /// Id of the message [default: all]
        message_id: Option<String>,
    },
}

impl Run for DeadLetterArgs {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.broker.refresh(&context.actor)?;
        match self.action.unwrap_or(Action::List) {
            Action::List => list(context, None, self.limit),
            Action::Show { message_id } => list(context, Some(&message_id), 1),
            Action::Replay { message_id, to } => {
                let messages = selected(context, message_id.as_deref())?;
                execute(context, &command::ReplayDeadLetters { messages, to }, "Replayed")
            }
            Action::Purge { message_id } => {
                let messages = selected(context, message_id.as_deref())?;
                execute(context, &command::PurgeDeadLetters { messages }, "Purged")
            }
        }
    }
}

/// Prints the newest dead letters, all or those of one message.
fn list(context: &mut Context, message_id: Option<&str>, limit: usize) -> Result<(), Failure> {
    if let Some(id) = message_id {
        // Fails if the message has no dead letter.
        context.broker.dead_letters_for(id)?;
    }
    let letters = context.broker.dead_letters()?;
    let rows: Vec<_> = letters
        .iter()
        .filter_map(|view| Some((&view.letter, view.message.as_ref()?)))
        .filter(|(_, message)| message_id.is_none_or(|id| message.sent.message_id == id))
        .map(|(letter, message)| {
            json!({
                "deleted_at": clock::rfc3339(letter.at_us),
                "from_session_id": letter.mailbox,
                "reason": letter.reason,
                "message_id": message.sent.message_id,
                "message": json_view::message(message, &letter.alias),
            })
        })
        .collect();
    let rows = &rows[rows.len().saturating_sub(limit)..];
    if context.common.json {
        return output::print_json(&json!(rows));
    }
    if rows.is_empty() {
        return output::print("(empty)\n");
    }
    output::print(&rows.iter().map(letter_text).collect::<String>())
}

fn letter_text(row: &Value) -> String {
    let text = |row: &Value, key: &str| for_terminal(row[key].as_str().unwrap_or(""));
    let message = &row["message"];
    format!(
        "{}  {} -> {}  {}\n  {}\n",
        text(row, "message_id"),
        text(message, "from_alias"),
        text(message, "to_alias"),
        text(row, "reason"),
        text(message, "content")
    )
}

/// Sequences of the dead letters of one message; empty for all.
fn selected(context: &mut Context, message_id: Option<&str>) -> Result<Vec<u64>, Failure> {
    message_id.map_or_else(|| Ok(Vec::new()), |id| context.broker.dead_letters_for(id))
}

fn execute<C: Command<Reply = Vec<Sequence>>>(
    context: &mut Context,
    command: &C,
    verb: &str,
) -> Result<(), Failure> {
    let messages = context.broker.execute(command, &context.actor)?.reply;
    let count = messages.len();
    if context.common.json {
        return output::print_json(&json!({ "ok": true, "count": count, "sequences": messages }));
    }
    output::print(&format!("{verb} {count} dead letters.\n"))
}
