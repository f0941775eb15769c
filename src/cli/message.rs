//! Commands that send, take and look at messages.

use std::io::Read;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{Context, Run, output};
use crate::broker::{Delivery, Wish};
use crate::clock;
use crate::code::Code;
use crate::decide::{self, Command, Refusal, Reply};
use crate::envelope::for_terminal;
use crate::failure::Failure;
use crate::limits::BODY_BYTES_MAX;
use crate::shape;
use crate::state::pair;

/// Marks on a message.
#[derive(Args, Clone, Default)]
pub struct Tags {
    /// Mark the message: fail, blocking or urgent
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Same as --tag fail
    #[arg(long, conflicts_with_all = ["tag", "blocking", "urgent"])]
    fail: bool,
    /// Same as --tag blocking
    #[arg(long, conflicts_with_all = ["tag", "urgent"])]
    blocking: bool,
    /// Same as --tag urgent
    #[arg(long, conflicts_with = "tag")]
    urgent: bool,
}

impl Tags {
    pub fn tag(&self) -> Option<String> {
        let named = [(self.fail, "fail"), (self.blocking, "blocking"), (self.urgent, "urgent")];
        let named = named.iter().find(|(set, _)| *set).map(|(_, tag)| (*tag).to_owned());
        self.tag.clone().or(named)
    }
}

/// The text of a message: the words of the command line, or standard input.
pub fn body(words: &[String]) -> Result<String, Failure> {
    let from_stdin = words.is_empty() || (words.len() == 1 && words[0] == "-");
    if !from_stdin {
        return Ok(words.join(" "));
    }
    let mut bytes = Vec::new();
    // One byte for the line end, one to see that there is more.
    let limit = BODY_BYTES_MAX as u64 + 2;
    let read = std::io::stdin().lock().take(limit).read_to_end(&mut bytes);
    read.map_err(|e| {
        Refusal::new(Code::InvalidArgument, "content", format!("cannot read standard input: {e}"))
    })?;
    if bytes.len() as u64 == limit {
        let message = format!("the message has more than {BODY_BYTES_MAX} bytes");
        return Err(Refusal::new(Code::BodyTooLarge, "content", message)
            .hint("send a file path or several messages")
            .into());
    }
    let mut text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let message = format!("standard input is not UTF-8 (byte {at})");
        Refusal::new(Code::InvalidUtf8, "content", message).hint("encode the text as UTF-8")
    })?;
    // The line end that a shell adds is not part of the message.
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

#[derive(Args)]
pub struct Send {
    /// Alias, or alias@host
    to: String,
    /// The message; `-` or nothing reads standard input
    words: Vec<String>,
    /// Alias to send as, if this session has none yet
    #[arg(long, short = 'F', value_name = "ALIAS")]
    from: Option<String>,
    #[command(flatten)]
    tags: Tags,
    /// Idempotency key: the same id is accepted once
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    /// Id of the message that this answers
    #[arg(long, value_name = "ID")]
    reply_to: Option<String>,
    /// Seconds after which the message is of no use
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
    /// May wait for the recipient's next poll
    #[arg(long)]
    deferrable: bool,
    /// Return only when the message got this far
    #[arg(long, value_name = "STATE", value_enum)]
    wait_for: Option<Milestone>,
    /// Longest wait, seconds
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = output::seconds,
          allow_negative_numbers = true)]
    timeout: Duration,
}

impl Run for Send {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let send = decide::Send {
            to: self.to,
            body: body(&self.words)?,
            from: self.from,
            message_id: self.message_id,
            tag: self.tags.tag(),
            reply_to: self.reply_to,
            ttl_s: self.ttl,
            deferrable: self.deferrable,
        };
        let executed = context.broker.execute(&Command::Send(send), &context.actor)?;
        let Reply::Sent(sent) = executed.reply else { return Ok(()) };
        let broker_id = context.broker.log_id()?.to_owned();
        let way = context.broker.way_of(&sent);
        let mut row = shape::sent(&sent, &broker_id, &way);
        let reached = match self.wait_for {
            Some(wanted) => {
                let reached = wait_until(context, &sent, executed.last, wanted, self.timeout)?;
                row[wanted.name()] = json!(reached);
                reached
            }
            None => true,
        };
        let late = self.wait_for.filter(|_| !reached).map(|wanted| {
            let (wanted, timeout) = (wanted.name(), self.timeout);
            let message = format!("not {wanted} within {timeout:?}; the message stays queued");
            let hint = format!("c2c trace {}", sent.message_id);
            Failure::Told(Refusal::new(Code::Timeout, "timeout", message).hint(hint))
        });
        if context.common.json {
            let failure = late.as_ref().map(Failure::to_json);
            if let (Some(Value::Object(failure)), Some(row)) = (failure, row.as_object_mut()) {
                row.extend(failure);
            }
            output::say_json(&row)?;
        } else {
            let duplicate = if sent.duplicate { " (accepted before)" } else { "" };
            let waits = if sent.outbox { " [in the outbox]" } else { "" };
            output::say(&format!("ok -> {} (from {}){duplicate}{waits}\n", sent.to, sent.from))?;
            if let Some(warning) = shape::held_up(&way) {
                output::note(&format!("note: {}", for_terminal(&warning)));
            }
        }
        late.map_or(Ok(()), Err)
    }
}

/// How far a message may be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Milestone {
    /// The relay holds it
    Relayed,
    /// It is in the recipient's mailbox
    Delivered,
    /// The recipient has it out of the mailbox
    Acked,
}

impl Milestone {
    fn name(self) -> &'static str {
        match self {
            Self::Relayed => "relayed",
            Self::Delivered => "delivered",
            Self::Acked => "acked",
        }
    }
}

/// Waits until a message got that far; false if the time is over first.
fn wait_until(
    context: &mut Context,
    sent: &decide::Sent,
    sequence: u64,
    wanted: Milestone,
    timeout: Duration,
) -> Result<bool, Failure> {
    let deadline = Instant::now() + timeout;
    loop {
        let pulse = context.broker.pulse();
        context.broker.look(&context.actor)?;
        let there = match sent.outbox {
            true => remote_progress(context, sent, wanted)?,
            false => wanted < Milestone::Acked || is_acked(context, sent, sequence),
        };
        if there {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || (sequence == 0 && !sent.outbox) {
            return Ok(false);
        }
        context.broker.wait(pulse, left.min(Duration::from_secs(1)));
    }
}

fn is_acked(context: &Context, sent: &decide::Sent, sequence: u64) -> bool {
    let state = context.broker.state();
    let mailbox = state.mailbox_of(&sent.to).map_or_else(String::new, |row| row.name);
    sequence > 0 && state.inbox.get(pair(&mailbox, &sequence.to_be_bytes())).is_none()
}

/// Whether a message for another machine got that far; one that came back is an error.
fn remote_progress(
    context: &mut Context,
    sent: &decide::Sent,
    wanted: Milestone,
) -> Result<bool, Failure> {
    let traces = context.broker.trace(&sent.message_id)?;
    let hops = traces.iter().flat_map(|trace| &trace.hops);
    let mut reached = None;
    for hop in hops {
        let (level, detail) = hop.what.split_once(": ").unwrap_or((&hop.what, ""));
        if level == "refused" {
            let message = format!("{} refused the message: {detail}", hop.who);
            let row = crate::code::TABLE.iter().find(|row| row.name == detail);
            let code = row.map_or(Code::UnknownAlias, |row| row.code);
            let hint = "it is in the dead letters";
            return Err(Refusal::new(code, "to_alias", message).hint(hint).into());
        }
        let milestone = Milestone::value_variants().iter().find(|row| row.name() == level);
        reached = reached.max(milestone.copied());
    }
    Ok(reached >= Some(wanted))
}

#[derive(Args)]
pub struct SendAll {
    /// The message; `-` or nothing reads standard input
    words: Vec<String>,
    /// Aliases to leave out
    #[arg(long, short = 'x', value_name = "ALIASES", value_delimiter = ',')]
    exclude: Vec<String>,
    /// Alias to send as, if this session has none yet
    #[arg(long, short = 'F', value_name = "ALIAS", visible_alias = "from-alias")]
    from: Option<String>,
    /// Id of this broadcast: the same one again reaches only those whom it has not reached
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    #[command(flatten)]
    tags: Tags,
}

impl Run for SendAll {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let command = Command::SendAll {
            body: body(&self.words)?,
            exclude: self.exclude,
            tag: self.tags.tag(),
            from: self.from,
            message_id: self.message_id,
        };
        let reply = context.broker.execute(&command, &context.actor)?.reply;
        let Reply::Broadcast { message_ids, sent_to, skipped } = reply else { return Ok(()) };
        let way = context.broker.way_if(sent_to.iter().any(|to| to.contains('@')));
        if context.common.json {
            let row = json!({ "sent_to": sent_to, "skipped": skipped, "message_ids": message_ids });
            return output::say_json(&shape::warned(row, &way));
        }
        if let Some(warning) = shape::held_up(&way) {
            output::note(&format!("note: {warning}"));
        }
        let mut text = match sent_to.as_slice() {
            [] => String::from("Sent to nobody.\n"),
            sent_to => format!("Sent to: {}\n", sent_to.join(", ")),
        };
        for row in &skipped {
            text.push_str(&format!("  skipped {} ({})\n", row.alias, row.reason));
        }
        output::say(&text)
    }
}

#[derive(Args)]
pub struct PollInbox {
    /// Show without taking
    #[arg(long, short = 'p')]
    peek: bool,
    /// Take at most this many
    #[arg(long, short = 'l', value_name = "N")]
    limit: Option<usize>,
    /// Keep the claim open until `c2c ack CLAIM`, or for 60 s
    #[arg(long)]
    manual: bool,
    /// Print each message as the envelope that agents see
    #[arg(long)]
    envelope: bool,
    /// Wait up to this many seconds for a message
    #[arg(long, value_name = "SECONDS", value_parser = output::seconds,
          allow_negative_numbers = true)]
    wait: Option<Duration>,
}

impl Run for PollInbox {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        if self.peek {
            return PeekInbox {}.run(context);
        }
        if let Some(wait) = self.wait {
            super::wait::until_mail(context, wait)?;
        }
        let wish = Wish {
            limit: self.limit.unwrap_or(usize::MAX),
            manual: self.manual,
            ..Wish::all("cli_poll")
        };
        let (json, envelope) = (context.common.json, self.envelope);
        let mut show = |delivery: &Delivery| output::print(&shown(delivery, json, envelope));
        let delivery = context.broker.deliver(&context.actor, &wish, &mut show)?;
        if let Some(claim) = delivery.claim.filter(|_| self.manual) {
            output::note(&format!("claim {claim} is open: c2c ack {claim}"));
        }
        if delivery.claimed > 0 {
            output::note(&format!("{} messages are claimed by another poller", delivery.claimed));
        }
        Ok(())
    }
}

fn shown(delivery: &Delivery, json: bool, envelope: bool) -> String {
    if json {
        let rows = delivery.messages.iter();
        let rows: Vec<_> = rows.map(|row| shape::message(row, &delivery.alias)).collect();
        return output::json_block(&json!(rows));
    }
    if delivery.messages.is_empty() {
        return String::from("(no messages)\n");
    }
    let line = |message: &crate::broker::Message| {
        if envelope {
            let room = message.room_id.as_deref();
            let text = crate::envelope::Envelope::of(
                &message.sent,
                &delivery.alias,
                room,
                message.redelivered,
            );
            return format!("{}\n", text.render());
        }
        output::message_line(message)
    };
    delivery.messages.iter().map(line).collect()
}

#[derive(Args)]
pub struct PeekInbox {}

impl Run for PeekInbox {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.broker.look(&context.actor)?;
        let mailbox = context.broker.held_mailbox(&context.actor)?;
        let (alias, messages, claimed) = match mailbox {
            Some(mailbox) => {
                let (messages, claimed) = context.broker.peek(&mailbox)?;
                (mailbox.alias, messages, claimed)
            }
            None => (String::new(), Vec::new(), 0),
        };
        let delivery = Delivery { alias, messages, claimed, ..Delivery::default() };
        output::say(&shown(&delivery, context.common.json, false))?;
        if claimed > 0 {
            output::note(&format!("{claimed} messages are claimed by another poller"));
        }
        Ok(())
    }
}

#[derive(Args)]
pub struct Ack {
    /// Id of the claim, as `poll-inbox --manual` told it
    claim: String,
}

impl Run for Ack {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.broker.ack(&context.actor, &self.claim, "acked by agent")?;
        if context.common.json {
            return output::say_json(&json!({ "ok": true, "claim": self.claim }));
        }
        output::say(&format!("acked {}\n", self.claim))
    }
}

#[derive(Args)]
pub struct History {
    /// At most this many, newest first
    #[arg(long, short = 'l', value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Mailbox to show instead of one's own
    #[arg(long, short = 'a')]
    alias: Option<String>,
    /// Only the text
    #[arg(long)]
    no_headers: bool,
}

impl Run for History {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.broker.look(&context.actor)?;
        let mailbox = match &self.alias {
            Some(alias) => context.broker.state().mailbox_of(alias),
            None => context.broker.held_mailbox(&context.actor)?,
        };
        let (alias, messages) = match mailbox {
            Some(mailbox) => {
                let messages = context.broker.history(&mailbox, self.limit)?;
                (mailbox.alias, messages)
            }
            None => (String::new(), Vec::new()),
        };
        if context.common.json {
            let rows: Vec<_> = messages.iter().map(|row| shape::message(row, &alias)).collect();
            return output::say_json(&json!(rows));
        }
        if messages.is_empty() {
            return output::say("(no history)\n");
        }
        let mut text = String::new();
        for message in &messages {
            if !self.no_headers {
                let time = clock::human(message.sent.sent_us, context.common.utc);
                let from = for_terminal(&message.sent.from);
                text.push_str(&format!("[{time}] {from} -> {alias}\n"));
            }
            text.push_str(&for_terminal(&message.sent.body));
            text.push_str("\n\n");
        }
        output::say(&text)
    }
}

#[derive(Args)]
pub struct Trace {
    /// Id of the message
    message_id: String,
}

impl Run for Trace {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        context.broker.look(&context.actor)?;
        let traces = context.broker.trace(&self.message_id)?;
        if traces.is_empty() {
            let message = format!("no evidence of message '{}' in this log", self.message_id);
            return Err(Refusal::new(Code::UnknownMessage, "message_id", message)
                .hint("was it accepted here? see c2c health for the root in use")
                .into());
        }
        let mut rows = Vec::new();
        let mut text = String::new();
        for trace in &traces {
            let Some(message) = &trace.message else { continue };
            let sent = &message.sent;
            let head = format!("{} {} -> {}", sent.message_id, sent.from, sent.to);
            text.push_str(&format!("{}\n", for_terminal(&head)));
            let mut hops = Vec::new();
            for hop in &trace.hops {
                let time = clock::human(hop.time_us, context.common.utc);
                let line = format!("  {:>8}  {time}  {}  {}", hop.sequence, hop.what, hop.who);
                text.push_str(&format!("{}\n", for_terminal(&line)));
                hops.push(json!({
                    "sequence": hop.sequence,
                    "ts": clock::rfc3339(hop.time_us),
                    "what": hop.what,
                    "who": hop.who,
                }));
            }
            let levels = ["written", "read by client", "acked"];
            let is_shown = |what: &str| levels.iter().any(|level| what.starts_with(level));
            let shown = trace.hops.iter().any(|hop| is_shown(&hop.what));
            if !shown {
                text.push_str("            no evidence that it was shown\n");
            }
            if let Some(since_us) = trace.open_since_us {
                let since = clock::human(since_us, context.common.utc);
                let word = if trace.is_unconfirmed() { "unconfirmed" } else { "on its way" };
                text.push_str(&format!("            {word}: in the outbox since {since}\n"));
            }
            rows.push(json!({
                "message_id": sent.message_id,
                "from_alias": sent.from,
                "to_alias": sent.to,
                "hops": hops,
                "shown": shown,
                "in_outbox": trace.open_since_us.is_some(),
                "unconfirmed": trace.is_unconfirmed(),
            }));
        }
        if context.common.json {
            return output::say_json(&json!(rows));
        }
        output::say(&text)
    }
}
