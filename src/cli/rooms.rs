//! Commands about rooms.

use clap::{Args, Subcommand};
use serde_json::json;

use super::message::{Tags, body};
use super::{Context, Run, output};
use crate::broker::{RoomInfo, Said};
use crate::clock;
use crate::code::Code;
use crate::decide::{Command, Refusal, Reply, RoomReply, Send};
use crate::envelope::for_terminal;
use crate::failure::Failure;
use crate::shape;

#[derive(Args)]
pub struct Rooms {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// All rooms
    List,
    /// Make a room
    Create {
        /// Name of the room
        room: String,
        /// public, invite_only or local
        #[arg(long, value_name = "WHO", default_value = "public")]
        visibility: String,
        /// Alias to invite (repeat)
        #[arg(long, value_name = "ALIAS")]
        invite: Vec<String>,
        /// Do not become a member
        #[arg(long)]
        no_join: bool,
    },
    /// Become a member; makes the room if it is not there
    Join {
        /// Name of the room
        room: String,
        /// Messages to show
        #[arg(long, value_name = "N", default_value_t = 20)]
        history_limit: usize,
        /// Alias to join as, if this session has none yet
        #[arg(long, short = 'a')]
        alias: Option<String>,
    },
    /// Stop being a member
    Leave {
        /// Name of the room
        room: String,
        /// Alias to leave as, if this session has none
        #[arg(long, short = 'a')]
        alias: Option<String>,
    },
    /// Say something to all members
    Send {
        /// Name of the room
        room: String,
        /// The message; `-` or nothing reads standard input
        words: Vec<String>,
        /// Alias to send as, if this session has none yet
        #[arg(long, short = 'F', value_name = "ALIAS")]
        from: Option<String>,
        #[command(flatten)]
        tags: Tags,
        /// Idempotency key: the same id is accepted once
        #[arg(long, value_name = "ID")]
        message_id: Option<String>,
    },
    /// What was said
    History {
        /// Name of the room
        room: String,
        /// At most this many, the newest; 0 for all
        #[arg(long, short = 'l', value_name = "N", default_value_t = 50)]
        limit: usize,
        /// Only what was said since: RFC 3339, seconds since 1970, or 30m, 24h, 7d
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
    },
    /// Who is a member
    Members {
        /// Name of the room
        room: String,
    },
    /// Show what is said, as it is said
    Tail {
        /// Name of the room
        room: String,
        /// Messages to begin with
        #[arg(long, short = 'l', value_name = "N", default_value_t = 20)]
        lines: usize,
        /// Do not wait for more
        #[arg(long, short = 'n')]
        no_follow: bool,
    },
    /// Let somebody into an invite-only room
    Invite {
        /// Name of the room
        room: String,
        /// Who is invited
        alias: String,
    },
    /// Show or set who may see the room
    Visibility {
        /// Name of the room
        room: String,
        /// public, invite_only or local
        #[arg(long, short = 's', value_name = "WHO")]
        set: Option<String>,
    },
    /// Delete a room
    Delete {
        /// Name of the room
        room: String,
        /// Although it has members
        #[arg(long)]
        force: bool,
    },
}

impl Run for Rooms {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self.what.unwrap_or(What::List) {
            What::List => list(context, false),
            What::Create { room, visibility, invite, no_join } => {
                create(context, room, visibility, invite, !no_join)
            }
            What::Join { room, history_limit, alias } => join(context, room, history_limit, alias),
            What::Leave { room, alias } => leave(context, room, alias),
            What::Send { room, words, from, tags, message_id } => {
                let send = Send {
                    body: body(&words)?,
                    from,
                    tag: tags.tag(),
                    message_id,
                    ..Send::default()
                };
                send_room(context, room, send)
            }
            What::History { room, limit, since } => {
                history(context, &room, limit, since.as_deref())
            }
            What::Members { room } => members(context, &room),
            What::Tail { room, lines, no_follow } => tail(context, &room, lines, !no_follow),
            What::Invite { room, alias } => invite(context, room, alias),
            What::Visibility { room, set } => visibility(context, room, set),
            What::Delete { room, force } => delete(context, room, force),
        }
    }
}

#[derive(Args)]
pub struct MyRooms {}

impl Run for MyRooms {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        list(context, true)
    }
}

fn list(context: &mut Context, mine: bool) -> Result<(), Failure> {
    context.broker.look(&context.actor)?;
    let mailbox = context.broker.own_mailbox(&context.actor);
    let alias = mailbox.as_ref().map_or("", |mailbox| mailbox.alias.as_str());
    let mut rooms = context.broker.rooms(mailbox.as_ref());
    rooms.retain(|room| !mine || room.members.iter().any(|(member, ..)| member == alias));
    if context.common.json {
        let rows: Vec<_> = rooms.iter().map(shape::room).collect();
        return output::say_json(&json!(rows));
    }
    if rooms.is_empty() {
        return output::say(if mine { "Not in any rooms.\n" } else { "No rooms.\n" });
    }
    let line = |info: &RoomInfo| {
        let alive = info.members.iter().filter(|(_, _, is, _)| is.as_option() == Some(true));
        let kind = match info.room.visibility.as_str() {
            "public" => String::new(),
            other => format!(" [{}]", other.replace('_', "-")),
        };
        let (all, alive) = (info.members.len(), alive.count());
        format!("{} ({all} members, {alive} alive){kind}\n", info.room.room_id)
    };
    output::say(&rooms.iter().map(line).collect::<String>())
}

fn execute(context: &mut Context, command: &Command) -> Result<RoomReply, Failure> {
    match context.broker.execute(command, &context.actor)?.reply {
        Reply::Room(reply) => Ok(reply),
        _ => Err(output::usage("no room")),
    }
}

/// The room, if the caller may know of it.
fn info(context: &mut Context, room_id: &str) -> Result<RoomInfo, Failure> {
    context.broker.look(&context.actor)?;
    let mailbox = context.broker.own_mailbox(&context.actor);
    let rooms = context.broker.rooms(mailbox.as_ref());
    let found = rooms.into_iter().find(|info| info.room.room_id.eq_ignore_ascii_case(room_id));
    found.ok_or_else(|| {
        let message = format!("there is no room '{}'", room_id.escape_default());
        Refusal::new(Code::UnknownRoom, "room_id", message).hint("c2c rooms list").into()
    })
}

fn member_rows(info: &RoomInfo) -> serde_json::Value {
    let rows = info.members.iter().map(|(alias, session_id, is, joined_us)| {
        json!({
            "alias": alias,
            "session_id": session_id,
            "alive": is.as_option(),
            "joined_at": clock::rfc3339(*joined_us),
        })
    });
    json!(rows.collect::<Vec<_>>())
}

fn history_line(said: &Said, utc: bool) -> String {
    let sent = &said.message.sent;
    let time = clock::human(sent.sent_us, utc);
    let (from, body) = (for_terminal(&sent.from), for_terminal(&sent.body));
    let pending = if said.room_sequence.is_none() { " (pending)" } else { "" };
    format!("[{}] <{from}>{pending} {body}\n", &time[..16.min(time.len())])
}

fn create(
    context: &mut Context,
    room_id: String,
    visibility: String,
    invite: Vec<String>,
    join: bool,
) -> Result<(), Failure> {
    let command = Command::RoomCreate { room_id, visibility, invite, join };
    let reply = execute(context, &command)?;
    let info = info(context, &reply.room_id)?;
    if context.common.json {
        return output::say_json(&json!({
            "room_id": info.room.room_id,
            "created_by": info.room.created_by,
            "visibility": info.room.visibility,
            "invited_members": info.room.invited,
            "members": reply.members,
            "auto_joined": join,
        }));
    }
    output::say(&format!("Created room {} ({})\n", info.room.room_id, info.room.visibility))
}

fn join(
    context: &mut Context,
    room_id: String,
    limit: usize,
    from: Option<String>,
) -> Result<(), Failure> {
    let reply = execute(context, &Command::RoomJoin { room_id, from })?;
    let info = info(context, &reply.room_id)?;
    let history = match limit {
        0 => Vec::new(),
        limit => context.broker.room_history(&reply.room_id, limit.min(200), 0)?,
    };
    if context.common.json {
        let rows: Vec<_> = history.iter().map(shape::said).collect();
        return output::say_json(&json!({
            "room_id": info.room.room_id,
            "members": member_rows(&info),
            "history": rows,
        }));
    }
    let utc = context.common.utc;
    let lines: String = history.iter().map(|message| history_line(message, utc)).collect();
    let count = info.members.len();
    output::say(&format!("Joined room {} ({count} members)\n{lines}", info.room.room_id))
}

fn leave(context: &mut Context, room_id: String, from: Option<String>) -> Result<(), Failure> {
    let reply = execute(context, &Command::RoomLeave { room_id, from })?;
    if context.common.json {
        return output::say_json(&json!({ "room_id": reply.room_id, "members": reply.members }));
    }
    let left = reply.members.len();
    output::say(&format!("Left room {} ({left} members remaining)\n", reply.room_id))
}

fn send_room(context: &mut Context, room_id: String, send: Send) -> Result<(), Failure> {
    let command = Command::RoomSend { room_id, send };
    let Reply::Sent(sent) = context.broker.execute(&command, &context.actor)?.reply else {
        return Ok(());
    };
    let way = context.broker.way_of(&sent);
    if context.common.json {
        let broker_id = context.broker.log_id()?.to_owned();
        return output::say_json(&shape::said_in(&sent, &broker_id, &way));
    }
    let (delivered, skipped) = (sent.delivered_to.len(), sent.skipped.len());
    let queued = match sent.queued.len() {
        0 => String::new(),
        queued => format!("{queued} queued, "),
    };
    let room = &sent.to;
    output::say(&format!(
        "Sent to room {room} ({delivered} delivered, {queued}{skipped} skipped)\n"
    ))?;
    if let Some(warning) = shape::held_up(&way) {
        output::note(&format!("note: {warning}"));
    }
    Ok(())
}

/// `30m`, `24h`, `7d`, or a time.
fn since_us(text: &str) -> Result<u64, Failure> {
    let unit = text.chars().last().and_then(|c| match c {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3_600),
        'd' => Some(86_400),
        _ => None,
    });
    let ago = unit.and_then(|unit| {
        let number: f64 = text[..text.len() - 1].parse().ok()?;
        Some((number.max(0.0) * f64::from(unit) * 1e6) as u64)
    });
    let at = match ago {
        Some(ago) => Some(clock::now_us().saturating_sub(ago)),
        None => clock::parse(text),
    };
    at.ok_or_else(|| {
        output::usage(&format!("--since: '{text}' is no time; use 30m, 24h, 7d or RFC 3339"))
    })
}

fn history(
    context: &mut Context,
    room_id: &str,
    limit: usize,
    since: Option<&str>,
) -> Result<(), Failure> {
    let info = info(context, room_id)?;
    let since = since.map_or(Ok(0), since_us)?;
    let rows = context.broker.room_history(&info.room.room_id, limit, since)?;
    if context.common.json {
        return output::say_json(&json!(rows.iter().map(shape::said).collect::<Vec<_>>()));
    }
    let utc = context.common.utc;
    output::say(&rows.iter().map(|row| history_line(row, utc)).collect::<String>())
}

fn members(context: &mut Context, room_id: &str) -> Result<(), Failure> {
    let info = info(context, room_id)?;
    if context.common.json {
        return output::say_json(&member_rows(&info));
    }
    let line = |(alias, _, is, _): &(String, _, _, _)| {
        format!("  {alias:20}  {}\n", output::liveness_word(*is))
    };
    output::say(&info.members.iter().map(line).collect::<String>())
}

fn tail(context: &mut Context, room_id: &str, lines: usize, follow: bool) -> Result<(), Failure> {
    let info = info(context, room_id)?;
    let mut shown = 0;
    let mut limit = lines;
    loop {
        let pulse = context.broker.pulse();
        let rows = context.broker.room_history(&info.room.room_id, limit, 0)?;
        let utc = context.common.utc;
        let new = rows.iter().filter(|row| row.message.sequence > shown);
        let json = context.common.json;
        let line = |row| match json {
            true => output::json_line(&shape::said(row)),
            false => history_line(row, utc),
        };
        let text: String = new.map(line).collect();
        if !text.is_empty() {
            output::say(&text)?;
        }
        shown = rows.iter().map(|row| row.message.sequence).fold(shown, u64::max);
        if !follow {
            return Ok(());
        }
        limit = 200;
        let head = context.broker.state().head;
        while context.broker.state().head == head {
            context.broker.wait(pulse, std::time::Duration::from_secs(1));
            context.broker.look(&context.actor)?;
        }
    }
}

fn invite(context: &mut Context, room_id: String, alias: String) -> Result<(), Failure> {
    let reply = execute(context, &Command::RoomInvite { room_id, alias, invited: true })?;
    if context.common.json {
        return output::say_json(&json!({
            "ok": true,
            "room_id": reply.room_id,
            "invitee_alias": reply.alias,
        }));
    }
    output::say(&format!("Invited {} to {}\n", reply.alias, reply.room_id))
}

fn visibility(context: &mut Context, room_id: String, set: Option<String>) -> Result<(), Failure> {
    if let Some(visibility) = set {
        let command = Command::RoomVisibility { room_id: room_id.clone(), visibility };
        execute(context, &command)?;
    }
    let info = info(context, &room_id)?;
    if context.common.json {
        return output::say_json(&json!({
            "ok": true,
            "room_id": info.room.room_id,
            "visibility": info.room.visibility,
            "invited_members": info.room.invited,
        }));
    }
    output::say(&format!("{}: {}\n", info.room.room_id, info.room.visibility))
}

fn delete(context: &mut Context, room_id: String, force: bool) -> Result<(), Failure> {
    let reply = execute(context, &Command::RoomDelete { room_id, force })?;
    if context.common.json {
        return output::say_json(&json!({ "room_id": reply.room_id, "deleted": true }));
    }
    output::say(&format!("Deleted room {}\n", reply.room_id))
}
