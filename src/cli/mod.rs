//! The command line: table of commands and dispatch.
//!
//! Only the definition of the named command is built: a hook runs after every tool call and must
//! not pay for the other commands.

mod ack;
mod arguments;
mod completion;
mod context;
mod dead_letter;
mod demo;
mod dnd;
mod doctor;
mod exit_status;
mod health;
mod hints;
mod history;
mod hook;
mod init;
mod install;
mod list;
mod listen;
mod mail_text;
mod mcp;
mod message_body;
mod migrate;
mod mirror;
mod monitor;
mod my_rooms;
mod outgoing;
mod output;
mod overdue_mail;
mod own_path;
mod peek_inbox;
mod poll_inbox;
mod register;
mod registration;
#[cfg(feature = "relay")]
mod relay;
mod relay_health;
mod rename;
mod rooms;
mod send;
mod send_all;
mod server_info;
mod setup;
mod status;
mod sweep;
mod sweep_dryrun;
mod tags;
mod trace;
mod uninstall;
mod wake;
mod wake_report;
mod watch;
mod whoami;

use std::ffi::OsString;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use context::{Common, Context, Run};
use exit_status::{SUCCESS, USAGE};

use crate::error::Failure;
use crate::present::diagnostics::note;

/// The command that clients run by themselves.
const HOOK: &str = "hook";
/// The command that runs the operator's program `c2c-log`.
const LOG: &str = "log";

/// The commands that only ask, or that change what exists.
const QUERIES: &[&str] = &[
    "ack",
    "dead-letter",
    "dnd",
    "health",
    "history",
    "list",
    "listen",
    "monitor",
    "my-rooms",
    "peek-inbox",
    "poll-inbox",
    "status",
    "sweep",
    "sweep-dryrun",
    "trace",
    "whoami",
];
/// The commands whose result does not depend on the caller.
const SHOWS_NO_IDENTITY: &[&str] = &[
    "completion",
    "demo",
    "doctor",
    "health",
    "init",
    "install",
    "list",
    "mcp",
    "migrate",
    "mirror",
    "monitor",
    "register",
    "relay",
    "server-info",
    "setup",
    "status",
    "sweep",
    "sweep-dryrun",
    "trace",
];

/// One command in the table of commands.
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
            // The matches were made with the same definition, so this cannot fail.
            T::from_arg_matches(matches).unwrap_or_else(|e| e.exit()).run(context)
        },
    }
}

fn with_aliases(mut entry: Entry, aliases: &'static [&'static str]) -> Entry {
    entry.aliases = aliases;
    entry
}

fn table() -> Vec<Entry> {
    vec![
        entry::<register::RegisterArgs>("register", "Register an alias for this session"),
        entry::<whoami::Whoami>("whoami", "Show this session's alias and id"),
        entry::<list::List>("list", "List registered agents"),
        entry::<send::SendArgs>("send", "Send a message to one agent"),
        entry::<send_all::SendAllArgs>("send-all", "Send a message to all agents"),
        entry::<poll_inbox::PollInbox>("poll-inbox", "Take and show unread messages"),
        entry::<peek_inbox::PeekInbox>("peek-inbox", "Show unread messages without taking them"),
        entry::<ack::Ack>("ack", "Acknowledge a manual claim"),
        entry::<hook::Hook>(HOOK, "Deliver mail to a model from a client's hook"),
        entry::<history::HistoryArgs>("history", "Show messages received earlier"),
        entry::<trace::Trace>("trace", "Show a message's history"),
        entry::<listen::Listen>("listen", "Wait for messages and announce or take them"),
        entry::<wake::Wake>("wake", "Wake an idle session when mail arrives"),
        entry::<watch::Watch>("watch", "Run a command and send its output as messages"),
        entry::<monitor::Monitor>("monitor", "Show events as they happen"),
        with_aliases(
            entry::<rooms::Rooms>("rooms", "Manage rooms: list, create, join, send and more"),
            &["room"],
        ),
        entry::<my_rooms::MyRooms>("my-rooms", "List the rooms this session is in"),
        entry::<dead_letter::DeadLetterArgs>(
            "dead-letter",
            "List, replay or purge undeliverable messages",
        ),
        entry::<sweep::SweepArgs>("sweep", "End sessions whose process has exited"),
        with_aliases(
            entry::<sweep_dryrun::SweepDryRun>("sweep-dryrun", "Show what a sweep would do"),
            &["sweep-dry-run"],
        ),
        entry::<health::Health>("health", "Show broker health"),
        entry::<status::Status>("status", "Show agents, unread messages and rooms"),
        entry::<dnd::Dnd>("dnd", "Show or set do-not-disturb"),
        entry::<rename::RenameArgs>("rename", "Change the alias and keep the mailbox"),
        with_aliases(
            entry::<migrate::Migrate>("migrate", "Import or move an older broker root"),
            &["migrate-broker"],
        ),
        entry::<mirror::Mirror>("mirror", "Write the log as JSON files for older programs"),
        with_aliases(
            entry::<mcp::Mcp>(mcp::NAME, "Serve MCP on standard input and output"),
            &["serve"],
        ),
        #[cfg(feature = "relay")]
        entry::<relay::RelayArgs>(
            "relay",
            "Exchange messages between machines: serve, connect, status and more",
        ),
        entry::<server_info::ServerInfo>("server-info", "Show version and features"),
        entry::<doctor::Doctor>("doctor", "Find problems and suggest fixes"),
        entry::<init::Init>("init", "Set up one client in a single step"),
        entry::<setup::Setup>("setup", "Configure a client: claude-code, codex and more"),
        entry::<demo::Demo>("demo", "Run two agents on a temporary broker root"),
        entry::<install::Install>("install", "Install c2c on the PATH, or set up a client"),
        entry::<uninstall::Uninstall>("uninstall", "Remove c2c from all clients and from the PATH"),
        entry::<completion::Completion>("completion", "Print shell completions"),
    ]
}

fn build(entry: &Entry) -> Command {
    let command = Command::new(entry.name).visible_aliases(entry.aliases);
    // A flattened group of options sets a description as well, so the command's is set last.
    let command = Common::augment_args((entry.augment)(command)).about(entry.about);
    if !command.has_subcommands() {
        return command;
    }
    // Global options may also follow a subcommand. There `-s` belongs to the subcommand; elsewhere
    // it was replaced by the long form.
    let options = ["broker_root", "json", "session_id", "utc"];
    let command =
        options.iter().fold(command, |command, id| command.mut_arg(id, |arg| arg.global(true)));
    command.mut_arg("session_id", |arg| arg.short(None))
}

/// Builds the definition of the complete command line, for help and completions.
fn command_line() -> Command {
    let log = Command::new(LOG).about("Inspect, verify and replay the log (same as c2c-log)");
    program().subcommands(table().iter().map(build)).subcommand(log)
}

fn program() -> Command {
    Command::new("c2c")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Message broker for AI coding agents: durable, deduplicated, traceable")
        .subcommand_required(false)
        .arg_required_else_help(false)
}

/// Runs the command line of this process and returns its exit status.
pub fn main() -> u8 {
    let arguments = arguments::read();
    let name = arguments.get(1).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if name == LOG {
        let arguments = std::iter::once("c2c-log".into()).chain(arguments.into_iter().skip(2));
        return crate::log_tool::main(arguments);
    }
    let table = table();
    let entry = table.iter().find(|entry| entry.name == name || entry.aliases.contains(&&*name));
    let Some(entry) = entry else { return without_command(arguments) };
    let matches = match program().subcommand(build(entry)).try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            let status = print_parser_message(&error);
            // A client would take another status as the rejection of its step.
            return if name == HOOK { SUCCESS } else { status };
        }
    };
    let Some((_, matches)) = matches.subcommand() else { return SUCCESS };
    let common = Common::from_arg_matches(matches).unwrap_or_else(|e| e.exit());
    if entry.name == mcp::NAME {
        crate::env::adopt_from_client();
    }
    if name == HOOK {
        // A hook takes its directory from the client and reports no failure in its status.
        let hook = hook::Hook::from_arg_matches(matches).unwrap_or_else(|e| e.exit());
        return hook::main(&common, &hook);
    }
    let as_json = common.json;
    match run(entry, matches, common) {
        Ok(()) => SUCCESS,
        Err(failure) => {
            output::report_failure(&failure, hints::hint(&failure, entry.name), as_json)
        }
    }
}

fn run(entry: &Entry, matches: &ArgMatches, common: Common) -> Result<(), Failure> {
    let mut context = Context::new(common, command_line)?;
    if is_query(entry.name, matches) && context.common.broker_root.is_some() {
        context.check_root_exists()?;
    }
    let done = (entry.run)(matches, &mut context);
    if !SHOWS_NO_IDENTITY.contains(&entry.name) {
        context.report_identity();
    }
    done.map_err(|failure| context.with_root(failure))?;
    if let Some(to) = context.broker.moved_to() {
        note(&format!("note: this root moved to {to}"));
    }
    Ok(())
}

/// Whether a command only asks, so that a root that does not exist is a mistake.
fn is_query(name: &str, matches: &ArgMatches) -> bool {
    let inner = matches.subcommand_name().unwrap_or_default();
    QUERIES.contains(&name) || name == "rooms" && ["list", "history", "members"].contains(&inner)
}

/// Handles a missing or unknown command: prints the help or a usage error.
fn without_command(arguments: Vec<OsString>) -> u8 {
    if arguments.len() < 2 {
        let _ = command_line().print_help();
        return SUCCESS;
    }
    match command_line().try_get_matches_from(arguments) {
        Ok(_) => SUCCESS,
        Err(error) => print_parser_message(&error),
    }
}

/// Prints a usage error, or the help or version that was requested; returns the exit status.
fn print_parser_message(error: &clap::Error) -> u8 {
    let _ = error.print();
    if error.use_stderr() { USAGE } else { SUCCESS }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Collects what the help of a command and its subcommands lacks.
    fn check_help(command: &Command, problems: &mut Vec<String>) {
        let name = command.get_name();
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        if about.is_empty() || about.ends_with('.') || about.contains("every command") {
            problems.push(format!("{name}: description {about:?}"));
        }
        for argument in command.get_arguments() {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            if help.is_empty() || help.ends_with('.') {
                problems.push(format!("{name} {}: help {help:?}", argument.get_id()));
            }
        }
        command.get_subcommands().for_each(|inner| check_help(inner, problems));
    }

    fn check_examples(command: &Command, problems: &mut Vec<String>) {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        if !text.contains("Examples:\n  ") {
            problems.push(format!("{} has no examples", command.get_name()));
        }
        command.get_subcommands().for_each(|inner| check_examples(inner, problems));
    }

    #[test]
    fn every_command_and_every_option_is_described() {
        let whole = command_line();
        whole.clone().debug_assert();
        let mut problems = Vec::new();
        check_help(&whole, &mut problems);
        assert!(problems.is_empty(), "{problems:#?}");
    }

    #[test]
    fn the_help_of_every_command_has_an_example() {
        let mut problems = Vec::new();
        for entry in &table() {
            check_examples(&build(entry), &mut problems);
        }
        assert!(problems.is_empty(), "{problems:#?}");
    }
}
