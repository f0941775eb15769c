//! Context of the room commands.

use crate::cli::context::Context;
use crate::cli::relay::target::{required_alias, signing_alias};
use crate::error::Failure;
use crate::relay::client::RelayClient;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// The relay, and the options of all room commands.
pub struct RoomSession<'a> {
    pub client: RelayClient,
    /// The value of `--alias`.
    pub alias: Option<String>,
    /// The value of `--room`.
    pub room: Option<String>,
    pub context: &'a mut Context,
}

impl RoomSession<'_> {
    /// The room of a command. Fails with `invalid_argument` if none was named.
    pub fn room(&self, argument: Option<String>) -> Result<String, Rejection> {
        argument.or_else(|| self.room.clone()).ok_or_else(|| {
            Rejection::new(Code::InvalidArgument, "room", "no room was named")
                .hint("pass it as an argument, or --room ROOM")
        })
    }

    /// The alias that signs a request; `None` to send it unsigned.
    pub fn signing_alias(&mut self) -> Result<Option<String>, Failure> {
        signing_alias(self.alias.as_deref(), &self.client, self.context)
    }

    /// The alias of a request that must be signed.
    pub fn required_alias(&mut self) -> Result<String, Failure> {
        required_alias(self.alias.as_deref(), &self.client, self.context)
    }

    pub fn as_json(&self) -> bool {
        self.context.common.json
    }
}
