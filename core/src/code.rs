//! Error codes: the closed list of codes that scripts may rely on.
//!
//! SPEC.md section 12 holds the same table, and a test compares the two.

/// The row of an error code in [`TABLE`].
pub struct CodeRow {
    /// The code that the row describes.
    pub code: Code,
    /// Stable name, as in JSON output.
    pub name: &'static str,
    /// Exit status of a command that ends with this code.
    pub exit: u8,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// What the code means, as in SPEC.md.
    pub meaning: &'static str,
}

/// Whether the same request may succeed later.
const FINAL: bool = false;
const RETRY: bool = true;

/// Defines the codes: the enum, with each meaning as its documentation, and the table.
macro_rules! codes {
    ($($code:ident: $name:literal, $exit:literal, $retryable:ident, $meaning:literal;)+) => {
        /// A stable error code. [`TABLE`] has the name and the meaning of each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $meaning] $code,)+
        }

        /// All error codes, in the order of the enum.
        pub const TABLE: &[CodeRow] = &[
            $(CodeRow {
                code: Code::$code,
                name: $name,
                exit: $exit,
                retryable: $retryable,
                meaning: $meaning,
            },)+
        ];
    };
}

codes! {
    InvalidAlias: "invalid_alias", 1, FINAL,
        "the alias does not match the grammar or is reserved";
    InvalidSessionId: "invalid_session_id", 1, FINAL,
        "the session id does not match the grammar";
    InvalidRoomId: "invalid_room_id", 1, FINAL,
        "the room id does not match the grammar";
    InvalidMessageId: "invalid_message_id", 1, FINAL,
        "the message id does not match the grammar";
    InvalidArgument: "invalid_argument", 1, FINAL,
        "an argument has the wrong type or is out of range";
    EmptyBody: "empty_body", 1, FINAL,
        "the message has no text";
    BodyTooLarge: "body_too_large", 1, FINAL,
        "the message exceeds the size limit";
    InvalidUtf8: "invalid_utf8", 1, FINAL,
        "the text is not valid UTF-8";
    UnknownAlias: "unknown_alias", 1, FINAL,
        "the alias is not registered";
    AliasConflict: "alias_conflict", 1, FINAL,
        "a live session holds the alias";
    NotRegistered: "not_registered", 1, FINAL,
        "the session has not registered an alias";
    SessionSuperseded: "session_superseded", 1, FINAL,
        "another session took over the alias of this session";
    Forbidden: "forbidden", 1, FINAL,
        "the caller is not allowed to do this, or to act as another alias";
    SelfSend: "self_send", 1, FINAL,
        "the sender and the recipient are the same";
    MessageIdReused: "message_id_reused", 1, FINAL,
        "the message id belongs to another message";
    UnknownMessage: "unknown_message", 1, FINAL,
        "the log has no message with this id";
    UnknownRoom: "unknown_room", 1, FINAL,
        "the room does not exist";
    RoomExists: "room_exists", 1, FINAL,
        "the room already exists";
    NotAMember: "not_a_member", 1, FINAL,
        "only members of the room may do this";
    NotInvited: "not_invited", 1, FINAL,
        "the room requires an invitation";
    RoomNotEmpty: "room_not_empty", 1, FINAL,
        "the room still has members";
    ClaimNotOpen: "claim_not_open", 1, FINAL,
        "the claim expired before it was acknowledged";
    BrokerMoved: "broker_moved", 1, FINAL,
        "the broker root was moved and no longer accepts writes";
    BadRoot: "bad_root", 1, FINAL,
        "the broker root cannot be used";
    BadDirectory: "bad_directory", 1, FINAL,
        "the working directory does not exist";
    DiskFull: "disk_full", 1, RETRY,
        "not enough disk space for another message";
    StorageFailed: "storage_failed", 1, RETRY,
        "the operating system failed a file operation";
    OutcomeUnknown: "outcome_unknown", 1, RETRY,
        "a sync failed, so the outcome is unknown; retry with the same message_id";
    Busy: "busy", 1, RETRY,
        "the log was locked for too long";
    NotWoken: "not_woken", 1, RETRY,
        "the nudge was not submitted to the program of the session";
    UpgradeNeeded: "upgrade_needed", 1, FINAL,
        "the log was written by a newer version of c2c";
    ArchiveNeeded: "archive_needed", 1, FINAL,
        "the segments before this state are in an archive";
    AmbiguousAlias: "ambiguous_alias", 1, FINAL,
        "several nodes have this alias";
    UnknownHost: "unknown_host", 1, RETRY,
        "no node of this name has registered yet";
    RecipientDead: "recipient_dead", 1, FINAL,
        "the recipient's lease has expired";
    AliasIdentityMismatch: "alias_identity_mismatch", 1, FINAL,
        "the alias on this node is bound to another key";
    ForeignSender: "foreign_sender", 1, FINAL,
        "the sender is bound to another key";
    CursorDiverged: "cursor_diverged", 1, RETRY,
        "the reader's position does not match the log";
    OriginDiverged: "origin_diverged", 1, FINAL,
        "the log holds a different event at a known sequence";
    BatchInvalid: "batch_invalid", 1, FINAL,
        "the replication batch is malformed or inconsistent";
    BadRequest: "bad_request", 1, FINAL,
        "the request to the relay is malformed";
    Unauthorized: "unauthorized", 1, FINAL,
        "missing or wrong credentials";
    SignatureInvalid: "signature_invalid", 1, FINAL,
        "the signature does not match the caller's key";
    MissingProofField: "missing_proof_field", 1, FINAL,
        "the proof of key ownership is incomplete";
    TimestampOutOfWindow: "timestamp_out_of_window", 1, FINAL,
        "the signature is too old or in the future: check the clocks";
    NonceReplay: "nonce_replay", 1, FINAL,
        "the signed request was received before";
    AliasNotAllowed: "alias_not_allowed", 1, FINAL,
        "the relay does not admit this key";
    NotFound: "not_found", 1, FINAL,
        "the relay has no such route or resource";
    MethodNotAllowed: "method_not_allowed", 1, FINAL,
        "the route does not accept this method";
    RateLimitExceeded: "rate_limit_exceeded", 1, RETRY,
        "too many requests; see Retry-After";
    RemoteUnavailable: "remote_unavailable", 1, RETRY,
        "the relay cannot be reached";
    ConnectorRunning: "connector_running", 1, FINAL,
        "a connector is already running for this root";
    Corrupt: "corrupt", 1, FINAL,
        "the log or a checkpoint is damaged";
    NoIdentity: "no_identity", 1, FINAL,
        "this machine has no key yet";
    IdentityExists: "identity_exists", 1, FINAL,
        "this machine already has a key";
    BadIdentity: "bad_identity", 1, FINAL,
        "the key file cannot be trusted";
    OutputFailed: "output_failed", 1, RETRY,
        "the claimed messages could not be written and are pending again";
    Timeout: "timeout", 1, RETRY,
        "the wait timed out";
    Findings: "findings", 1, FINAL,
        "problems were found; each finding names its fix";
    Usage: "usage", 2, FINAL,
        "the command line is invalid";
    Internal: "internal", 1, FINAL,
        "a bug in c2c";
}

impl Code {
    /// Returns the code with a stable name, or `None` for an unknown name.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.name == name).map(|row| row.code)
    }

    /// Returns the stable name.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Returns the exit status of a command that ends with this code.
    pub fn exit(self) -> u8 {
        self.row().exit
    }

    /// Returns whether the same request may succeed later.
    pub fn retryable(self) -> bool {
        self.row().retryable
    }

    /// The meaning of the code, as a part of a sentence.
    pub fn meaning(self) -> &'static str {
        self.row().meaning
    }

    fn row(self) -> &'static CodeRow {
        // The table has a row for every code, in the order of the enum; a test checks that.
        TABLE.get(self as usize).unwrap_or(&TABLE[TABLE.len() - 1])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_table_has_every_code_in_the_order_of_the_enum() {
        assert_eq!(TABLE.len(), Code::Internal as usize + 1);
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.code as usize, index, "{}", row.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let names: HashSet<_> = TABLE.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), TABLE.len());
    }

    #[test]
    fn a_code_is_found_by_its_name() {
        for row in TABLE {
            assert_eq!(Code::from_name(row.name), Some(row.code));
            assert_eq!(row.code.name(), row.name);
        }
        assert_eq!(Code::from_name("no_such_code"), None);
    }
}
