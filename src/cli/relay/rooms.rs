//! `c2c relay rooms`.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{Target, speaker};
use crate::cli::{Context, Run, output};
use crate::clock;
use crate::code::Code;
use crate::connector::Client;
use crate::decide::Refusal;
use crate::envelope::for_terminal;
use crate::failure::Failure;
use crate::wire::body;

#[derive(Args)]
pub struct Rooms {
    /// Alias that acts
    #[arg(long, value_name = "ALIAS", global = true)]
    alias: Option<String>,
    /// Room, where it is not named in its place
    #[arg(long, value_name = "ROOM", global = true)]
    room: Option<String>,
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Visibility {
    Public,
    #[value(alias = "invite_only")]
    Invite,
}

#[derive(Subcommand)]
enum What {
    /// List the rooms on the relay
    List,
    /// Join a room; the first one makes it
    Join {
        /// Room
        room: Option<String>,
    },
    /// Leave a room
    Leave {
        /// Room
        room: Option<String>,
    },
    /// Send a message to a room
    Send {
        /// Room and text; only the text with --room
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// Show the last messages of a room
    History {
        /// Room
        room: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: u64,
    },
    /// Invite somebody
    Invite {
        /// Room
        room: Option<String>,
        /// Key to invite
        #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
        invitee_pk: Option<String>,
        /// Alias to invite
        #[arg(long, value_name = "ALIAS")]
        invitee: Option<String>,
    },
    /// Take an invitation back
    Uninvite {
        /// Room
        room: Option<String>,
        /// Key
        #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
        invitee_pk: Option<String>,
        /// Alias
        #[arg(long, value_name = "ALIAS")]
        invitee: Option<String>,
    },
    /// Say who may see and join a room
    SetVisibility {
        /// Room
        room: Option<String>,
        /// For everybody, or by invitation
        #[arg(long, value_enum)]
        visibility: Visibility,
    },
}

impl Run for Rooms {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let (client, _) = self.target.client(context)?;
        let named = self.room.clone();
        let room = |given: Option<String>| {
            let missing = || Refusal::new(Code::InvalidArgument, "room", "which room?");
            given.or_else(|| named.clone()).ok_or_else(missing)
        };
        match self.what {
            What::List => {
                let alias = speaker(self.alias.as_deref(), &client, context)?;
                list(&client, alias.as_deref(), context)
            }
            What::History { room: given, limit } => {
                let room_id = room(given)?;
                let alias = speaker(self.alias.as_deref(), &client, context)?;
                history(&client, room_id, limit, alias.as_deref(), context)
            }
            What::Send { words } => {
                let (room_id, text) = match &named {
                    Some(room) => (room.clone(), words.join(" ")),
                    None => {
                        let (room, text) = words.split_first().unwrap_or((&words[0], &[]));
                        (room.clone(), text.join(" "))
                    }
                };
                let alias = acting(self.alias.as_deref(), &client, context)?;
                send(&client, room_id, text, &alias, context)
            }
            What::Join { room: given } => {
                let room_id = room(given)?;
                let alias = acting(self.alias.as_deref(), &client, context)?;
                let done = change(&client, "/join_room", room_id, &alias, |wish| wish)?;
                tell(&done, "joined", context)
            }
            What::Leave { room: given } => {
                let room_id = room(given)?;
                let alias = acting(self.alias.as_deref(), &client, context)?;
                let done = change(&client, "/leave_room", room_id, &alias, |wish| wish)?;
                tell(&done, "left", context)
            }
            What::Invite { room: given, invitee_pk, invitee } => {
                let room_id = room(given)?;
                let alias = acting(self.alias.as_deref(), &client, context)?;
                let with = |wish| body::RoomChange { invitee_pk, invitee, ..wish };
                let done = change(&client, "/invite_room", room_id, &alias, with)?;
                tell(&done, "invited to", context)
            }
            What::Uninvite { room: given, invitee_pk, invitee } => {
                let room_id = room(given)?;
                let alias = acting(self.alias.as_deref(), &client, context)?;
                let with = |wish| body::RoomChange { invitee_pk, invitee, ..wish };
                let done = change(&client, "/uninvite_room", room_id, &alias, with)?;
                tell(&done, "no longer invited to", context)
            }
            What::SetVisibility { room: given, visibility } => {
                let room_id = room(given)?;
                let alias = acting(self.alias.as_deref(), &client, context)?;
                let word = match visibility {
                    Visibility::Public => "public",
                    Visibility::Invite => "invite",
                };
                let with = |wish| body::RoomChange { visibility: Some(word.into()), ..wish };
                let done = change(&client, "/set_room_visibility", room_id, &alias, with)?;
                tell(&done, "visibility set for", context)
            }
        }
    }
}

/// The alias that acts in a room; there must be one.
fn acting(named: Option<&str>, client: &Client, context: &mut Context) -> Result<String, Failure> {
    speaker(named, client, context)?.ok_or_else(|| {
        Refusal::new(Code::InvalidArgument, "alias", "which alias acts? pass --alias").into()
    })
}

/// Changes something about a room.
fn change(
    client: &Client,
    target: &str,
    room_id: String,
    alias: &str,
    with: impl FnOnce(body::RoomChange) -> body::RoomChange,
) -> Result<Value, Failure> {
    let wish = body::RoomChange { alias: alias.to_owned(), room_id, ..body::RoomChange::default() };
    Ok(client.post(target, &with(wish), Some(alias))?)
}

fn tell(done: &Value, what: &str, context: &Context) -> Result<(), Failure> {
    if context.common.json {
        return output::say_json(done);
    }
    let room = done["room_id"].as_str().unwrap_or_default();
    output::say(&format!("{what} {}\n", for_terminal(room)))
}

fn list(client: &Client, alias: Option<&str>, context: &Context) -> Result<(), Failure> {
    // A stranger sees the public ones.
    let rooms = client.get("/list_rooms", alias).or_else(|_| client.get("/list_rooms", None));
    let rooms: body::Rooms = rooms?;
    if context.common.json {
        return output::say_json(&json!({ "ok": true, "rooms": rooms.rooms }));
    }
    if rooms.rooms.is_empty() {
        return output::say("(no rooms)\n");
    }
    let rows = rooms.rooms.iter().map(|room| {
        let members = for_terminal(&room.members.join(", "));
        format!("{} ({} members): {members}\n", for_terminal(&room.room_id), room.member_count)
    });
    output::say(&rows.collect::<String>())
}

fn history(
    client: &Client,
    room_id: String,
    limit: u64,
    alias: Option<&str>,
    context: &Context,
) -> Result<(), Failure> {
    let wish = body::RoomHistory { room_id, limit: Some(limit) };
    let asked = client.post::<body::History>("/room_history", &wish, alias);
    let asked = asked.or_else(|_| client.post("/room_history", &wish, None));
    let history = asked.map_err(Failure::from)?;
    if context.common.json {
        let (room_id, rows) = (history.room_id, history.history);
        return output::say_json(&json!({ "ok": true, "room_id": room_id, "history": rows }));
    }
    if history.history.is_empty() {
        return output::say("(no messages)\n");
    }
    let rows = history.history.iter().map(|row| {
        let when = clock::human(row.ts.us, context.common.utc);
        let (from, body) = (for_terminal(&row.from_alias), for_terminal(&row.content));
        format!("[{when}] {from}: {body}\n")
    });
    output::say(&rows.collect::<String>())
}

fn send(
    client: &Client,
    room_id: String,
    text: String,
    alias: &str,
    context: &Context,
) -> Result<(), Failure> {
    let wish = body::SendRoom {
        from_alias: alias.to_owned(),
        room_id,
        content: text,
        message_id: Some(uuid::Uuid::now_v7().to_string()),
        ..body::SendRoom::default()
    };
    let sent: body::FannedOut = client.post("/send_room", &wish, Some(alias))?;
    if context.common.json {
        return output::say_json(&json!({ "ok": true, "sent": sent }));
    }
    let names = if sent.delivered_to.is_empty() {
        "nobody else".into()
    } else {
        sent.delivered_to.join(" ")
    };
    output::say(&format!("sent to: {}\n", for_terminal(&names)))
}
