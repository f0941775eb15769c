//! `c2c relay setup`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{Target, node_id};
use crate::cli::{Context, Run, output};
use crate::code::Code;
use crate::connector::config::{self, Given};
use crate::decide::Refusal;
use crate::failure::Failure;

#[derive(Args)]
pub struct Setup {
    /// URL of the relay
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Show what is saved, and change nothing
    #[arg(long)]
    show: bool,
    #[command(flatten)]
    target: Target,
}

impl Run for Setup {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let named =
            context.common.broker_root.is_some() || context.root.reason == "C2C_MCP_BROKER_ROOT";
        let url = self.url.or_else(|| self.target.relay_url.clone());
        if self.show {
            let path = config::path(context.broker.root())?;
            let settings = self.target.settings(context)?;
            return tell("relay config", &path, &settings, context);
        }
        let given = self.target.given();
        let nothing = url.is_none() && given.token.is_none() && given.token_file.is_none();
        if nothing && given.node_id.is_none() && given.ca_bundle.is_none() {
            let message =
                "nothing to save: pass --url, --token, --token-file, --node-id or --ca-bundle";
            return Err(Refusal::new(Code::InvalidArgument, "url", message).into());
        }
        // Where the page of the relay has the connector write.
        if let Some(home) = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_dir())
        {
            let _ = std::fs::create_dir_all(home.join(".local/share/c2c"));
        }
        let path = config::path_to_save(named.then_some(context.broker.root()))?;
        let settings = config::save(&path, &Given { url, ..self.target.given() })?;
        tell("relay config saved to", &path, &settings, context)
    }
}

fn tell(
    what: &str,
    path: &std::path::Path,
    settings: &config::Settings,
    context: &Context,
) -> Result<(), Failure> {
    let node = node_id(settings);
    if context.common.json {
        return output::say_json(&json!({
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
    output::say(&format!(
        "{what} {path}\n  url:     {url}\n  token:   {token}\n  node_id: {node}\n"
    ))
}
