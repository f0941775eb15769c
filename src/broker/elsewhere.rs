//! Agents in the other broker roots of this user.

use std::path::{Path, PathBuf};

use super::Broker;
use crate::env::root;
use crate::error::Failure;
use c2c_core::decide::Actor;

/// Between an alias and the root that has it, in the hint of a rejection.
pub const IN_ROOT: &str = "' is registered in the broker root ";

/// Roots that are searched for an alias at most.
const ROOTS_MAX: usize = 100;

/// # Other roots
impl Broker {
    /// A failure that names this root, and another root of this user in which the unknown alias is
    /// registered.
    pub(super) fn with_root(&self, failure: Failure) -> Failure {
        let Failure::Rejected(mut rejection) = failure else { return failure };
        let Some(alias) = rejection.unknown_alias.clone().filter(|_| self.relay.is_none()) else {
            return Failure::Rejected(rejection);
        };
        rejection.message.push_str(&format!(" in the broker root {}", self.root.display()));
        if let Some(root) = root_with(&alias, &self.root) {
            rejection.hint = Some(format!("'{alias}{IN_ROOT}{}", root.display()));
        }
        Failure::Rejected(rejection)
    }
}

/// Another root of this user in which a session holds an alias.
fn root_with(alias: &str, own: &Path) -> Option<PathBuf> {
    let others = root::everywhere().into_iter().map(|(root, _)| root).filter(|root| root != own);
    others.take(ROOTS_MAX).find(|root| {
        let mut broker = Broker::open(root);
        let is_readable = broker.refresh(&Actor::default()).is_ok();
        let mailbox = broker.state().mailbox_for_alias(alias).filter(|_| is_readable);
        mailbox.is_some_and(|mailbox| mailbox.session.is_some())
    })
}
