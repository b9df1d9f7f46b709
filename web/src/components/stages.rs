//! The stages of a connection test.

use maud::{Markup, html};

use super::{copyable, icons, system::System};
use crate::format;

/// How one stage went.
#[derive(Clone, Debug)]
pub struct Stage {
    /// What it tests, for people: "Host name", "Read-only".
    pub name: String,
    /// Whether it passed; none when an earlier failure kept it from being tried.
    pub ok: Option<bool>,
    /// What was seen.
    pub detail: String,
    /// What to do.
    pub fix: Option<String>,
}

/// The result of a connection test.
#[derive(Clone, Debug)]
pub struct Tested {
    /// Whether the database can be backed up with these credentials.
    pub ok: bool,
    /// The stages in order.
    pub stages: Vec<Stage>,
    /// The system that was asked.
    pub system: System,
    /// "PostgreSQL 17.2", when it was reached.
    pub server: Option<String>,
    /// Collections found.
    pub collections: u64,
    /// Size on the server's disk.
    pub size_bytes: u64,
    /// Every privilege that could write.
    pub privileges: Vec<String>,
    /// Abilities that are no direct write privilege.
    pub notes: Vec<String>,
    /// Commands that make a role or user with read access only, when privileges were found.
    pub read_only_setup: Option<String>,
    /// Where the same is done without running anything.
    pub read_only_elsewhere: Option<String>,
}

impl Tested {
    /// A role that could write: refused.
    pub fn sample_refused() -> Self {
        let passed = |name: &str, detail: &str| Stage {
            name: name.to_owned(),
            ok: Some(true),
            detail: detail.to_owned(),
            fix: None,
        };
        Self {
            ok: false,
            stages: vec![
                passed("Host name", "db.internal is 10.0.4.17"),
                passed("Network", "Connected to port 5432 in 2 ms"),
                passed("Encryption", "TLS 1.3, certificate valid for db.internal"),
                passed("Sign-in", "Signed in as shop_app"),
                passed("Tables", "14 tables and views found"),
                passed("Reading", "A row could be read from every table"),
                Stage {
                    name: "Read-only".to_owned(),
                    ok: Some(false),
                    detail: "3 privileges that can write were found".to_owned(),
                    fix: Some(
                        "Create a role that can only read with the commands above, and connect with it."
                            .to_owned(),
                    ),
                },
            ],
            system: System::PostgreSql,
            server: Some("PostgreSQL 17.2".to_owned()),
            collections: 14,
            size_bytes: 184_000_000,
            privileges: vec![
                "table public.orders: INSERT, UPDATE".to_owned(),
                "table public.customers: INSERT, UPDATE, DELETE".to_owned(),
                "schema public: CREATE".to_owned(),
            ],
            notes: vec!["May create temporary tables".to_owned()],
            read_only_setup: Some(crate::samples::READ_ONLY_SQL.to_owned()),
            read_only_elsewhere: None,
        }
    }

    /// A MongoDB user that could write: refused.
    pub fn sample_refused_user() -> Self {
        let mut tested = Self {
            system: System::MongoDb,
            server: Some("MongoDB 8.0.4".to_owned()),
            collections: 9,
            size_bytes: 92_400_000,
            privileges: vec![
                "database shop: insert, update, remove (role readWrite)".to_owned(),
                "database shop: createCollection, dropCollection, createIndex (role readWrite)".to_owned(),
            ],
            notes: Vec::new(),
            read_only_setup: Some(crate::samples::READ_ONLY_USER.to_owned()),
            read_only_elsewhere: Some(
                "On Atlas: Security → Database Access → Add New Database User → Password; Specific Privileges → read @ shop."
                    .to_owned(),
            ),
            ..Self::sample_refused()
        };
        let details = [
            "_mongodb._tcp.cluster0.example.mongodb.net names 3 hosts",
            "Connected to 3 hosts",
            "TLS 1.3, certificate valid for *.example.mongodb.net",
            "Signed in as shop_app",
            "9 collections found",
            "A document could be read from every collection",
            "The user can write: insert, update, remove and 6 more",
        ];
        for (stage, detail) in tested.stages.iter_mut().zip(details) {
            stage.detail = detail.to_owned();
        }
        tested.stages[4].name = "Collections".to_owned();
        tested.stages[6].fix = Some("Create a user that can only read, and connect as it.".to_owned());
        tested
    }

    /// A standalone server: it has no moment to read at.
    pub fn sample_standalone() -> Self {
        let mut tested =
            Self { privileges: Vec::new(), read_only_setup: None, ..Self::sample_refused_user() };
        tested.server = Some("MongoDB 7.0.14".to_owned());
        let details = [
            "mongo.internal is 10.0.4.21",
            "Connected to port 27017 in 1 ms",
            "Not asked for: add tls=true to the URL where the network is not yours",
            "Signed in as dbsnap_ro",
        ];
        for (at, stage) in tested.stages.iter_mut().enumerate() {
            stage.fix = None;
            if let Some(detail) = details.get(at) {
                stage.detail = (*detail).to_owned();
            }
        }
        tested.stages[5].ok = Some(false);
        tested.stages[5].detail =
            "The server is standalone, so it cannot show all documents as of one moment".to_owned();
        tested.stages[5].fix = Some(
            "Convert it to a replica set of one member: start mongod with --replSet rs0, then run rs.initiate() once."
                .to_owned(),
        );
        tested.stages[6].ok = Some(true);
        tested.stages[6].detail = "No privilege to write was found".to_owned();
        tested
    }

    /// A host that does not answer.
    pub fn sample_unreachable() -> Self {
        let not_tried =
            |name: &str| Stage { name: name.to_owned(), ok: None, detail: "Not tried".to_owned(), fix: None };
        let mut stages = vec![
            Stage {
                name: "Host name".to_owned(),
                ok: Some(true),
                detail: "db.internal is 10.0.4.17".to_owned(),
                fix: None,
            },
            Stage {
                name: "Network".to_owned(),
                ok: Some(false),
                detail: "No answer from 10.0.4.17:5432 within 10 s".to_owned(),
                fix: Some(
                    "Check the port, and that the firewall of the database lets this server in.".to_owned(),
                ),
            },
        ];
        stages.extend(["Encryption", "Sign-in", "Tables", "Reading", "Read-only"].map(not_tried));
        Self {
            ok: false,
            stages,
            system: System::PostgreSql,
            server: None,
            collections: 0,
            size_bytes: 0,
            privileges: Vec::new(),
            notes: Vec::new(),
            read_only_setup: None,
            read_only_elsewhere: None,
        }
    }
}

/// The stages, the privileges found, and the SQL that avoids them.
pub fn result(tested: &Tested) -> Markup {
    html! {
        section.tested aria-labelledby="tested" {
            h2 #tested { (verdict(tested)) }
            @if let Some(server) = &tested.server {
                p.muted {
                    (server) " · " (format::count_of(tested.collections, tested.system.collection())) " · "
                    (format::bytes(tested.size_bytes)) " on its disk"
                }
            }
            @if !tested.privileges.is_empty() { (refused(tested)) }
            ol.stages { @for stage in &tested.stages { (row(stage.ok, &stage.name, &stage.detail, stage.fix.as_deref())) } }
            @if !tested.notes.is_empty() {
                p.muted { "Also seen, and accepted: " (tested.notes.join("; ")) "." }
            }
        }
    }
}

fn verdict(tested: &Tested) -> &'static str {
    if tested.ok {
        "The connection works and can only read"
    } else if tested.privileges.is_empty() {
        "The connection test failed"
    } else {
        "Refused: these credentials can write"
    }
}

/// One line of a list of checks; `ok` is none for one that was not tried.
pub fn row(ok: Option<bool>, name: &str, detail: &str, fix: Option<&str>) -> Markup {
    let (icon, word, class) = match ok {
        Some(true) => (icons::ok(), "passed", "passed"),
        Some(false) => (icons::failed(), "failed", "failed"),
        None => (icons::skipped(), "not tried", "skipped"),
    };
    html! {
        li.(class) {
            (icon)
            div { strong { (name) } " " span.verdict { (word) } }
            div {
                @if ok.is_some() { p { (detail) } }
                @if let Some(fix) = fix { (advice(name, fix)) }
            }
        }
    }
}

/// What to do: sentences, and what lines of it are statements, to be copied in one piece.
fn advice(name: &str, fix: &str) -> Markup {
    let (statements, sentences): (Vec<&str>, Vec<&str>) = fix.lines().partition(|line| line.ends_with(';'));
    let id = format!("statements-{}", name.to_lowercase().replace(' ', "-"));
    html! {
        @if !sentences.is_empty() { p.fix { (sentences.join("\n")) } }
        @if !statements.is_empty() { (copyable(&id, "SQL", &statements.join("\n"))) }
    }
}

fn refused(tested: &Tested) -> Markup {
    html! {
        div.beside {
            div {
                h3 { "What these credentials could do" }
                p { "DBSnap never writes to a database it backs up, so it takes no credentials that could." }
                ul.privileges { @for privilege in &tested.privileges { li { code { (privilege) } } } }
            }
            @if let Some(setup) = &tested.read_only_setup { (make_read_only(tested.system, setup, tested.read_only_elsewhere.as_deref())) }
        }
    }
}

fn make_read_only(system: System, setup: &str, elsewhere: Option<&str>) -> Markup {
    html! {
        div {
            @match system {
                System::PostgreSql => {
                    h3 { "Make a role that can only read" }
                    p { "Run this as its first lines say, then connect with the new role." }
                    (copyable("read-only-setup", "SQL", setup))
                }
                System::MongoDb => {
                    h3 { "Make a user that can only read" }
                    p { "Run this in mongosh as a user administrator, then connect as the new user." }
                    (copyable("read-only-setup", "mongosh", setup))
                }
            }
            @if let Some(text) = elsewhere { p { (text) } }
        }
    }
}

/// The way through Atlas, where users are made on its pages and not by commands.
pub fn atlas() -> Markup {
    html! {
        p {
            "On Atlas: " strong { "Database Access" } " → " strong { "Add New Database User" } " → "
            strong { "Built-in Role" } " → " strong { "Only read any database" } ". Then let this server in: "
            strong { "Network Access" } " → " strong { "Add IP Address" } "."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_one_block_to_copy() {
        let fix = "Run the statements below.\nGRANT SELECT ON TABLE a TO r;\nGRANT SELECT ON TABLE b TO r;";
        let html = row(Some(false), "Reading", "two tables", Some(fix)).into_string();
        assert!(html.contains("<p class=\"fix\">Run the statements below.</p>"), "{html}");
        let block = "<code>GRANT SELECT ON TABLE a TO r;\nGRANT SELECT ON TABLE b TO r;</code>";
        assert!(html.contains(block) && html.contains("data-copy=\"statements-reading\""), "{html}");
        assert!(!row(Some(false), "Network", "no", Some("Check it.")).into_string().contains("copyable"));
    }
}
