//! What must a SQLite file be like to hold a log?

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use c2c_log_format::FormatError;
use c2c_log_format::error::Problem;
use c2c_log_format::segment::{Reason, SegmentHeader};
use rusqlite::types::Type;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction};

use crate::limits::LOCK_WAIT;
use crate::log::boot_id_text;
use crate::store::StoreError;

/// "c2cL" in the file's header: nobody else's database is ever touched.
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

/// Opens a file that is there, and refuses one that is not ours.
pub(super) fn connect(path: &Path, writable: bool) -> Result<Connection, StoreError> {
    let file = name(path);
    let failed = |cause| failure("open", &file, cause);
    let connection = if writable {
        protect(path).map_err(|cause| StoreError::io("protect", &file, cause))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(path, flags).map_err(failed)?
    } else {
        connect_read_only(path).map_err(failed)?
    };
    connection.busy_timeout(LOCK_WAIT).map_err(failed)?;
    let (application, version, tables) = marks(&connection).map_err(failed)?;
    if application != APPLICATION_ID && (application != 0 || tables > 0 || !writable) {
        let cause = io::Error::other("it is a database of another program");
        return Err(StoreError::io("use", &file, cause));
    }
    if version > SCHEMA_VERSION {
        return Err(StoreError::UpgradeNeeded { file });
    }
    if writable {
        let mode = become_wal(&connection).map_err(failed)?;
        if mode != "wal" {
            let cause = io::Error::other("its file system has no shared memory for a WAL");
            return Err(StoreError::io("use", &file, cause));
        }
        connection.pragma_update(None, "synchronous", "NORMAL").map_err(failed)?;
    }
    Ok(connection)
}

/// The journal mode after the switch. Two who switch at the same moment hold each other up, which
/// SQLite says at once instead of waiting.
fn become_wal(connection: &Connection) -> Result<String, rusqlite::Error> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        let mode = connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match mode {
            Err(cause) if is_busy(&cause) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}

/// Application id, version, and number of tables, as of one moment: somebody else may be making them.
fn marks(connection: &Connection) -> Result<(i64, i64, i64), rusqlite::Error> {
    let moment = connection.unchecked_transaction()?;
    let number = |pragma| moment.pragma_query_value(None, pragma, |row| row.get(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    let query = "SELECT count(*) FROM sqlite_schema";
    let tables = moment.query_row(query, [], |row| row.get(0))?;
    Ok((application, version, tables))
}

/// SQLite gives its side files the mode of the main one, so that one comes first. Files of others
/// are left as they are; of ours, the application id may still be in the WAL only.
fn protect(path: &Path) -> io::Result<()> {
    let mut start = Vec::new();
    fs::File::open(path)?.take(72).read_to_end(&mut start)?;
    let id = (APPLICATION_ID as u32).to_be_bytes();
    if start.is_empty() || start.ends_with(&id) {
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// Without a WAL the file is all there is, and is read without even a side file being made.
fn connect_read_only(path: &Path) -> Result<Connection, rusqlite::Error> {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    let quiet = fs::metadata(wal).map_or(true, |metadata| metadata.len() == 0);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    match path.to_str().filter(|_| quiet) {
        Some(path) => {
            let escaped = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
            let uri = format!("file:{escaped}?immutable=1");
            Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
        }
        None => Connection::open_with_flags(path, flags),
    }
}

/// Makes an empty file that only its owner can read.
pub(super) fn create(path: &Path) -> Result<(), StoreError> {
    let made = || -> io::Result<()> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).open(path).map(|_| ())
    };
    made().map_err(|cause| StoreError::io("create", &name(path), cause))
}

/// The header of the log. If it begins now, its tables are made.
pub(super) fn begin(
    transaction: &Transaction<'_>,
    known: Option<SegmentHeader>,
    now_us: u64,
) -> Result<SegmentHeader, rusqlite::Error> {
    if let Some(header) = known {
        return Ok(header);
    }
    // Somebody else may have begun it at this moment.
    if has_begun(transaction)? {
        return stored_header(transaction);
    }
    let random = uuid::Uuid::now_v7().into_bytes();
    let boot_id = uuid::Uuid::try_parse(boot_id_text()).map_or([0; 16], uuid::Uuid::into_bytes);
    let header = SegmentHeader {
        log_id: uuid::Uuid::new_v4().into_bytes(),
        base: 1,
        durable: 0,
        previous_base: 0,
        previous_digest: [0; 32],
        previous_frame: 0,
        salt: u32::from_le_bytes([random[12], random[13], random[14], random[15]]),
        created_us: now_us,
        boot_id,
        reason: Reason::First,
    };
    transaction.execute_batch(SCHEMA)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.execute("INSERT INTO log VALUES (1, ?1)", [&header.encode()[..]])?;
    Ok(header)
}

/// Whether there is a log in the file; tables and mark are made in one transaction.
pub(super) fn has_begun(connection: &Connection) -> Result<bool, rusqlite::Error> {
    let id = connection.pragma_query_value(None, "application_id", |row| row.get::<_, i64>(0));
    Ok(id? == APPLICATION_ID)
}

/// The header of the log.
pub(super) fn stored_header(connection: &Connection) -> Result<SegmentHeader, rusqlite::Error> {
    let bytes: Vec<u8> = connection.query_row("SELECT header FROM log", [], |row| row.get(0))?;
    let failed = |e| rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, Box::new(e));
    SegmentHeader::decode(&bytes).map_err(failed)
}

pub(super) fn name(path: &Path) -> String {
    path.display().to_string()
}

pub(super) fn is_busy(cause: &rusqlite::Error) -> bool {
    let code = cause.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

pub(super) fn failure(operation: &'static str, file: &str, cause: rusqlite::Error) -> StoreError {
    if let rusqlite::Error::FromSqlConversionFailure(_, _, inner) = &cause
        && let Some(format) = inner.downcast_ref::<FormatError>()
    {
        return StoreError::format(file, *format);
    }
    match cause.sqlite_error_code() {
        _ if is_busy(&cause) => StoreError::Busy { waited_ms: LOCK_WAIT.as_millis() as u64 },
        Some(ErrorCode::DiskFull) => StoreError::Full { file: file.into() },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            let cause = FormatError { offset: 0, problem: Problem::BodyChecksum };
            StoreError::Format { file: file.into(), cause }
        }
        _ => StoreError::io(operation, file, io::Error::other(cause)),
    }
}
