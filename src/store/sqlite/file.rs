//! Opening, checking and creating a SQLite file that holds a log.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use c2c_log_format::error::Problem;
use c2c_log_format::segment::{OpenReason, SegmentHeader};
use c2c_log_format::{FormatError, Sequence};
use rusqlite::types::Type;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction};

use crate::platform::boot::boot_id;
use crate::platform::clock;
use crate::platform::fs::{create_private_directory, private_options, set_mode};
use crate::store::StoreError;
use c2c_core::limits::LOCK_WAIT;

/// "c2cL" in the file's header. A database with another id belongs to another program.
const APPLICATION_ID: i64 = 0x6332_634c;
const SCHEMA_VERSION: i64 = 1;
const SCHEMA: &str = "
    CREATE TABLE log (only INTEGER PRIMARY KEY CHECK (only = 1), header BLOB NOT NULL);
    CREATE TABLE durable (only INTEGER PRIMARY KEY CHECK (only = 1), sequence INTEGER NOT NULL);
    INSERT INTO durable VALUES (1, 0);
    CREATE TABLE frames (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, frame BLOB NOT NULL);
    CREATE TABLE messages (hash INTEGER, sequence INTEGER, PRIMARY KEY (hash, sequence))
        WITHOUT ROWID;
    CREATE TABLE checkpoints (sequence INTEGER PRIMARY KEY, projection INTEGER NOT NULL,
        bytes BLOB NOT NULL);
";
const FIRST_BYTES: &[u8] = b"SQLite format 3\0";

/// Whether a file is a SQLite database.
pub fn is_sqlite(path: &Path) -> bool {
    let mut start = [0; FIRST_BYTES.len()];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == FIRST_BYTES
}

/// Opens an existing file. Fails if it belongs to another program or has a newer schema.
pub(super) fn connect(path: &Path, writable: bool) -> Result<Connection, StoreError> {
    let file = name(path);
    let failed = |source| failure("open", &file, source);
    let unusable = |reason: &str| StoreError::Backend {
        operation: "use",
        file: file.clone(),
        source: reason.into(),
    };
    let connection = if writable {
        protect(path).map_err(|source| StoreError::io("protect", &file, source))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(path, flags).map_err(failed)?
    } else {
        connect_read_only(path).map_err(failed)?
    };
    connection.busy_timeout(LOCK_WAIT).map_err(failed)?;
    let (application, version, tables) = identify(&connection).map_err(failed)?;
    if application != APPLICATION_ID && (application != 0 || tables > 0 || !writable) {
        return Err(unusable("it is a database of another program"));
    }
    if version > SCHEMA_VERSION {
        return Err(StoreError::UpgradeNeeded { file });
    }
    if writable {
        let mode = switch_to_wal(&connection).map_err(failed)?;
        if mode != "wal" {
            return Err(unusable("its file system has no shared memory for a WAL"));
        }
        connection.pragma_update(None, "synchronous", "NORMAL").map_err(failed)?;
    }
    Ok(connection)
}

/// Switches to WAL mode and returns the resulting journal mode.
///
/// Two processes that switch at the same time block each other. SQLite reports that immediately
/// instead of waiting, so retry here.
fn switch_to_wal(connection: &Connection) -> Result<String, rusqlite::Error> {
    let deadline = clock::monotonic() + LOCK_WAIT;
    loop {
        let mode = connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match mode {
            Err(source) if is_busy(&source) && clock::monotonic() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}

/// Application id, schema version, and number of tables.
///
/// Read in one transaction, because another process may be creating them.
fn identify(connection: &Connection) -> Result<(i64, i64, i64), rusqlite::Error> {
    let snapshot = connection.unchecked_transaction()?;
    let number = |pragma| snapshot.pragma_query_value(None, pragma, |row| row.get(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    let query = "SELECT count(*) FROM sqlite_schema";
    let tables = snapshot.query_row(query, [], |row| row.get(0))?;
    Ok((application, version, tables))
}

/// Restricts a file to its owner before SQLite gives the same mode to its side files.
///
/// Leaves files of other programs unchanged. The application id of a new file may still be only in
/// the WAL, so an empty file counts as a store.
fn protect(path: &Path) -> io::Result<()> {
    let mut start = Vec::new();
    fs::File::open(path)?.take(72).read_to_end(&mut start)?;
    let id = (APPLICATION_ID as u32).to_be_bytes();
    if start.is_empty() || start.ends_with(&id) {
        set_mode(path, 0o600)?;
    }
    Ok(())
}

/// Opens a file for reading. Without a WAL the main file is complete, and no side file is created.
fn connect_read_only(path: &Path) -> Result<Connection, rusqlite::Error> {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    let has_no_wal = fs::metadata(wal).map_or(true, |metadata| metadata.len() == 0);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    match path.to_str().filter(|_| has_no_wal) {
        Some(path) => {
            let escaped = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
            let uri = format!("file:{escaped}?immutable=1");
            Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
        }
        None => Connection::open_with_flags(path, flags),
    }
}

/// Creates an empty file that only its owner can read.
pub(super) fn create(path: &Path) -> Result<(), StoreError> {
    let create_file = || -> io::Result<()> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            create_private_directory(folder)?;
        }
        private_options().write(true).create(true).truncate(false).open(path).map(|_| ())
    };
    create_file().map_err(|source| StoreError::io("create", &name(path), source))
}

/// The header of the log. Creates the tables if the log begins now.
pub(super) fn begin(
    transaction: &Transaction<'_>,
    known: Option<SegmentHeader>,
    now_us: u64,
) -> Result<SegmentHeader, rusqlite::Error> {
    if let Some(header) = known {
        return Ok(header);
    }
    // Another process may have begun it in the meantime.
    if has_begun(transaction)? {
        return stored_header(transaction);
    }
    let random = uuid::Uuid::now_v7().into_bytes();
    let header = SegmentHeader {
        log_id: uuid::Uuid::new_v4().into_bytes(),
        base: 1,
        durable: 0,
        previous_base: 0,
        previous_digest: [0; 32],
        previous_frame: 0,
        salt: u32::from_le_bytes([random[12], random[13], random[14], random[15]]),
        created_us: now_us,
        boot_id: boot_id().unwrap_or_default(),
        reason: OpenReason::First,
    };
    transaction.execute_batch(SCHEMA)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.execute("INSERT INTO log VALUES (1, ?1)", [&header.encode()[..]])?;
    Ok(header)
}

/// Whether the file holds a log. Its tables and application id are created in one transaction.
pub(super) fn has_begun(connection: &Connection) -> Result<bool, rusqlite::Error> {
    let id = connection.pragma_query_value(None, "application_id", |row| row.get::<_, i64>(0));
    Ok(id? == APPLICATION_ID)
}

/// The stored header of the log.
pub(super) fn stored_header(connection: &Connection) -> Result<SegmentHeader, rusqlite::Error> {
    let bytes: Vec<u8> = connection.query_row("SELECT header FROM log", [], |row| row.get(0))?;
    let failed = |e| rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, Box::new(e));
    SegmentHeader::decode(&bytes).map_err(failed)
}

pub(super) fn name(path: &Path) -> String {
    path.display().to_string()
}

pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Converts an SQLite error to the store's error.
pub(super) fn failure(operation: &'static str, file: &str, error: rusqlite::Error) -> StoreError {
    if let rusqlite::Error::FromSqlConversionFailure(_, _, inner) = &error
        && let Some(format) = inner.downcast_ref::<FormatError>()
    {
        let file = file.to_owned();
        return match format.problem {
            Problem::FutureVersion { .. } => StoreError::UpgradeNeeded { file },
            _ => StoreError::Corrupt { file, source: Box::new(*format) },
        };
    }
    match error.sqlite_error_code() {
        _ if is_busy(&error) => StoreError::Busy { waited_ms: LOCK_WAIT.as_millis() as u64 },
        Some(ErrorCode::DiskFull) => StoreError::Full { file: file.into() },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Corrupt { file: file.into(), source: Box::new(error) }
        }
        _ => StoreError::Backend { operation, file: file.into(), source: Box::new(error) },
    }
}

/// The first column of a row, as bytes.
pub(super) fn blob<'a>(row: &'a rusqlite::Row<'_>) -> Result<&'a [u8], StoreError> {
    let value = row.get_ref(0).map_err(|error| failure("read", "frames", error))?;
    value.as_blob().map_err(|error| StoreError::Backend {
        operation: "read",
        file: "frames".into(),
        source: Box::new(error),
    })
}

/// The head of the log, and the checksum of the last frame.
pub(super) fn head_and_crc(connection: &Connection) -> Result<(Sequence, u32), rusqlite::Error> {
    let last = "SELECT last, substr(frame, 53, 4) FROM frames ORDER BY first DESC LIMIT 1";
    let row = connection.prepare_cached(last)?.query_row([], |row| {
        let crc: Vec<u8> = row.get(1)?;
        let crc = crc.try_into().map_or(0, u32::from_le_bytes);
        Ok((sequence_from(row.get(0)?), crc))
    });
    Ok(row.optional()?.unwrap_or((0, 0)))
}

pub(super) fn sequence_from(number: i64) -> Sequence {
    number.max(0).cast_unsigned()
}
