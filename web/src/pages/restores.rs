//! All restores.

use maud::{Markup, html};

use super::Named;
use crate::{
    components::{
        icons,
        job::{self, State},
        table::scrolling,
    },
    format,
    layout::{Frame, Section, Shell},
    urls,
};

/// Where a restore stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Being planned or carried out, or having ended without a result.
    Job(State),
    /// Planned, waiting for its confirmation.
    Planned,
    /// Done and compared with the snapshot.
    Done {
        /// Whether all roots are equal.
        matches: bool,
        /// Records that differ.
        differences: u64,
    },
    /// Done, and taken back.
    Undone,
}

/// A restore in the list.
#[derive(Clone, Debug)]
pub struct RestoreRow {
    /// Its id.
    pub id: String,
    /// Of which database.
    pub database: Named,
    /// Host, port and database of the target.
    pub target: String,
    /// When it was planned.
    pub at_ms: i64,
    /// Where it stands.
    pub standing: Standing,
}

/// All restores of the account, newest first.
#[derive(Clone, Debug)]
pub struct Restores {
    /// The frame.
    pub shell: Shell,
    /// The restores.
    pub restores: Vec<RestoreRow>,
    /// The next page.
    pub next_url: Option<String>,
}

impl Restores {
    /// One of each standing.
    pub fn sample() -> Self {
        let row = |id: &str, hours: i64, standing| RestoreRow {
            id: id.to_owned(),
            database: Named::new("d1", "shop"),
            target: "localhost:5432/shop_restored".to_owned(),
            at_ms: crate::samples::NOW_MS - hours * 3_600_000,
            standing,
        };
        Self {
            shell: Shell::sample(),
            restores: vec![
                row("r6", 0, Standing::Undone),
                row("r5", 0, Standing::Job(State::Running)),
                row("r4", 1, Standing::Planned),
                row("r3", 30, Standing::Done { matches: true, differences: 0 }),
                row("r2", 31, Standing::Done { matches: false, differences: 12 }),
                row("r1", 80, Standing::Job(State::Failed)),
            ],
            next_url: None,
        }
    }

    /// None yet.
    pub fn sample_empty() -> Self {
        Self { restores: Vec::new(), ..Self::sample() }
    }
}

/// The way to a restore's page.
pub(super) fn crumbs() -> [(&'static str, String); 1] {
    [("Restores", urls::RESTORES.to_owned())]
}

/// The whole page.
pub fn page(view: &Restores) -> Markup {
    let body = html! {
        h1 { "Restores" }
        section.card {
            @if view.restores.is_empty() {
                p.empty { "No restore yet. Open a snapshot and choose Restore: rehearse it before you need it." }
            } @else {
                (table(view))
            }
        }
        (crate::components::table::pager(None, view.next_url.as_deref()))
    };
    Frame::new(&view.shell, "Restores", Section::Restores, &[]).render(&body)
}

fn table(view: &Restores) -> Markup {
    scrolling(
        "Restores",
        &html! {
            table.stacked {
                caption.visually-hidden { "Restores, newest first" }
                thead { tr {
                    th scope="col" { "Planned" }
                    th scope="col" { "Result" }
                    th scope="col" { "Database" }
                    th scope="col" { "Into" }
                } }
                tbody {
                    @for row in &view.restores {
                        tr {
                            th scope="row" { a href=(urls::restore(&row.id)) { (format::time(row.at_ms, view.shell.now_ms)) } }
                            td data-label="Result" { (standing(row.standing)) }
                            td data-label="Database" { a href=(urls::database(&row.database.id)) { (row.database.name) } }
                            td data-label="Into" { code { (row.target) } }
                        }
                    }
                }
            }
        },
    )
}

fn standing(standing: Standing) -> Markup {
    html! {
        @match standing {
            Standing::Job(state) => { (job::state(state)) }
            Standing::Planned => { span.state.calm { (icons::waiting()) "Waits for confirmation" } }
            Standing::Undone => { span.state.calm { (icons::ok()) "Undone" } }
            Standing::Done { matches: true, .. } => { span.state.good { (icons::ok()) "Matches" } }
            Standing::Done { matches: false, differences } => {
                span.state.bad { (icons::failed()) (format::count_of(differences, "difference")) }
            }
        }
    }
}
