//! Entry point of `c2c-log`. The library contains the tool, so that `c2c log` is the same program.

fn main() -> std::process::ExitCode {
    c2c::log_tool::main(std::env::args_os()).into()
}
