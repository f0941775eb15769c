//! The `c2c relay rooms history` command.

use clap::Args;
use serde_json::json;

use super::room::RoomSession;
use crate::cli::output;
use crate::error::Failure;
use crate::platform::clock;
use crate::present::envelope::for_terminal;
use crate::relay::protocol::request;
use crate::relay::protocol::response;

#[derive(Args)]
#[command(after_help = "Examples:\n  c2c relay rooms history swarm-lounge --limit 20")]
pub struct RelayRoomsHistory {
    /// Room to show
    room: Option<String>,
    /// Show at most this many messages
    #[arg(long, default_value_t = 50)]
    limit: u64,
}

impl RelayRoomsHistory {
    pub fn run(self, session: &mut RoomSession<'_>) -> Result<(), Failure> {
        let room_id = session.room(self.room)?;
        let alias = session.signing_alias()?;
        let request = request::RoomHistoryRequest { room_id, limit: Some(self.limit) };
        let client = &session.client;
        // An unsigned request is enough for a public room.
        let signed = client.post::<response::RoomHistoryResponse>(
            "/room_history",
            &request,
            alias.as_deref(),
        );
        let response = signed.or_else(|_| client.post("/room_history", &request, None));
        let history = response.map_err(Failure::from)?;
        if session.as_json() {
            let (room_id, rows) = (history.room_id, history.history);
            return output::print_json(&json!({ "ok": true, "room_id": room_id, "history": rows }));
        }
        if history.history.is_empty() {
            return output::print("(no messages)\n");
        }
        let rows = history.history.iter().map(|row| {
            let when = clock::human(row.ts.us, session.context.common.utc);
            let (from, body) = (for_terminal(&row.from_alias), for_terminal(&row.content));
            format!("[{when}] {from}: {body}\n")
        });
        output::print(&rows.collect::<String>())
    }
}
