//! Build script: passes the start-up order to linkers that understand it.
//!
//! See `tools/startup/record`. A linker that does not read such a script still builds the program;
//! its commands start a little slower.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Code of short commands, in the order in which they run it.
const ORDER: &str = "tools/startup/order.ld";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={ORDER}");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if !is("PROFILE", "release")
        || !is("CARGO_CFG_TARGET_OS", "linux")
        || !is("CARGO_CFG_TARGET_ENV", "gnu")
    {
        return;
    }
    let root = env::var("CARGO_MANIFEST_DIR").expect("set by cargo");
    let out = env::var("OUT_DIR").expect("set by cargo");
    let script = format!("-T{root}/{ORDER}");
    if links_with(&script, Path::new(&out)) {
        println!("cargo::rustc-link-arg-bin=c2c={script}");
        // Read by `tools/startup/check`.
        println!("cargo::rustc-link-arg-bin=c2c=-Wl,-Map={out}/c2c.map");
    } else {
        println!("cargo::warning=the linker does not read {ORDER}: commands start slower");
    }
}

/// Whether the linker of this build accepts an argument: links an empty program with it.
fn links_with(argument: &str, out: &Path) -> bool {
    let source = out.join("probe.rs");
    if fs::write(&source, "fn main() {}\n").is_err() {
        return false;
    }
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.arg(&source).arg("-o").arg(out.join("probe")).args(["-C", "panic=abort"]);
    if let Ok(target) = env::var("TARGET") {
        rustc.arg("--target").arg(target);
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = std::ffi::OsString::from("linker=");
        option.push(linker);
        rustc.arg("-C").arg(option);
    }
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    rustc.args(flags.split('\x1f').filter(|flag| !flag.is_empty()));
    rustc.arg("-C").arg(format!("link-arg={argument}"));
    rustc.stdout(Stdio::null()).stderr(Stdio::null());
    rustc.status().is_ok_and(|status| status.success())
}
