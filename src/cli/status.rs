//! `c2c status`: show agents, unread messages and rooms.

use clap::Args;
use serde_json::{Value, json};

use super::context::{Context, Run};
use super::overdue_mail::{OverdueMail, overdue_mail};
use super::{output, wake_report};
use crate::error::Failure;
use crate::platform::clock;
use crate::present::json_view;
use c2c_core::view::{AgentView, RoomView};

#[derive(Args)]
#[command(after_help = "Examples:\n  c2c status\n  c2c status --json")]
pub struct Status {}

impl Run for Status {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.broker.refresh(&context.actor)?;
        let mailbox = context.broker.own_mailbox(&context.actor);
        let agents = context.broker.agents();
        let rooms = context.broker.rooms(mailbox.as_ref());
        let overdue = overdue_mail(context);
        if context.common.json {
            return output::print_json(&status_json(context, &agents, &rooms, &overdue));
        }
        output::print(&status_text(context, &agents, &rooms, &overdue))
    }
}

fn unread(context: &Context, agent: &AgentView) -> usize {
    context.broker.state().unread(&agent.mailbox.name).len()
}

fn is_alive(agent: &&AgentView) -> bool {
    agent.liveness.as_option() == Some(true)
}

fn status_json(
    context: &Context,
    agents: &[AgentView],
    rooms: &[RoomView],
    overdue: &[OverdueMail],
) -> Value {
    let alive = agents.iter().filter(is_alive).map(|agent| {
        let mut row = json!({
            "alias": agent.mailbox.alias,
            "unread": unread(context, agent),
            "last_active_ts": agent.session.as_ref().map(|s| clock::rfc3339(s.active_us)),
        });
        wake_report::add_to(&mut row, &context.broker, agent);
        row
    });
    let dead = agents.iter().filter(|agent| agent.liveness.as_option() == Some(false));
    json!({
        "alive_peers": alive.collect::<Vec<_>>(),
        "dead_peer_count": dead.count(),
        "total_peer_count": agents.len(),
        "rooms": rooms.iter().map(json_view::room).collect::<Vec<_>>(),
        "unread_old": overdue,
    })
}

fn status_text(
    context: &Context,
    agents: &[AgentView],
    rooms: &[RoomView],
    overdue: &[OverdueMail],
) -> String {
    let alive = agents.iter().filter(is_alive).count();
    let mut text = format!("{alive} of {} agents alive\n", agents.len());
    for OverdueMail { alias, unread, age_s } in overdue {
        text.push_str(&format!(
            "! {alias} has {unread} unread messages, the oldest for {age_s} s: c2c wake --help\n"
        ));
    }
    for agent in agents {
        let alias = &agent.mailbox.alias;
        let liveness = output::liveness_label(agent.liveness);
        let unread = unread(context, agent);
        let wake = wake_report::column(&context.broker, agent);
        text.push_str(&format!("  {alias:20}  {liveness:5}  {unread} unread{wake}\n"));
    }
    for room in rooms {
        text.push_str(&format!("  #{} ({} members)\n", room.room.room_id, room.members.len()));
    }
    text
}
