//! Demo of two machines: two roots, each with its own home directory, and a relay.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use super::stage::{Stage, check, expected};
use crate::cli::output::{bold, print};
use crate::error::Failure;

/// A relay process that is killed when the demo ends.
struct RelayProcess(Child);

impl Drop for RelayProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const TOKEN: &str = "demo";

/// Starts a relay on a free loopback port. Returns the process and its URL.
fn start_relay(stage: &Stage) -> Result<(RelayProcess, String), Failure> {
    let args = ["relay", "serve", "--listen", "127.0.0.1:0", "--token", TOKEN];
    print(&format!("\n{} c2c {}\n", bold("relay $"), args.join(" ")))?;
    let mut command = stage.command("relay", &args);
    let child = command.stdout(Stdio::piped()).spawn().map_err(|e| stage.not_started(e))?;
    let mut relay = RelayProcess(child);
    let mut line = String::new();
    let out = relay.0.stdout.take().ok_or_else(|| expected("a relay with an output"))?;
    BufReader::new(out)
        .read_line(&mut line)
        .map_err(|e| Failure::io("read", "the output of the relay", e))?;
    print(&format!("    {line}"))?;
    let url = line.split_whitespace().last().filter(|url| url.starts_with("http://"));
    let url = url.ok_or_else(|| expected("the relay to print its URL"))?.to_owned();
    Ok((relay, url))
}

/// Runs one sync of a machine's connector.
fn sync(stage: &Stage, agent: &str, url: &str) -> Result<String, Failure> {
    let node = format!("machine-{agent}");
    let args = ["relay", "connect", "--once", "--relay-url", url, "--token", TOKEN, "--node-id"];
    stage.run(agent, &[&args[..], &[node.as_str()]].concat())
}

/// Sends mail from one machine to another and back.
pub fn play(near: &Stage) -> Result<(), Failure> {
    let far = near.another("cleo")?;
    let (_relay, url) = start_relay(near)?;
    far.run("cleo", &["register", "--alias", "cleo"])?;
    sync(near, "ada", &url)?;
    sync(&far, "cleo", &url)?;

    let sent = near.json("ada", &["send", "cleo@machine-cleo", "the release is out"])?;
    let message_id = sent["message_id"].as_str().unwrap_or_default().to_owned();
    sync(near, "ada", &url)?;
    sync(&far, "cleo", &url)?;
    let polled = far.run("cleo", &["poll-inbox"])?;
    check(
        polled.contains("[ada@machine-ada] the release is out"),
        "a message reaches the other machine and shows the address to reply to",
    )?;
    far.run("cleo", &["send", "ada@machine-ada", "seen"])?;
    sync(&far, "cleo", &url)?;
    sync(near, "ada", &url)?;
    let polled = near.run("ada", &["poll-inbox"])?;
    check(polled.contains("[cleo@machine-cleo] seen"), "the reply arrives")?;
    let trace = near.run("ada", &["trace", &message_id])?;
    check(trace.contains("delivered"), "the sender can see that the message was delivered")
}
