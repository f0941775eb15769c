//! A simulated disk for tests: it forgets, tears, reorders, fills up and fails.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::control::{Control, WORDS};
use super::storage::{ARCHIVE, LockFile, Storage, StorageFile};
use crate::platform::fs::FileIdentity;

const SECTOR: usize = 512;
/// Boot of a system that has no boot id.
const UNKNOWN_BOOT: u8 = 0;

/// Faults to inject, and when.
#[derive(Debug, Clone, Copy, Default)]
pub struct FaultPlan {
    /// Number of the write-like call at which the machine stops.
    pub crash_at: Option<u64>,
    /// Number of the sync that fails and loses the unsynced data.
    pub fail_sync: Option<u64>,
    /// Number of the write that finds the disk full.
    pub full_at: Option<u64>,
}

#[derive(Default, Clone)]
struct Inode {
    /// Content as processes see it.
    content: Vec<u8>,
    /// Content on the platter.
    durable: Vec<u8>,
    /// Sectors written since the last sync.
    dirty: Vec<usize>,
}

#[derive(Default)]
struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    locks: BTreeMap<String, bool>,
    calls: u64,
    syncs: u64,
    writes: u64,
    faults: FaultPlan,
    crashed: bool,
}

/// A simulated directory; clones share it.
#[derive(Clone)]
pub struct SimDisk {
    disk: Arc<Mutex<Disk>>,
    page: Arc<[AtomicU64; WORDS]>,
    boot: u8,
}

/// A small pseudo-random number generator, so that a seed reproduces a disk.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below.max(1)
    }
}

impl SimDisk {
    pub fn new(faults: FaultPlan) -> Self {
        let disk = Disk { faults, ..Disk::default() };
        Self { disk: Arc::new(Mutex::new(disk)), page: new_page(), boot: 1 }
    }

    /// A disk without faults, on a system that has no boot id.
    pub fn without_boot_id() -> Self {
        Self { boot: UNKNOWN_BOOT, ..Self::new(FaultPlan::default()) }
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Write-like calls so far.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Copies the directory: the same files with other inodes.
    pub fn copied(&self, faults: FaultPlan) -> Self {
        let old = self.lock();
        let mut disk = Disk { inodes: vec![Inode::default()], faults, ..Disk::default() };
        disk.inodes.extend(old.inodes.iter().cloned());
        disk.names = old.names.iter().map(|(name, inode)| (name.clone(), inode + 1)).collect();
        disk.durable_names = disk.names.clone();
        Self { disk: Arc::new(Mutex::new(disk)), page: new_page(), boot: self.boot }
    }

    /// The same disk in the same boot, after the process was killed.
    pub fn after_kill(&self) -> Self {
        let mut disk = self.lock();
        disk.crashed = false;
        disk.faults = FaultPlan::default();
        disk.locks.clear();
        self.clone()
    }

    /// Whether a file was archived.
    pub fn is_archived(&self, name: &str) -> bool {
        self.lock().names.contains_key(&format!("{ARCHIVE}/{name}"))
    }

    /// The disk as the next boot sees it: all synced data and a random part of the rest.
    pub fn after_power_loss(&self, random: &mut Random) -> Self {
        let old = self.lock();
        let mut disk = Disk::default();
        for inode in &old.inodes {
            let mut survived = inode.durable.clone();
            for sector in &inode.dirty {
                let from = sector * SECTOR;
                let to = (from + SECTOR).min(inode.content.len());
                if from < to && random.next(2) == 0 {
                    survived.resize(survived.len().max(to), 0);
                    survived[from..to].copy_from_slice(&inode.content[from..to]);
                }
            }
            disk.inodes.push(Inode {
                content: survived.clone(),
                durable: survived,
                dirty: Vec::new(),
            });
        }
        let names = if random.next(2) == 0 { &old.names } else { &old.durable_names };
        disk.names = names.clone();
        disk.durable_names = names.clone();
        let disk = Arc::new(Mutex::new(disk));
        Self { disk, page: new_page(), boot: self.boot + 1 }
    }
}

fn new_page() -> Arc<[AtomicU64; WORDS]> {
    Arc::new(std::array::from_fn(|_| AtomicU64::new(0)))
}

fn crashed() -> io::Error {
    io::Error::other("the machine has stopped")
}

impl Disk {
    /// Counts a write-like call; fails from the crash on.
    fn call(&mut self) -> io::Result<()> {
        self.calls += 1;
        self.crashed |= self.faults.crash_at.is_some_and(|at| self.calls >= at);
        if self.crashed { Err(crashed()) } else { Ok(()) }
    }
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
}

struct SimLock {
    disk: SimDisk,
    name: String,
}

impl LockFile for SimLock {
    fn try_lock(&self) -> io::Result<bool> {
        Ok(self.disk.lock().locks.insert(self.name.clone(), true) != Some(true))
    }

    fn lock(&self) -> io::Result<()> {
        if self.try_lock()? { Ok(()) } else { Err(io::Error::other("the lock is never released")) }
    }

    fn unlock(&self) {
        self.disk.lock().locks.insert(self.name.clone(), false);
    }
}

impl Storage for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let disk = self.lock();
        let names = disk.names.keys().map(|name| name.rsplit('/').next().unwrap_or(name));
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn StorageFile>> {
        let mut disk = self.lock();
        let archived = || disk.names.get(&format!("{ARCHIVE}/{name}"));
        let inode = match disk.names.get(name).or_else(archived) {
            Some(inode) => *inode,
            None if create => {
                disk.call()?;
                disk.inodes.push(Inode::default());
                let inode = disk.inodes.len() - 1;
                disk.names.insert(name.to_owned(), inode);
                inode
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn archive(&self, name: &str) -> io::Result<()> {
        self.rename(name, &format!("{ARCHIVE}/{name}"))?;
        self.sync_dir()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.lock();
        disk.call()?;
        let inode = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.lock();
        disk.call()?;
        disk.names.remove(name).map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut disk = self.lock();
        disk.call()?;
        disk.durable_names = disk.names.clone();
        Ok(())
    }

    fn lock_file(&self, name: &str) -> io::Result<Arc<dyn LockFile>> {
        Ok(Arc::new(SimLock { disk: self.clone(), name: name.to_owned() }))
    }

    fn control(&self, _create: bool) -> io::Result<Control> {
        Ok(Control::heap(&self.page))
    }

    fn identity(&self, name: &str) -> io::Result<FileIdentity> {
        let disk = self.lock();
        let inode = disk.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(FileIdentity { inode: *inode as u64, born_ns: 0 })
    }

    fn is_current(&self, _control: &Control) -> bool {
        true
    }

    fn boot_id(&self) -> Option<[u8; 16]> {
        (self.boot != UNKNOWN_BOOT).then_some([self.boot; 16])
    }
}

impl StorageFile for SimFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let disk = self.disk.lock();
        let content = &disk.inodes[self.inode].content;
        let from = (offset as usize).min(content.len());
        let len = buffer.len().min(content.len() - from);
        buffer[..len].copy_from_slice(&content[from..from + len]);
        Ok(len)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.writes += 1;
        let full = disk.faults.full_at == Some(disk.writes);
        let stopped = disk.call();
        // A failed write may leave part of its data behind.
        let part = if full || stopped.is_err() { bytes.len() / 2 } else { bytes.len() };
        let inode = &mut disk.inodes[self.inode];
        let (from, to) = (offset as usize, offset as usize + part);
        inode.content.resize(inode.content.len().max(to), 0);
        inode.content[from..to].copy_from_slice(&bytes[..part]);
        inode.dirty.extend(from / SECTOR..to.div_ceil(SECTOR));
        stopped?;
        if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.call()?;
        disk.syncs += 1;
        let fails = disk.faults.fail_sync == Some(disk.syncs);
        let inode = &mut disk.inodes[self.inode];
        inode.dirty.clear();
        if fails {
            return Err(io::Error::other("input/output error"));
        }
        inode.durable = inode.content.clone();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().inodes[self.inode].content.len() as u64)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.call()?;
        let inode = &mut disk.inodes[self.inode];
        inode.content.resize(inode.content.len().max(len as usize), 0);
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.call()?;
        disk.inodes[self.inode].content.truncate(len as usize);
        Ok(())
    }
}
