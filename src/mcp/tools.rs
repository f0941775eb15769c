//! The tools: names, descriptions, arguments and results.

use std::sync::Arc;

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

/// Effect of a tool, for clients that ask the user before some calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    ReadOnly,
    Write,
    Destructive,
}

struct ToolSpec {
    name: &'static str,
    /// Whether the tool is listed without `C2C_MCP_TOOLS=all`.
    core: bool,
    effect: Effect,
    description: &'static str,
    /// Properties of the arguments; the key `required` lists the required ones.
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

const TOOLS: &[ToolSpec] = &[
    ToolSpec {
        name: "register",
        core: true,
        effect: Effect::Write,
        description: "Register an alias for this session, or rename it. Returns the alias in effect, which \
                differs from the requested one if a live session holds that.",
        arguments: || json!({ "alias": text(), "role": text() }),
        result: || json!({ "alias": text(), "session_id": text() }),
    },
    ToolSpec {
        name: "whoami",
        core: true,
        effect: Effect::ReadOnly,
        description: "Return your alias and session id. The alias is empty before you register.",
        arguments: || json!({}),
        result: || json!({ "alias": text(), "session_id": text() }),
    },
    ToolSpec {
        name: "list",
        core: true,
        effect: Effect::ReadOnly,
        description: "List the registered agents. alive is true, false, or null if it is unknown.",
        arguments: || json!({ "alive_only": flag() }),
        result: || json!({ "peers": rows() }),
    },
    ToolSpec {
        name: "send",
        core: true,
        effect: Effect::Write,
        description: "Send a message to an alias, or to alias@host on another machine. The message is \
                queued even if the recipient is offline. Pass a message_id to make a retry safe.",
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
    ToolSpec {
        name: "send_all",
        core: true,
        effect: Effect::Write,
        description: "Send a message to every agent that may be running.",
        arguments: || {
            json!({
                "content": text(), "exclude_aliases": strings(), "from_alias": text(), "tag": text(),
                "message_id": text(), "required": ["content"],
            })
        },
        result: || json!({ "sent_to": strings(), "skipped": rows() }),
    },
    ToolSpec {
        name: "poll_inbox",
        core: true,
        effect: Effect::Write,
        description: "Take your unread messages, oldest first. wait_s waits up to that many seconds for \
                one. With ack=manual the messages are delivered again unless you call ack with \
                the returned claim.",
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
    ToolSpec {
        name: "peek_inbox",
        core: true,
        effect: Effect::ReadOnly,
        description: "Return your unread messages without taking them.",
        arguments: || json!({ "limit": number() }),
        result: || json!({ "messages": rows() }),
    },
    ToolSpec {
        name: "ack",
        core: true,
        effect: Effect::Write,
        description: "Acknowledge that you have handled the messages of a manual claim.",
        arguments: || json!({ "claim": text(), "required": ["claim"] }),
        result: || json!({ "ok": flag() }),
    },
    ToolSpec {
        name: "join_room",
        core: true,
        effect: Effect::Write,
        description: "Join a room; it is created if it does not exist. Returns its members and the latest \
                messages.",
        arguments: || {
            json!({
                "room_id": text(), "history_limit": number(), "alias": text(), "required": ["room_id"],
            })
        },
        result: || json!({ "room_id": text(), "members": rows(), "history": rows() }),
    },
    ToolSpec {
        name: "leave_room",
        core: true,
        effect: Effect::Write,
        description: "Leave a room. Unread messages of the room stay in your inbox.",
        arguments: || json!({ "room_id": text(), "alias": text(), "required": ["room_id"] }),
        result: || json!({ "room_id": text(), "members": strings() }),
    },
    ToolSpec {
        name: "send_room",
        core: true,
        effect: Effect::Write,
        description: "Send a message to all members of a room that you have joined.",
        arguments: || {
            json!({
                "room_id": text(), "content": text(), "from_alias": text(), "alias": text(),
                "tag": text(), "message_id": text(), "required": ["room_id", "content"],
            })
        },
        result: || json!({ "delivered_to": strings(), "queued": strings(), "skipped": rows(), "ts": text() }),
    },
    ToolSpec {
        name: "room_history",
        core: true,
        effect: Effect::ReadOnly,
        description: "Return the latest messages of a room, oldest first.",
        arguments: || {
            json!({
                "room_id": text(), "limit": number(), "since": { "type": "number" },
                "required": ["room_id"],
            })
        },
        result: || json!({ "history": rows() }),
    },
    ToolSpec {
        name: "list_rooms",
        core: true,
        effect: Effect::ReadOnly,
        description: "List the rooms that are visible to you.",
        arguments: || json!({}),
        result: || json!({ "rooms": rows() }),
    },
    ToolSpec {
        name: "my_rooms",
        core: false,
        effect: Effect::ReadOnly,
        description: "List the rooms that you have joined.",
        arguments: || json!({}),
        result: || json!({ "rooms": rows() }),
    },
    ToolSpec {
        name: "history",
        core: false,
        effect: Effect::ReadOnly,
        description: "Return messages that you have already taken, newest first.",
        arguments: || json!({ "limit": number() }),
        result: || json!({ "messages": rows() }),
    },
    ToolSpec {
        name: "sweep",
        core: false,
        effect: Effect::Destructive,
        description: "End sessions whose process has exited. Their mail is kept.",
        arguments: || json!({}),
        result: || json!({ "dropped_regs": rows(), "preserved_messages": number() }),
    },
    ToolSpec {
        name: "dead_letter",
        core: false,
        effect: Effect::ReadOnly,
        description: "List messages that could not be delivered.",
        arguments: || json!({ "limit": number() }),
        result: || json!({ "dead_letters": rows() }),
    },
    ToolSpec {
        name: "set_dnd",
        core: false,
        effect: Effect::Write,
        description: "Turn do-not-disturb on or off.",
        arguments: || json!({ "on": flag(), "until_epoch": { "type": "number" }, "required": ["on"] }),
        result: || json!({ "ok": flag(), "dnd": flag() }),
    },
    ToolSpec {
        name: "trace",
        core: false,
        effect: Effect::ReadOnly,
        description: "Return the history of one message: every event that mentions it.",
        arguments: || json!({ "message_id": text(), "required": ["message_id"] }),
        result: || json!({ "message_id": text(), "hops": rows() }),
    },
    ToolSpec {
        name: "server_info",
        core: false,
        effect: Effect::ReadOnly,
        description: "Return the version and features of this server.",
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

/// The tools to list: the core tools, or all.
pub fn tool_list(all: bool) -> Vec<Tool> {
    let listed = TOOLS.iter().filter(|tool| tool.core || all);
    let tools = listed.map(|tool| {
        let mut properties = (tool.arguments)();
        let required = properties.as_object_mut().and_then(|map| map.remove("required"));
        let mut input = json!({ "type": "object", "properties": properties });
        if let Some(required) = required {
            input["required"] = required;
        }
        let output = json!({ "type": "object", "properties": (tool.result)() });
        let annotations = ToolAnnotations::new()
            .read_only(tool.effect == Effect::ReadOnly)
            .destructive(tool.effect == Effect::Destructive)
            .open_world(false);
        Tool::new(tool.name, tool.description, object(input))
            .with_raw_output_schema(object(output))
            .with_annotations(annotations)
    });
    tools.collect()
}

/// Whether a tool with this name exists, listed or not.
pub fn is_tool(name: &str) -> bool {
    TOOLS.iter().any(|tool| tool.name == name)
}
