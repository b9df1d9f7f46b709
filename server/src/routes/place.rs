//! Where something belongs: what breadcrumbs and headings need to know.

use web::components::tag;
use web::pages::Named;

use crate::app::App;
use crate::auth::Visitor;
use crate::error::{Problem, Result};
use crate::ids::{DatabaseId, ProjectId};
use crate::meta::{ConnectedDatabase, Environment};
use crate::service::{databases, projects, snapshots::FoundSnapshot};

/// An id from an address. One that is none names nothing.
pub fn id<T>(parse: impl FnOnce(&str) -> Option<T>, text: &str) -> Result<T> {
    parse(text).ok_or_else(Problem::not_found)
}

/// A project as links show it.
pub async fn project(app: &App, visitor: &Visitor, id: ProjectId) -> Result<Named> {
    let project = projects::find(app, visitor.user_id, id).await?;
    Ok(Named::new(id.to_string(), project.name))
}

/// A database and its project.
pub struct Place {
    pub project: Named,
    pub database: ConnectedDatabase,
}

impl Place {
    /// Of a database, also of one that was removed and whose snapshots stayed.
    pub async fn of(app: &App, visitor: &Visitor, id: DatabaseId) -> Result<Self> {
        let database = databases::find_with_history(app, visitor.user_id, id).await?;
        Ok(Self { project: project(app, visitor, database.project_id).await?, database })
    }

    /// Of a snapshot.
    pub async fn of_snapshot(app: &App, visitor: &Visitor, found: &FoundSnapshot) -> Result<Self> {
        Self::of(app, visitor, found.database_id().ok_or_else(Problem::not_found)?).await
    }

    /// The database as links show it.
    pub fn named(&self) -> Named {
        Named::new(self.database.id.to_string(), &self.database.name)
    }

    /// What the database is for.
    pub fn environment(&self) -> tag::Environment {
        environment(self.database.environment)
    }
}

/// An environment as pages show it.
pub fn environment(environment: Environment) -> tag::Environment {
    match environment {
        Environment::Prod => tag::Environment::Prod,
        Environment::Staging => tag::Environment::Staging,
        Environment::Dev => tag::Environment::Dev,
    }
}
