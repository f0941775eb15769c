//! Waiting until the log holds what a caller needs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Broker;
use crate::error::Failure;
use crate::platform::clock;
use c2c_core::decide::Actor;

/// Longest sleep between two checks. A lost wake-up delays a waiting process by at most this.
const RECHECK: Duration = Duration::from_secs(1);

/// Outcome of one check of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check<T> {
    /// The wait ends with this value.
    Done(T),
    /// The next check follows after an append, and at the latest after this time.
    Again(Duration),
}

/// A flag with which another thread ends a wait. The wait ends at its next check.
#[derive(Debug, Clone, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// A guard that sets the flag when it is dropped.
    pub fn set_on_drop(&self) -> CancelOnDrop {
        CancelOnDrop(self.clone())
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Sets a [`CancelFlag`] when it is dropped.
#[derive(Debug)]
pub struct CancelOnDrop(CancelFlag);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Release);
    }
}

impl Broker {
    /// Calls `check` now, after each append and at least once a second, until it returns a value.
    ///
    /// Returns `None` if the deadline passes first; without a deadline, waits indefinitely. `check`
    /// runs at least once and reads the new events itself, with [`Broker::refresh`] or
    /// [`Broker::follow`]. An error from `check` ends the wait.
    pub fn wait_until<T>(
        &mut self,
        deadline: Option<Instant>,
        mut check: impl FnMut(&mut Self) -> Result<Option<T>, Failure>,
    ) -> Result<Option<T>, Failure> {
        self.wait_with(deadline, &CancelFlag::default(), |broker| {
            Ok(check(broker)?.map_or(Check::Again(RECHECK), Check::Done))
        })
    }

    /// Like [`Broker::wait_until`], but each check decides when the next one follows, and a flag ends
    /// the wait. Returns `None` if the deadline passes or the flag is set.
    pub fn wait_with<T>(
        &mut self,
        deadline: Option<Instant>,
        cancel: &CancelFlag,
        mut check: impl FnMut(&mut Self) -> Result<Check<T>, Failure>,
    ) -> Result<Option<T>, Failure> {
        loop {
            // Read the counter before the check: an append during the check then ends the sleep.
            let version = self.version();
            let pause = match check(self)? {
                Check::Done(value) => return Ok(Some(value)),
                Check::Again(pause) => pause,
            };
            let left = deadline.map(clock::until);
            if cancel.is_set() || left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            self.wait(version, left.unwrap_or(pause).min(pause));
        }
    }

    /// Waits until the log holds events that [`Broker::state`] does not reflect yet, and reads them.
    pub fn wait_for_events(&mut self, actor: &Actor) -> Result<(), Failure> {
        let head = self.state().head;
        self.wait_until(None, |broker| {
            broker.refresh(actor)?;
            Ok((broker.state().head != head).then_some(()))
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::store::MemoryStore;
    use c2c_core::code::Code;
    use c2c_core::decide::Rejection;

    fn broker() -> Broker {
        Broker::with_store(Path::new("unused"), Box::new(MemoryStore::default()))
    }

    #[test]
    fn the_first_value_ends_a_wait() {
        let mut checks = 0;
        let waited = broker().wait_until(None, |_| {
            checks += 1;
            Ok((checks == 2).then_some("value"))
        });
        assert_eq!((waited.expect("no error"), checks), (Some("value"), 2));
    }

    #[test]
    fn a_wait_checks_once_even_if_the_deadline_has_passed() {
        let mut checks = 0;
        let waited = broker().wait_until(Some(Instant::now()), |_| {
            checks += 1;
            Ok(None::<()>)
        });
        assert_eq!((waited.expect("no error"), checks), (None, 1));
    }

    #[test]
    fn a_cancelled_wait_ends_at_its_next_check() {
        let cancel = CancelFlag::default();
        let mut guard = Some(cancel.set_on_drop());
        let mut checks = 0;
        let waited = broker().wait_with(None, &cancel, |_| {
            checks += 1;
            if checks == 2 {
                guard = None;
            }
            Ok(Check::<()>::Again(Duration::ZERO))
        });
        assert_eq!((waited.expect("no error"), checks), (None, 2));
    }

    #[test]
    fn an_error_of_the_check_ends_a_wait() {
        let waited = broker().wait_until(None, |_| -> Result<Option<()>, Failure> {
            Err(Rejection::new(Code::UnknownMessage, "", "gone").into())
        });
        assert_eq!(waited.expect_err("an error").code().name(), Code::UnknownMessage.name());
    }
}
