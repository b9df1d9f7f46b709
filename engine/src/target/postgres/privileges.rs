//! To whom things belong and who may use them, as an archive has it, statement by statement.
//!
//! `pg_restore` runs all statements about one object as one, so a role that the target lacks would
//! take others' grants with it, and the REVOKE that keeps PUBLIC out. So the statements are taken
//! out of the archive and run here, and only those that name such a role are left out.

use std::collections::BTreeMap;

use super::Target;
use super::inspect::TargetState;
use super::statement::{Kind, Statement, statements};
use crate::error::{Kind as ErrorKind, Result};
use crate::source::postgres::toc::{self, Entry, PRIVILEGES, Part};
use crate::target::Note;

/// What an archive says of owners and privileges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Privileges {
    /// Each object's owner, by the object ("view v in schema public").
    pub(crate) owners: BTreeMap<String, String>,
    /// In the archive's order.
    pub(crate) objects: Vec<OfObject>,
}

/// The statements about one object, or about the objects that a role will make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OfObject {
    /// "TABLE orders in schema public", "default privileges for TABLES of shop"
    pub(crate) object: String,
    pub(crate) owner: String,
    pub(crate) stage: Stage,
    statements: Vec<Statement>,
}

/// When statements can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// About what every database has: an owner needs the right to create there before it is given
    /// anything.
    Given,
    /// About what is there before indexes and constraints.
    PreData,
    /// About the rest, and about objects to come.
    PostData,
}

/// Kinds of objects that have no owner of their own but their table's, and the database, which is not
/// restored.
const UNOWNED: &[&str] = &[
    "CAST",
    "CHECK CONSTRAINT",
    "CONSTRAINT",
    "DATABASE",
    "DATABASE PROPERTIES",
    "DEFAULT",
    "FK CONSTRAINT",
    "INDEX",
    "POLICY",
    "ROW SECURITY",
    "RULE",
    "TRIGGER",
    "USER MAPPING",
];

/// What the privileges on a database itself are about.
const OF_DATABASE: &str = "DATABASE ";

/// Why something cannot be given to a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Obstacle {
    /// There is no such role.
    Missing,
    /// The restoring user is no member of it.
    Barred,
}

/// What one role does not get.
#[derive(Clone, Copy, Debug, Default)]
struct LeftOut {
    objects: u64,
    grants: u64,
    revokes: u64,
    defaults: u64,
}

impl TargetState {
    /// Whether the user may give objects to the role and act for it.
    pub(super) fn may_act_for(&self, role: &str) -> bool {
        self.is_superuser || self.memberships.contains(role)
    }

    /// Whether objects can be given to the role.
    pub(crate) fn can_give_to(&self, role: &str) -> bool {
        self.obstacle(role).is_none()
    }

    fn obstacle(&self, role: &str) -> Option<Obstacle> {
        match self.roles.contains(role) {
            false => Some(Obstacle::Missing),
            true => (!self.may_act_for(role)).then_some(Obstacle::Barred),
        }
    }
}

impl Statement {
    /// The first of its roles that keeps it from being run.
    fn obstacle(&self, state: &TargetState) -> Option<(&str, Obstacle)> {
        let missing = self.roles().find(|role| !state.roles.contains(*role));
        let barred = || self.acts_for().filter(|role| !state.may_act_for(role));
        missing.map(|role| (role, Obstacle::Missing)).or_else(|| Some((barred()?, Obstacle::Barred)))
    }
}

impl OfObject {
    /// The statements that can be run in this target.
    pub(crate) fn possible<'a>(&'a self, state: &'a TargetState) -> impl Iterator<Item = &'a Statement> {
        let is_mine = self.stage != Stage::Given || state.owns_public;
        self.statements.iter().filter(move |statement| is_mine && statement.obstacle(state).is_none())
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Statement> {
        self.statements.iter()
    }
}

impl Privileges {
    /// What an archive says; `None` when its format or its encoding is not known.
    pub(crate) fn read(archive: &[u8]) -> Option<Self> {
        toc::read(archive).and_then(|entries| Self::of(&entries))
    }

    /// `None` when a statement is none that `pg_dump` is known to write.
    pub(super) fn of(entries: &[Entry]) -> Option<Self> {
        let mut found = Self::default();
        for entry in entries {
            let schema = match entry.namespace.as_str() {
                "" => String::new(),
                schema => format!(" in schema {schema}"),
            };
            if entry.kind == "ACL" && entry.tag.starts_with(OF_DATABASE) {
                // They name the source's database, which may be there beside the target.
                continue;
            }
            if PRIVILEGES.contains(&entry.kind.as_str()) {
                let (object, stage) = if entry.kind == "ACL" {
                    let stage = match entry.part {
                        _ if entry.tag == "SCHEMA public" => Stage::Given,
                        Part::PreData => Stage::PreData,
                        Part::PostData => Stage::PostData,
                    };
                    (format!("{}{schema}", entry.tag), stage)
                } else {
                    (format!("{} of {}{schema}", entry.tag.to_lowercase(), entry.owner), Stage::PostData)
                };
                let statements = statements(&entry.definition)?;
                found.objects.push(OfObject { object, owner: entry.owner.clone(), stage, statements });
            } else if entry.is_owned() {
                let object = format!("{} {}{schema}", entry.kind.to_lowercase(), entry.tag);
                found.owners.insert(object, entry.owner.clone());
            }
        }
        Some(found)
    }

    /// Whether statements are left out in this target.
    pub(super) fn is_cut(&self, state: &TargetState) -> bool {
        self.objects.iter().any(|of| of.possible(state).count() < of.statements.len())
    }

    /// Whether the restoring user could give things away and then not work with them: it may give
    /// them to a role whose rights it does not have.
    pub(crate) fn would_lock_out(&self, state: &TargetState) -> bool {
        let is_lost = |role: &String| state.may_act_for(role) && !state.inherited.contains(role);
        !state.is_superuser && self.owners.values().any(is_lost)
    }

    /// What is left out in this target, by role.
    pub(crate) fn left_out(&self, state: &TargetState) -> Vec<Note> {
        let user = &state.user;
        let mut notes = Vec::new();
        let mut found: BTreeMap<(Obstacle, &str), LeftOut> = BTreeMap::new();
        if self.would_lock_out(state) {
            notes.push(Note::remark(format!(
                "Everything belongs to {user}: it could give objects to roles whose rights it does not have."
            )));
        } else {
            for role in self.owners.values() {
                if let Some(obstacle) = state.obstacle(role) {
                    found.entry((obstacle, role.as_str())).or_default().objects += 1;
                }
            }
        }
        if !state.owns_public && self.objects.iter().any(|of| of.stage == Stage::Given) {
            notes.push(Note::remark(format!(
                "{user} does not own the schema public of the target: the privileges on it stay as they are."
            )));
        }
        for statement in self.objects.iter().flat_map(|of| &of.statements) {
            if let Some((role, obstacle)) = statement.obstacle(state) {
                let left_out = found.entry((obstacle, role)).or_default();
                match statement.kind {
                    Kind::Grant => left_out.grants += 1,
                    Kind::Revoke => left_out.revokes += 1,
                    Kind::Default => left_out.defaults += 1,
                }
            }
        }
        let text = |((obstacle, role), left_out): ((Obstacle, &str), LeftOut)| {
            let why = match obstacle {
                Obstacle::Missing => format!("The target has no role {role}"),
                Obstacle::Barred => format!("{user} may not act for the role {role}"),
            };
            Note::remark(format!("{why}: {}.", left_out.in_words(user)))
        };
        notes.extend(found.into_iter().map(text));
        notes
    }
}

impl Entry {
    fn is_owned(&self) -> bool {
        self.is_droppable && !self.owner.is_empty() && !UNOWNED.contains(&self.kind.as_str())
    }
}

impl LeftOut {
    /// "2 objects belong to maker instead, 3 grants that name it are left out"
    fn in_words(self, user: &str) -> String {
        let verb = |count: u64, one: &'static str, more: &'static str| if count == 1 { one } else { more };
        let owned = (self.objects > 0).then(|| {
            let (objects, belong) =
                (verb(self.objects, "object", "objects"), verb(self.objects, "belongs", "belong"));
            format!("{} {objects} of it {belong} to {user} instead", self.objects)
        });
        let named = [
            (self.grants, "grant", "grants"),
            (self.revokes, "revoke", "revokes"),
            (self.defaults, "default privilege", "default privileges"),
        ];
        let named = named.into_iter().filter(|(count, ..)| *count > 0).map(|(count, one, more)| {
            let (what, are) = (verb(count, one, more), verb(count, "names it is", "name it are"));
            format!("{count} {what} that {are} left out")
        });
        owned.into_iter().chain(named).collect::<Vec<_>>().join(", ")
    }
}

impl Target {
    /// Runs the statements of one stage: those about an object at once, or one by
    /// one when that fails.
    pub(super) async fn grant(&self, privileges: &Privileges, stage: Stage) -> Result<Vec<Note>> {
        let Some(standing) = self.standing.get() else { return Ok(Vec::new()) };
        let session = self.connect().await?;
        let mut notes = Vec::new();
        for of in privileges.objects.iter().filter(|of| of.stage == stage) {
            let possible: Vec<&Statement> = of.possible(&standing.state).collect();
            let whole: String = possible.iter().map(|statement| statement.run_as_grantor()).collect();
            if possible.is_empty() || self.one(&session, "", &whole).await.is_ok() {
                continue;
            }
            for statement in possible {
                match self.one(&session, "", &statement.run_as_grantor()).await {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::Unreachable => return Err(error),
                    Err(error) => notes.push(Note::failed(format!("{}: {}", of.object, error.message()))),
                }
            }
        }
        Ok(notes)
    }
}
