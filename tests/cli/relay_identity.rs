//! The key file of a machine.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use c2c::relay::protocol::request::KeyRotation;
use serde_json::Value;

use crate::support::{Outcome, World, run};

const VECTOR: &str = r#"{
  "version": 1, "alg": "ed25519",
  "public_key": "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg",
  "private_key": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
  "fingerprint": "SHA256:Vkdap1RjR0wChd9dvyvKtz2mUTWIOem3dIGy6rEHcIw",
  "created_at": "2026-02-02T02:40:00Z", "alias_hint": "alice"
}"#;

fn identity(world: &World, args: &[&str]) -> Outcome {
    run(world.c2c(&[&["relay", "identity"], args].concat()))
}

fn default_path(world: &World) -> PathBuf {
    world.path().join("home/.config/c2c/identity.json")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("metadata").permissions().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

fn stored(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("a file")).expect("JSON")
}

/// A key file with the published vector, in its own directory.
fn vector(world: &World) -> PathBuf {
    let folder = world.path().join("keys");
    fs::create_dir(&folder).expect("a directory");
    chmod(&folder, 0o700);
    let path = folder.join("identity.json");
    fs::write(&path, VECTOR).expect("written");
    chmod(&path, 0o600);
    path
}

fn init_creates_a_key_that_only_its_owner_can_read() {
    let world = World::new();
    identity(&world, &["show"]).fails_with("no_identity");
    let made = identity(&world, &["init", "--alias-hint", "alice", "--json"]).ok().json();
    let path = default_path(&world);
    assert_eq!(made["path"], path.to_str().expect("UTF-8"));
    assert_eq!((mode(&path), mode(path.parent().expect("a folder"))), (0o600, 0o700));
    let file = stored(&path);
    let keys: Vec<_> = file.as_object().expect("an object").keys().collect();
    let expected = ["version", "alg", "public_key", "private_key", "fingerprint", "created_at"];
    assert_eq!(keys, [&expected[..], &["alias_hint"]].concat());
    let shown = identity(&world, &["show", "--json"]).ok();
    assert!(!shown.out.contains(file["private_key"].as_str().expect("a key")));
    for key in ["public_key", "fingerprint", "created_at", "alias_hint", "alg", "version"] {
        assert_eq!(shown.json()[key], file[key], "{key}");
    }
    let print = identity(&world, &["fingerprint"]).ok().out;
    assert_eq!(print.trim(), file["fingerprint"]);
    assert_eq!(fs::read_dir(path.parent().expect("a folder")).expect("listed").count(), 1);
    assert!(!world.root().exists(), "a key needs no broker root");
}

fn an_existing_key_is_never_overwritten() {
    let world = World::new();
    let first = identity(&world, &["init", "--json"]).ok().json();
    let before = fs::read(default_path(&world)).expect("a file");
    identity(&world, &["init"]).fails_with("identity_exists");
    assert_eq!(fs::read(default_path(&world)).expect("a file"), before);
    let second = identity(&world, &["init", "--force", "--json"]).ok().json();
    assert_ne!(first["public_key"], second["public_key"]);
    let kept = Path::new(second["backup"].as_str().expect("a backup"));
    assert_eq!((fs::read(kept).expect("kept"), mode(kept)), (before, 0o600));
}

fn concurrent_inits_create_one_key() {
    let world = World::new();
    let all: Vec<_> = (0..8)
        .map(|_| {
            let mut command = world.c2c(&["relay", "identity", "init", "--json"]);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
            command.spawn().expect("starts")
        })
        .collect();
    let ended = all.into_iter().map(|child| child.wait_with_output().expect("ends"));
    let made: Vec<_> = ended.filter(|output| output.status.success()).collect();
    assert_eq!(made.len(), 1);
    let made: Value = serde_json::from_slice(&made[0].stdout).expect("JSON");
    assert_eq!(made["public_key"], stored(&default_path(&world))["public_key"]);
}

fn each_rotated_key_is_signed_by_its_predecessor() {
    let world = World::new();
    let path = vector(&world);
    let flag = path.to_str().expect("UTF-8");
    let mut last = stored(&path);
    for turn in 1..=3 {
        let rotated = identity(&world, &["rotate", "--json", "--identity-path", flag]).ok().json();
        let file = stored(&path);
        let kept = stored(Path::new(rotated["backup"].as_str().expect("a backup")));
        assert_eq!(kept, last, "turn {turn}");
        let rotations = file["rotations"].as_array().expect("statements").clone();
        assert_eq!(rotations.len(), turn);
        let stated: KeyRotation = serde_json::from_value(rotations[turn - 1].clone()).expect("one");
        let (old, new) = stated.verify().expect("both signed");
        assert_eq!(old.to_string(), last["public_key"]);
        assert_eq!(new.to_string(), file["public_key"]);
        assert_eq!(file["alias_hint"], "alice");
        assert_eq!(mode(&path), 0o600);
        last = file;
    }
}

fn a_key_that_other_users_can_reach_is_rejected_with_the_fix() {
    let world = World::new();
    let path = vector(&world);
    let folder = path.parent().expect("a folder");
    let flag = path.to_str().expect("UTF-8");
    let show = || identity(&world, &["show", "--identity-path", flag]);
    for wrong in [0o640, 0o604, 0o620, 0o601, 0o666] {
        chmod(&path, wrong);
        let refused = show().fails_with("bad_identity");
        assert!(refused.err.contains(&format!("chmod 600 '{flag}'")), "{}", refused.err);
        identity(&world, &["rotate", "--identity-path", flag]).fails_with("bad_identity");
        identity(&world, &["init", "--force", "--path", flag]).fails_with("bad_identity");
    }
    chmod(&path, 0o600);
    chmod(folder, 0o770);
    let refused = show().fails_with("bad_identity");
    assert!(refused.err.contains("chmod 700 '"), "{}", refused.err);
    chmod(folder, 0o755);
    let shown = show().ok().out;
    assert!(shown.contains("SHA256:Vkdap1RjR0wChd9dvyvKtz2mUTWIOem3dIGy6rEHcIw"), "{shown}");
}

fn an_inconsistent_identity_file_is_rejected() {
    let world = World::new();
    let path = vector(&world);
    let command = |args: &[&str]| {
        let mut command = world.c2c(&[&["relay", "identity"], args].concat());
        command.env("C2C_RELAY_IDENTITY_PATH", &path);
        run(command)
    };
    command(&["show"]).ok();
    for (part, other) in [
        ("\"version\": 1", "\"version\": 2"),
        ("ed25519", "rsa"),
        ("A6EH", "A7EH"),
        ("AAEC", "AQEC"),
        ("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", "AAEC"),
        ("Vkda", "Vkdb"),
        ("created_at", "made_at"),
        ("}", ""),
    ] {
        fs::write(&path, VECTOR.replace(part, other)).expect("written");
        command(&["show"]).fails_with("bad_identity");
        command(&["rotate"]).fails_with("bad_identity");
        assert_eq!(fs::read_to_string(&path).expect("there"), VECTOR.replace(part, other));
    }
    // A damaged file can be replaced with --force, and is kept as a backup.
    let made = command(&["init", "--force", "--json"]).ok().json();
    let kept = fs::read_to_string(made["backup"].as_str().expect("a backup")).expect("kept");
    assert_eq!(kept, VECTOR.replace('}', ""));
    command(&["show"]).ok();
}

fn a_key_file_may_be_a_link_and_its_path_relative() {
    let world = World::new();
    let path = vector(&world);
    symlink(&path, world.path().join("link.json")).expect("a link");
    chmod(world.path(), 0o700);
    identity(&world, &["show", "--identity-path", "link.json"]).ok();
    identity(&world, &["init", "--identity-path", "link.json"]).fails_with("identity_exists");
    identity(&world, &["rotate", "--identity-path", "link.json"]).ok();
    assert!(world.path().join("link.json").is_symlink(), "the link stays a link");
    assert!(stored(&path)["rotations"].is_array());
    identity(&world, &["init", "--identity-path", "here.json"]).ok();
    assert_eq!(mode(&world.path().join("here.json")), 0o600);
    assert_eq!(mode(world.path()), 0o700);
}

crate::harness::tests! {
    fast:
        init_creates_a_key_that_only_its_owner_can_read,
        an_existing_key_is_never_overwritten,
        concurrent_inits_create_one_key,
        each_rotated_key_is_signed_by_its_predecessor,
        a_key_that_other_users_can_reach_is_rejected_with_the_fix,
        an_inconsistent_identity_file_is_rejected,
        a_key_file_may_be_a_link_and_its_path_relative;
}
