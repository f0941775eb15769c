//! Administrative events: import of legacy files and relocation of the root.

use c2c_log_format::payload::{LegacyImported, RootMoved};

use crate::state::State;
use crate::state::rows::Totals;

impl State {
    pub(super) fn legacy_imported(&mut self, event: &LegacyImported) {
        self.imported.put(format!("file {}", event.file), event.stamp.clone());
        for entry in &event.entries {
            self.imported.put(format!("entry {entry}"), String::new());
        }
    }

    pub(super) fn root_moved(&mut self, event: &RootMoved) {
        let moved_to = Some(event.to.clone()).filter(|to| !to.is_empty());
        self.change_meta(|meta| meta.moved_to = moved_to);
    }

    pub(super) fn change_meta(&mut self, change: impl FnOnce(&mut Totals)) {
        let mut meta = self.meta.get([]).unwrap_or_default();
        change(&mut meta);
        self.meta.put([], meta);
    }
}
