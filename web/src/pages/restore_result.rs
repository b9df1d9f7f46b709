//! How a restore ended: the proof.

use maud::{Markup, html};

use super::restore_undo::{self, Before, Undo};
use super::{Named, restore_new::progress_steps};
use crate::{
    components::{fact, icons, short_id, system::System, table::scrolling, warning},
    format,
    layout::{Frame, Section, Shell},
    urls,
};

/// One table, read anew from the target and compared.
#[derive(Clone, Debug)]
pub struct CollectionProof {
    /// Its display name.
    pub name: String,
    /// Whether both roots are equal.
    pub matches: bool,
    /// The root in the snapshot.
    pub expected_root: String,
    /// The root of what the target holds.
    pub found_root: String,
    /// Records that differ.
    pub differences: u64,
    /// Some of them.
    pub examples: Vec<String>,
}

/// Something that was done differently from the snapshot, or could not be done.
#[derive(Clone, Debug)]
pub struct Note {
    /// Whether something of the snapshot is missing in the target because of it.
    pub failed: bool,
    /// What, and why.
    pub text: String,
}

/// A finished restore.
#[derive(Clone, Debug)]
pub struct Result {
    /// The frame.
    pub shell: Shell,
    /// Where it belongs.
    pub project: Named,
    /// The snapshot's database.
    pub database: Named,
    /// The snapshot.
    pub snapshot: String,
    /// When that was taken.
    pub at_ms: i64,
    /// Of which system it is.
    pub system: System,
    /// Host, port and database of the target.
    pub target: String,
    /// When the restore ended.
    pub finished_ms: i64,
    /// How long it took.
    pub took_ms: i64,
    /// Records written.
    pub records: u64,
    /// Whether nothing differs.
    pub matches: bool,
    /// Records, sequences and definitions that differ.
    pub differences: u64,
    /// Table by table.
    pub collections: Vec<CollectionProof>,
    /// Sequences that stand elsewhere.
    pub sequence_differences: Vec<String>,
    /// Where the schema differs; the roots cover the records.
    pub schema_differences: Vec<String>,
    /// What was not compared, or is no content.
    pub remarks: Vec<String>,
    /// What else is worth knowing.
    pub notes: Vec<Note>,
    /// Of a restore in place: what becomes of what was there before.
    pub before: Option<Before>,
}

impl Result {
    /// One that matches.
    pub fn sample() -> Self {
        let proof = |name: &str, root: &str| CollectionProof {
            name: name.to_owned(),
            matches: true,
            expected_root: format!("{root}{}", &crate::samples::SNAPSHOT_ID[8..]),
            found_root: format!("{root}{}", &crate::samples::SNAPSHOT_ID[8..]),
            differences: 0,
            examples: Vec::new(),
        };
        Self {
            shell: Shell::sample(),
            project: Named::new("p1", "Web shop"),
            database: Named::new("d1", "shop"),
            snapshot: crate::samples::SNAPSHOT_ID.to_owned(),
            at_ms: crate::samples::NOW_MS - 7_200_000,
            system: System::PostgreSql,
            target: "localhost:5432/shop_restored".to_owned(),
            finished_ms: crate::samples::NOW_MS - 60_000,
            took_ms: 14_200,
            records: 214_127,
            matches: true,
            differences: 0,
            collections: vec![
                proof("public.customers", "11c09d2e"),
                proof("public.order_items", "7be85a33"),
                proof("public.orders", "16c0e4f1"),
            ],
            sequence_differences: Vec::new(),
            schema_differences: Vec::new(),
            remarks: Vec::new(),
            notes: vec![Note {
                failed: false,
                text: "The role shop_app does not exist on the target: its grants were left out.".to_owned(),
            }],
            before: None,
        }
    }

    /// In place, and to be undone.
    pub fn sample_in_place() -> Self {
        Self {
            target: "localhost:5432/shop".to_owned(),
            records: 251,
            notes: Vec::new(),
            before: Some(Before::sample()),
            ..Self::sample()
        }
    }

    /// In place, and undone but for what had changed.
    pub fn sample_undone() -> Self {
        let mut view = Self::sample_in_place();
        if let Some(before) = &mut view.before {
            let examples = vec!["public.orders: (1007)".to_owned(), "public.orders: (1012)".to_owned()];
            before.undo = Undo::Done { records: 249, conflicts: 2, examples };
        }
        view
    }

    /// Documents, in place, one of which was written by somebody else before the proof.
    pub fn sample_documents() -> Self {
        let mut view = Self::sample_differs();
        view.system = System::MongoDb;
        view.target = "localhost:27017/shop".to_owned();
        view.differences = 1;
        view.sequence_differences.clear();
        view.schema_differences.clear();
        for (row, name) in view.collections.iter_mut().zip(["shop.customers", "shop.items", "shop.orders"]) {
            row.name = name.to_owned();
        }
        view.collections[2].examples = vec!["1007 has other values in the target".to_owned()];
        let text = "Every document that was written was read again in its transaction and was as wanted. What differs now \
                    was written since, or has expired.";
        view.notes = vec![Note { failed: false, text: text.to_owned() }];
        view.before = Some(Before::sample_documents());
        view
    }

    /// One whose proof matches, of a snapshot that lacks something.
    pub fn sample_missing() -> Self {
        let mut view = Self::sample();
        let text = "public.payroll is not in the snapshot: permission denied".to_owned();
        view.notes.push(Note { failed: true, text });
        view
    }

    /// One whose target was altered.
    pub fn sample_differs() -> Self {
        let mut view = Self::sample();
        view.matches = false;
        view.differences = 2;
        view.sequence_differences =
            vec!["sequence public.orders_id_seq: stands at 40061, not at 40060".to_owned()];
        view.collections[2].matches = false;
        view.collections[2].found_root.replace_range(..8, "deadbeef");
        view.collections[2].differences = 1;
        view.collections[2].examples = vec!["(1007): status".to_owned()];
        view.notes
            .push(Note { failed: true, text: "The trigger orders_touch could not be made.".to_owned() });
        view.schema_differences = vec!["public.orders: trigger orders_touch is missing".to_owned()];
        view
    }
}

/// The whole page.
pub fn page(view: &Result) -> Markup {
    let body = html! {
        h1 { "Restore of " (view.database.name) }
        (progress_steps(4))
        (verdict(view))
        dl.facts.card.padded {
            (fact("From", &html! { a href=(urls::snapshot(&view.snapshot)) { "Snapshot of " (view.database.name) } ", " (format::time_absolute(view.at_ms)) }))
            (fact("Into", &html! { code { (view.target) } }))
            (fact("Records written", &html! { (format::count(view.records)) }))
            (fact("Took", &html! { (format::duration(view.took_ms)) }))
            (fact("Finished", &format::time(view.finished_ms, view.shell.now_ms)))
        }
        @if let Some(before) = &view.before { (restore_undo::section(before, view.shell.now_ms)) }
        section.card aria-label="Proof" { (proofs(view)) }
        @if !view.sequence_differences.is_empty() {
            section.card.padded {
                h2 { "Sequences that differ" }
                ul { @for difference in &view.sequence_differences { li { (difference) } } }
            }
        }
        @if !view.schema_differences.is_empty() {
            section.card.padded {
                h2 { "Schema differences" }
                p.muted { "The roots above cover the records. The schema was compared apart from them." }
                ul { @for difference in &view.schema_differences { li { (difference) } } }
            }
        }
        @if !view.remarks.is_empty() {
            section.card.padded {
                h2 { "Beside the proof" }
                ul { @for remark in &view.remarks { li { (remark) } } }
            }
        }
        @if !view.notes.is_empty() {
            section.card.padded {
                h2 { "Notes" }
                ul.notes { @for note in &view.notes { li { @if note.failed { (icons::warning()) "Missing: " } (note.text) } } }
            }
        }
    };
    let crumbs = super::restores::crumbs();
    let undoing = view.before.as_ref().is_some_and(Before::is_open);
    Frame::new(&view.shell, &format!("Restore of {}", view.database.name), Section::Restores, &crumbs)
        .refreshing(undoing)
        .render(&body)
}

fn verdict(view: &Result) -> Markup {
    let missing: Vec<_> = view.notes.iter().filter(|note| note.failed).collect();
    html! {
        @if view.matches && !missing.is_empty() {
            div role="status" {
                (warning(&html! {
                    p { strong { "Finished, but something of the snapshot is missing" } }
                    ul { @for note in missing { li { (note.text) } } }
                    p { (read_again(view)) (exception(view)) "." }
                }))
            }
        } @else if view.matches {
            div.notice.good role="status" {
                @if view.before.is_some() {
                    p { (icons::ok()) strong { "Proof: the restored " (view.system.records()) " match the snapshot" } }
                    p { (read_again(view)) (exception(view)) "." }
                } @else {
                    p { (icons::ok()) strong { "Proof: the restored database matches the snapshot" } }
                    p { (read_again(view)) (exception(view)) "." }
                }
            }
        } @else {
            div.notice.bad role="status" {
                p { (icons::failed()) strong { "Finished with " (format::count_of(view.differences, "difference")) } }
                @if records_match(view) {
                    p { "Every record is the snapshot's. What differs is listed below." }
                } @else if view.before.is_some() {
                    p { "The target does not hold what was planned. The list below says where, and the notes how that can be." }
                } @else {
                    p { "The target does not hold what the snapshot holds. The list below says where." }
                }
            }
        }
    }
}

/// What the proof rests on, where all of it matches.
fn read_again(view: &Result) -> String {
    let word = view.system.collection();
    let is = if view.before.is_some() { "as planned" } else { "the one in the snapshot" };
    match view.collections.len() as u64 {
        1 => format!("The {word} was read again from the target, and its root hash is {is}"),
        count => format!(
            "All {} were read again from the target, and every root hash is {is}",
            format::count_of(count, word)
        ),
    }
}

fn records_match(view: &Result) -> bool {
    view.collections.iter().all(|row| row.matches) && view.sequence_differences.is_empty()
}

/// Large objects may hold the same with another root: a page of zeros is as good as no page, and
/// they may belong to somebody else.
fn exception(view: &Result) -> &'static str {
    let differs = |row: &CollectionProof| row.matches && row.expected_root != row.found_root;
    if view.collections.iter().any(differs) {
        ", but for the large objects, which were compared one by one: each holds the same bytes"
    } else {
        ""
    }
}

fn proofs(view: &Result) -> Markup {
    let word = view.system.collection();
    scrolling(
        &format!("Proof by {word}"),
        &html! {
            table.stacked {
                caption { "Proof by " (word) ": the root hash as it is to be, and that of what the target holds" }
                thead { tr {
                    th scope="col" { (view.system.collection_heading()) }
                    th scope="col" { "Result" }
                    th scope="col" { @if view.before.is_some() { "Root as planned" } @else { "Root in the snapshot" } }
                    th scope="col" { "Root in the target" }
                    th scope="col" { "Differing records" }
                } }
                tbody { @for row in &view.collections { (proof_row(view.system, row)) } }
            }
        },
    )
}

fn proof_row(system: System, row: &CollectionProof) -> Markup {
    html! {
        tr {
            th scope="row" { code { (row.name) } }
            td data-label="Result" {
                @if row.matches {
                    span.state.good { (icons::ok()) "Matches" }
                } @else {
                    span.state.bad { (icons::failed()) "Differs" }
                }
            }
            td data-label="Root to be" { (short_id(&row.expected_root)) }
            td data-label="Root found" { @if row.found_root.is_empty() { span.null { "no such " (system.collection()) } } @else { (short_id(&row.found_root)) } }
            td data-label="Differing" {
                @if row.differences > 0 {
                    (format::count(row.differences))
                    @if !row.examples.is_empty() { div.sub.wrap { "for example " (row.examples.join("; ")) } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matching_proof_with_something_missing_is_no_plain_success() {
        let html = page(&Result::sample_missing()).into_string();
        assert!(html.contains("Finished, but something of the snapshot is missing"), "{html}");
        assert!(!html.contains("notice good"), "{html}");
        let mut holes = Result::sample();
        holes.collections[0].found_root.replace_range(..8, "deadbeef");
        assert!(page(&holes).into_string().contains("but for the large objects"));
        let whole = page(&Result::sample()).into_string();
        assert!(whole.contains("notice good") && !whole.contains("is missing"), "{whole}");
        assert!(!whole.contains("large objects") && !whole.contains("Sequences"), "{whole}");
        let differs = page(&Result::sample_differs()).into_string();
        assert!(differs.contains("2 differences") && differs.contains("not at 40060"), "{differs}");
    }
}
