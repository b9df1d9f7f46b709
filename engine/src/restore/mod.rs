//! Restoring a snapshot into a new or an empty database: plan, apply, prove.
//!
//! A plan looks and writes nothing. Applying writes only after the plan's phrase was typed and the
//! target was looked at again. Success is what the proof says: the target is read anew, through
//! the same pipeline as a backup, and its roots are compared with the snapshot's.

mod apply;
mod definitions;
mod large_objects;
mod plan;
mod privileges;
mod prove;
mod selection;

pub use apply::{Restored, apply};
pub(crate) use plan::schema_archive;
pub use plan::{Plan, Scope, TargetIdentity, plan};
pub use prove::{CollectionProof, Proof, prove};

pub use crate::target::PreflightCheck;
