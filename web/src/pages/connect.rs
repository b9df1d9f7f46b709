//! Connecting a database: one URL, a name, an environment.

use maud::{Markup, html};

use super::Named;
use crate::{
    components::{
        Problem, alert, copyable,
        form::{self, Field},
        stages::{self, Tested},
        system::System,
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
    /// Whether snapshots need not be of one moment, as chosen; none where that is not offered,
    /// because nothing was refused for it.
    pub best_effort: Option<bool>,
    /// Whether a database like one that is there is meant, as chosen; none where there is none like it.
    pub twin: Option<bool>,
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
            best_effort: None,
            twin: None,
            problem: None,
            tested: None,
        }
    }

    /// A name that another database has.
    pub fn sample_twin() -> Self {
        let problem = Problem::new("There is a database called shop in this project")
            .with_fix("Give another name, or say that both are to have it.");
        Self { twin: Some(false), tested: None, problem: Some(problem), ..Self::sample_refused() }
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

    /// A MongoDB user that can write.
    pub fn sample_refused_user() -> Self {
        Self {
            url_without_password: "mongodb+srv://shop_app@cluster0.example.mongodb.net/shop".to_owned(),
            tested: Some(Tested::sample_refused_user()),
            ..Self::sample_refused()
        }
    }

    /// A MongoDB server without a replica set.
    pub fn sample_standalone() -> Self {
        Self {
            url_without_password: "mongodb://dbsnap_ro@mongo.internal:27017/shop".to_owned(),
            best_effort: Some(false),
            tested: Some(Tested::sample_standalone()),
            ..Self::sample_refused()
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
                .hint(&url_examples())
                .error(view.password_removed.then_some(removed))
                .render())
            (Field::text("name", "Name", &view.name).hint("How it is called here, for example shop.").render())
            (form::environments(view.environment.unwrap_or(Environment::Dev)))
            @if let Some(chosen) = view.best_effort { (best_effort(chosen)) }
            @if let Some(chosen) = view.twin {
                (form::checkbox("twin", "Connect it all the same", "Both have histories and schedules of their own, and what is equal in them is stored once.", chosen))
            }
            div.actions {
                button.primary type="submit" name="action" value="connect" { "Test and connect" }
                button type="submit" name="action" value="test" { "Test only" }
            }
            p.muted {
                "The URL is stored encrypted, and used only to read. Nothing is saved unless the test ends with "
                "\u{201c}works and can only read\u{201d}. Where some of it cannot be read, the test names that under Reading, "
                "and every backup does again."
            }
        }
    }
}

/// One example for each system, each on a line.
fn url_examples() -> String {
    format!("{}\n{}", System::PostgreSql.url_example(), System::MongoDb.url_example())
}

/// The choice to go on where the server has no moment to read at, and what that costs.
pub(super) fn best_effort(chosen: bool) -> Markup {
    let explanation = "Documents that change while a backup runs may be stored as they were before or after \
         the change, so documents that belong together may not fit each other. Every such snapshot is \
         labelled \u{201c}not point-in-time\u{201d}.";
    form::checkbox("best_effort", "Back up anyway, without one moment for all documents", explanation, chosen)
}

fn read_only_advice() -> Markup {
    html! {
        section.card.padded aria-labelledby="advice" {
            h2 #advice { "Credentials that can only read" }
            p { "Those that could write are refused." }
            div.beside {
                div {
                    h3 { "PostgreSQL" }
                    p { "Version 14 and newer: run as an administrator." }
                    (copyable("read-only-sql", "SQL", samples::READ_ONLY_SQL))
                }
                div {
                    h3 { "MongoDB" }
                    p { "Run in mongosh as a user administrator." }
                    (copyable("read-only-user", "mongosh", samples::READ_ONLY_USER))
                    (stages::atlas())
                    p.muted { "A URL with a database backs up that one, a URL without backs up all." }
                }
            }
        }
    }
}
