//! `c2c list`: list registered agents.

use c2c_log_format::payload::full_address;
use clap::Args;
use serde_json::json;

use super::context::{Context, Run};
use super::{output, wake_report};
use crate::error::Failure;
use crate::present::envelope::for_terminal;
use crate::present::json_view;
use c2c_core::state::RemotePeer;
use c2c_core::view::AgentView;

/// Smallest width of the column of aliases.
const ALIAS_WIDTH: usize = 20;

#[derive(Args)]
#[command(after_help = "Examples:\n  c2c list\n  c2c list --alive\n  c2c list --local --json")]
pub struct List {
    /// Include aliases without a session
    #[arg(long, short = 'a')]
    all: bool,
    /// Show only agents known to be running
    #[arg(long, short = 'A')]
    alive: bool,
    /// Hide agents on other machines
    #[arg(long)]
    local: bool,
}

impl Run for List {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.broker.refresh(&context.actor)?;
        let mut agents = context.broker.agents();
        agents.retain(|agent| self.all || agent.session.is_some());
        agents.retain(|agent| !self.alive || agent.liveness.as_option() == Some(true));
        // Only their own machine knows whether remote agents are running.
        let is_local_only = self.local || self.alive;
        let remote = if is_local_only { Vec::new() } else { context.broker.remote_agents() };
        if context.common.json {
            let local_rows = agents.iter().map(|agent| {
                let mut row = json_view::agent(agent);
                wake_report::add_to(&mut row, &context.broker, agent);
                row
            });
            let remote_rows = remote.iter().map(json_view::remote_agent);
            return output::print_json(&json!(local_rows.chain(remote_rows).collect::<Vec<_>>()));
        }
        if agents.is_empty() && remote.is_empty() {
            return output::print("No registered peers.\n");
        }
        output::print(&table(context, &agents, &remote))
    }
}

fn table(context: &Context, agents: &[AgentView], remote: &[RemotePeer]) -> String {
    let addresses: Vec<String> =
        remote.iter().map(|agent| full_address(&agent.alias, &agent.node_id)).collect();
    let lengths = agents.iter().map(|agent| agent.mailbox.alias.len());
    let width = lengths.chain(addresses.iter().map(String::len)).fold(ALIAS_WIDTH, usize::max);
    let mut text = String::new();
    for agent in agents {
        let session = agent.session.as_ref();
        let process = session.and_then(|session| session.process.as_ref());
        let pid = process.map_or_else(String::new, |process| format!("  pid={}", process.pid));
        let client = client_column(session.and_then(|session| session.client_type.as_deref()));
        let liveness = output::liveness_label(agent.liveness);
        let wake = wake_report::column(&context.broker, agent);
        text.push_str(&format!(
            "  {:width$}  {liveness:5}{pid}{client}{wake}\n",
            agent.mailbox.alias
        ));
    }
    for (address, agent) in addresses.iter().zip(remote) {
        let client = client_column(agent.client_type.as_deref());
        text.push_str(&format!("  {:width$}  remote{client}\n", for_terminal(address)));
    }
    text
}

fn client_column(client_type: Option<&str>) -> String {
    client_type.map_or_else(String::new, |name| format!("  {}", for_terminal(name)))
}
