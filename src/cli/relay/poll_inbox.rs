//! The `c2c relay poll-inbox` command.

use clap::Args;

use super::inbox::{alias_of, take_mail};
use super::target::{RelayTarget, node_id, signing_alias};
use crate::cli::context::{Context, Run};
use crate::error::Failure;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

#[derive(Args)]
#[command(after_help = "Examples:\n  c2c relay poll-inbox --session-id cli-ann")]
pub struct RelayPollInbox {
    /// Alias that signs the request [default: the one in the session id]
    #[arg(long, value_name = "ALIAS")]
    alias: Option<String>,
    #[command(flatten)]
    target: RelayTarget,
}

impl Run for RelayPollInbox {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let (client, settings) = self.target.client(context)?;
        let Some(session) = context.common.session_id.clone() else {
            let message = "no session to take mail for";
            return Err(Rejection::new(Code::InvalidArgument, "session_id", message)
                .hint("pass --session-id ID")
                .into());
        };
        let named = self.alias.as_deref().or_else(|| alias_of(&session));
        let alias = signing_alias(named, &client, context)?.unwrap_or_default();
        take_mail(&client, &node_id(&settings, context), &session, &alias, context)
    }
}
