//! Which tools are there, and what do they take and give?

use std::sync::Arc;

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

/// What a tool does to the world, for clients that ask before they call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Reads,
    Writes,
    Destroys,
}

struct Row {
    name: &'static str,
    /// Listed without `C2C_MCP_TOOLS=all`.
    core: bool,
    effect: Effect,
    about: &'static str,
    arguments: fn() -> Value,
    /// Properties of the result.
    result: fn() -> Value,
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn number() -> Value {
    json!({ "type": "integer" })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}

fn rows() -> Value {
    json!({ "type": "array", "items": { "type": "object" } })
}

fn strings() -> Value {
    json!({ "type": "array", "items": { "type": "string" } })
}

const ROWS: &[Row] = &[
    Row {
        name: "register",
        core: true,
        effect: Effect::Writes,
        about: "Take an alias for this session, or rename it. Answers with the alias you have.",
        arguments: || json!({ "alias": text(), "role": text() }),
        result: || json!({ "alias": text(), "session_id": text() }),
    },
    Row {
        name: "whoami",
        core: true,
        effect: Effect::Reads,
        about: "Your alias and session; alias is empty before register.",
        arguments: || json!({}),
        result: || json!({ "alias": text(), "session_id": text() }),
    },
    Row {
        name: "list",
        core: true,
        effect: Effect::Reads,
        about: "Who is registered. alive is true, false, or null when there is no evidence.",
        arguments: || json!({ "alive_only": flag() }),
        result: || json!({ "peers": rows() }),
    },
    Row {
        name: "send",
        core: true,
        effect: Effect::Writes,
        about: "Send a message to an alias, or to alias@host on another machine. It queues even \
                if the recipient is away. message_id makes a retry safe.",
        arguments: || {
            json!({
                "to_alias": text(), "content": text(), "from_alias": text(), "message_id": text(),
                "reply_to": text(), "tag": { "type": "string", "enum": ["fail", "blocking", "urgent"] },
                "ttl_s": number(), "deferrable": flag(), "required": ["to_alias", "content"],
            })
        },
        result: || {
            json!({
                "queued": flag(), "message_id": text(), "recipient_state": text(), "ts": text()
            })
        },
    },
    Row {
        name: "send_all",
        core: true,
        effect: Effect::Writes,
        about: "Send a message to everybody who may be running.",
        arguments: || {
            json!({
                "content": text(), "exclude_aliases": strings(), "from_alias": text(), "tag": text(),
                "message_id": text(), "required": ["content"],
            })
        },
        result: || json!({ "sent_to": strings(), "skipped": rows() }),
    },
    Row {
        name: "poll_inbox",
        core: true,
        effect: Effect::Writes,
        about: "Take your unread messages, oldest first. wait_s waits that long for one. With \
                ack=manual they come back unless you call ack with the claim.",
        arguments: || {
            json!({
                "wait_s": number(), "limit": number(), "max_bytes": number(),
                "ack": { "type": "string", "enum": ["auto", "manual"] },
            })
        },
        result: || {
            json!({
                "messages": rows(), "remaining": number(), "claimed": number(), "claim": text()
            })
        },
    },
    Row {
        name: "peek_inbox",
        core: true,
        effect: Effect::Reads,
        about: "Your unread messages, left where they are.",
        arguments: || json!({ "limit": number() }),
        result: || json!({ "messages": rows() }),
    },
    Row {
        name: "ack",
        core: true,
        effect: Effect::Writes,
        about: "Say that the messages of a manual claim were dealt with.",
        arguments: || json!({ "claim": text(), "required": ["claim"] }),
        result: || json!({ "ok": flag() }),
    },
    Row {
        name: "join_room",
        core: true,
        effect: Effect::Writes,
        about: "Join a room, making it if needed. Answers with members and the last messages.",
        arguments: || {
            json!({
                "room_id": text(), "history_limit": number(), "alias": text(), "required": ["room_id"],
            })
        },
        result: || json!({ "room_id": text(), "members": rows(), "history": rows() }),
    },
    Row {
        name: "leave_room",
        core: true,
        effect: Effect::Writes,
        about: "Leave a room. What you had not read stays in your inbox.",
        arguments: || json!({ "room_id": text(), "alias": text(), "required": ["room_id"] }),
        result: || json!({ "room_id": text(), "members": strings() }),
    },
    Row {
        name: "send_room",
        core: true,
        effect: Effect::Writes,
        about: "Say something to all members of a room that you are in.",
        arguments: || {
            json!({
                "room_id": text(), "content": text(), "from_alias": text(), "alias": text(),
                "tag": text(), "message_id": text(), "required": ["room_id", "content"],
            })
        },
        result: || json!({ "delivered_to": strings(), "queued": strings(), "skipped": rows(), "ts": text() }),
    },
    Row {
        name: "room_history",
        core: true,
        effect: Effect::Reads,
        about: "What was said in a room, oldest first.",
        arguments: || {
            json!({
                "room_id": text(), "limit": number(), "since": { "type": "number" },
                "required": ["room_id"],
            })
        },
        result: || json!({ "history": rows() }),
    },
    Row {
        name: "list_rooms",
        core: true,
        effect: Effect::Reads,
        about: "All rooms that you may know of.",
        arguments: || json!({}),
        result: || json!({ "rooms": rows() }),
    },
    Row {
        name: "my_rooms",
        core: false,
        effect: Effect::Reads,
        about: "The rooms that you are in.",
        arguments: || json!({}),
        result: || json!({ "rooms": rows() }),
    },
    Row {
        name: "history",
        core: false,
        effect: Effect::Reads,
        about: "Messages that you took before, newest first.",
        arguments: || json!({ "limit": number() }),
        result: || json!({ "messages": rows() }),
    },
    Row {
        name: "sweep",
        core: false,
        effect: Effect::Destroys,
        about: "End sessions whose process is gone. Their mail is kept.",
        arguments: || json!({}),
        result: || json!({ "dropped_regs": rows(), "preserved_messages": number() }),
    },
    Row {
        name: "dead_letter",
        core: false,
        effect: Effect::Reads,
        about: "Messages that could not be delivered.",
        arguments: || json!({ "limit": number() }),
        result: || json!({ "dead_letters": rows() }),
    },
    Row {
        name: "set_dnd",
        core: false,
        effect: Effect::Writes,
        about: "Do-not-disturb on or off.",
        arguments: || json!({ "on": flag(), "until_epoch": { "type": "number" }, "required": ["on"] }),
        result: || json!({ "ok": flag(), "dnd": flag() }),
    },
    Row {
        name: "trace",
        core: false,
        effect: Effect::Reads,
        about: "The whole life of one message.",
        arguments: || json!({ "message_id": text(), "required": ["message_id"] }),
        result: || json!({ "message_id": text(), "hops": rows() }),
    },
    Row {
        name: "server_info",
        core: false,
        effect: Effect::Reads,
        about: "Version and features of this server.",
        arguments: || json!({}),
        result: || json!({ "name": text(), "version": text() }),
    },
];

fn object(value: Value) -> Arc<JsonObject> {
    match value {
        Value::Object(map) => Arc::new(map),
        _ => Arc::new(JsonObject::new()),
    }
}

/// The tools that are listed: the core, or all of them.
pub fn tool_list(all: bool) -> Vec<Tool> {
    let listed = ROWS.iter().filter(|row| row.core || all);
    let tools = listed.map(|row| {
        let mut properties = (row.arguments)();
        let required = properties.as_object_mut().and_then(|map| map.remove("required"));
        let mut input = json!({ "type": "object", "properties": properties });
        if let Some(required) = required {
            input["required"] = required;
        }
        let output = json!({ "type": "object", "properties": (row.result)() });
        let annotations = ToolAnnotations::new()
            .read_only(row.effect == Effect::Reads)
            .destructive(row.effect == Effect::Destroys)
            .open_world(false);
        Tool::new(row.name, row.about, object(input))
            .with_raw_output_schema(object(output))
            .with_annotations(annotations)
    });
    tools.collect()
}

/// Whether a tool of this name can be called.
pub fn is_tool(name: &str) -> bool {
    ROWS.iter().any(|row| row.name == name)
}
