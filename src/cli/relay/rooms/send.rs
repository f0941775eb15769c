//! The `c2c relay rooms send` command.

use clap::Args;
use serde_json::json;

use super::room::RoomSession;
use crate::cli::output;
use crate::error::Failure;
use crate::present::envelope::for_terminal;
use crate::relay::protocol::request;
use crate::relay::protocol::response;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c relay rooms send swarm-lounge \"hello\" --alias ann\n  \
    c2c relay rooms send --room swarm-lounge \"hello\"")]
pub struct RelayRoomsSend {
    /// Room and text; only the text with --room
    #[arg(required = true)]
    words: Vec<String>,
}

impl RelayRoomsSend {
    pub fn run(self, session: &mut RoomSession<'_>) -> Result<(), Failure> {
        let (room_id, content) = match &session.room {
            Some(room) => (room.clone(), self.words.join(" ")),
            None => {
                let (room, text) = self.words.split_first().unwrap_or((&self.words[0], &[]));
                (room.clone(), text.join(" "))
            }
        };
        let alias = session.required_alias()?;
        let request = request::SendRoomRequest {
            from_alias: alias.clone(),
            room_id,
            content,
            message_id: Some(uuid::Uuid::now_v7().to_string()),
            ..request::SendRoomRequest::default()
        };
        let sent: response::FanOutResponse =
            session.client.post("/send_room", &request, Some(&alias))?;
        if session.as_json() {
            return output::print_json(&json!({ "ok": true, "sent": sent }));
        }
        let names = match sent.delivered_to.is_empty() {
            true => "no other member".into(),
            false => sent.delivered_to.join(" "),
        };
        output::print(&format!("sent to: {}\n", for_terminal(&names)))
    }
}
