//! The `c2c relay unbind` command.

use clap::Args;
use serde_json::json;

use super::target::RelayTarget;
use super::text::lines_for_terminal;
use crate::cli::context::{Context, Run};
use crate::cli::output;
use crate::error::Failure;
use crate::relay::protocol::request;
use crate::relay::protocol::response;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c relay unbind ann@laptop  release ann on the node laptop\n  \
    c2c relay unbind ann         release ann on the node that holds the bare alias")]
pub struct RelayUnbind {
    /// Alias to release: alias@node, or a bare alias
    alias: String,
    #[command(flatten)]
    target: RelayTarget,
}

impl Run for RelayUnbind {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let (client, _) = self.target.client(context)?;
        let request = request::UnbindRequest { alias: self.alias };
        let unbound: response::UnbindResponse =
            client.post("/admin/unbind", &request, None).map_err(Failure::from)?;
        if context.common.json {
            let (alias, removed) = (unbound.alias, unbound.removed);
            return output::print_json(&json!({ "ok": true, "alias": alias, "removed": removed }));
        }
        let result = if unbound.removed { "was released" } else { "was not bound to a key" };
        output::print(&lines_for_terminal(&format!("'{}' {result}\n", unbound.alias)))
    }
}
