//! The `c2c relay dead-letter` command.

use clap::{Args, Subcommand};
use serde_json::json;

use super::target::RelayTarget;
use super::text::lines_for_terminal;
use crate::cli::context::{Context, Run};
use crate::cli::output;
use crate::error::Failure;
use crate::platform::clock;
use crate::relay::client::RelayClient;
use crate::relay::protocol::request;
use crate::relay::protocol::response;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c relay dead-letter                          list the newest 50\n  \
    c2c relay dead-letter replay                   deliver all dead letters again\n  \
    c2c relay dead-letter replay ID --to bob@host  deliver one to another recipient")]
pub struct RelayDeadLetter {
    #[command(subcommand)]
    command: Option<RelayDeadLetterCommand>,
    /// Show only the newest N dead letters
    #[arg(long, short = 'l', value_name = "N", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    target: RelayTarget,
}

#[derive(Subcommand)]
enum RelayDeadLetterCommand {
    /// List the dead letters, newest last
    #[command(after_help = "Examples:\n  c2c relay dead-letter list")]
    List,
    /// Put dead letters back into a mailbox
    #[command(
        after_help = "Examples:\n  c2c relay dead-letter replay ID\n  c2c relay dead-letter replay ID --to bob@laptop"
    )]
    Replay {
        /// Id of the message; omit it to replay all
        message_id: Option<String>,
        /// Deliver to this recipient instead
        #[arg(long, value_name = "ALIAS[@NODE]")]
        to: Option<String>,
    },
}

impl Run for RelayDeadLetter {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let (client, _) = self.target.client(context)?;
        match self.command {
            Some(RelayDeadLetterCommand::Replay { message_id, to }) => {
                let request = request::ReplayRequest { message_id, to_alias: to };
                replay(&client, &request, context.common.json)
            }
            Some(RelayDeadLetterCommand::List) | None => list(&client, self.limit, context),
        }
    }
}

fn replay(
    client: &RelayClient,
    request: &request::ReplayRequest,
    as_json: bool,
) -> Result<(), Failure> {
    let replayed: response::ReplayResponse =
        client.post("/admin/replay", request, None).map_err(Failure::from)?;
    if as_json {
        return output::print_json(&json!({ "ok": true, "replayed": replayed.replayed }));
    }
    output::print(&format!("Replayed {} dead letters.\n", replayed.replayed))
}

fn list(client: &RelayClient, limit: usize, context: &Context) -> Result<(), Failure> {
    let response: response::DeadLettersResponse = client.get("/dead_letter", None)?;
    let rows = &response.dead_letter[response.dead_letter.len().saturating_sub(limit)..];
    if context.common.json {
        return output::print_json(&json!({ "ok": true, "dead_letter": rows }));
    }
    if rows.is_empty() {
        return output::print("(empty)\n");
    }
    let lines = rows.iter().map(|row| {
        let when = clock::human(row.ts.us, context.common.utc);
        let body = row.content.replace('\n', " ");
        format!("[{when}] {} -> {} ({}): {body}\n", row.from_alias, row.to_alias, row.reason)
    });
    output::print(&lines_for_terminal(&lines.collect::<String>()))
}
