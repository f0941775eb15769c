//! `c2c mirror`: write the log as JSON files for older programs.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::context::{Context, Run};
use super::output;
use crate::error::Failure;
use crate::legacy::{self, LegacyLocks};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    c2c mirror views\n  \
    c2c mirror --in-place --follow")]
pub struct Mirror {
    /// Directory to write to
    #[arg(required_unless_present = "in_place")]
    target: Option<PathBuf>,
    /// Write into the broker root
    #[arg(long, conflicts_with = "target")]
    in_place: bool,
    /// Keep writing as the log grows
    #[arg(long)]
    follow: bool,
}

impl Run for Mirror {
    fn run(self, context: &mut Context) -> Result<(), Failure> {
        let target = self.target.unwrap_or_else(|| context.root.path.clone());
        let is_in_place =
            fs::canonicalize(&target).ok() == fs::canonicalize(&context.root.path).ok();
        loop {
            let written = write(context, &target, is_in_place)?;
            if !self.follow {
                if context.common.json {
                    return output::print_json(&json!({ "files": written, "directory": target }));
                }
                return output::print(&format!("Wrote {written} files to {}\n", target.display()));
            }
            context.broker.wait_for_events(&context.actor)?;
        }
    }
}

/// Writes all files once; returns their number. In place, imports what would be overwritten first.
fn write(context: &mut Context, target: &Path, is_in_place: bool) -> Result<usize, Failure> {
    let mut locks = None;
    if is_in_place && target.exists() {
        context.broker.refresh(&context.actor)?;
        locks = Some(LegacyLocks::for_export(target, context.broker.state())?);
        context.broker.import_before_export(&context.actor)?;
    }
    context.broker.refresh(&context.actor)?;
    let views = context.broker.legacy_views()?;
    let written = legacy::write_views(target, context.broker.state(), &views)
        .map_err(|e| Failure::io("write", target, e))?;
    drop(locks);
    Ok(written)
}
