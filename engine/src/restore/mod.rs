//! Restoring a snapshot: plan, apply, prove. Into a new or an empty database, or in place.
//!
//! A plan looks and writes nothing. Applying writes only after the plan's phrase was typed and the
//! target was looked at again. Success is what the proof says: the target is read anew, through
//! the same pipeline as a backup, and its roots are compared with the snapshot's.

mod apply;
mod definitions;
mod in_place;
mod large_objects;
mod outgoing;
mod plan;
mod privileges;
mod prove;
mod records;
mod selection;

pub use apply::{Conflicts, Restored, apply};
pub use in_place::{
    Back, NoteDown, Order, Preview, Reached, Standing, TableStanding, apply_in_place, is_as_planned,
    plan_in_place, undo,
};
pub(crate) use plan::schema_archive;
pub use plan::{Plan, Scope, TargetIdentity, plan};
pub use prove::{CollectionProof, Proof, prove};

pub use crate::target::PreflightCheck;
