//! Agents whose unread mail is overdue, for `c2c status` and `c2c doctor`.

use super::context::Context;
use crate::platform::clock;
use c2c_core::ids::Alias;
use c2c_core::limits::UNREAD_ALARM_AFTER_S;

/// An agent whose mail has been unread for too long.
#[derive(serde::Serialize)]
pub struct OverdueMail {
    pub alias: Alias,
    /// Number of unread messages.
    pub unread: usize,
    /// Age of the oldest, in seconds.
    pub age_s: u64,
}

/// Agents not known to be dead whose oldest unread message is at least [`UNREAD_ALARM_AFTER_S`] old.
pub fn overdue_mail(context: &mut Context) -> Vec<OverdueMail> {
    let now_us = clock::now_us();
    let mut overdue = Vec::new();
    for agent in context.broker.agents() {
        let unread = context.broker.state().unread(&agent.mailbox.name);
        let Some((oldest, _)) = unread.urgent_range() else { continue };
        let events = context.broker.fetch(&[oldest]).unwrap_or_default();
        let Some(since_us) = events.first().map(|event| event.time_us) else { continue };
        let age_s = now_us.saturating_sub(since_us) / 1_000_000;
        let is_dead = agent.liveness.as_option() == Some(false);
        if !is_dead && age_s >= UNREAD_ALARM_AFTER_S {
            let alias = agent.mailbox.alias;
            overdue.push(OverdueMail { alias, unread: unread.len(), age_s });
        }
    }
    overdue
}
