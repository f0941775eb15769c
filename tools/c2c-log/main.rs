//! Where does `c2c-log` start? The work is in the library, so that `c2c log` can do it, too.

fn main() -> std::process::ExitCode {
    c2c::log_tool::main(std::env::args_os()).into()
}
