//! The test harness: runs the registered tests, counts skipped ones as skipped, and times all.
//!
//! Each module registers its tests with [`tests!`]. A slow test runs only with `C2C_TEST_SLOW=1`
//! (or `--include-ignored`). `C2C_TEST_TIMES=1` prints the ten slowest tests.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// Tests to list with `C2C_TEST_TIMES=1`.
const SLOWEST: usize = 10;

/// One registered test.
#[derive(Clone, Copy)]
pub struct Test {
    /// Module path and function.
    pub name: &'static str,
    pub run: fn(),
    /// Whether it is left out of the fast run.
    pub is_slow: bool,
}

/// Registers the tests of a module and its child modules.
///
/// ```ignore
/// tests! {
///     modules: parser, printer;
///     fast: an_empty_file_is_rejected, a_long_line_is_split;
///     slow: a_million_lines_are_read;
/// }
/// ```
macro_rules! tests {
    (
        $(modules: $($(#[$mmeta:meta])* $module:ident),+ $(,)?;)?
        $(fast: $($(#[$fmeta:meta])* $fast:ident),+ $(,)?;)?
        $(slow: $($(#[$smeta:meta])* $slow:ident),+ $(,)?;)?
    ) => {
        #[allow(clippy::vec_init_then_push)]
        pub fn tests() -> Vec<$crate::harness::Test> {
            #[allow(unused_mut)]
            let mut all = Vec::new();
            $($($(#[$mmeta])* all.extend($module::tests());)+)?
            $($($(#[$fmeta])* all.push($crate::harness::Test {
                name: concat!(module_path!(), "::", stringify!($fast)),
                run: $fast,
                is_slow: false,
            });)+)?
            $($($(#[$smeta])* all.push($crate::harness::Test {
                name: concat!(module_path!(), "::", stringify!($slow)),
                run: $slow,
                is_slow: true,
            });)+)?
            all
        }
    };
}
pub(crate) use tests;

/// Thrown by [`skip`], caught by the harness.
struct Skipped(String);

/// Ends the current test as skipped. In a run where the requirement may not be missing, the caller
/// panics instead.
pub fn skip(reason: &str) -> ! {
    // Unwinds without the panic hook: a skipped test prints no backtrace.
    resume_unwind(Box::new(Skipped(reason.to_owned())))
}

static TIMES: Mutex<Vec<(&str, Duration)>> = Mutex::new(Vec::new());

fn run(test: Test) -> Result<Completion, Failed> {
    let start = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(test.run));
    TIMES.lock().expect("times").push((short(test.name), start.elapsed()));
    match outcome {
        Ok(()) => Ok(Completion::Completed),
        Err(payload) => match payload.downcast::<Skipped>() {
            Ok(skipped) => Ok(Completion::ignored_with(skipped.0)),
            Err(payload) => resume_unwind(payload),
        },
    }
}

/// The name of a test without the crate.
fn short(name: &'static str) -> &'static str {
    name.split_once("::").map_or(name, |(_, rest)| rest)
}

/// The group of a test: its module without the function.
fn group(name: &'static str) -> &'static str {
    short(name).rsplit_once("::").map_or("", |(module, _)| module)
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| value == "1")
}

/// Whether this run includes the slow tests and the long form of the others.
pub fn runs_slow() -> bool {
    is_set("C2C_TEST_SLOW")
}

/// Runs the tests that the arguments select.
pub fn main(tests: &[Test]) -> ExitCode {
    let arguments = Arguments::from_args();
    let runs_slow = runs_slow();
    let trials = tests.iter().map(|test| {
        let test = *test;
        Trial::ignorable_test(short(test.name), move || run(test))
            .with_ignored_flag(test.is_slow && !runs_slow)
    });
    let lists = arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if !lists && !runs_slow && !arguments.include_ignored && !arguments.ignored {
        report_left_out(tests);
    }
    if is_set("C2C_TEST_TIMES") {
        report_slowest();
    }
    conclusion.exit_code()
}

fn report_left_out(tests: &[Test]) {
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    for test in tests.iter().filter(|test| test.is_slow) {
        *groups.entry(group(test.name)).or_default() += 1;
    }
    let count: usize = groups.values().sum();
    let listed: Vec<String> =
        groups.iter().map(|(group, count)| format!("{group} ({count})")).collect();
    println!("left out {count} slow tests: {}", listed.join(", "));
    println!("C2C_TEST_SLOW=1 cargo test runs them\n");
}

fn report_slowest() {
    let mut times = TIMES.lock().expect("times").clone();
    times.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
    println!("slowest tests:");
    for (name, took) in times.iter().take(SLOWEST) {
        println!("  {:>8.2} s  {name}", took.as_secs_f64());
    }
    println!();
}
