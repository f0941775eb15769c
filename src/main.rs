//! Where does `c2c` start?

fn main() -> std::process::ExitCode {
    c2c::cli::main()
}
