//! Id of the running system's boot.

use std::fs::File;
use std::io::Read;
use std::sync::OnceLock;

/// Id of the current boot as text, as in `/proc/sys/kernel/random/boot_id`; empty if it is unknown,
/// as on systems other than Linux.
pub fn boot_id_text() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        // A single read, because every system call adds to the latency of a hook.
        let mut line = [0; 64];
        let file = File::open("/proc/sys/kernel/random/boot_id");
        let len = file.and_then(|mut file| file.read(&mut line)).unwrap_or(0);
        String::from_utf8_lossy(&line[..len]).trim().to_owned()
    })
}

/// Id of the current boot; `None` if it is unknown.
///
/// Without an id, the caller must treat everything that another process recorded as being of another
/// boot.
pub fn boot_id() -> Option<[u8; 16]> {
    uuid::Uuid::try_parse(boot_id_text()).ok().map(uuid::Uuid::into_bytes)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_boot_id_is_known_on_linux() {
        let bytes = boot_id().expect("a boot id");
        assert_eq!(uuid::Uuid::from_bytes(bytes).to_string(), boot_id_text());
        assert_ne!(bytes, [0; 16]);
    }
}
