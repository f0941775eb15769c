//! The `c2c relay setup` command.

use std::path::Path;

use clap::Args;
use serde_json::json;

use super::target::{RelayTarget, node_id, root_is_named};
use crate::cli::context::{Context, Run};
use crate::cli::output;
use crate::env::directories;
use crate::error::Failure;
use crate::relay::client::config::{self, ConnectionOptions, ConnectionSettings};
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c relay setup --url http://host:7331 --token-file relay.token\n  \
    c2c relay setup --show")]
pub struct RelaySetup {
    /// URL of the relay
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Show the saved settings without changing them
    #[arg(long)]
    show: bool,
    #[command(flatten)]
    target: RelayTarget,
}

impl Run for RelaySetup {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let url = self.url.or_else(|| self.target.relay_url.clone());
        if self.show {
            let path = config::path_to_read(context.broker.root())?;
            let settings = self.target.settings(context)?;
            return print("relay config", &path, &settings, context);
        }
        let given = ConnectionOptions { url, ..self.target.given() };
        let is_empty = given.url.is_none()
            && given.token.is_none()
            && given.token_file.is_none()
            && given.node_id.is_none()
            && given.ca_bundle.is_none();
        if is_empty {
            return Err(Rejection::new(Code::InvalidArgument, "url", "no setting to save")
                .hint("pass --url, --token, --token-file, --node-id or --ca-bundle")
                .into());
        }
        // The documentation redirects the connector's output to a file in this directory.
        if let Some(home) = directories::home().filter(|home| home.is_dir()) {
            let _ = std::fs::create_dir_all(home.join(".local/share/c2c"));
        }
        let path = config::path_to_save(root_is_named(context).then_some(context.broker.root()))?;
        let settings = config::save(&path, &given)?;
        print("relay config saved to", &path, &settings, context)
    }
}

fn print(
    title: &str,
    path: &Path,
    settings: &ConnectionSettings,
    context: &Context,
) -> Result<(), Failure> {
    let node = node_id(settings, context);
    if context.common.json {
        return output::print_json(&json!({
            "ok": true,
            "path": path,
            "url": settings.url,
            "token_set": settings.token.is_some(),
            "node_id": node,
            "ca_bundle": settings.ca_bundle,
        }));
    }
    let url = settings.url.as_deref().unwrap_or("(none)");
    let token = if settings.token.is_some() { "********" } else { "(none)" };
    let path = path.display();
    output::print(&format!(
        "{title} {path}\n  url:     {url}\n  token:   {token}\n  node_id: {node}\n"
    ))
}
