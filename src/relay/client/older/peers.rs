//! The agents that an older relay lists, recorded as remote agents.

use c2c_log_format::Payload;
use c2c_log_format::id::fold;
use c2c_log_format::payload::{CursorDirection, PeerSeen};

use crate::error::Failure;
use crate::relay::client::relay_client::RequestProgress;
use crate::relay::client::state::Connector;
use crate::relay::protocol::response::{ListResponse, PeerLease};
use c2c_core::address::{Address, host_name, is_remote};
use c2c_core::code::Code;
use c2c_core::decide::{Batch, Item, Position, Rejection, check_alias, check_host};

impl Connector {
    /// Fetches the list of agents and records what has changed in it.
    pub(super) fn older_peers(&mut self, errors: &mut Vec<Failure>) -> Result<(), Failure> {
        let Some(alias) = self.leases.first_alias() else { return Ok(()) };
        let peers = match self.client.try_get::<ListResponse>("/list", Some(&alias)) {
            Ok(response) => response.peers,
            Err(error) if error.progress == RequestProgress::Rejected => {
                errors.push(*error.failure);
                return Ok(());
            }
            Err(error) => return Err(*error.failure),
        };
        let changes = self.peer_changes(&peers);
        if changes.is_empty() {
            return Ok(());
        }
        let (log, node_id) = (self.older().log.clone(), self.older().name.clone());
        let cursor = self.broker.state().cursor(&CursorDirection::In, &log);
        let sequence = cursor.sequence + 1;
        let item =
            |peer| Item { sequence, digest: String::new(), payload: Payload::PeerSeen(peer) };
        let batch = Batch {
            log,
            node_id: node_id.into(),
            start: Position { sequence: cursor.sequence, digest: cursor.digest },
            items: changes.into_iter().map(item).collect(),
            end: Position { sequence, digest: String::new() },
        };
        self.record_batch(batch).map(drop)
    }

    /// The differences between the list and the remote agents in the log.
    fn peer_changes(&self, listed: &[PeerLease]) -> Vec<PeerSeen> {
        let is_other = |peer: &&PeerLease| {
            peer.alive
                && fold(&peer.node_id) != fold(&self.node_id)
                && check_alias("alias", &peer.alias).is_ok()
                && check_host(&peer.node_id).is_ok()
        };
        let current: Vec<PeerSeen> = listed
            .iter()
            .filter(is_other)
            .map(|peer| PeerSeen {
                alias: peer.alias.clone(),
                node_id: peer.node_id.clone(),
                client_type: Some(peer.client_type.clone()).filter(|kind| !kind.is_empty()),
                bare: true,
                gone: false,
            })
            .collect();
        let known = self.broker.state().peers.scan([]).into_iter().map(|(_, row)| row);
        let mut changes = Vec::new();
        let mut unchanged = Vec::new();
        for row in known {
            let is_same = |peer: &&PeerSeen| {
                fold(&peer.alias) == fold(&row.alias) && fold(&peer.node_id) == fold(&row.node_id)
            };
            match current.iter().find(is_same) {
                Some(peer) if !row.gone && row.bare && row.client_type == peer.client_type => {
                    unchanged.push(peer.clone());
                }
                None if !row.gone => changes.push(PeerSeen {
                    alias: row.alias.into_string(),
                    node_id: row.node_id.into_string(),
                    client_type: row.client_type,
                    bare: row.bare,
                    gone: true,
                }),
                _ => {}
            }
        }
        changes.extend(current.into_iter().filter(|peer| !unchanged.contains(peer)));
        changes
    }

    /// The address of a sender whom the relay names, which always has a host.
    pub(super) fn sender_address(&mut self, from: &str) -> String {
        let relay = self.older().name.clone();
        let address = Address::parse(from);
        if check_alias("from_alias", address.alias()).is_err() && address.alias() != "c2c-system" {
            return Address::on("unknown", &relay).to_string();
        }
        if is_remote(from) {
            let is_valid = address.host().is_some_and(|host| check_host(host).is_ok());
            let host = if is_valid { address.host() } else { None };
            return Address::on(address.alias(), host.unwrap_or(&relay)).to_string();
        }
        if self.leases.reported.values().any(|record| fold(&record.alias) == fold(from)) {
            return Address::on(from, &self.node_id).to_string();
        }
        let peers = self.broker.state().peers_with_alias(from).into_iter();
        let node = peers.filter(|row| !row.gone).map(|row| row.node_id).next();
        Address::on(from, node.as_deref().unwrap_or(&relay)).to_string()
    }

    /// The recipient as the relay accepts it: the alias alone, because it knows no nodes. Fails if
    /// the relay knows the alias on another node than the one in the address.
    pub(super) fn recipient_at_relay(
        &mut self,
        alias: &str,
        host: &str,
    ) -> Result<String, Rejection> {
        let relay = self.older().name.clone();
        let is_relay = [relay.as_str(), self.node_id.as_str(), "relay"]
            .iter()
            .any(|name| fold(name) == fold(host));
        let peers = self.broker.state().peers_with_alias(alias);
        let mut present = peers.iter().filter(|row| !row.gone);
        let is_node =
            |node_id: &str| fold(node_id) == fold(host) || fold(host_name(node_id)) == fold(host);
        let elsewhere = match present.next() {
            Some(first) if !is_relay && !peers.iter().any(|row| is_node(&row.node_id)) => first,
            _ => return Ok(alias.to_owned()),
        };
        let message = format!(
            "no agent is registered as '{alias}' on {host}; the relay has {}",
            Address::on(&elsewhere.alias, &elsewhere.node_id)
        );
        Err(Rejection::new(Code::UnknownAlias, "to_alias", message))
    }
}
