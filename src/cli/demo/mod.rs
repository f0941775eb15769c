//! The `c2c demo` command: two agents on a new root, then a second machine.
//!
//! Every step runs a real process, and its result is checked.

#[cfg(feature = "relay")]
mod machines;
mod stage;

use clap::Args;

use crate::cli::context::{Context, Run};
use crate::cli::output::{note, print};
use crate::error::Failure;
use stage::{Stage, check};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c demo         run the demo and remove its root\n  \
    c2c demo --keep  keep the root, to inspect it with c2c log")]
pub struct Demo {
    /// Keep the root after the demo
    #[arg(long)]
    keep: bool,
}

impl Run for Demo {
    fn run(self, _context: &mut Context) -> Result<(), Failure> {
        let name = format!("c2c-demo-{}", uuid::Uuid::now_v7());
        let directory = std::env::temp_dir().join(name);
        let program =
            std::env::current_exe().map_err(|e| Failure::io("find", "this program", e))?;
        let stage = Stage::create(program, directory.clone())?;
        print(&format!("A fresh broker root: {}\n", stage.root().display()))?;
        let result = play(&stage);
        if self.keep {
            note(&format!("kept: C2C_MCP_BROKER_ROOT={}", stage.root().display()));
        } else {
            let _ = std::fs::remove_dir_all(&directory);
        }
        result
    }
}

fn play(stage: &Stage) -> Result<(), Failure> {
    stage.run("ada", &["register", "--alias", "ada"])?;
    stage.run("bob", &["register", "--alias", "bob"])?;
    let peers = stage.json("ada", &["list"])?;
    check(peers.as_array().map(Vec::len) == Some(2), "two agents are registered")?;

    stage.run("ada", &["send", "bob", "the build is green"])?;
    let polled = stage.run("bob", &["poll-inbox"])?;
    check(polled.contains("[ada] the build is green"), "bob has read the message")?;
    let again = stage.run("bob", &["poll-inbox"])?;
    check(again.contains("(no messages)"), "the message is not delivered twice")?;

    stage.run("ada", &["rooms", "join", "builders"])?;
    stage.run("bob", &["rooms", "join", "builders"])?;
    stage.run("bob", &["rooms", "send", "builders", "who takes the docs?"])?;
    let polled = stage.run("ada", &["poll-inbox"])?;
    check(polled.contains("who takes the docs?"), "a room message reaches the other member")?;

    let message_id = stage.kill_a_receiver()?;
    let trace = stage.run("ada", &["trace", &message_id])?;
    let hops = ["claimed by cli_poll", "returned: process_dead", "written"];
    check(hops.iter().all(|hop| trace.contains(hop)), "trace shows every hop of the message")?;
    #[cfg(feature = "relay")]
    machines::play(stage)?;
    stage.inspect()
}
