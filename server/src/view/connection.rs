//! A connection test as its page shows it.

use engine::source::postgres::{self, ReadOnlySetup};
use engine::source::{ConnectionReport, DatabaseUrl, Engine, Stage, StageReport, mongodb};
use web::components::stages::{self, Tested};
use web::components::system::System;

use crate::error::Problem;
use crate::service::databases::Advice;

fn stage_name(stage: Stage, system: System) -> &'static str {
    match stage {
        Stage::Resolve => "Host name",
        Stage::Connect => "Network",
        Stage::Tls => "Encryption",
        Stage::Authenticate => "Sign-in",
        Stage::List if system == System::MongoDb => "Collections",
        Stage::List => "Tables",
        Stage::Read => "Reading",
        Stage::ReadOnly => "Read-only",
    }
}

const STAGES: [Stage; 7] = [
    Stage::Resolve,
    Stage::Connect,
    Stage::Tls,
    Stage::Authenticate,
    Stage::List,
    Stage::Read,
    Stage::ReadOnly,
];

/// The report with stages that were not reached filled in.
pub fn tested(report: &ConnectionReport, url: &DatabaseUrl) -> Tested {
    let writes = !report.privileges.is_empty();
    let system = system_of(url.engine());
    let fixes = report.stages.iter().filter_map(|stage| stage.fix.as_deref());
    let from_public: Vec<&str> = fixes.flat_map(str::lines).filter(|line| is_from_public(line)).collect();
    let stages = STAGES.iter().map(|stage| {
        let found = report.stages.iter().find(|found| found.stage == *stage);
        stages::Stage {
            name: stage_name(*stage, system).to_owned(),
            ok: found.map(|found| found.ok),
            detail: found.map(|found| found.detail.clone()).unwrap_or_default(),
            fix: found.and_then(|found| found.fix.as_deref()).map(|fix| shown_fix(fix, url, writes)),
        }
    });
    Tested {
        ok: report.ok,
        stages: stages.collect(),
        system,
        server: (!report.server_version.is_empty()).then(|| server(&report.engine, &report.server_version)),
        collections: report.collections,
        size_bytes: report.size_bytes,
        privileges: report.privileges.clone(),
        notes: report.notes.clone(),
        read_only_elsewhere: Some(elsewhere(report, url)).filter(|text| writes && !text.is_empty()),
        read_only_setup: writes.then(|| match url {
            DatabaseUrl::Postgres(url) => read_only_sql(url.database(), &report.server_version, &from_public),
            DatabaseUrl::MongoDb(url) => mongodb::read_only_setup(url.database()),
        }),
    }
}

/// What is to be done at a stage, without what stands in the commands to copy.
fn shown_fix(fix: &str, url: &DatabaseUrl, writes: bool) -> String {
    match url {
        _ if !writes => fix.to_owned(),
        DatabaseUrl::Postgres(_) => {
            fix.lines().filter(|line| !is_from_public(line)).collect::<Vec<_>>().join("\n")
        }
        DatabaseUrl::MongoDb(_) => Advice::of(fix, url).help,
    }
}

/// Where credentials that can only read are made without running anything.
fn elsewhere(report: &ConnectionReport, url: &DatabaseUrl) -> String {
    let fixes = report.stages.iter().filter_map(|stage| stage.fix.as_deref());
    fixes.map(|fix| Advice::of(fix, url).elsewhere).find(|text| !text.is_empty()).unwrap_or_default()
}

/// The test that a refused connection tells of, if it was refused for one.
pub fn refused(problem: &Problem, url: &DatabaseUrl) -> Option<Tested> {
    let stages: Vec<StageReport> = serde_json::from_value(problem.fields.get("stages")?.clone()).ok()?;
    let privileges = problem.fields.get("privileges").cloned();
    let privileges = privileges.and_then(|list| serde_json::from_value(list).ok()).unwrap_or_default();
    let version = problem.fields.get("server_version").and_then(|version| version.as_str());
    let report = ConnectionReport {
        ok: false,
        stages,
        engine: url.engine().as_str().to_owned(),
        server_version: version.unwrap_or_default().to_owned(),
        collections: 0,
        size_bytes: 0,
        privileges,
        notes: Vec::new(),
        lacks_point_in_time: problem.fields.contains_key("requires_consistency"),
        system_identifier: None,
    };
    Some(tested(&report, url))
}

/// The system of an engine's name, as manifests and the metadata have it.
pub fn system(engine: &str) -> System {
    Engine::parse(engine).map_or(System::PostgreSql, system_of)
}

fn system_of(engine: Engine) -> System {
    match engine {
        Engine::Postgres => System::PostgreSql,
        Engine::MongoDb => System::MongoDb,
    }
}

/// The engine's name and version for people: "PostgreSQL 17.2".
pub fn server(engine: &str, version: &str) -> String {
    format!("{} {version}", engine_name(engine)).trim_end().to_owned()
}

/// The engine's name for people.
pub fn engine_name(engine: &str) -> &str {
    Engine::parse(engine).map_or(engine, |engine| system_of(engine).name())
}

/// Commands that make a role which can only read `database`, with those that take from every role
/// what would let the new one write.
fn read_only_sql(database: &str, version: &str, from_public: &[&str]) -> String {
    let major = version.split(|c: char| !c.is_ascii_digit()).next().and_then(|text| text.parse().ok());
    let mut sql = postgres::read_only_setup_sql(&ReadOnlySetup {
        role: "dbsnap_ro",
        database,
        server_version_number: major.map_or(150_000, |major: u32| major.saturating_mul(10_000)),
        schemas: &["public"],
        has_row_security: false,
    });
    let more: Vec<_> = from_public.iter().filter(|line| !sql.contains(**line)).copied().collect();
    if !more.is_empty() {
        sql.push_str(concat!(
            "-- These were granted to PUBLIC, so that every role holds them, the new one too. Taking them\n",
            "-- away affects every role; it must be run by the owner of each, or by a superuser:\n",
        ));
        more.iter().for_each(|line| {
            sql.push_str(line);
            sql.push('\n');
        });
    }
    sql
}

/// The engine's statements that take something from every role.
fn is_from_public(line: &str) -> bool {
    line.starts_with("REVOKE ") && line.ends_with(" FROM PUBLIC;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url() -> DatabaseUrl {
        DatabaseUrl::parse("postgres://me@db/shop").unwrap()
    }

    #[test]
    fn stages_that_were_not_reached_are_shown_as_not_tried() {
        let failed = StageReport {
            stage: Stage::Resolve,
            ok: false,
            detail: "no such host".to_owned(),
            fix: Some("Check the name.".to_owned()),
        };
        let report = ConnectionReport {
            ok: false,
            stages: vec![failed],
            engine: "postgresql".to_owned(),
            server_version: String::new(),
            collections: 0,
            size_bytes: 0,
            privileges: Vec::new(),
            notes: Vec::new(),
            lacks_point_in_time: false,
            system_identifier: None,
        };
        let tested = tested(&report, &url());
        let oks: Vec<_> = tested.stages.iter().map(|stage| stage.ok).collect();
        assert_eq!(oks, [Some(false), None, None, None, None, None, None]);
        assert_eq!((tested.server, tested.read_only_setup), (None, None));
    }

    #[test]
    fn the_commands_fit_the_version_and_quote_the_database() {
        let new = read_only_sql("my \"shop\"", "17.2", &[]);
        assert!(new.contains(r#"ON DATABASE "my ""shop""" TO"#) && new.contains("pg_read_all_data"));
        assert!(!new.contains("REVOKE"));
        assert!(read_only_sql("shop", "14.9 (Debian)", &[]).contains("GRANT pg_read_all_data TO"));
        let old = read_only_sql("shop", "13.4", &[]);
        assert!(!old.contains("GRANT pg_read_all_data") && old.contains("GRANT SELECT ON ALL TABLES"));
    }

    #[test]
    fn what_everybody_holds_is_taken_away_by_the_commands() {
        let schema = "REVOKE CREATE ON SCHEMA public FROM PUBLIC;";
        let table = "REVOKE INSERT ON TABLE public.t FROM PUBLIC;";
        let problem = Problem::invalid("url", "The role can write.")
            .with("privileges", ["schema public: CREATE", "table public.t: INSERT"])
            .with("server_version", "14.2")
            .with(
                "stages",
                [StageReport {
                    stage: Stage::ReadOnly,
                    ok: false,
                    detail: "the role can write".to_owned(),
                    fix: Some(format!("Create a role.\n{schema}\n{table}")),
                }],
            );
        let tested = refused(&problem, &url()).unwrap();
        let sql = tested.read_only_setup.unwrap();
        assert_eq!(sql.matches(schema).count(), 1, "{sql}");
        assert!(sql.contains(&format!("by a superuser:\n{table}\n")), "{sql}");
        assert_eq!(tested.stages[6].fix.as_deref(), Some("Create a role."));
    }
}
