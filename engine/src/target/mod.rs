//! Where records go back to. A target makes an empty database from a schema archive and loads
//! records into it; it knows nothing of trees, packs or repositories.

pub mod mongodb;
mod open;
pub mod postgres;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use open::{Described, Restoring, occupied};
pub(crate) use open::{Target, preflight};

/// One thing looked at before a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreflightCheck {
    /// What was looked at ("target database").
    pub check: String,
    /// Whether the restore may go on.
    pub ok: bool,
    /// Whether something of the snapshot will be missing if it does.
    #[serde(default)]
    pub warns: bool,
    /// What was found, and what to do when it is in the way.
    pub detail: String,
}

/// Something a restore did differently from the snapshot, or could not do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Whether something of the snapshot is missing in the target because of it.
    pub failed: bool,
    /// What, and why.
    pub text: String,
}

impl Note {
    /// Something that is missing in the target.
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self { failed: true, text: text.into() }
    }

    /// Something that was done another way.
    pub(crate) fn remark(text: impl Into<String>) -> Self {
        Self { failed: false, text: text.into() }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
