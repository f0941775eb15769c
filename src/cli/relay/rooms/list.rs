//! The `c2c relay rooms list` command.

use serde_json::json;

use super::room::RoomSession;
use crate::cli::output;
use crate::error::Failure;
use crate::present::envelope::for_terminal;
use crate::relay::protocol::response;

pub fn run(session: &mut RoomSession<'_>) -> Result<(), Failure> {
    let alias = session.signing_alias()?;
    let client = &session.client;
    // An unsigned request lists the public rooms.
    let signed = client.get("/list_rooms", alias.as_deref());
    let rooms: response::ListRoomsResponse = signed.or_else(|_| client.get("/list_rooms", None))?;
    if session.as_json() {
        return output::print_json(&json!({ "ok": true, "rooms": rooms.rooms }));
    }
    if rooms.rooms.is_empty() {
        return output::print("(no rooms)\n");
    }
    let rows = rooms.rooms.iter().map(|room| {
        let members = for_terminal(&room.members.join(", "));
        format!("{} ({} members): {members}\n", for_terminal(&room.room_id), room.member_count)
    });
    output::print(&rows.collect::<String>())
}
