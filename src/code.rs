//! Which codes may an error have, and what do they mean to scripts?
//!
//! The closed list. SPEC.md has the same table, and a test compares them.

/// A stable error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    InvalidAlias,
    InvalidSessionId,
    InvalidRoomId,
    InvalidMessageId,
    InvalidArgument,
    EmptyBody,
    BodyTooLarge,
    InvalidUtf8,
    UnknownAlias,
    AliasConflict,
    NotRegistered,
    SessionSuperseded,
    Forbidden,
    SelfSend,
    MessageIdReused,
    UnknownMessage,
    UnknownRoom,
    RoomExists,
    NotAMember,
    NotInvited,
    RoomNotEmpty,
    ClaimNotOpen,
    BrokerMoved,
    BadRoot,
    DiskFull,
    StorageFailed,
    OutcomeUnknown,
    Busy,
    UpgradeNeeded,
    ArchiveNeeded,
    AmbiguousAlias,
    UnknownHost,
    RecipientDead,
    KeyMismatch,
    ForeignSender,
    CursorDiverged,
    OriginDiverged,
    BatchInvalid,
    BadRequest,
    Unauthorized,
    SignatureInvalid,
    MissingProof,
    ClockSkew,
    NonceReplayed,
    AliasNotAllowed,
    NotFound,
    MethodNotAllowed,
    RateLimited,
    RemoteUnavailable,
    ConnectorRunning,
    Corrupt,
    NoIdentity,
    IdentityExists,
    BadIdentity,
    OutputFailed,
    Timeout,
    Findings,
    Usage,
    Internal,
}

/// One row of the table.
pub struct Row {
    pub code: Code,
    pub name: &'static str,
    /// Exit status of a command that ends with it.
    pub exit: u8,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    pub meaning: &'static str,
}

const fn row(
    code: Code,
    name: &'static str,
    exit: u8,
    retryable: bool,
    meaning: &'static str,
) -> Row {
    Row { code, name, exit, retryable, meaning }
}

/// The table.
pub const TABLE: &[Row] = &[
    row(Code::InvalidAlias, "invalid_alias", 1, false, "an alias outside the grammar, or reserved"),
    row(Code::InvalidSessionId, "invalid_session_id", 1, false, "a session id outside the grammar"),
    row(Code::InvalidRoomId, "invalid_room_id", 1, false, "a room id outside the grammar"),
    row(Code::InvalidMessageId, "invalid_message_id", 1, false, "a message id outside the grammar"),
    row(
        Code::InvalidArgument,
        "invalid_argument",
        1,
        false,
        "an argument of the wrong kind or range",
    ),
    row(Code::EmptyBody, "empty_body", 1, false, "a message without text"),
    row(Code::BodyTooLarge, "body_too_large", 1, false, "a message above the limit"),
    row(Code::InvalidUtf8, "invalid_utf8", 1, false, "text that is not UTF-8"),
    row(Code::UnknownAlias, "unknown_alias", 1, false, "nobody has this alias here"),
    row(Code::AliasConflict, "alias_conflict", 1, false, "somebody alive holds this alias"),
    row(Code::NotRegistered, "not_registered", 1, false, "this session has no alias yet"),
    row(
        Code::SessionSuperseded,
        "session_superseded",
        1,
        false,
        "another session took this one's alias over",
    ),
    row(Code::Forbidden, "forbidden", 1, false, "acting for somebody else"),
    row(Code::SelfSend, "self_send", 1, false, "a message to oneself"),
    row(Code::MessageIdReused, "message_id_reused", 1, false, "the id belongs to another message"),
    row(Code::UnknownMessage, "unknown_message", 1, false, "no evidence of this message id"),
    row(Code::UnknownRoom, "unknown_room", 1, false, "no such room"),
    row(Code::RoomExists, "room_exists", 1, false, "the room is there already"),
    row(Code::NotAMember, "not_a_member", 1, false, "only members may do this"),
    row(Code::NotInvited, "not_invited", 1, false, "the room is by invitation"),
    row(Code::RoomNotEmpty, "room_not_empty", 1, false, "the room still has members"),
    row(Code::ClaimNotOpen, "claim_not_open", 1, false, "the claim ended before the ack came"),
    row(Code::BrokerMoved, "broker_moved", 1, false, "this root moved and takes no writes"),
    row(Code::BadRoot, "bad_root", 1, false, "the broker root cannot be used"),
    row(Code::DiskFull, "disk_full", 1, true, "no space for another message"),
    row(
        Code::StorageFailed,
        "storage_failed",
        1,
        true,
        "the operating system refused a file operation",
    ),
    row(
        Code::OutcomeUnknown,
        "outcome_unknown",
        1,
        true,
        "a sync failed; retry with the same message_id",
    ),
    row(Code::Busy, "busy", 1, true, "the log was locked for too long"),
    row(Code::UpgradeNeeded, "upgrade_needed", 1, false, "the log was written by a newer c2c"),
    row(
        Code::ArchiveNeeded,
        "archive_needed",
        1,
        false,
        "the segments before this state are archived elsewhere",
    ),
    row(Code::AmbiguousAlias, "ambiguous_alias", 1, false, "several nodes have this alias"),
    row(Code::UnknownHost, "unknown_host", 1, true, "no node of this name has registered yet"),
    row(Code::RecipientDead, "recipient_dead", 1, false, "the recipient's lease is over"),
    row(
        Code::KeyMismatch,
        "alias_identity_mismatch",
        1,
        false,
        "the alias of this node belongs to another key",
    ),
    row(Code::ForeignSender, "foreign_sender", 1, false, "the sender belongs to another key"),
    row(Code::CursorDiverged, "cursor_diverged", 1, true, "the reader stands elsewhere in the log"),
    row(
        Code::OriginDiverged,
        "origin_diverged",
        1,
        false,
        "the log holds another event at a sequence that is known",
    ),
    row(
        Code::BatchInvalid,
        "batch_invalid",
        1,
        false,
        "a replication batch that cannot be trusted",
    ),
    row(Code::BadRequest, "bad_request", 1, false, "a request to a relay that makes no sense"),
    row(Code::Unauthorized, "unauthorized", 1, false, "the relay wants other credentials"),
    row(
        Code::SignatureInvalid,
        "signature_invalid",
        1,
        false,
        "a signature that is not the caller's",
    ),
    row(
        Code::MissingProof,
        "missing_proof_field",
        1,
        false,
        "a proof of a key without all its parts",
    ),
    row(
        Code::ClockSkew,
        "timestamp_out_of_window",
        1,
        false,
        "signed too long ago, or in the future: one of the clocks is wrong",
    ),
    row(Code::NonceReplayed, "nonce_replay", 1, false, "the same signed request once more"),
    row(Code::AliasNotAllowed, "alias_not_allowed", 1, false, "the relay admits other keys only"),
    row(Code::NotFound, "not_found", 1, false, "the relay has no such route or name"),
    row(Code::MethodNotAllowed, "method_not_allowed", 1, false, "the route takes another method"),
    row(Code::RateLimited, "rate_limit_exceeded", 1, true, "too many requests; see Retry-After"),
    row(Code::RemoteUnavailable, "remote_unavailable", 1, true, "the relay cannot be reached"),
    row(
        Code::ConnectorRunning,
        "connector_running",
        1,
        false,
        "a connector serves this root already",
    ),
    row(Code::Corrupt, "corrupt", 1, false, "damage in the log"),
    row(Code::NoIdentity, "no_identity", 1, false, "there is no key of this machine yet"),
    row(
        Code::IdentityExists,
        "identity_exists",
        1,
        false,
        "the key of this machine is there already",
    ),
    row(Code::BadIdentity, "bad_identity", 1, false, "the file with the key cannot be trusted"),
    row(
        Code::OutputFailed,
        "output_failed",
        1,
        true,
        "what was claimed could not be written out; it is pending again",
    ),
    row(Code::Timeout, "timeout", 1, true, "the time ran out"),
    row(
        Code::Findings,
        "findings",
        1,
        false,
        "something is wrong here; each finding names its fix",
    ),
    row(Code::Usage, "usage", 2, false, "the command line is wrong"),
    row(Code::Internal, "internal", 1, false, "a fault of c2c itself"),
];

impl Code {
    fn row(self) -> &'static Row {
        // Each code has a row; a test walks them all.
        TABLE.iter().find(|row| row.code == self).unwrap_or(&TABLE[TABLE.len() - 1])
    }

    /// The stable name.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Exit status of a command.
    pub fn exit(self) -> u8 {
        self.row().exit
    }

    /// Whether trying again may help.
    pub fn retryable(self) -> bool {
        self.row().retryable
    }
}
