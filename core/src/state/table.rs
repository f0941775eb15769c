//! A table: the sorted rows of a checkpoint, overlaid with the rows changed since.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::checkpoint::{CheckpointBase, RowWriter};

/// The rows of one kind, by key.
///
/// In a checkpoint the number of the table is the first byte of every key. A row of the checkpoint
/// that was removed since is `None` in `changed`.
#[derive(Clone)]
pub struct Table<R> {
    number: u8,
    base: Option<CheckpointBase>,
    changed: BTreeMap<Vec<u8>, Option<R>>,
}

impl<R: Serialize + DeserializeOwned + Clone> Table<R> {
    /// Creates a table with the rows that `base` has under this table's number.
    pub fn new(number: u8, base: Option<&CheckpointBase>) -> Self {
        Self { number, base: base.cloned(), changed: BTreeMap::new() }
    }

    /// Returns the full key of a row, which starts with the table's number.
    fn key(&self, key: &[u8]) -> Vec<u8> {
        let mut full = Vec::with_capacity(key.len() + 1);
        full.push(self.number);
        full.extend_from_slice(key);
        full
    }

    /// Returns the row with this key.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<R> {
        let key = self.key(key.as_ref());
        if let Some(changed) = self.changed.get(&key) {
            return changed.clone();
        }
        let mut result = None;
        self.base.as_ref()?.visit(&key, &mut |row, value| {
            if row == key {
                result = serde_json::from_slice(value).ok();
            }
            false
        });
        result
    }

    /// Sets a row.
    pub fn put(&mut self, key: impl AsRef<[u8]>, row: R) {
        let key = self.key(key.as_ref());
        self.changed.insert(key, Some(row));
    }

    /// Removes a row.
    pub fn remove(&mut self, key: impl AsRef<[u8]>) {
        let key = self.key(key.as_ref());
        match &self.base {
            Some(_) => self.changed.insert(key, None),
            None => self.changed.remove(&key),
        };
    }

    /// Changes a row in place; does nothing if the row does not exist.
    pub fn update(&mut self, key: impl AsRef<[u8]>, change: impl FnOnce(&mut R)) {
        if let Some(Some(row)) = self.changed.get_mut(&self.key(key.as_ref())) {
            return change(row);
        }
        if let Some(mut row) = self.get(key.as_ref()) {
            change(&mut row);
            self.put(key, row);
        }
    }

    /// Returns the rows whose key starts with `prefix` and is not before `from`, in order of the
    /// keys. `from` must start with `prefix`.
    pub fn range(&self, prefix: &[u8], from: &[u8]) -> Vec<(Vec<u8>, R)> {
        let (prefix, from) = (self.key(prefix), self.key(from));
        let mut merged: BTreeMap<Vec<u8>, R> = BTreeMap::new();
        if let Some(base) = &self.base {
            base.visit(&from, &mut |key, value| {
                if !key.starts_with(&prefix) {
                    return false;
                }
                if !self.changed.contains_key(key)
                    && let Ok(row) = serde_json::from_slice(value)
                {
                    merged.insert(key[1..].to_vec(), row);
                }
                true
            });
        }
        for (key, row) in self.changed.range(from..) {
            match row {
                _ if !key.starts_with(&prefix) => break,
                Some(row) => merged.insert(key[1..].to_vec(), row.clone()),
                None => None,
            };
        }
        merged.into_iter().collect()
    }

    /// Returns the rows whose key starts with `prefix`, in order of the keys.
    pub fn scan(&self, prefix: impl AsRef<[u8]>) -> Vec<(Vec<u8>, R)> {
        self.range(prefix.as_ref(), prefix.as_ref())
    }

    /// Returns whether any row has a key that starts with `prefix`.
    pub fn any(&self, prefix: impl AsRef<[u8]>) -> bool {
        let prefix = self.key(prefix.as_ref());
        let changed = self.changed.range(prefix.clone()..);
        if changed.take_while(|(key, _)| key.starts_with(&prefix)).any(|(_, row)| row.is_some()) {
            return true;
        }
        let mut exists = false;
        if let Some(base) = &self.base {
            base.visit(&prefix, &mut |key, _| {
                exists = key.starts_with(&prefix) && !self.changed.contains_key(key);
                key.starts_with(&prefix) && !exists
            });
        }
        exists
    }

    /// Returns whether any row whose key starts with `prefix` and is not before `from` matches the
    /// filter.
    pub fn any_from(&self, prefix: &[u8], from: &[u8], filter: impl Fn(&R) -> bool) -> bool {
        let (prefix, from) = (self.key(prefix), self.key(from));
        let changed = self.changed.range(from.clone()..);
        let mut changed = changed.take_while(|(key, _)| key.starts_with(&prefix));
        if changed.any(|(_, row)| row.as_ref().is_some_and(&filter)) {
            return true;
        }
        let mut exists = false;
        if let Some(base) = &self.base {
            base.visit(&from, &mut |key, value| {
                if !key.starts_with(&prefix) {
                    return false;
                }
                let row =
                    serde_json::from_slice(value).ok().filter(|_| !self.changed.contains_key(key));
                exists = row.as_ref().is_some_and(&filter);
                !exists
            });
        }
        exists
    }

    /// Appends all rows, encoded, to the checkpoint being written.
    pub(super) fn encode(&self, out: &mut RowWriter) {
        let prefix = [self.number];
        let mut changed = self.changed.iter().peekable();
        let mut push_base_row = |key: &[u8], value: &[u8], out: &mut RowWriter| {
            while let Some((changed_key, row)) = changed.next_if(|(k, _)| k.as_slice() < key) {
                out.push_row(changed_key, row.as_ref());
            }
            match changed.next_if(|(k, _)| k.as_slice() == key) {
                Some((changed_key, row)) => out.push_row(changed_key, row.as_ref()),
                None => out.push(key, value),
            }
        };
        if let Some(base) = &self.base {
            base.visit(&prefix, &mut |key, value| {
                let in_table = key.starts_with(&prefix);
                if in_table {
                    push_base_row(key, value, out);
                }
                in_table
            });
        }
        for (key, row) in changed {
            out.push_row(key, row.as_ref());
        }
    }
}
