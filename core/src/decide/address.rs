//! Address resolution: which mailbox or node an address means.
//!
//! A bare alias means the local agent first, then the agent on another node. At a relay, a host
//! part is a node id, a host name that only one node has, or the relay itself.

use std::collections::BTreeSet;

use c2c_log_format::id::fold;
use c2c_log_format::payload::full_address;

use crate::address::{Address, host_name};
use crate::code::Code;
use crate::facts::RelayFacts;
use crate::ids::{Alias, NodeId};
use crate::rejection::{Rejection, check_addressed_alias, check_host};
use crate::state::{Binding, Mailbox, State, compound_key};

/// Splits an address into alias and host, and checks both.
pub(super) fn split<'a>(
    field: &'static str,
    to: &'a str,
) -> Result<(&'a str, Option<&'a str>), Rejection> {
    if to.is_empty() {
        return Err(Rejection::new(Code::InvalidArgument, field, "no recipient was given"));
    }
    let address = Address::parse(to);
    let (alias, host) = (address.alias(), address.host());
    check_addressed_alias(field, alias)?;
    if let Some(host) = host {
        check_host(host).map_err(|rejection| Rejection { field: field.into(), ..rejection })?;
    }
    Ok((alias, host))
}

/// How a mailbox is shown to agents here: by its alias alone, unless the alias means another
/// mailbox.
pub(super) fn display_name(state: &State, mailbox: &Mailbox) -> String {
    match state.mailbox_for_alias(&mailbox.alias) {
        Some(holder) if holder.name != mailbox.name => mailbox.address(),
        _ => mailbox.alias.clone().into(),
    }
}

/// At a relay: the mailbox that an address means to a sender on `sender_node`.
pub(super) fn resolve_at_relay(
    state: &State,
    relay: &RelayFacts,
    sender_node: Option<&str>,
    alias: &str,
    host: Option<&str>,
) -> Result<Mailbox, Rejection> {
    let unknown = |message: String| Rejection::new(Code::UnknownAlias, "to_alias", message);
    let by_alias = || {
        let mailbox = state.mailbox_for_alias(alias);
        mailbox.ok_or_else(|| unknown(format!("no agent is registered as '{alias}'")))
    };
    let Some(host) = host else { return by_alias() };
    let at = |node_id: &str| state.mailbox_for_alias(&full_address(alias, node_id));
    if sender_node.is_some_and(|node_id| fold(node_id) == fold(host)) {
        return at(host).map_or_else(by_alias, Ok);
    }
    let on_node = |node_id: &str| {
        at(node_id)
            .ok_or_else(|| unknown(format!("no agent is registered as '{alias}' on {node_id}")))
    };
    if relay.names.iter().chain(&relay.requested_host).any(|name| fold(name) == fold(host)) {
        return by_alias();
    }
    if state.bindings.any(compound_key(&fold(host), &[])) {
        return on_node(host);
    }
    let nodes = nodes_of_host(state, host);
    match nodes.as_slice() {
        [node_id] => on_node(node_id),
        [] => {
            let message = format!("no node '{host}' has registered yet");
            Err(Rejection::new(Code::UnknownHost, "to_alias", message))
        }
        several => {
            let message = format!("several nodes are on host '{host}'");
            Err(Rejection::new(Code::UnknownHost, "to_alias", message)
                .hint(format!("choose one of: {}", several.join(", "))))
        }
    }
}

/// Nodes whose id begins with a host name, folded. The host name belongs to the key that was bound
/// first, so that nodes of other keys cannot make it ambiguous.
fn nodes_of_host(state: &State, host: &str) -> Vec<NodeId> {
    let bindings = state.bindings.scan([]).into_iter().map(|(_, row)| row);
    let of_host: Vec<Binding> =
        bindings.filter(|row| host_name(&fold(&row.node_id)) == fold(host)).collect();
    let first = of_host.iter().min_by_key(|row| row.bound_us);
    let owner = first.map(|row| row.public_key.clone());
    let owned = of_host.iter().filter(|row| Some(&row.public_key) == owner.as_ref());
    let nodes: BTreeSet<NodeId> = owned.map(|row| fold(&row.node_id).into()).collect();
    nodes.into_iter().collect()
}

/// At a node: the alias and node of the remote agent that a bare alias means, if there is one.
pub(super) fn resolve_remote(
    state: &State,
    alias: &str,
) -> Result<Option<(Alias, NodeId)>, Rejection> {
    let peers = state.peers_with_alias(alias);
    let chosen = match peers.as_slice() {
        [] => return Ok(None),
        [peer] => Some(peer),
        several => several.iter().find(|peer| peer.bare),
    };
    if let Some(peer) = chosen {
        return Ok(Some((peer.alias.clone(), peer.node_id.clone())));
    }
    let choices: Vec<String> =
        peers.iter().map(|peer| Address::on(&peer.alias, &peer.node_id).to_string()).collect();
    let message = format!("'{alias}' is registered on {} nodes", peers.len());
    Err(Rejection::new(Code::AmbiguousAlias, "to_alias", message)
        .hint(format!("choose one of: {}", choices.join(", "))))
}

/// The rejection of an alias that no agent has. It suggests the new name of a renamed agent, or the
/// most similar alias.
pub(super) fn unknown_alias(state: &State, to: &str) -> Rejection {
    let message = format!("no agent is registered as '{to}'");
    let mut rejection = Rejection::new(Code::UnknownAlias, "to_alias", message);
    rejection.unknown_alias = Some(Box::new(to.into()));
    let mailboxes = state.mailboxes.scan([]);
    let was_called = |row: &Mailbox| row.former.iter().any(|former| fold(former) == fold(to));
    if let Some((_, row)) = mailboxes.iter().find(|(_, row)| was_called(row)) {
        rejection.suggestion = Some(row.alias.clone());
        return rejection.hint(format!("'{to}' was renamed to '{}'", row.alias));
    }
    let distance = |row: &&Mailbox| strsim::damerau_levenshtein(&fold(&row.alias), &fold(to));
    let nearest = mailboxes.iter().map(|(_, row)| row).min_by_key(distance);
    match nearest.filter(|row| distance(row) <= 2.max(to.len() / 4)) {
        Some(row) => {
            rejection.suggestion = Some(row.alias.clone());
            rejection.hint(format!("did you mean '{}'?", row.alias))
        }
        None => {
            rejection.hint("list the agents to find the alias; for another machine, use alias@host")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_split_at_its_first_at_sign() {
        assert_eq!(split("to_alias", "bob"), Ok(("bob", None)));
        assert_eq!(split("to_alias", "bob@hut"), Ok(("bob", Some("hut"))));
        let rejection = split("invite", "bob@a b").expect_err("a space in the host");
        assert_eq!((rejection.code, &*rejection.field), (Code::InvalidAlias, "invite"));
    }
}
