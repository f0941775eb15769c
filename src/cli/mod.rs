//! What can be typed?
//!
//! Only the command that was named is built: a hook that runs after every tool call must not pay
//! for the others.

mod demo;
mod doctor;
mod hook;
mod identity;
mod init;
mod install;
mod message;
mod output;
#[cfg(feature = "relay")]
mod relay;
mod rooms;
mod server;
mod setup;
mod upkeep;
mod wait;
mod wake;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::actor;
use crate::broker::Broker;
use crate::decide::Actor;
use crate::diagnosis::note;
use crate::failure::Failure;
use crate::root::{self, Root};

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Common {
    /// Broker root to use instead of the one for this directory
    #[arg(long, visible_alias = "root", value_name = "DIR")]
    broker_root: Option<PathBuf>,
    /// Print one JSON value
    #[arg(long, short = 'j')]
    json: bool,
    /// Act as this session
    #[arg(long, short = 's', value_name = "ID")]
    session_id: Option<String>,
    /// Show times in UTC
    #[arg(long)]
    utc: bool,
}

/// One command: its arguments, and what it does.
trait Run: Args {
    fn run(self, context: &mut Context) -> Result<(), Failure>;
}

/// What every command works with.
pub struct Context {
    common: Common,
    root: Root,
    broker: Broker,
    actor: Actor,
}

impl Context {
    fn new(common: Common) -> Result<Self, Failure> {
        let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let root = root::resolve(common.broker_root.as_deref(), &here)?;
        let actor = actor::resolve(common.session_id.as_deref(), &here);
        let broker = Broker::open(&root.path);
        Ok(Self { common, root, broker, actor })
    }
}

/// One row of the table of commands.
struct Entry {
    name: &'static str,
    aliases: &'static [&'static str],
    about: &'static str,
    augment: fn(Command) -> Command,
    run: fn(&ArgMatches, &mut Context) -> Result<(), Failure>,
}

fn entry<T: Run>(name: &'static str, about: &'static str) -> Entry {
    Entry {
        name,
        aliases: &[],
        about,
        augment: T::augment_args,
        run: |matches, context| {
            // The matches come from the same definition, so this cannot fail.
            T::from_arg_matches(matches).unwrap_or_else(|e| e.exit()).run(context)
        },
    }
}

fn also(mut entry: Entry, aliases: &'static [&'static str]) -> Entry {
    entry.aliases = aliases;
    entry
}

fn table() -> Vec<Entry> {
    vec![
        entry::<identity::Register>("register", "Take an alias for this session"),
        entry::<identity::Whoami>("whoami", "Show alias and session"),
        entry::<identity::List>("list", "List who is registered"),
        entry::<message::Send>("send", "Send a message to an alias"),
        entry::<message::SendAll>("send-all", "Send a message to everybody"),
        entry::<message::PollInbox>("poll-inbox", "Take and show unread messages"),
        entry::<message::PeekInbox>("peek-inbox", "Show unread messages without taking them"),
        entry::<message::Ack>("ack", "Say that a manual claim was shown"),
        entry::<hook::Hook>("hook", "Mail for the model, as a client's hook; reads its JSON"),
        entry::<message::History>("history", "Show messages that were taken before"),
        entry::<message::Trace>("trace", "Tell the whole life of one message"),
        entry::<wait::Listen>("listen", "Wait for messages; takes none unless told to"),
        entry::<wake::Wake>("wake", "Nudge a session that does nothing when it has mail"),
        entry::<watch::Watch>("watch", "Forward a command's output as messages"),
        entry::<wait::Monitor>("monitor", "Show events as they happen"),
        also(entry::<rooms::Rooms>("rooms", "Rooms: list, create, join, send, ..."), &["room"]),
        entry::<rooms::MyRooms>("my-rooms", "List the rooms that this session is in"),
        entry::<upkeep::DeadLetter>("dead-letter", "Messages that could not be delivered"),
        entry::<upkeep::Sweep>("sweep", "Clear away sessions whose process is gone"),
        also(
            entry::<upkeep::SweepDryRun>("sweep-dryrun", "What sweep would do"),
            &["sweep-dry-run"],
        ),
        entry::<upkeep::Health>("health", "How this broker root is"),
        entry::<upkeep::Status>("status", "Agents and rooms at a glance"),
        entry::<identity::Dnd>("dnd", "Do-not-disturb on or off"),
        entry::<identity::Rename>("rename", "Change the alias; the mailbox comes along"),
        also(entry::<upkeep::Migrate>("migrate", "Bring in an older root"), &["migrate-broker"]),
        entry::<upkeep::Mirror>("mirror", "Write the older JSON files as views of the log"),
        also(entry::<server::Mcp>("mcp", "Serve MCP on standard input and output"), &["serve"]),
        #[cfg(feature = "relay")]
        entry::<relay::Relay>("relay", "Messages between machines: serve, connect, status, ..."),
        entry::<server::ServerInfo>("server-info", "Version and features"),
        entry::<doctor::Doctor>("doctor", "Find what is wrong, and say how to mend it"),
        entry::<init::Init>("init", "Set up one client whole, in one command"),
        entry::<setup::Setup>(
            "setup",
            "Make a client send and receive: setup claude-code, codex, ...",
        ),
        entry::<demo::Demo>("demo", "Show two agents at work on a fresh root"),
        entry::<install::Install>(
            "install",
            "Put c2c on the PATH: install self; or set up a client",
        ),
        entry::<server::Completion>("completion", "Print shell completions"),
    ]
}

fn build(entry: &Entry) -> Command {
    let command = Command::new(entry.name).visible_aliases(entry.aliases);
    // A group of options brings its own description along, so the command's comes last.
    let command = Common::augment_args((entry.augment)(command)).about(entry.about);
    if !command.has_subcommands() {
        return command;
    }
    // The options of every command may stand behind the inner one, too. There `-s` is taken;
    // elsewhere it has become the long form.
    let options = ["broker_root", "json", "session_id", "utc"];
    let command =
        options.iter().fold(command, |command, id| command.mut_arg(id, |a| a.global(true)));
    command.mut_arg("session_id", |arg| arg.short(None))
}

/// The whole command line, for help and completions.
pub fn whole() -> Command {
    let log = Command::new("log").about("Inspect, verify and replay the log: the same as c2c-log");
    program().subcommands(table().iter().map(build)).subcommand(log)
}

fn program() -> Command {
    Command::new("c2c")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Messages between AI coding agents: durable, never doubled, traceable")
        .subcommand_required(false)
        .arg_required_else_help(false)
}

/// The command that clients run by themselves.
const HOOK: &str = "hook";
/// Exit status of a command that did its work.
const DONE: u8 = 0;
/// Exit status of a command line that makes no sense.
const USAGE: u8 = 2;

/// Runs the command line of this process; answers with the exit status.
pub fn main() -> u8 {
    let words = arguments();
    let named = words.get(1).map_or_else(String::new, |word| word.to_string_lossy().into_owned());
    if named == "log" {
        // The operator's tool under the one name that everybody has.
        let words = std::iter::once("c2c-log".into()).chain(words.into_iter().skip(2));
        return crate::log_tool::main(words);
    }
    let table = table();
    let entry = table.iter().find(|row| row.name == named || row.aliases.contains(&&*named));
    let Some(entry) = entry else { return without_command(words) };
    let matches = match program().subcommand(build(entry)).try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) => {
            let status = usage(&error);
            // To a client another status would mean that its step is refused.
            return if named == HOOK { DONE } else { status };
        }
    };
    let Some((_, matches)) = matches.subcommand() else { return DONE };
    let common = Common::from_arg_matches(matches).unwrap_or_else(|e| e.exit());
    if named == HOOK {
        // Where it is at work is what the client says; and nothing that goes wrong stops a client.
        let hook = hook::Hook::from_arg_matches(matches).unwrap_or_else(|e| e.exit());
        return hook::main(&common, &hook);
    }
    let json = common.json;
    let done = Context::new(common).and_then(|mut context| {
        (entry.run)(matches, &mut context)?;
        if let Some(to) = context.broker.moved_to() {
            note(&format!("note: this root moved to {to}"));
        }
        Ok(())
    });
    match done {
        Ok(()) => DONE,
        Err(failure) => output::failed(&failure, json),
    }
}

/// The words of the command line, the command first: options of every command may stand before it,
/// and `-s` before or right behind it even where an inner command has a `-s` of its own.
fn arguments() -> Vec<OsString> {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    let (mut at, mut command) = (1, None);
    while let Some(word) = words.get(at).and_then(|word| word.to_str()) {
        at += match word {
            "-s" => {
                words[at] = "--session-id".into();
                2
            }
            "--broker-root" | "--root" | "--session-id" => 2,
            "--json" | "-j" | "--utc" => 1,
            word if word.starts_with("--") && word.contains('=') => 1,
            word if word.starts_with('-') || command.is_some() => break,
            _ => {
                command = Some(at);
                1
            }
        };
    }
    if let Some(at) = command {
        words[1..=at].rotate_right(1);
    }
    words
}

/// No command, or an unknown one: the landing page, help, or a usage error.
fn without_command(words: Vec<OsString>) -> u8 {
    if words.len() < 2 {
        let _ = whole().print_help();
        return DONE;
    }
    match whole().try_get_matches_from(words) {
        Ok(_) => DONE,
        Err(error) => usage(&error),
    }
}

fn usage(error: &clap::Error) -> u8 {
    let _ = error.print();
    if error.use_stderr() { USAGE } else { DONE }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything below a command that lacks a description of its own.
    fn undescribed(command: &Command, found: &mut Vec<String>) {
        let name = command.get_name();
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        if about.is_empty() || about.contains("every command") || about.contains("Marks on") {
            found.push(format!("{name}: {about:?}"));
        }
        let bare = command.get_arguments().filter(|arg| arg.get_help().is_none());
        found.extend(bare.map(|arg| format!("{name} {}", arg.get_id())));
        command.get_subcommands().for_each(|inner| undescribed(inner, found));
    }

    #[test]
    fn every_command_and_every_option_is_described() {
        let whole = whole();
        whole.clone().debug_assert();
        let mut found = Vec::new();
        undescribed(&whole, &mut found);
        assert!(found.is_empty(), "{found:#?}");
    }
}
