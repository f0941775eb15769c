//! The commands of `docs/operating/relay.md`, run as printed.
//!
//! They run in their own namespaces (processes, mounts, network) with a private `/tmp` and these
//! substitutions:
//!
//! - host names and addresses of other machines belong to this one, by `/etc/hosts` and on `lo`;
//! - `relay serve` runs in the background; `relay connect` without `--once` and `gc --interval` are
//!   stopped after two seconds;
//! - `docker run` is a root directory that contains only the mounted files;
//! - the SSH tunnel is omitted, and the public relay is the local one.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::TOKEN;
use crate::harness::skip;
use crate::support::{World, run};

/// One fenced block of the page.
struct Block {
    section: String,
    language: String,
    text: String,
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> Vec<Block> {
    let text = std::fs::read_to_string(repository().join("docs/operating/relay.md"));
    let text = text.expect("the page");
    let (mut blocks, mut section, mut open): (Vec<Block>, String, Option<Block>) =
        (Vec::new(), String::new(), None);
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                let (section, language) = (section.clone(), language.to_owned());
                open = Some(Block { section, language, text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {
                if let Some(title) = line.strip_prefix("## ") {
                    section = title.to_owned();
                }
            }
        }
    }
    blocks
}

/// The commands of a section, in order, with the substitutions.
fn commands(section: &str) -> String {
    let blocks: Vec<Block> =
        page().into_iter().filter(|b| b.section == section && b.language == "sh").collect();
    assert!(!blocks.is_empty(), "no section {section}");
    blocks.iter().map(|block| prepared(&block.text)).collect()
}

/// The output that a section shows.
fn shown_output(section: &str, at: usize) -> String {
    let mut blocks = page().into_iter().filter(|b| b.section == section && b.language == "text");
    blocks.nth(at).unwrap_or_else(|| panic!("{section} shows no output")).text
}

/// Joins continued lines and here-documents to whole commands, and substitutes each.
fn prepared(text: &str) -> String {
    let mut script = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut command = line.to_owned();
        if line.contains("<<'JSON'") {
            for more in lines.by_ref() {
                command.push('\n');
                command.push_str(more);
                if more == "JSON" {
                    break;
                }
            }
        }
        while command.ends_with('\\') {
            command.push('\n');
            command.push_str(lines.next().expect("the rest of a command"));
        }
        script.push_str(&substituted(&command));
        script.push('\n');
    }
    script
}

fn substituted(command: &str) -> String {
    let code = command.split(" # ").next().unwrap_or_default().trim_end();
    let is = |start: &str| code.starts_with(start);
    if is("c2c relay serve") {
        let listen = code.split("--listen ").nth(1).and_then(|rest| rest.split_whitespace().next());
        return format!("serves {} {command}", listen.expect("an address"));
    }
    if is("ssh -NL") {
        return String::from(": the tunnel is left out");
    }
    let runs_forever =
        (is("c2c relay connect") && !code.contains("--once") && !code.contains("--help"))
            || (is("c2c relay gc") && code.contains("--interval"));
    if runs_forever {
        return format!("for_a_moment {command}");
    }
    command.replace("[relay-url]", "http://127.0.0.1:7331")
}

/// Script that prepares the namespaces.
const PRELUDE: &str = r#"
set -eu
ip link set lo up
for address in 100.95.180.95 100.104.132.48 100.64.0.1; do ip addr add $address/32 dev lo; done
mkdir -p "$WORK/new"
mount -t tmpfs tmpfs "$WORK/new"
mkdir -p "$WORK/new/bin" "$WORK/new/home/.config/c2c" "$WORK/new/lib" "$WORK/new/page"
cp "$C2C" "$WORK/new/bin/c2c"
unset C2C
cp -r "$REPO/scripts" "$REPO/tools" "$WORK/new/page/"
printf '127.0.0.1 localhost RELAY_HOST host relay.example.com relay.c2c.im\n' > "$WORK/new/hosts"
mount --move "$WORK/new" /tmp
mount --bind /tmp/hosts /etc/hosts
mkdir -p /tmp/lib && mount --bind /tmp/lib /var/lib
export HOME=/tmp/home PATH=/tmp/bin:$PATH
cd /tmp/page
serves() {
  local address="$1"; shift
  "$@" > /tmp/serve.out 2>&1 &
  SERVER=$!
  local host="${address%:*}"
  [ "$host" = 0.0.0.0 ] && host=127.0.0.1
  until (exec 3<>"/dev/tcp/$host/${address##*:}") 2>/dev/null; do
    kill -0 $SERVER || { cat /tmp/serve.out; exit 1; }
  done
}
for_a_moment() {
  timeout -s TERM 2 "$@" || [ $? = 124 ]
}
docker() {
  shift 4 # run --rm --network host
  local root; root="$(mktemp -d -p /tmp)"
  while [ "$1" = -v ]; do
    local from="${2%%:*}" to="${2#*:}"; to="${to%:ro}"
    if [ -d "$from" ]; then mkdir -p "$root$to"; else mkdir -p "$root${to%/*}"; : > "$root$to"; fi
    mount --bind "$from" "$root$to"
    shift 2
  done
  shift # the image
  mkdir -p "$root/root" "$root/dev" "$root/proc"
  mount --bind /dev "$root/dev"
  mount --bind /proc "$root/proc"
  env -i HOME=/root PATH=/usr/local/bin "$(command -v chroot)" "$root" "/usr/local/bin/$@"
}
"#;

/// Runs a script in its own namespaces and returns its output. Skips the test without the right to
/// create them.
fn inside(script: &str) -> String {
    let unshare = ["-m", "-n", "-p", "-f", "--kill-child", "--mount-proc"];
    let allowed = Command::new("unshare").args(unshare).arg("true").status();
    let is_missing = |name: &&str| !Path::new("/usr/bin").join(name).exists();
    let missing: Vec<&str> = ["xxd", "timeout"].into_iter().filter(is_missing).collect();
    if !allowed.is_ok_and(|status| status.success()) || !missing.is_empty() {
        let required = std::env::var_os("C2C_TEST_REQUIRE_NETNS").is_some();
        assert!(!required, "no right to create namespaces, or {missing:?} is missing");
        skip(&format!("no right to create namespaces, or {missing:?} is missing"));
    }
    let world = World::new();
    let path = world.path().join("script");
    std::fs::write(&path, format!("{PRELUDE}\n{script}")).expect("a script");
    let mut command = world.program("unshare", &unshare);
    command.arg("bash").arg(&path).env("WORK", world.path()).env("REPO", repository());
    command.env("C2C", env!("CARGO_BIN_EXE_c2c")).env_remove("C2C_MCP_BROKER_ROOT");
    let done = run(command);
    assert_eq!(done.status, 0, "{script}\n{}\n{}", done.out, done.err);
    done.out
}

fn steps_one_to_four_work() {
    let script = [
        &commands("Step 1: start the relay"),
        "cat /tmp/serve.out",
        "export C2C_MCP_SESSION_ID=s-ann; c2c register --alias ann",
        // The first block; the other blocks of this section are for a relay with another token.
        "c2c relay setup --url http://RELAY_HOST:7331 --token \"$TOKEN\"",
        &commands("Step 3: run the connector"),
        "echo == status",
        &commands("Step 4: verify"),
        "echo == health\nc2c health",
    ];
    assert!(commands("Step 2: save URL and token on each machine").contains(script[3]));
    let out = inside(&script.join("\n"));
    assert!(out.contains(&shown_output("Step 1: start the relay", 0)), "{out}");
    let status = out.split("== status\n").nth(1).expect("a status");
    for line in shown_output("Step 4: verify", 0).lines() {
        let label = line.split(' ').next().expect("a label");
        assert!(status.contains(&format!("\n{label} ")) || status.starts_with(label), "{status}");
    }
    assert!(status.contains("relay: http://RELAY_HOST:7331\nstatus: OK\nnode_id: "), "{status}");
    assert!(status.contains("peers: 1 alive / 1 total"), "{status}");
    assert!(status.contains("● ann "), "{status}");
    assert!(out.contains(" 0 failed") && out.contains("PASS  loopback DM"), "{out}");
    let health = out.split("== health\n").nth(1).expect("health");
    let alive = health.contains("✓ Relay: http://RELAY_HOST:7331 (");
    assert!(alive && health.contains(" alive peers)"), "{health}");
}

fn commands_find_their_relay_in_the_environment() {
    let section = commands("Step 2: save URL and token on each machine");
    let block = section.split_once("export C2C_RELAY_URL").expect("a block").1;
    let script = format!(
        "serves 127.0.0.1:7331 c2c relay serve --token mytoken\nexport C2C_RELAY_URL{block}"
    );
    let out = inside(&script);
    assert!(out.contains("relay: http://relay.example.com:7331\nstatus: OK"), "{out}");
    assert!(out.contains("(no peers)") && out.contains("gc: 0 leases expired"), "{out}");
}

fn the_two_machine_localhost_test_works() {
    let out = inside(&commands("Two-machine localhost test"));
    let synced = "[relay-connector] sync: registered=0";
    assert_eq!(out.matches(synced).count(), 2, "{out}");
}

fn the_docker_commands_work() {
    let out = inside(&commands("Docker cross-machine test"));
    let last = out.lines().last().unwrap_or_default();
    assert!(last.ends_with("@host-machine] hello from host"), "{out}");
}

fn the_tunnel_and_tailscale_commands_work() {
    let served =
        format!("TOKEN={TOKEN}\nserves 127.0.0.1:7331 c2c relay serve --token \"$TOKEN\"\n");
    inside(&format!("{served}{}\nc2c relay status", commands("SSH tunnel")));
    let script = format!("TOKEN={TOKEN}\n{}", commands("Tailscale"));
    let out = inside(&script);
    let last = out.lines().last().unwrap_or_default();
    assert!(last.ends_with("@machine-a] hello from A"), "{out}");
}

fn the_token_file_commands_work() {
    let served = format!(
        "TOKEN={TOKEN}\nserves 0.0.0.0:7331 c2c relay serve --listen 0.0.0.0:7331 --token \"$TOKEN\"\n"
    );
    let script = format!("{served}{}\nc2c relay gc --once", commands("Token file"));
    let out = inside(&script);
    assert!(out.contains("gc: 0 leases expired"), "{out}");
}

fn the_identity_room_and_lease_commands_work() {
    let leases = commands("Leases that are over");
    let script = [
        &format!("TOKEN={TOKEN}\nRELAY_URL=http://127.0.0.1:7331"),
        "serves 127.0.0.1:7331 c2c relay serve --token \"$TOKEN\"",
        "c2c relay setup --url \"$RELAY_URL\" --token \"$TOKEN\"",
        &commands("Who may do what"),
        "echo == rooms",
        &commands("Rooms"),
        "echo == gc\nkill $SERVER; wait $SERVER || true",
        &format!("TOKEN={TOKEN}"),
        "serves 127.0.0.1:7331 c2c relay serve --token \"$TOKEN\"",
        leases.split("serves").next().unwrap_or_default(),
    ];
    let out = inside(&script.join("\n"));
    assert!(out.contains("fingerprint: SHA256:"), "{out}");
    let rooms = out.split("== rooms\n").nth(1).expect("rooms");
    for line in
        ["(no rooms)", "joined swarm-lounge", "hello from the operator", "left swarm-lounge"]
    {
        assert!(rooms.contains(line), "{line}: {rooms}");
    }
    assert!(out.matches("gc: 0 leases expired").count() >= 3, "{out}");
}

fn expired_leases_are_named() {
    let (by_hand, in_relay) = {
        let both = commands("Leases that are over");
        let (by_hand, in_relay) = both.split_once("serves").expect("two blocks");
        (by_hand.to_owned(), format!("serves{in_relay}"))
    };
    assert!(by_hand.contains("c2c relay gc --once --verbose"));
    let script = [
        "TOKEN=t",
        &in_relay,
        "cat /tmp/serve.out",
        "c2c relay setup --url http://127.0.0.1:7331 --token t",
        "export C2C_MCP_SESSION_ID=s-ann; c2c register --alias ann",
        "c2c relay connect --once --ttl 1",
        "until c2c relay gc --once --verbose > /tmp/gc.out; grep -q '1 leases' /tmp/gc.out; do :; done",
        "cat /tmp/gc.out",
    ];
    let out = inside(&script.join("\n"));
    assert!(out.contains("gc: running every 300s"), "{out}");
    let expired = out.split("gc: 1 leases expired").nth(1);
    assert!(expired.is_some_and(|rest| rest.contains("ann")), "{out}");
}

fn a_sqlite_relay_keeps_its_data_over_a_restart() {
    let serve = commands("SQLite");
    let script = [
        &format!("TOKEN={TOKEN}\nexport C2C_RELAY_URL=http://127.0.0.1:7331"),
        &serve,
        "cp /tmp/serve.out /tmp/first.out",
        "c2c relay register --alias ann\nc2c relay rooms join den --alias ann",
        "c2c relay register --alias bob\nc2c relay dm send ann waiting --alias bob",
        "c2c relay rooms join den --alias bob\nc2c relay rooms send den kept --alias bob",
        "kill $SERVER; wait $SERVER || true",
        &serve,
        "cat /tmp/first.out; echo == after",
        "c2c relay rooms history den\nc2c relay list\nc2c relay dm poll --alias ann",
    ];
    let out = inside(&script.join("\n"));
    assert!(out.contains(&shown_output("SQLite", 0)), "{out}");
    let after = out.split("== after\n").nth(1).expect("after");
    for line in ["kept", "● ann ", "● bob ", "waiting"] {
        assert!(after.contains(line), "{line}: {after}");
    }
}

crate::harness::tests! {
    slow:
        steps_one_to_four_work,
        commands_find_their_relay_in_the_environment,
        the_two_machine_localhost_test_works,
        the_docker_commands_work,
        the_tunnel_and_tailscale_commands_work,
        the_token_file_commands_work,
        the_identity_room_and_lease_commands_work,
        expired_leases_are_named,
        a_sqlite_relay_keeps_its_data_over_a_restart;
}
