//! Nudges that are typed into terminals: when Enter is pressed, and when it is not.

mod pane;
mod wrapped;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::wake::two_agents;
use crate::harness::skip;
use crate::support::{World, holds_within};

const PROGRAM: &str = include_str!("program.py");
const LIMIT: Duration = Duration::from_secs(20);
const NOTICE: &str = "SUBMIT c2c: mail from other agents waits for you.";

fn require(program: &str, option: &str) {
    if Command::new(program).arg(option).output().is_err() {
        skip(&format!("{program} is not installed"));
    }
}

/// Waits until a condition holds.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    assert!(holds_within(LIMIT, condition), "{what}");
}

/// Two agents, a program that logs what it receives, and a message for ann.
struct Scene {
    world: World,
    log: PathBuf,
}

impl Scene {
    fn new() -> Self {
        Self::in_world(two_agents())
    }

    /// The same, but the program registers ann.
    fn without_ann() -> Self {
        let world = World::new();
        world.register(&["bob"]);
        Self::in_world(world)
    }

    fn in_world(world: World) -> Self {
        require("python3", "-V");
        fs::write(world.path().join("program.py"), PROGRAM).expect("written");
        let log = world.path().join("received");
        fs::write(&log, "").expect("written");
        Self { world, log }
    }

    /// The command line of the program.
    fn program(&self, kind: &str, window: &str) -> Vec<String> {
        let file = self.world.path().join("program.py");
        let words = [Path::new("python3"), &file, &self.log, Path::new(kind), Path::new(window)];
        let words = words.iter().map(|word| word.display().to_string());
        words.chain([env!("CARGO_BIN_EXE_c2c").to_owned()]).collect()
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    fn send(&self) {
        self.world.run("bob", &["send", "ann", "the secret word"]).ok();
    }

    fn record(&self) -> serde_json::Value {
        let agents = self.world.run("x", &["list", "--json"]).ok().json();
        let ann = agents.as_array().into_iter().flatten().find(|row| row["alias"] == "ann");
        ann.expect("ann")["wake"].clone()
    }
}

crate::harness::tests! {
    modules: pane, wrapped;
}
