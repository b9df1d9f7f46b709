//! A database's settings: its name, its environment, the connection; removing it.

use maud::{Markup, html};

use super::{Named, schedule::DueTime};
use crate::{
    components::{
        Problem, alert,
        form::{self, Field},
        stages::{self, Tested},
        tag::Environment,
    },
    layout::{Frame, Section, Shell},
    urls,
};

/// The form, and what came of submitting it.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// The frame.
    pub shell: Shell,
    /// Where it belongs.
    pub project: Named,
    /// Its id and name as they are.
    pub database: Named,
    /// The connection in use: user, host, port and database; none where no URL is known.
    pub connection: Option<String>,
    /// The name as typed.
    pub name: String,
    /// The environment as chosen.
    pub environment: Environment,
    /// Whether snapshots need not be of one moment, as chosen; none where every snapshot is.
    pub best_effort: Option<bool>,
    /// Whether the other URL is said to lead to the same database; none where that is no question,
    /// because nothing was refused for it.
    pub moved: Option<bool>,
    /// The other URL as typed, without its password; empty to keep the connection.
    pub url_without_password: String,
    /// Whether a password was taken out of it.
    pub password_removed: bool,
    /// When it is backed up by itself, in words, and the next time.
    pub schedule: Option<(String, DueTime)>,
    /// Why the form was not accepted.
    pub problem: Option<Problem>,
    /// The test of another connection that was not accepted.
    pub tested: Option<Tested>,
}

impl DatabaseSettings {
    /// As it opens.
    pub fn sample() -> Self {
        Self {
            shell: Shell::sample(),
            project: Named::new("p1", "Web shop"),
            database: Named::new("d1", "shop"),
            connection: Some("dbsnap_ro on db.internal:5432/shop".to_owned()),
            name: "shop".to_owned(),
            environment: Environment::Prod,
            best_effort: None,
            moved: None,
            url_without_password: String::new(),
            password_removed: false,
            schedule: Some((
                "every day at 02:00 Europe/Berlin".to_owned(),
                DueTime {
                    at_ms: crate::samples::NOW_MS + 36_000_000,
                    local: "Wed 2026-02-04 02:00 UTC+01:00".to_owned(),
                },
            )),
            problem: None,
            tested: None,
        }
    }

    /// Of a MongoDB server without a replica set.
    pub fn sample_standalone() -> Self {
        Self {
            connection: Some("dbsnap_ro on mongo.internal:27017/shop".to_owned()),
            best_effort: Some(true),
            schedule: None,
            ..Self::sample()
        }
    }

    /// Of a database that came out of the storage.
    pub fn sample_unknown() -> Self {
        Self { connection: None, schedule: None, ..Self::sample() }
    }

    /// After a URL of another database.
    pub fn sample_other() -> Self {
        let problem = Problem::new("Another database").with_fix(
            "This is the history of the database shop, and the URL leads to the database crm. Connect another \
             database as one of its own.",
        );
        Self { problem: Some(problem), moved: Some(false), tested: None, ..Self::sample_refused() }
    }

    /// After another URL that could not be reached.
    pub fn sample_refused() -> Self {
        Self {
            url_without_password: "postgres://dbsnap_ro@db2.internal:5432/shop?sslmode=prefer".to_owned(),
            password_removed: true,
            tested: Some(Tested::sample_unreachable()),
            ..Self::sample()
        }
    }
}

/// The whole page.
pub fn page(view: &DatabaseSettings) -> Markup {
    let title = format!("Settings of {}", view.database.name);
    let body = html! {
        h1 { (title) }
        @if let Some(problem) = &view.problem { (alert(problem)) }
        @if let Some(tested) = &view.tested { (stages::result(tested)) }
        (settings_form(view))
        section.card.padded aria-labelledby="schedule" {
            h2 #schedule { "Schedule" }
            @match &view.schedule {
                Some((words, due)) => {
                    p { "Backed up " (words) "; the next run is due on " (due.render()) "." }
                }
                None if view.connection.is_none() => { p { "Not backed up while its URL is not known." } }
                None => { p { "Backed up only when somebody asks for it." } }
            }
            a.button href=(urls::schedule(&view.database.id)) { "Schedule and retention" }
        }
        form.stack.card.padded method="post" action=(urls::database_remove(&view.database.id)) {
            h2 { "Remove" }
            p { "Its credentials are forgotten and nothing more is backed up. The snapshots taken so far stay in the project, unless you say otherwise." }
            (form::checkbox("delete_snapshots", "Delete its snapshots, too", "All of them, for good. What only they needed is freed by the prune that follows.", false))
            (Field::code("confirm", "Type the database's name", "").hint(&view.database.name).render())
            div.actions { button.danger-quiet type="submit" { "Remove this database" } }
        }
    };
    let crumbs = super::snapshot::crumbs(&view.project, &view.database);
    Frame::new(&view.shell, &title, Section::Projects, &crumbs).render(&body)
}

fn settings_form(view: &DatabaseSettings) -> Markup {
    let removed = "The password is not shown again: paste the whole URL once more.";
    let (label, hint) = match &view.connection {
        Some(connection) => {
            ("Another database URL", format!("In use: {connection}. Leave this empty to keep it."))
        }
        None => (
            "Database URL",
            "None is known here: the database came out of the storage, which holds no credentials. It is backed up \
             again once its URL is given."
                .to_owned(),
        ),
    };
    let url = Field { optional: true, ..Field::code("url", label, &view.url_without_password) };
    html! {
        form.stack.card.padded method="post" action=(urls::database_settings(&view.database.id)) {
            (Field::text("name", "Name", &view.name).render())
            (form::environments(view.environment))
            @if let Some(chosen) = view.best_effort { (super::connect::best_effort(chosen)) }
            (url.hint(&hint).error(view.password_removed.then_some(removed)).render())
            @if let Some(chosen) = view.moved {
                (form::checkbox("moved", "It is the same database, renamed or moved", "Its snapshots go on in this history, and are compared with those so far.", chosen))
            }
            div.actions {
                button.primary type="submit" { "Save" }
                a.button href=(urls::database(&view.database.id)) { "Cancel" }
            }
            p.muted { "A URL is tested first, and refused if it could write." }
        }
    }
}
