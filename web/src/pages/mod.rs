//! The pages. Each module: a view model with `sample()`, and `page(&view)`.

pub mod account;
pub mod account_settings;
pub mod audit;
pub mod catalogue;
pub mod changes;
pub mod connect;
pub mod database;
pub mod database_settings;
pub mod diff;
pub mod error;
pub mod job;
pub mod project;
pub mod projects;
pub mod records;
pub mod recovery_key;
pub mod restore_new;
pub mod restore_plan;
pub mod restore_result;
pub mod restore_undo;
pub mod restores;
pub mod schedule;
pub mod settings;
pub mod snapshot;
pub mod storage;
pub mod unreadable;
pub mod usage;

/// A name and an id: what a link to another page needs.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

impl Named {
    /// From both.
    pub fn new(id: impl Into<String>, name: impl Into<String>) -> Self {
        Self { id: id.into(), name: name.into() }
    }
}
