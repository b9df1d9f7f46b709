//! What stands around the collections of a target, whatever its engine.

use std::collections::BTreeMap;

use super::checks::Checked;
use super::delta::Delta;
use super::fit::Chosen;
use super::{Name, mongodb, postgres};
use crate::error::Result;
use crate::overlay::Overlay;
use crate::repo::Repository;
use crate::source::{Consistency, DatabaseUrl};
use crate::target::PreflightCheck;
use crate::target::mongodb::in_place as mongodb_target;
use crate::target::postgres::in_place as postgres_target;

/// What a server tells beside what collections hold.
pub(super) enum Around {
    Postgres(Box<postgres_target::Surroundings>),
    MongoDb(Box<mongodb_target::Surroundings>),
}

impl Around {
    /// Looks on a connection of its own. Any user who can log in may do it.
    pub async fn look(url: &DatabaseUrl, chosen: &[Chosen]) -> Result<Self> {
        Ok(match url {
            DatabaseUrl::Postgres(url) => {
                Self::Postgres(Box::new(postgres_target::Surroundings::look(url).await?))
            }
            DatabaseUrl::MongoDb(url) => Self::MongoDb(Box::new(mongodb::look(url, chosen).await?)),
        })
    }

    /// Collections that cannot be written for reasons that are not theirs, and which.
    pub fn barred(&self) -> BTreeMap<Name, String> {
        match self {
            Self::Postgres(_) => BTreeMap::new(),
            Self::MongoDb(around) => around.barred.clone(),
        }
    }

    /// Collections beside these whose records change when these are written.
    pub fn bystanders(&self, names: &[Name]) -> Vec<Name> {
        match self {
            Self::Postgres(around) => around.bystanders(names),
            Self::MongoDb(_) => Vec::new(),
        }
    }

    /// How the target can be read to plan.
    pub fn consistency(&self) -> Consistency {
        match self {
            Self::Postgres(_) => Consistency::PointInTime,
            Self::MongoDb(around) => mongodb::consistency(around),
        }
    }

    /// What is looked at before anything is written.
    pub fn checks(&self, checked: &Checked<'_>) -> Vec<PreflightCheck> {
        match self {
            Self::Postgres(around) => postgres::checks(checked, around),
            Self::MongoDb(around) => mongodb::checks(checked, around),
        }
    }

    /// How much is written at once, where that is not all of it.
    pub async fn extent(
        &self,
        repo: &Repository,
        overlay: &Overlay,
        deltas: Vec<Delta>,
    ) -> Result<Option<PreflightCheck>> {
        match self {
            Self::Postgres(_) => Ok(None),
            Self::MongoDb(_) => mongodb::extent(repo, overlay, deltas).await.map(Some),
        }
    }
}
