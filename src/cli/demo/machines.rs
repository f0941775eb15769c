//! The part with two machines: two roots, each with a home of its own, and a relay between them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use super::{Stage, check, wrong};
use crate::cli::output::{say, strong};
use crate::failure::Failure;

/// A relay that ends with the demo.
struct Relay(Child);

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const TOKEN: &str = "demo";

impl Stage {
    /// Starts a relay on a free port of this machine, for nobody else.
    fn relay(&self) -> Result<(Relay, String), Failure> {
        let words = ["relay", "serve", "--listen", "127.0.0.1:0", "--token", TOKEN];
        say(&format!("\n{} c2c {}\n", strong("relay $"), words.join(" ")))?;
        let mut command = self.command("relay", &words);
        let child = command.stdout(Stdio::piped()).spawn().map_err(Failure::Output)?;
        let mut relay = Relay(child);
        let mut line = String::new();
        let out = relay.0.stdout.take().ok_or_else(|| wrong("the relay's output"))?;
        BufReader::new(out).read_line(&mut line).map_err(Failure::Output)?;
        say(&format!("    {line}"))?;
        let url = line.split_whitespace().last().filter(|url| url.starts_with("http://"));
        let url = url.ok_or_else(|| wrong("a relay that serves"))?.to_owned();
        Ok((relay, url))
    }

    /// One round of this machine's connector.
    fn connect(&self, who: &str, url: &str) -> Result<String, Failure> {
        let node = format!("machine-{who}");
        let words = [
            "relay",
            "connect",
            "--once",
            "--relay-url",
            url,
            "--token",
            TOKEN,
            "--node-id",
            &node,
        ];
        self.run(who, &words)
    }

    /// Mail from one machine to the other and back.
    pub fn machines(&self) -> Result<(), Failure> {
        let far = self.another("cleo")?;
        let (_relay, url) = self.relay()?;
        far.run("cleo", &["register", "--alias", "cleo"])?;
        self.connect("ada", &url)?;
        far.connect("cleo", &url)?;

        let sent = self.json("ada", &["send", "cleo@machine-cleo", "the release is out"])?;
        let message_id = sent["message_id"].as_str().unwrap_or_default().to_owned();
        self.connect("ada", &url)?;
        far.connect("cleo", &url)?;
        let polled = far.run("cleo", &["poll-inbox"])?;
        check(
            polled.contains("[ada@machine-ada] the release is out"),
            "a message reaches the other machine, with an address to answer to",
        )?;
        far.run("cleo", &["send", "ada@machine-ada", "seen"])?;
        far.connect("cleo", &url)?;
        self.connect("ada", &url)?;
        let polled = self.run("ada", &["poll-inbox"])?;
        check(polled.contains("[cleo@machine-cleo] seen"), "and the answer comes back")?;
        let trace = self.run("ada", &["trace", &message_id])?;
        check(trace.contains("delivered"), "the sender can see that it was delivered over there")
    }
}
