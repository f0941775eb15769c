//! Reports of a connector about its rounds.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::cli::output;
use crate::error::Failure;
use crate::present::envelope::for_terminal;
use crate::relay::client::SyncReport;
use c2c_core::code::Code;

/// Where and how a connector reports.
#[derive(Default)]
pub struct Progress {
    pub json: bool,
    pub verbose: bool,
    /// Whether the relay did not respond last time.
    is_unreachable: AtomicBool,
}

impl Progress {
    pub fn new(json: bool, verbose: bool) -> Self {
        Self { json, verbose, ..Self::default() }
    }

    /// Reports a round of a connector that continues: errors always, success only if verbose.
    pub fn report(&self, round: Result<SyncReport, Failure>) {
        match round {
            Ok(tick) => {
                if self.is_unreachable.swap(false, Ordering::Relaxed) {
                    output::note("[relay-connector] the relay responds again");
                }
                let is_reported = self.verbose && !(tick.is_quiet() && tick.heartbeated == 0);
                if is_reported || !tick.errors.is_empty() {
                    let _ = self.print(&tick, true);
                }
            }
            // Report an unreachable relay once, not with every attempt.
            Err(failure) if failure.code() == Code::RemoteUnavailable => {
                if !self.is_unreachable.swap(true, Ordering::Relaxed) {
                    output::note(&format!("[relay-connector] {}", failure.message()));
                }
            }
            Err(failure) => output::note(&format!(
                "[relay-connector] {} [{}]",
                failure.message(),
                failure.code().name()
            )),
        }
    }

    /// Prints the result of one round; without `verbose`, not that of a round without effects.
    pub fn print(&self, tick: &SyncReport, verbose: bool) -> Result<(), Failure> {
        if self.json {
            return output::print(&output::json_line(&tick_json(tick)));
        }
        if verbose || !tick.is_quiet() {
            output::print(&tick_text(tick))?;
        }
        Ok(())
    }
}

fn tick_json(tick: &SyncReport) -> Value {
    let errors: Vec<Value> = tick.errors.iter().map(Failure::to_json).collect();
    json!({
        "ok": true,
        "registered": tick.registered,
        "heartbeated": tick.heartbeated,
        "forwarded": tick.forwarded,
        "failed": tick.failed,
        "bounced": tick.bounced,
        "inbound": tick.inbound,
        "mirrored_bytes": tick.mirrored,
        "waits": tick.delayed,
        "errors": errors,
    })
}

fn tick_text(tick: &SyncReport) -> String {
    let mut text = format!(
        "[relay-connector] sync: registered={} heartbeated={} fwd={} failed={} dlqed={} inbound={}",
        tick.registered, tick.heartbeated, tick.forwarded, tick.failed, tick.bounced, tick.inbound
    );
    if let Some(reason) = &tick.delayed {
        text.push_str(&format!(" [send: {}]", for_terminal(reason)));
    }
    for error in &tick.errors {
        text.push_str(&format!(" [register: {}]", for_terminal(&error.message())));
    }
    text.push('\n');
    text
}
