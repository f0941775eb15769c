//! Cold commands of this version and of an earlier one, in turns on the same root.
//!
//! `C2C_BENCH_BASE` names the earlier program; `C2C_BENCH_ROUNDS` sets the rounds and
//! `C2C_BENCH_EVENTS` the size of the log. Prints the ratio new/old of the medians, and the median
//! of the ratios pair by pair. Limits: `poll-inbox` and `hook` 1.03, `send` 1.05.

mod support;

use std::path::Path;
use std::process::Command;

use support::Samples;

/// One command, measured with both programs.
struct Work {
    name: &'static str,
    limit: f64,
    new: Samples,
    base: Samples,
    ratios: Samples,
}

impl Work {
    fn new(name: &'static str, limit: f64) -> Self {
        let (new, base, ratios) = (Samples::default(), Samples::default(), Samples::default());
        Self { name, limit, new, base, ratios }
    }

    /// Runs both programs, the earlier one first in every other round.
    fn run(&mut self, round: u64, new: &dyn Fn() -> Command, base: &dyn Fn() -> Command) {
        let (new_took, base_took) = if round.is_multiple_of(2) {
            let new_took = support::timed(new());
            (new_took, support::timed(base()))
        } else {
            let base_took = support::timed(base());
            (support::timed(new()), base_took)
        };
        if round >= 5 {
            self.new.add(new_took);
            self.base.add(base_took);
            self.ratios.add_us(new_took.as_secs_f64() / base_took.as_secs_f64());
        }
    }

    fn print(&self) {
        println!(
            "{:<12} new {:>6.0} us   old {:>6.0} us   new/old of medians {:.3}, median of pairs {:.3} \
             (limit {:.2})",
            self.name,
            self.new.median(),
            self.base.median(),
            self.new.median() / self.base.median(),
            self.ratios.median(),
            self.limit,
        );
    }
}

fn main() {
    if support::filled() {
        return;
    }
    let Some(base) = support::base_program() else {
        println!("skipped: C2C_BENCH_BASE does not name an earlier program");
        return;
    };
    let rounds = support::setting("C2C_BENCH_ROUNDS", 601);
    let events = support::setting("C2C_BENCH_EVENTS", 100_000);
    let dir = support::scratch();
    support::enter_repository(dir.path());
    let root = dir.path().join("root");
    support::fill_apart(&root, events, 1_000, 10_000);
    for (session, alias) in [("s-0", "a-0"), ("s-2", "a-2")] {
        support::timed(support::c2c(&root, session, &["register", "--alias", alias]));
    }
    let input = dir.path().join("hook-input");
    let text = "{\"session_id\":\"s-0\",\"hook_event_name\":\"PostToolUse\",\"cwd\":\"/\",\"tool_name\":\"Bash\"}";
    std::fs::write(&input, text).expect("written");
    // The page cache keeps files in pieces that depend on how they were written: copies of one program
    // differ by a tenth. Both programs are therefore copied first, in the same way.
    let [base, new] = [("base", base), ("new", support::program())].map(|(name, program)| {
        let copy = dir.path().join(name);
        std::fs::copy(program, &copy).expect("copied");
        copy
    });
    let body = "x".repeat(1024);
    let poll = |program: &Path| support::with(program, &root, "s-0", &["poll-inbox"]);
    let hook = |program: &Path| {
        let mut command = support::with(program, &root, "", &["hook"]);
        command.env_remove("C2C_MCP_SESSION_ID");
        command.stdin(std::fs::File::open(&input).expect("the input"));
        command
    };
    let send = |program: &Path| support::with(program, &root, "s-2", &["send", "a-1", &body]);
    let mut all = [Work::new("poll-inbox", 1.03), Work::new("hook", 1.03), Work::new("send", 1.05)];
    for round in 0..rounds + 5 {
        all[0].run(round, &|| poll(&new), &|| poll(&base));
        all[1].run(round, &|| hook(&new), &|| hook(&base));
        all[2].run(round, &|| send(&new), &|| send(&base));
    }
    all.iter().for_each(Work::print);
}
