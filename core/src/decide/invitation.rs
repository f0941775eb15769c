//! Invitations to rooms: who is meant, and the message that they receive.

use c2c_log_format::id::fold;
use c2c_log_format::payload::{MessageSent, Target};

use super::acting::Acting;
use super::address;
use super::membership::{invited_key, is_key};
use super::send::message_sent;
use crate::address::Address;
use crate::command::Send;
use crate::facts::Facts;
use crate::ids::{Alias, NodeId};
use crate::rejection::{Rejection, check_alias};
use crate::state::State;

/// An agent to be invited, here or on another node.
pub(super) struct Invitee {
    /// The entry in the list of invitations.
    pub address: String,
    /// Where the invitation message goes; `None` for a key, whose holder may not be registered.
    target: Option<Target>,
}

/// Resolves an alias, an address or a key that is to be invited.
pub(super) fn invitee(
    state: &State,
    field: &'static str,
    alias: &str,
    facts: &Facts<'_>,
) -> Result<Invitee, Rejection> {
    if invited_key(alias).is_some_and(is_key) {
        return Ok(Invitee { address: alias.to_owned(), target: None });
    }
    let (name, host) = address::split(field, alias)?;
    check_alias(field, name)?;
    let is_at_relay = facts.relay.is_some();
    let is_local = !is_at_relay && host.is_none_or(|at| fold(at) == fold(&facts.actor.node_id));
    let mailbox = state.mailbox_for_alias(if is_local { name } else { alias });
    if let Some(mailbox) = mailbox {
        let target = Some(Target::Mailbox(mailbox.name.clone()));
        return Ok(Invitee { address: mailbox.address(), target });
    }
    let remote: Option<(Alias, NodeId)> = match host {
        _ if is_at_relay => None,
        Some(host) if !is_local => Some((name.into(), host.into())),
        Some(_) => None,
        None => address::resolve_remote(state, name)?,
    };
    let Some((alias, host)) = remote else {
        return Err(Rejection { field: field.into(), ..address::unknown_alias(state, alias) });
    };
    let address = Address::on(&alias, &host).to_string();
    let target = Target::Outbox { alias: alias.into(), host: host.into() };
    Ok(Invitee { address, target: Some(target) })
}

/// The message that an invited agent receives.
pub(super) fn invitation_message(
    room_id: &str,
    acting: &Acting,
    invitee: &Invitee,
    facts: &Facts<'_>,
) -> Option<MessageSent> {
    let target = invitee.target.clone()?;
    let message = Send {
        to: invitee.address.clone(),
        body: format!(
            "{} invites you to room {room_id}. To join: join_room with room_id {room_id}, or \
             c2c rooms join {room_id}",
            acting.alias
        ),
        ..Send::default()
    };
    let mut sent = message_sent(&message, acting, target, facts);
    sent.source = Some("room_invite".into());
    Some(sent)
}
