//! The spool: every state frame lies here, durable, from before it is sent until the hub has acked it.
//!
//! One redb file holds the frames in order, and beside them what must agree with them after a crash:
//! the commands already taken and the scans still open. All of it changes in one transaction.
//!
//! - **P1** Frames are numbered 1, 2, 3, … without gap; those from `acked + 1` to `last` are stored.
//! - **P2** After a crash at any write the spool holds what the last successful commit left, or, if the crash
//!   came during a commit, what that commit would have left.
//! - **P3** The file never grows past its bound. At the bound new frames are refused, never old ones dropped.

mod frame;
mod storage;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::Path;

use pulse_protocol::agent::{AgentFrame, CommandProgress};
use pulse_protocol::ids::{CommandId, ScanId, SegmentId};
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
    WriteTransaction,
};
use tracing::error;
use uuid::Uuid;

use self::frame::numbered;
use self::storage::{Bounded, OpenStorage, open_file, private_file};

/// Frames by their place in the spool. A place is never used twice; a frame's `seq` is its place less the base.
const FRAMES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("frames");
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");
const NAMES: TableDefinition<'_, &str, &str> = TableDefinition::new("names");
/// A command's id to the order it was taken in and whether it is finished.
const COMMANDS: TableDefinition<'_, u128, (u64, bool)> = TableDefinition::new("commands");
/// A scan that was started to the segment it scans.
const SCANS: TableDefinition<'_, u128, u128> = TableDefinition::new("scans");

/// The spool's file in the data directory.
pub const FILE_NAME: &str = "spool.redb";
/// Where a damaged spool is put; there is one such file, the newest.
pub const ASIDE_NAME: &str = "spool.redb.damaged";
/// The smallest bound: below it the store's own pages would leave no room for frames.
pub const BYTES_MIN: u64 = 1024 * 1024;
/// Memory for pages of the store. The spool is written in order and read in order, so more would gain nothing.
const CACHE_BYTES: usize = 512 * 1024;
/// A page of the store, and what of it is left for frames.
const PAGE_BYTES: u64 = 4096;
const PAGE_ROOM_BYTES: u64 = 4032;
/// What a frame costs beside its own bytes: its place and its length.
const FRAME_OVERHEAD_BYTES: u64 = 16;
/// Commands remembered, so that one delivered twice is done once.
const COMMANDS_MAX: u64 = 500;

/// Why the spool did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The bound is reached. Keep the frames and try again when the hub has acked some.
    #[error(
        "the spool is full at its bound of {bytes_max} bytes: results wait in memory until the hub acks some"
    )]
    Full {
        /// The bound of the file, in bytes.
        bytes_max: u64,
    },
    /// The disk refused. Call [`Spool::reopen`] and try again: whether the change is stored is not known.
    #[error(
        "the spool could not be written: free disk space or repair the disk under the data directory"
    )]
    Disk(#[source] redb::Error),
    /// The file is not what the spool wrote. Set it aside and start a new one.
    #[error("the spool is damaged: {0}")]
    Damaged(String),
    /// Another agent uses this data directory. Stop it or give this one a directory of its own.
    #[error(
        "another agent uses this data directory: stop it, or set PULSE_AGENT_DATA_DIR to another directory"
    )]
    InUse,
    /// The directory cannot be used at all. Tell the user.
    #[error("the data directory cannot be used: make it and let the agent's user write in it")]
    Directory(#[source] io::Error),
}

impl<E: Into<redb::Error>> From<E> for SpoolError {
    fn from(error: E) -> Self {
        use io::ErrorKind::{InvalidData, UnexpectedEof};
        match error.into() {
            redb::Error::Corrupted(what) => Self::Damaged(what),
            redb::Error::Io(error) if matches!(error.kind(), InvalidData | UnexpectedEof) => {
                Self::Damaged(error.to_string())
            }
            redb::Error::UpgradeRequired(version) => {
                Self::Damaged(format!("its form is version {version}"))
            }
            error => Self::Disk(error),
        }
    }
}

/// Where the spool stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Made with the spool; a new one starts a new sequence.
    pub spool_id: String,
    /// The highest number the hub acked.
    pub acked: u64,
    /// The highest number that is durable here.
    pub last: u64,
}

/// The spool of one data directory. Its methods block on the disk.
pub struct Spool {
    open_storage: OpenStorage,
    bytes_max: u64,
    /// Absent after a failure, until it is opened again.
    database: Option<Database>,
    position: Position,
    places: Places,
    stored_bytes: u64,
}

/// How numbers map to places.
#[derive(Clone, Copy, Debug, Default)]
struct Places {
    /// A frame's place less its number.
    base: u64,
    /// Frames up to this place hold a number of an earlier sequence in their text.
    renumbered_through: u64,
}

/// The lock of a data directory; held as long as the agent runs.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: std::fs::File,
}

/// Makes `directory` and takes its lock.
///
/// # Errors
///
/// Returns [`SpoolError::InUse`] if another agent holds it, [`SpoolError::Directory`] if it cannot be made.
pub fn lock_directory(directory: &Path) -> Result<DirectoryLock, SpoolError> {
    std::fs::create_dir_all(directory).map_err(SpoolError::Directory)?;
    let file = private_file(&directory.join("lock")).map_err(SpoolError::Directory)?;
    match file.try_lock() {
        Ok(()) => Ok(DirectoryLock { _file: file }),
        Err(std::fs::TryLockError::WouldBlock) => Err(SpoolError::InUse),
        Err(std::fs::TryLockError::Error(error)) => Err(SpoolError::Directory(error)),
    }
}

impl Spool {
    /// Opens the spool in `directory`, or makes a new one, at most `bytes_max` (at least [`BYTES_MIN`]) long.
    ///
    /// # Errors
    ///
    /// Returns [`SpoolError::Damaged`] if the file there is no sound spool.
    pub fn open(directory: &Path, bytes_max: u64) -> Result<Self, SpoolError> {
        let path = directory.join(FILE_NAME);
        Self::open_on(Box::new(move || open_file(&path)), bytes_max)
    }

    /// Opens the spool as [`Spool::open`] does, and replaces it if it is damaged.
    ///
    /// # Errors
    ///
    /// Returns [`SpoolError`] if the disk refuses.
    pub fn open_or_replace(directory: &Path, bytes_max: u64) -> Result<Self, SpoolError> {
        match Self::open(directory, bytes_max) {
            Err(SpoolError::Damaged(what)) => {
                error!(error = %what, "the spool is damaged");
                Self::replace_damaged(directory, bytes_max)
            }
            outcome => outcome,
        }
    }

    /// Sets the damaged file aside and begins a new spool.
    ///
    /// # Errors
    ///
    /// Returns [`SpoolError`] if the disk refuses.
    pub fn replace_damaged(directory: &Path, bytes_max: u64) -> Result<Self, SpoolError> {
        let aside = directory.join(ASIDE_NAME);
        std::fs::rename(directory.join(FILE_NAME), &aside).map_err(SpoolError::Directory)?;
        let spool = Self::open(directory, bytes_max)?;
        error!("a new spool was begun; what the hub had not acked lies in {}", aside.display());
        Ok(spool)
    }

    fn open_on(open_storage: OpenStorage, bytes_max: u64) -> Result<Self, SpoolError> {
        let position = Position { spool_id: String::new(), acked: 0, last: 0 };
        let bytes_max = bytes_max.max(BYTES_MIN);
        let places = Places::default();
        let mut spool =
            Self { open_storage, bytes_max, database: None, position, places, stored_bytes: 0 };
        spool.reopen()?;
        Ok(spool)
    }

    /// Opens the file again and reads where it stands; needed after a [`SpoolError::Disk`].
    ///
    /// # Errors
    ///
    /// Returns [`SpoolError`] if the disk still refuses or the file is damaged.
    pub fn reopen(&mut self) -> Result<(), SpoolError> {
        self.database = None;
        let storage = Bounded::new((self.open_storage)()?, self.bytes_max);
        let mut builder = Database::builder();
        // Every page's checksum is verified: a damaged spool must not be trusted, and 64 MiB take well under a second.
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        let database = builder.create_with_backend(storage)?;
        (self.position, self.places, self.stored_bytes) = restore(&database)?;
        self.database = Some(database);
        Ok(())
    }

    /// Where the spool stands.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The bound of the file, in bytes.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Whether it must be opened again before it is used.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.database.is_none()
    }

    /// Forgets what is acked, then numbers and stores `frames`, all in one durable transaction.
    ///
    /// # Errors
    ///
    /// Returns [`SpoolError::Full`] when `frames` do not fit; nothing of them is stored. After any other error,
    /// and where [`Spool::is_closed`] says so, the spool must be opened again.
    pub fn commit(&mut self, acked: u64, frames: &[AgentFrame]) -> Result<(), SpoolError> {
        let outcome = self.try_commit(acked, frames);
        match outcome {
            Ok(()) | Err(SpoolError::Full { .. }) => outcome,
            Err(error) => {
                // After a failed write redb refuses all else until it is opened again.
                self.database = None;
                Err(self.full_or(error))
            }
        }
    }

    fn try_commit(&mut self, acked: u64, frames: &[AgentFrame]) -> Result<(), SpoolError> {
        let acked = acked.clamp(self.position.acked, self.position.last);
        let transaction = self.database()?.begin_write()?;
        let kept_bytes = self.stored_bytes - forget(&transaction, acked + self.places.base)?;
        let texts = encode(frames, self.position.last + 1)?;
        let stored_bytes = kept_bytes + texts.iter().map(|text| cost(text.len())).sum::<u64>();
        let fits = stored_bytes <= self.room_bytes();
        let mut last = self.position.last;
        if fits {
            last = store(&transaction, last, self.places.base, frames, &texts)?;
        }
        write_counters(&transaction, acked, last, self.places)?;
        transaction.commit()?;
        (self.position.acked, self.position.last) = (acked, last);
        self.stored_bytes = if fits { stored_bytes } else { kept_bytes };
        if fits { Ok(()) } else { Err(SpoolError::Full { bytes_max: self.bytes_max }) }
    }

    /// What the frames may cost. The file grows by doubling, so half of its bound is sure to be there; a fifth
    /// of that is kept for the copies of pages that a transaction makes.
    fn room_bytes(&self) -> u64 {
        self.bytes_max / 2 * 4 / 5
    }

    /// Up to `count` frames after `after` as they are sent, in order, about `bytes_max` long together.
    ///
    /// # Errors
    ///
    /// Returns [`SpoolError`] if the file cannot be read.
    pub fn read(
        &self,
        after: u64,
        count: usize,
        bytes_max: usize,
    ) -> Result<Vec<(u64, String)>, SpoolError> {
        let table = self.database()?.begin_read()?.open_table(FRAMES)?;
        let (mut frames, mut bytes) = (Vec::new(), 0);
        let first = after.saturating_add(1).saturating_add(self.places.base);
        for entry in table.range(first..)?.take(count) {
            let (place, text) = entry?;
            let (place, text) = (place.value(), text.value());
            bytes += text.len();
            if bytes > bytes_max && !frames.is_empty() {
                break;
            }
            frames.push((place - self.places.base, self.text(place, text)?));
        }
        Ok(frames)
    }

    /// A stored frame as it is sent now.
    fn text(&self, place: u64, text: &[u8]) -> Result<String, SpoolError> {
        let damaged = |what: &dyn fmt::Display| {
            SpoolError::Damaged(format!("frame at place {place}: {what}"))
        };
        let text = String::from_utf8(text.to_vec()).map_err(|error| damaged(&error))?;
        if place > self.places.renumbered_through {
            return Ok(text);
        }
        let frame = AgentFrame::parse(&text).map_err(|error| damaged(&error))?;
        serde_json::to_string(&numbered(frame, place - self.places.base))
            .map_err(|error| damaged(&error))
    }

    /// Starts a new sequence: a new `spool_id`, and what is not acked numbered from 1 again.
    ///
    /// Needed when the hub does not know what it had acked (its database was restored), or knows more of this
    /// spool than the spool itself (the agent's disk was restored): there the numbers would never fit again.
    ///
    /// # Errors
    ///
    /// Returns [`SpoolError`] if the file cannot be written; then the old sequence stays.
    pub fn restart_sequence(&mut self) -> Result<(), SpoolError> {
        let (acked, last) = (self.position.acked, self.position.last);
        let base = self.places.base + acked;
        let places = Places { base, renumbered_through: self.places.base + last };
        let transaction = self.database()?.begin_write()?;
        let spool_id = write_spool_id(&transaction)?;
        write_counters(&transaction, 0, last - acked, places)?;
        transaction.commit()?;
        self.position = Position { spool_id, acked: 0, last: last - acked };
        self.places = places;
        Ok(())
    }

    /// The commands already taken, and whether each is finished.
    ///
    /// # Errors
    ///
    /// Returns [`SpoolError`] if the file cannot be read.
    pub fn commands(&self) -> Result<Vec<(CommandId, bool)>, SpoolError> {
        let table = self.database()?.begin_read()?.open_table(COMMANDS)?;
        let mut commands = Vec::new();
        for entry in table.iter()? {
            let (id, state) = entry?;
            commands.push((CommandId::from_uuid(Uuid::from_u128(id.value())), state.value().1));
        }
        Ok(commands)
    }

    /// The scans that were started and not yet ended.
    ///
    /// # Errors
    ///
    /// Returns [`SpoolError`] if the file cannot be read.
    pub fn open_scans(&self) -> Result<Vec<(ScanId, SegmentId)>, SpoolError> {
        let table = self.database()?.begin_read()?.open_table(SCANS)?;
        let mut scans = Vec::new();
        for entry in table.iter()? {
            let (scan, segment) = entry?;
            let (scan, segment) = (Uuid::from_u128(scan.value()), Uuid::from_u128(segment.value()));
            scans.push((ScanId::from_uuid(scan), SegmentId::from_uuid(segment)));
        }
        Ok(scans)
    }

    fn database(&self) -> Result<&Database, SpoolError> {
        self.database.as_ref().ok_or(SpoolError::Disk(redb::Error::DatabaseClosed))
    }

    fn full_or(&self, error: SpoolError) -> SpoolError {
        match error {
            SpoolError::Disk(redb::Error::Io(error))
                if error.kind() == io::ErrorKind::FileTooLarge =>
            {
                SpoolError::Full { bytes_max: self.bytes_max }
            }
            error => error,
        }
    }
}

/// Reads where the spool stands and checks P1; a new file gets its spool id.
fn restore(database: &Database) -> Result<(Position, Places, u64), SpoolError> {
    let transaction = database.begin_write()?;
    let spool_id = transaction.open_table(NAMES)?.get("spool_id")?.map(|id| id.value().to_owned());
    let spool_id = match spool_id {
        Some(spool_id) => spool_id,
        None => write_spool_id(&transaction)?,
    };
    transaction.open_table(COMMANDS)?;
    transaction.open_table(SCANS)?;
    let counters = transaction.open_table(COUNTERS)?;
    let counter =
        |name| Ok::<_, SpoolError>(counters.get(name)?.map_or(0, |counter| counter.value()));
    let places =
        Places { base: counter("base")?, renumbered_through: counter("renumbered_through")? };
    let position = Position { spool_id, acked: counter("acked")?, last: counter("last")? };
    let bytes = measure(&transaction, places.base + position.acked, places.base + position.last)?;
    drop(counters);
    transaction.commit()?;
    Ok((position, places, bytes))
}

/// Checks that exactly the places after `acked` up to `last` are taken, and tells what they cost.
fn measure(transaction: &WriteTransaction, acked: u64, last: u64) -> Result<u64, SpoolError> {
    let (mut place, mut bytes) = (acked, 0);
    for entry in transaction.open_table(FRAMES)?.iter()? {
        let (found, text) = entry?;
        place += 1;
        bytes += cost(text.value().len());
        if found.value() != place {
            return Err(SpoolError::Damaged(format!("the frame at place {place} is missing")));
        }
    }
    if place == last {
        Ok(bytes)
    } else {
        Err(SpoolError::Damaged(format!("the frame at place {last} is missing")))
    }
}

fn write_counters(
    transaction: &WriteTransaction,
    acked: u64,
    last: u64,
    places: Places,
) -> Result<(), SpoolError> {
    let mut counters = transaction.open_table(COUNTERS)?;
    counters.insert("acked", acked)?;
    counters.insert("last", last)?;
    counters.insert("base", places.base)?;
    counters.insert("renumbered_through", places.renumbered_through)?;
    Ok(())
}

fn write_spool_id(transaction: &WriteTransaction) -> Result<String, SpoolError> {
    let spool_id = Uuid::new_v4().simple().to_string();
    transaction.open_table(NAMES)?.insert("spool_id", spool_id.as_str())?;
    Ok(spool_id)
}

/// Removes the frames up to the place `through` and tells what they cost.
fn forget(transaction: &WriteTransaction, through: u64) -> Result<u64, SpoolError> {
    let mut table = transaction.open_table(FRAMES)?;
    let mut freed = 0;
    while table.first()?.is_some_and(|(place, _)| place.value() <= through) {
        if let Some((_, text)) = table.pop_first()? {
            freed += cost(text.value().len());
        }
    }
    Ok(freed)
}

fn store(
    transaction: &WriteTransaction,
    last: u64,
    base: u64,
    frames: &[AgentFrame],
    texts: &[Vec<u8>],
) -> Result<u64, SpoolError> {
    let mut table = transaction.open_table(FRAMES)?;
    let mut seq = last;
    for (frame, text) in frames.iter().zip(texts) {
        seq += 1;
        table.insert(base + seq, text.as_slice())?;
        remember(transaction, frame)?;
    }
    Ok(seq)
}

/// Keeps the commands and scans in step with the frames about them.
fn remember(transaction: &WriteTransaction, frame: &AgentFrame) -> Result<(), SpoolError> {
    match frame {
        AgentFrame::ScanStarted(scan) => {
            let (scan_id, segment_id) =
                (scan.scan_id.uuid().as_u128(), scan.segment_id.uuid().as_u128());
            transaction.open_table(SCANS)?.insert(scan_id, segment_id)?;
        }
        AgentFrame::ScanCompleted(scan) => {
            transaction.open_table(SCANS)?.remove(scan.scan_id.uuid().as_u128())?;
        }
        AgentFrame::CommandResult(result) => {
            let mut table = transaction.open_table(COMMANDS)?;
            let (oldest, newest_order) = oldest_and_newest(&table)?;
            let finished = result.state != CommandProgress::Running;
            table.insert(result.command_id.uuid().as_u128(), (newest_order + 1, finished))?;
            if table.len()? > COMMANDS_MAX {
                table.remove(oldest)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// The id of the command taken first, and the order of the one taken last.
fn oldest_and_newest(
    table: &impl ReadableTable<u128, (u64, bool)>,
) -> Result<(u128, u64), SpoolError> {
    let (mut oldest, mut newest_order) = ((u64::MAX, 0), 0);
    for entry in table.iter()? {
        let (id, state) = entry?;
        let order = state.value().0;
        oldest = oldest.min((order, id.value()));
        newest_order = newest_order.max(order);
    }
    Ok((oldest.1, newest_order))
}

fn encode(frames: &[AgentFrame], first: u64) -> Result<Vec<Vec<u8>>, SpoolError> {
    let text = |(seq, frame): (u64, &AgentFrame)| serde_json::to_vec(&numbered(frame.clone(), seq));
    let texts: Result<_, _> = (first..).zip(frames).map(text).collect();
    texts.map_err(|error| SpoolError::Damaged(error.to_string()))
}

/// What a frame of this length costs in pages: its share of one, or the doubled pages that hold it alone.
fn cost(text_bytes: usize) -> u64 {
    let bytes = u64::try_from(text_bytes).unwrap_or(u64::MAX).saturating_add(FRAME_OVERHEAD_BYTES);
    match PAGE_ROOM_BYTES / bytes {
        0 => bytes
            .saturating_add(PAGE_BYTES - PAGE_ROOM_BYTES)
            .checked_next_power_of_two()
            .unwrap_or(u64::MAX),
        frames_in_page => PAGE_BYTES.div_ceil(frames_in_page),
    }
}
