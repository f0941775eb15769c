//! Where does an address lead?
//!
//! A bare alias means the local one first, then the one that the swarm knows. At a relay a host
//! part is a node id, a host name that only one node has, or the relay itself.

use std::collections::BTreeSet;

use c2c_log_format::id::{check_name, fold};
use c2c_log_format::payload::address;

use super::{Refusal, Relay};
use crate::code::Code;
use crate::state::{Binding, Mailbox, State};

/// Alias and host of an address, checked.
pub(super) fn split(to: &str) -> Result<(&str, Option<&str>), Refusal> {
    if to.is_empty() {
        return Err(Refusal::new(Code::InvalidArgument, "to_alias", "no recipient was given"));
    }
    let (alias, host) = match to.split_once('@') {
        Some((alias, host)) => (alias, Some(host)),
        None => (to, None),
    };
    check_name(alias).map_err(|e| {
        Refusal::new(Code::InvalidAlias, "to_alias", format!("to_alias: alias {e}"))
    })?;
    if let Some(host) = host {
        check_host(host)?;
    }
    Ok((alias, host))
}

/// Checks a host part or a node id.
pub fn check_host(host: &str) -> Result<(), Refusal> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if !host.is_empty() && host.len() <= 255 && host.chars().all(plain) {
        return Ok(());
    }
    let message = format!("'{}' is not a host", host.escape_default());
    Err(Refusal::new(Code::InvalidAlias, "to_alias", message))
}

/// A node id without the hash that tells the workspaces of one host apart.
pub fn host_name(node_id: &str) -> &str {
    let is_hash = |end: &str| end.len() == 8 && end.chars().all(|c| c.is_ascii_hexdigit());
    match node_id.rsplit_once('-') {
        Some((host, end)) if end == "local" || is_hash(end) => host,
        _ => node_id,
    }
}

/// At a relay: the mailbox that an address means, seen from a sender's node.
pub(super) fn resolve(
    state: &State,
    relay: &Relay,
    sender_node: Option<&str>,
    alias: &str,
    host: Option<&str>,
) -> Result<Mailbox, Refusal> {
    let unknown = |what: String| Refusal::new(Code::UnknownAlias, "to_alias", what);
    let bare = || {
        let found = state.mailbox_of(alias);
        found.ok_or_else(|| unknown(format!("nobody is registered as '{alias}'")))
    };
    let Some(host) = host else { return bare() };
    let at = |node_id: &str| state.mailbox_of(&address(alias, node_id));
    if sender_node.is_some_and(|node_id| fold(node_id) == fold(host)) {
        return at(host).map_or_else(bare, Ok);
    }
    let there = |node_id: &str| {
        at(node_id)
            .ok_or_else(|| unknown(format!("nobody is registered as '{alias}' on {node_id}")))
    };
    if relay.names.iter().chain(&relay.called).any(|name| fold(name) == fold(host)) {
        return bare();
    }
    if state.bindings.any(crate::state::pair(&fold(host), &[])) {
        return there(host);
    }
    let mut rows: Vec<Binding> = state.bindings.scan([]).into_iter().map(|(_, row)| row).collect();
    rows.retain(|row| host_name(&fold(&row.node_id)) == fold(host));
    // A host name belongs to whoever had it first: nobody else's node makes it ambiguous.
    let first = rows.iter().min_by_key(|row| row.bound_us).map(|row| row.public_key.clone());
    rows.retain(|row| Some(&row.public_key) == first.as_ref());
    let named: BTreeSet<String> = rows.iter().map(|row| fold(&row.node_id)).collect();
    let named: Vec<&String> = named.iter().collect();
    match named.as_slice() {
        [node_id] => there(node_id),
        [] => Err(Refusal::new(
            Code::UnknownHost,
            "to_alias",
            format!("no node '{host}' has registered yet"),
        )),
        several => {
            let message = format!("several nodes are on host '{host}'");
            let names: Vec<&str> = several.iter().map(|node| node.as_str()).collect();
            Err(Refusal::new(Code::UnknownHost, "to_alias", message)
                .hint(format!("name one of: {}", names.join(", "))))
        }
    }
}

/// Away from a relay: the address on another node that a bare alias means.
pub(super) fn in_swarm(state: &State, alias: &str) -> Result<Option<(String, String)>, Refusal> {
    let peers = state.peers_called(alias);
    let chosen = match peers.as_slice() {
        [] => return Ok(None),
        [peer] => Some(peer),
        several => several.iter().find(|peer| peer.bare),
    };
    if let Some(peer) = chosen {
        return Ok(Some((peer.alias.clone(), peer.node_id.clone())));
    }
    let choices: Vec<String> =
        peers.iter().map(|peer| format!("{}@{}", peer.alias, peer.node_id)).collect();
    let message = format!("'{alias}' is on {} nodes", peers.len());
    Err(Refusal::new(Code::AmbiguousAlias, "to_alias", message)
        .hint(format!("name one of: {}", choices.join(", "))))
}
