//! The arguments that a message to an agent and a message to a room have in common.

use clap::Args;

use super::message_body::message_body;
use super::tags::Tags;
use crate::error::Failure;
use c2c_core::decide::Send;

// No doc comment: clap would show it as the description of each command that has these arguments.
#[derive(Args)]
pub struct OutgoingMessage {
    /// Message text; without it or with `-`, read standard input
    words: Vec<String>,
    /// Alias to send as, if this session has none
    #[arg(long, short = 'F', value_name = "ALIAS")]
    from: Option<String>,
    #[command(flatten)]
    tags: Tags,
    /// Idempotency key: a message with this id is accepted once
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
}

impl OutgoingMessage {
    /// The message without a recipient. Reads standard input if the arguments have no text.
    pub fn read(self) -> Result<Send, Failure> {
        Ok(Send {
            body: message_body(&self.words)?,
            from: self.from.map(Into::into),
            tag: self.tags.tag(),
            message_id: self.message_id.map(Into::into),
            ..Send::default()
        })
    }
}
