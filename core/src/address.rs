//! Addresses: an alias, or an alias with the host or node that it is on.
//!
//! Mailboxes and session ids at a relay have the same form, `<name>@<node id>`. Only this module
//! looks for the separator.

use std::fmt;

use c2c_log_format::id::fold;
use c2c_log_format::payload::full_address;

use crate::ids::NodeId;

/// Separates the alias from the host.
const SEPARATOR: char = '@';

/// An address, split but not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address<'a> {
    alias: &'a str,
    host: Option<&'a str>,
}

impl<'a> Address<'a> {
    /// Splits an address at its first separator.
    pub fn parse(text: &'a str) -> Self {
        match text.split_once(SEPARATOR) {
            Some((alias, host)) => Self { alias, host: Some(host) },
            None => Self { alias: text, host: None },
        }
    }

    /// Creates the address of an alias on a host or node.
    pub fn on(alias: &'a str, host: &'a str) -> Self {
        Self { alias, host: Some(host) }
    }

    /// Returns the part before the separator; the whole text if there is none.
    pub fn alias(&self) -> &'a str {
        self.alias
    }

    /// Returns the part after the separator: a host name or a node id.
    pub fn host(&self) -> Option<&'a str> {
        self.host
    }

    /// Returns whether the address has a host part.
    pub fn is_remote(&self) -> bool {
        self.host.is_some()
    }

    /// Returns whether the host part is this node, ignoring case.
    pub fn is_on(&self, node_id: &str) -> bool {
        self.host.is_some_and(|host| fold(host) == fold(node_id))
    }

    /// Returns the host part in lower case.
    pub fn node(&self) -> Option<NodeId> {
        self.host.map(|host| fold(host).into())
    }

    /// Returns the address in lower case: with a host, the name of its mailbox at a relay.
    pub fn mailbox(&self) -> String {
        match self.host {
            Some(host) => full_address(self.alias, host),
            None => fold(self.alias),
        }
    }
}

impl fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.alias)?;
        self.host.map_or(Ok(()), |host| write!(f, "{SEPARATOR}{host}"))
    }
}

/// Returns whether an address, a mailbox name or an owner of a room names another node.
pub fn is_remote(address: &str) -> bool {
    Address::parse(address).is_remote()
}

/// Returns the alias of an address, in lower case.
pub fn folded_alias(address: &str) -> String {
    fold(Address::parse(address).alias)
}

/// Returns the node of an address, in lower case.
pub fn node_of(address: &str) -> Option<NodeId> {
    Address::parse(address).node()
}

/// Returns whether a mailbox name of a relay is on a node; both are in lower case.
pub fn is_mailbox_on(mailbox: &str, node_id: &str) -> bool {
    mailbox.strip_suffix(node_id).is_some_and(|name| name.ends_with(SEPARATOR))
}

/// Returns an alias or address as it is written on its own node: without that node.
pub fn strip_node(address: &str, node_id: &str) -> String {
    let parsed = Address::parse(address);
    if parsed.is_on(node_id) { parsed.alias } else { address }.to_owned()
}

/// Returns the id of a session in a relay's log: two nodes may have the same session id.
pub fn relay_session_id(session_id: &str, node_id: &str) -> String {
    format!("{session_id}{SEPARATOR}{}", fold(node_id))
}

/// Returns the session id of a node from the id in a relay's log.
pub fn node_session_id(relay_session_id: &str) -> &str {
    relay_session_id.rsplit_once(SEPARATOR).map_or(relay_session_id, |(id, _)| id)
}

/// Returns the host name in a node id: the id without the suffix that distinguishes the workspaces
/// of one host.
pub fn host_name(node_id: &str) -> &str {
    let is_hash = |end: &str| end.len() == 8 && end.chars().all(|c| c.is_ascii_hexdigit());
    match node_id.rsplit_once('-') {
        Some((host, end)) if end == "local" || is_hash(end) => host,
        _ => node_id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_name_of_a_node_id_has_no_workspace_suffix() {
        assert_eq!(host_name("hut-local"), "hut");
        assert_eq!(host_name("hut-0123abcd"), "hut");
        assert_eq!(host_name("hut-one"), "hut-one");
    }

    #[test]
    fn an_address_is_split_at_its_first_separator_and_displays_unchanged() {
        for (text, alias, host) in
            [("bob", "bob", None), ("Bob@Hut", "Bob", Some("Hut")), ("a@b@c", "a", Some("b@c"))]
        {
            let address = Address::parse(text);
            assert_eq!((address.alias(), address.host()), (alias, host));
            assert_eq!(address.to_string(), text);
        }
        assert_eq!(Address::parse("Bob@Hut").mailbox(), "bob@hut");
        assert!(Address::parse("Bob@Hut").is_on("hUT"));
    }

    #[test]
    fn only_the_own_node_is_stripped_from_an_address() {
        assert_eq!(strip_node("ann@ONE", "one"), "ann");
        assert_eq!(strip_node("ann@two", "one"), "ann@two");
        assert_eq!(strip_node("ann", "one"), "ann");
    }

    #[test]
    fn a_mailbox_is_on_its_whole_node_only() {
        assert!(is_mailbox_on("ann@one", "one"));
        assert!(!is_mailbox_on("ann@some-one", "one"));
        assert!(!is_mailbox_on("one", "one"));
    }

    #[test]
    fn a_relay_session_id_leads_back_to_the_session_id_of_the_node() {
        let id = relay_session_id("s1", "Hut");
        assert_eq!(id, "s1@hut");
        assert_eq!(node_session_id(&id), "s1");
        assert_eq!(node_session_id("s1"), "s1");
    }
}
