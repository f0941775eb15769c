//! Changes to a room and to its members.

use serde_json::Value;

use super::room::RoomSession;
use crate::cli::output;
use crate::error::Failure;
use crate::present::envelope::for_terminal;
use crate::relay::protocol::request::RoomChangeRequest;

/// Posts a change of a room to `route` and prints the result after `verb`. `complete` adds the fields
/// of the change to the room and the alias.
pub fn change_room(
    session: &mut RoomSession<'_>,
    room: Option<String>,
    route: &str,
    verb: &str,
    complete: impl FnOnce(RoomChangeRequest) -> RoomChangeRequest,
) -> Result<(), Failure> {
    let room_id = session.room(room)?;
    let alias = session.required_alias()?;
    let change = complete(RoomChangeRequest {
        alias: alias.clone(),
        room_id,
        ..RoomChangeRequest::default()
    });
    let result: Value = session.client.post(route, &change, Some(&alias))?;
    if session.as_json() {
        return output::print_json(&result);
    }
    let room = result["room_id"].as_str().unwrap_or_default();
    output::print(&format!("{verb} {}\n", for_terminal(room)))
}
