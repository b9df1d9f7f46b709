//! The audit log: who did what, to what, and how it ended.

use maud::{Markup, html};

use crate::{
    components::{
        Problem, alert, icons, short_id,
        table::{pager, scrolling},
        warning,
    },
    format,
    layout::{Frame, Section, Shell},
    urls::{self, AuditQuery},
};

/// An entry of the log.
#[derive(Clone, Debug)]
pub struct EntryRow {
    /// Its number.
    pub seq: u64,
    /// When: RFC 3339 in UTC.
    pub at: String,
    /// Who.
    pub actor: String,
    /// What: a group and a verb.
    pub action: String,
    /// To what: a kind and an id.
    pub target: String,
    /// Its page.
    pub target_url: Option<String>,
    /// How it ended, in a word.
    pub result: String,
    /// Whether it ended well.
    pub good: bool,
    /// Names and values.
    pub detail: Vec<(String, String)>,
    /// The entry's hash.
    pub hash: String,
    /// Whether it can be read; of one that cannot the number alone is known.
    pub is_readable: bool,
}

/// What following the chain found.
#[derive(Clone, Debug)]
pub struct Checked {
    /// How many entries there are.
    pub entries: u64,
    /// The first place that is not as it was written: the entry's number, and a sentence.
    pub broken: Option<(u64, String)>,
    /// The hash of the last.
    pub head: String,
}

/// The log, filtered.
#[derive(Clone, Debug)]
pub struct Audit {
    /// The frame.
    pub shell: Shell,
    /// The filter.
    pub query: AuditQuery,
    /// The actions to filter by: value and words.
    pub actions: Vec<(String, String)>,
    /// Who can have done something: value and words.
    pub actors: Vec<(String, String)>,
    /// The results to filter by.
    pub results: Vec<String>,
    /// Newest first.
    pub rows: Vec<EntryRow>,
    /// The first page, if this is another.
    pub first_url: Option<String>,
    /// The next page.
    pub next_url: Option<String>,
    /// The outcome of following the chain, if that was asked for.
    pub checked: Option<Checked>,
    /// Why the filter was not understood.
    pub problem: Option<Problem>,
}

impl Audit {
    /// A few entries, checked.
    pub fn sample() -> Self {
        let row = |seq, action: &str, target: &str, result: &str, detail: &[(&str, &str)]| EntryRow {
            seq,
            at: format!("2026-02-03T09:{seq:02}:00.000Z"),
            actor: "mira@example.com".to_owned(),
            action: action.to_owned(),
            target: target.to_owned(),
            target_url: target.strip_prefix("database/").map(urls::database),
            result: result.to_owned(),
            good: result == "succeeded",
            detail: detail.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            hash: crate::samples::SNAPSHOT_ID.repeat(2),
            is_readable: true,
        };
        let root = crate::samples::SNAPSHOT_ID.repeat(2);
        Self {
            shell: Shell::sample(),
            query: AuditQuery::default(),
            actions: vec![
                ("account".to_owned(), "Account".to_owned()),
                ("backup".to_owned(), "Backups".to_owned()),
            ],
            actors: vec![
                ("mira@example.com".to_owned(), "mira@example.com".to_owned()),
                ("schedule".to_owned(), "A schedule".to_owned()),
            ],
            results: ["succeeded", "failed"].map(str::to_owned).to_vec(),
            rows: vec![
                row(
                    4,
                    "backup.end",
                    "database/d1",
                    "succeeded",
                    &[("root", root.as_str()), ("records", "8104")],
                ),
                row(
                    3,
                    "schedule.set",
                    "database/01a52b3c4d5e6f708192a3b4c5d6e7f8",
                    "succeeded",
                    &[
                        ("database", "shop"),
                        ("keep", "daily 7, weekly 4, monthly 12"),
                        ("runs", "every day at 02:00 Europe/Berlin"),
                    ],
                ),
                row(2, "account.sign-in", "account/u1", "failed", &[("from", "192.0.2.7")]),
                row(1, "account.register", "account/u1", "succeeded", &[]),
            ],
            first_url: None,
            next_url: Some(urls::audit_page(&AuditQuery::default(), Some("1"))),
            checked: Some(Checked { entries: 4, broken: None, head: crate::samples::SNAPSHOT_ID.repeat(2) }),
            problem: None,
        }
    }

    /// After somebody changed the file behind it.
    pub fn sample_broken() -> Self {
        let broken = Some((2, "Entry 2 is not what was written.".to_owned()));
        let checked = Checked { entries: 4, broken, head: crate::samples::SNAPSHOT_ID.repeat(2) };
        let mut view = Self { checked: Some(checked), ..Self::sample() };
        view.rows[2].is_readable = false;
        view
    }

    /// A filter that nothing matches.
    pub fn sample_none() -> Self {
        let query = AuditQuery { action: "backup".to_owned(), ..AuditQuery::default() };
        Self { query, rows: Vec::new(), next_url: None, checked: None, ..Self::sample() }
    }
}

/// The whole page.
pub fn page(view: &Audit) -> Markup {
    let body = html! {
        div.head {
            div {
                h1 { "Audit log" }
                p.muted { "Everything that matters in your account, each entry sealed to the one before it." }
            }
            div.actions {
                form.inline method="get" action=(urls::AUDIT) {
                    input type="hidden" name="verify" value="yes";
                    button.plain type="submit" { "Verify the chain" }
                }
                @if view.query != AuditQuery::default() {
                    a.button href=(urls::audit_export(&view.query)) title="A part of the chain cannot be checked by itself: export all for that" { "Export these entries" }
                }
                a.button href=(urls::AUDIT_EXPORT) { "Export all as JSON lines" }
            }
        }
        @if let Some(problem) = &view.problem { (alert(problem)) }
        @if let Some(checked) = &view.checked { (outcome(checked)) }
        section.card {
            (filters(view))
            @if view.rows.is_empty() {
                p.empty { "No entry is like that." }
            } @else {
                (table(view))
            }
        }
        (pager(view.first_url.as_deref(), view.next_url.as_deref()))
    };
    Frame::new(&view.shell, "Audit log", Section::Audit, &[]).render(&body)
}

fn outcome(checked: &Checked) -> Markup {
    html! {
        @match &checked.broken {
            None => {
                div.notice role="status" {
                    p { (icons::ok()) strong { "The chain is whole, up to entry " (format::count(checked.entries)) "." } }
                    p { "The last one's hash is " (short_id(&checked.head)) "." }
                }
            }
            Some((seq, sentence)) => {
                div role="alert" {
                    (warning(&html! {
                        p { strong { (sentence) } }
                        p {
                            "Somebody or something changed the log behind the server's back. "
                            @if *seq > 1 { "Up to entry " (seq - 1) " each follows the one before it; what" } @else { "What" }
                            " comes after that is not looked at."
                        }
                    }))
                }
            }
        }
    }
}

fn filters(view: &Audit) -> Markup {
    html! {
        form.filters.many method="get" action=(urls::AUDIT) {
            div.actions {
                div.pair {
                    label for="action" { "Action" }
                    select #action name="action" {
                        option value="" { "All" }
                        @for (value, words) in &view.actions {
                            option value=(value) selected[*value == view.query.action] { (words) }
                        }
                    }
                }
                div.pair {
                    label for="actor" { "Who" }
                    select #actor name="actor" {
                        option value="" { "Anybody" }
                        @for (value, words) in &view.actors {
                            option value=(value) selected[value.eq_ignore_ascii_case(&view.query.actor)] { (words) }
                        }
                        @if is_another(&view.query.actor, &view.actors) {
                            option value=(view.query.actor) selected { (view.query.actor) }
                        }
                    }
                }
                div.pair {
                    label for="target" { "To what" }
                    input #target name="target" type="text" value=[given(&view.query.target)]
                        placeholder="snapshot, or snapshot/…" autocomplete="off" spellcheck="false";
                }
                div.pair {
                    label for="result" { "Result" }
                    select #result name="result" {
                        option value="" { "All" }
                        @for result in &view.results {
                            option value=(result) selected[*result == view.query.result] { (result) }
                        }
                    }
                }
                div.pair {
                    label for="from" { "From" }
                    input #from name="from" type="date" value=[given(&view.query.from)];
                }
                div.pair {
                    label for="to" { "Before" }
                    input #to name="to" type="date" value=[given(&view.query.to)];
                }
            }
            div.actions {
                button.small type="submit" { "Show" }
                a href=(urls::AUDIT) { "Clear" }
            }
        }
    }
}

/// Whether somebody is chosen who is not offered, by an address that somebody wrote down.
fn is_another(chosen: &str, offered: &[(String, String)]) -> bool {
    !chosen.is_empty() && !offered.iter().any(|(value, _)| value.eq_ignore_ascii_case(chosen))
}

fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn table(view: &Audit) -> Markup {
    scrolling(
        "Audit log",
        &html! {
            table.audit.stacked {
                caption.visually-hidden { "Entries, newest first" }
                thead { tr {
                    th.num scope="col" { "No." }
                    th scope="col" { "When" }
                    th scope="col" { "Who" }
                    th scope="col" { "Action" }
                    th scope="col" { "Result" }
                    th scope="col" { "Detail" }
                } }
                tbody { @for row in &view.rows { (entry(row)) } }
            }
        },
    )
}

/// A value of a detail: of ids and roots the beginning, and of a sentence all but its endless parts.
fn shown(value: &str) -> Markup {
    let max_chars = if value.contains(' ') { 300 } else { 40 };
    match value.char_indices().nth(max_chars) {
        Some((end, _)) => html! { span title=(value) { (&value[..end]) "…" } },
        None => html! { (value) },
    }
}

fn entry(row: &EntryRow) -> Markup {
    if !row.is_readable {
        return html! {
            tr {
                th.num scope="row" { (row.seq) }
                td colspan="5" { span.state.bad { (icons::failed()) "This entry cannot be read: it is not what was written" } }
            }
        };
    }
    html! {
        tr {
            th.num scope="row" { (row.seq) }
            td data-label="When" { time datetime=(row.at) { (row.at.get(..19).unwrap_or(&row.at).replace('T', " ")) " UTC" } }
            td.who data-label="Who" { (row.actor) }
            td data-label="Action" {
                (row.action)
                div.sub {
                    @match &row.target_url {
                        Some(url) => { a href=(url) { (row.target) } }
                        None => { (row.target) }
                    }
                }
            }
            td data-label="Result" {
                @if row.good {
                    span.state { (icons::ok()) (row.result) }
                } @else {
                    span.state.warn { (icons::warning()) (row.result) }
                }
            }
            td.detail data-label="Detail" {
                @for (name, value) in &row.detail { span.sub { (name) ": " code { (shown(value)) } } " " }
                span.sub { "hash: " (short_id(&row.hash)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_id_the_beginning_is_shown_and_of_a_sentence_all() {
        let sentence = "The server was not running then, or could not note down that a backup begins.";
        assert!(shown(sentence).into_string().contains("that a backup begins."));
        let id = crate::samples::SNAPSHOT_ID.repeat(2);
        let html = shown(&id).into_string();
        assert!(html.contains('…') && html.contains(&format!("title=\"{id}\"")), "{html}");
    }
}
