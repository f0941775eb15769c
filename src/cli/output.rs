//! How is something printed, for people and for programs?

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::broker::{Message, Peer, RoomInfo};
use crate::clock;
use crate::code::Code;
use crate::decide::{Refusal, Sent};
use crate::envelope::for_terminal;
use crate::failure::Failure;

/// Writes to standard output and makes sure that it got there.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The same, as the end of a command.
pub fn say(text: &str) -> Result<(), Failure> {
    print(text).map_err(Failure::Output)
}

/// One JSON value.
pub fn say_json(value: &Value) -> Result<(), Failure> {
    say(&format!("{value:#}\n"))
}

/// A note for people, on standard error.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether standard output is a terminal that wants colour.
pub fn colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Bold on a terminal.
pub fn strong(text: &str) -> String {
    if colour() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

/// Ends a command that failed.
pub fn failed(failure: &Failure, as_json: bool) -> ExitCode {
    let code = failure.code();
    if as_json && !matches!(failure, Failure::Told(_)) {
        let _ = print(&format!("{:#}\n", failure.to_json()));
    }
    let mut text = format!("error: {} [{}]", for_terminal(&failure.message()), code.name());
    if let Failure::Refused(Refusal { field, .. }) | Failure::Told(Refusal { field, .. }) = failure
        && !field.is_empty()
    {
        text.push_str(&format!("\n  field: {field}"));
    }
    if let Some(hint) = failure.hint() {
        text.push_str(&format!("\n  hint: {}", for_terminal(&hint)));
    }
    note(&text);
    ExitCode::from(code.exit())
}

/// A wrong command line that the parser could not see.
pub fn usage(message: &str) -> Failure {
    Refusal::new(Code::Usage, "", message).into()
}

/// One message as programs see it.
pub fn message_json(message: &Message, to: &str) -> Value {
    let sent = &message.sent;
    let mut row = json!({
        "from_alias": sent.from,
        "to_alias": match &message.room_id {
            Some(room_id) => format!("{to}#{room_id}"),
            None => to.to_owned(),
        },
        "content": sent.body,
        "ts": clock::rfc3339(sent.sent_us),
        "message_id": sent.message_id,
        "event": if message.room_id.is_some() { "room_message" } else { "message" },
        "sequence": message.sequence,
    });
    if let Some(room_id) = &message.room_id {
        row["room_id"] = json!(room_id);
    }
    if let Some(tag) = &sent.tag {
        row["tag"] = json!(tag);
    }
    if let Some(reply_to) = &sent.reply_to {
        row["reply_to"] = json!(reply_to);
    }
    if sent.deferrable {
        row["deferrable"] = json!(true);
    }
    if message.redelivered {
        row["redelivered"] = json!(true);
    }
    if let Some(drained_us) = message.drained_us {
        row["drained_at"] = json!(clock::rfc3339(drained_us));
    }
    row
}

/// One message as people see it.
pub fn message_line(message: &Message) -> String {
    let sent = &message.sent;
    let place = message.room_id.as_ref().map_or_else(String::new, |room| format!("#{room} "));
    let tag = sent.tag.as_ref().map_or_else(String::new, |tag| format!("{}: ", tag.to_uppercase()));
    let again = if message.redelivered { "(shown before) " } else { "" };
    let head = strong(&format!("[{place}{}]", for_terminal(&sent.from)));
    format!("{head} {again}{tag}{}\n", for_terminal(&sent.body))
}

/// A receipt as programs see it.
pub fn sent_json(sent: &Sent, broker_id: &str) -> Value {
    let mut row = json!({
        "queued": true,
        "ts": clock::rfc3339(sent.sent_us),
        "from_alias": sent.from,
        "to_alias": sent.to,
        "message_id": sent.message_id,
        "recipient_state": sent.recipient_state,
        "broker_id": broker_id,
    });
    if sent.duplicate {
        row["duplicate"] = json!(true);
    }
    if sent.recipient_state == "dnd" {
        row["recipient_dnd"] = json!(true);
    }
    if sent.outbox {
        row["warning"] = json!("waits in the outbox: no connector has run on this root");
    }
    row
}

/// One registered alias as programs see it.
pub fn peer_json(peer: &Peer) -> Value {
    let session = peer.session.as_ref();
    let mut row = json!({
        "session_id": session.map_or("", |session| &session.session_id),
        "alias": peer.mailbox.alias,
        "alive": peer.liveness.as_option(),
    });
    let registered_us = session.map_or(peer.mailbox.created_us, |session| session.registered_us);
    row["registered_at"] = json!(clock::rfc3339(registered_us));
    if let Some(session) = session {
        row["last_seen"] = json!(clock::rfc3339(session.active_us));
        row["node_id"] = json!(session.node_id);
        if let Some(process) = &session.process {
            row["pid"] = json!(process.pid);
        }
        for (key, value) in [
            ("client_type", &session.client_type),
            ("role", &session.role),
            ("cwd", &session.cwd),
            ("tmux_location", &session.tmux_location),
        ] {
            if let Some(value) = value {
                row[key] = json!(value);
            }
        }
    }
    row
}

/// One room as programs see it; the union of the keys of both older generations.
pub fn room_json(info: &RoomInfo) -> Value {
    use crate::decide::Liveness::{Alive, Dead, Unknown};
    let count = |wanted| info.members.iter().filter(|(_, _, is, _)| *is == wanted).count();
    let names = |alive_only: bool| -> Vec<&String> {
        let rows = info.members.iter().filter(|(_, _, is, _)| !alive_only || *is == Alive);
        rows.map(|(alias, ..)| alias).collect()
    };
    let details = info.members.iter().map(|(alias, session, is, _)| {
        json!({ "alias": alias, "session_id": session, "alive": is.as_option() })
    });
    json!({
        "room_id": info.room.room_id,
        "member_count": info.members.len(),
        "members": names(false),
        "alive_count": count(Alive),
        "alive_members": names(true),
        "alive_member_count": count(Alive),
        "dead_member_count": count(Dead),
        "unknown_member_count": count(Unknown),
        "member_details": details.collect::<Vec<_>>(),
        "visibility": info.room.visibility,
        "invited_members": info.room.invited,
        "created_by": info.room.created_by,
    })
}

/// `alive`, `dead`, or `???` when there is no evidence.
pub fn liveness_word(liveness: crate::decide::Liveness) -> &'static str {
    match liveness {
        crate::decide::Liveness::Alive => "alive",
        crate::decide::Liveness::Dead => "dead",
        crate::decide::Liveness::Unknown => "???",
    }
}
