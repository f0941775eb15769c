//! `c2c list`: list registered agents.

use std::path::Path;

use c2c_log_format::payload::full_address;
use clap::Args;
use serde_json::{Value, json};

use super::context::{Context, Run};
use super::{output, wake_report};
use crate::broker::Broker;
use crate::env::root;
use crate::error::Failure;
use crate::present::envelope::for_terminal;
use crate::present::json_view;
use c2c_core::state::RemotePeer;
use c2c_core::view::AgentView;

/// Smallest width of the column of aliases.
const ALIAS_WIDTH: usize = 20;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  c2c list\n  c2c list --alive\n  c2c list --local --json\n  c2c list --everywhere"
)]
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
    /// Show the agents of every broker root of this user
    #[arg(long, conflicts_with = "broker_root")]
    everywhere: bool,
}

impl Run for List {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        if self.everywhere {
            return self.list_everywhere(context);
        }
        context.broker.refresh(&context.actor)?;
        let (agents, remote) = self.agents(&context.broker);
        if context.common.json {
            let local_rows = agents.iter().map(|agent| row(&context.broker, agent));
            let remote_rows = remote.iter().map(json_view::remote_agent);
            return output::print_json(&json!(local_rows.chain(remote_rows).collect::<Vec<_>>()));
        }
        if agents.is_empty() && remote.is_empty() {
            output::print("No registered peers.\n")?;
            note_other_roots(&context.root.path);
            return Ok(());
        }
        output::print(&table(&context.broker, &agents, &remote))
    }
}

impl List {
    /// The agents of one root to show, and those of other machines.
    fn agents(&self, broker: &Broker) -> (Vec<AgentView>, Vec<RemotePeer>) {
        let mut agents = broker.agents();
        agents.retain(|agent| self.all || agent.session.is_some());
        agents.retain(|agent| !self.alive || agent.liveness.as_option() == Some(true));
        // Only their own machine knows whether remote agents are running.
        let is_local_only = self.local || self.alive;
        let remote = if is_local_only { Vec::new() } else { broker.remote_agents() };
        (agents, remote)
    }

    fn list_everywhere(&self, context: &Context) -> Result<(), Failure> {
        let (mut text, mut rows) = (String::new(), Vec::new());
        for (path, repository) in root::everywhere() {
            let mut broker = Broker::open(&path);
            let shown = path.display();
            if let Err(failure) = broker.refresh(&context.actor) {
                output::note(&format!("note: {shown}: {}", failure.message()));
                continue;
            }
            let (agents, remote) = self.agents(&broker);
            let place = repository.as_ref().map(|path| format!(" ({})", path.display()));
            let place = for_terminal(&format!("{shown}{}", place.unwrap_or_default()));
            text.push_str(&format!("{place}\n{}", table(&broker, &agents, &remote)));
            let all = agents.iter().map(|agent| row(&broker, agent));
            rows.extend(all.chain(remote.iter().map(json_view::remote_agent)).map(|mut row| {
                row["broker_root"] = json!(path);
                row["repository"] = json!(repository);
                row
            }));
        }
        if context.common.json {
            return output::print_json(&json!(rows));
        }
        output::print(if text.is_empty() { "No broker roots.\n" } else { &text })
    }
}

/// Says which root has no agents, and that others exist.
fn note_other_roots(own: &Path) {
    let others = root::everywhere().into_iter().filter(|(path, _)| path != own).count();
    let elsewhere = match others {
        0 => String::new(),
        1 => String::from("; this user has 1 other root: c2c list --everywhere"),
        _ => format!("; this user has {others} other roots: c2c list --everywhere"),
    };
    output::note(&format!("note: the broker root is {}{elsewhere}", own.display()));
}

/// The JSON row of a local agent.
fn row(broker: &Broker, agent: &AgentView) -> Value {
    let mut row = json_view::agent(agent);
    wake_report::add_to(&mut row, broker, agent);
    row
}

fn table(broker: &Broker, agents: &[AgentView], remote: &[RemotePeer]) -> String {
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
        let wake = wake_report::column(broker, agent);
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
