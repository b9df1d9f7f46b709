//! Connecting a database: one URL, a name, an environment.

use maud::{Markup, html};

use super::Named;
use crate::{
    components::{
        Problem, alert, copyable,
        form::{self, Field},
        stages::{self, Tested},
        tag::Environment,
    },
    layout::{Frame, Section, Shell},
    samples, urls,
};

/// The form, and what came of submitting it.
#[derive(Clone, Debug)]
pub struct Connect {
    /// The frame.
    pub shell: Shell,
    /// Where the database will belong.
    pub project: Named,
    /// The name as typed.
    pub name: String,
    /// The URL as typed, without its password.
    pub url_without_password: String,
    /// Whether a password was taken out of the URL.
    pub password_removed: bool,
    /// The environment as chosen.
    pub environment: Option<Environment>,
    /// Why the form was not accepted.
    pub problem: Option<Problem>,
    /// The connection test, when it was run.
    pub tested: Option<Tested>,
}

impl Connect {
    /// The empty form.
    pub fn sample() -> Self {
        Self {
            shell: Shell::sample(),
            project: Named::new("p1", "Web shop"),
            name: String::new(),
            url_without_password: String::new(),
            password_removed: false,
            environment: None,
            problem: None,
            tested: None,
        }
    }

    /// Credentials that can write.
    pub fn sample_refused() -> Self {
        Self {
            name: "shop".to_owned(),
            url_without_password: "postgresql://shop_app@db.internal:5432/shop?sslmode=require".to_owned(),
            password_removed: true,
            environment: Some(Environment::Prod),
            tested: Some(Tested::sample_refused()),
            ..Self::sample()
        }
    }

    /// A host that does not answer.
    pub fn sample_unreachable() -> Self {
        Self { tested: Some(Tested::sample_unreachable()), ..Self::sample_refused() }
    }
}

/// The whole page.
pub fn page(view: &Connect) -> Markup {
    let body = html! {
        h1 { "Connect a database" }
        @if let Some(problem) = &view.problem { (alert(problem)) }
        @if let Some(tested) = &view.tested { (stages::result(tested)) }
        (connect_form(view))
        @if view.tested.as_ref().is_none_or(|tested| tested.privileges.is_empty()) { (read_only_advice()) }
    };
    let crumbs = [
        ("Projects", urls::PROJECTS.to_owned()),
        (view.project.name.as_str(), urls::project(&view.project.id)),
    ];
    Frame::new(&view.shell, "Connect a database", Section::Projects, &crumbs).render(&body)
}

fn connect_form(view: &Connect) -> Markup {
    let removed = "The password is not shown again: paste the whole URL once more.";
    html! {
        form.stack.card.padded method="post" action=(urls::connect(&view.project.id)) {
            (Field::code("url", "Database URL", &view.url_without_password)
                .hint("postgresql://user:password@host:5432/database?sslmode=require")
                .error(view.password_removed.then_some(removed))
                .render())
            (Field::text("name", "Name", &view.name).hint("How it is called here, for example shop.").render())
            (form::environments(view.environment.unwrap_or(Environment::Dev)))
            div.actions {
                button.primary type="submit" name="action" value="connect" { "Test and connect" }
                button type="submit" name="action" value="test" { "Test only" }
            }
            p.muted {
                "The URL is stored encrypted, and used only to read. Nothing is saved unless every test passes."
            }
        }
    }
}

fn read_only_advice() -> Markup {
    html! {
        details.card.padded open {
            summary { "How to make a role that can only read" }
            p { "Credentials that could write are refused. On PostgreSQL 14 and newer, run as an administrator:" }
            (copyable("read-only-sql", "SQL", samples::READ_ONLY_SQL))
        }
    }
}
