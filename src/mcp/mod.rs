//! MCP server on standard input and output.

mod arguments;
mod auto_register;
mod call;
mod call_rooms;
mod channel;
mod hints;
mod idle;
mod info;
mod resources;
mod serve;
mod shared;
mod tool_answer;
mod tools;
mod transport;
mod updates;
mod wait;

pub use info::server_info;
pub use serve::serve;
pub use tools::{is_tool, tool_list};
