//! Signals that stop processes: sending them, and noticing them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGTERM};

/// Asks a process to end. Does nothing if it has ended.
pub fn terminate(pid: u32) {
    send(pid, Signal::SIGTERM);
}

/// Tells a process that its terminal was closed. Does nothing if it has ended.
pub fn hang_up(pid: u32) {
    send(pid, Signal::SIGHUP);
}

fn send(pid: u32, signal: Signal) {
    // Other numbers name process groups.
    if let Some(pid) = i32::try_from(pid).ok().filter(|pid| *pid > 0) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Sets a flag, instead of ending this process, when it receives SIGTERM or SIGHUP.
pub fn set_when_stopped(flag: &Arc<AtomicBool>) -> io::Result<()> {
    for signal in [SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

/// The signals that stop a service, SIGTERM and SIGINT, received within a Tokio runtime.
#[cfg(feature = "relay")]
pub struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(feature = "relay")]
impl StopSignals {
    /// Receives the signals from now on; they no longer end this process.
    pub fn install() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Returns when the next of the signals has arrived.
    pub async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn only_the_named_process_receives_a_signal() {
        for (stop, number) in [(terminate as fn(u32), SIGTERM), (hang_up, SIGHUP)] {
            let mut child = Command::new("sleep").arg("60").spawn().unwrap();
            // Neither may reach this process, its group or all processes.
            stop(0);
            stop(u32::MAX);
            assert!(child.try_wait().unwrap().is_none());
            stop(child.id());
            assert_eq!(child.wait().unwrap().signal(), Some(number));
        }
    }
}
