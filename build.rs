//! Puts the code of a short command side by side: see `startup/record`.

use std::env;

/// Linkers that do not read such a script.
const OTHERS: [&str; 3] = ["mold", "gold", "wild"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=startup/order.ld");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let wanted = ["CARGO_ENCODED_RUSTFLAGS", "RUSTC_LINKER"].map(env::var);
    let other = |text: &String| OTHERS.iter().any(|name| text.contains(name));
    if is("PROFILE", "release")
        && is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
        && !wanted.iter().flatten().any(other)
    {
        let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
        println!("cargo::rustc-link-arg-bin=c2c=-T{root}/startup/order.ld");
    }
}
