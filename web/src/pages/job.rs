//! A job on a page of its own.

use maud::{Markup, html};

use super::Named;
use crate::{
    components::{
        fact,
        job::{self, Job},
        short_id,
        table::scrolling,
        tag::Thoroughness,
    },
    format,
    layout::{Frame, Section, Shell},
    urls,
};

/// What a clean-up removed, or would remove.
#[derive(Clone, Copy, Debug)]
pub struct Pruned {
    /// Whether it only looked.
    pub dry_run: bool,
    /// Deleted snapshots.
    pub snapshots: u64,
    /// Objects that no snapshot needs.
    pub objects: u64,
    /// Bytes that come free.
    pub bytes: u64,
    /// Bytes of objects that stay.
    pub bytes_kept: u64,
    /// Whether a grace time has yet to pass before anything goes.
    pub is_waiting: bool,
}

/// What a verification found.
#[derive(Clone, Debug)]
pub struct Verified {
    /// What it read.
    pub thoroughness: Thoroughness,
    /// Objects read.
    pub objects: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Snapshots that nothing wrong hurts.
    pub undamaged: u64,
    /// What is wrong; of much, the beginning.
    pub damaged: Vec<Damaged>,
    /// How much is wrong in all.
    pub damaged_total: u64,
}

/// Something that is wrong, and whom it hurts.
#[derive(Clone, Debug)]
pub struct Damaged {
    /// The object or file.
    pub object: String,
    /// The collection it belongs to, if it belongs to one.
    pub collection: String,
    /// The keys that cannot be read, in words.
    pub key_range: String,
    /// What is wrong.
    pub reason: String,
    /// The snapshots that need it.
    pub snapshots: Vec<String>,
}

/// A job and where it belongs.
#[derive(Clone, Debug)]
pub struct JobPage {
    /// The frame.
    pub shell: Shell,
    /// The project it is done in.
    pub project: Named,
    /// The database it is about, if it is about one.
    pub database: Option<Named>,
    /// The job.
    pub job: Job,
    /// What a clean-up found.
    pub pruned: Option<Pruned>,
    /// What a verification found.
    pub verified: Option<Verified>,
}

impl JobPage {
    /// A backup under way.
    pub fn sample() -> Self {
        Self {
            shell: Shell::sample(),
            project: Named::new("p1", "Web shop"),
            database: Some(Named::new("d1", "shop")),
            job: Job::sample(),
            pruned: None,
            verified: None,
        }
    }

    /// A verification that found nothing wrong.
    pub fn sample_verified() -> Self {
        let finished_ms = Some(crate::samples::NOW_MS - 1_000);
        let progress = job::Progress { records: 20_114, bytes_read: 412_000_000, ..job::Progress::default() };
        let (kind, state) = (job::Kind::Verify, job::State::Succeeded);
        let verified = Verified {
            thoroughness: Thoroughness::Full,
            objects: 20_114,
            bytes: 412_000_000,
            undamaged: 31,
            damaged: Vec::new(),
            damaged_total: 0,
        };
        let job = Job { kind, state, finished_ms, progress, ..Job::sample() };
        Self { database: None, job, verified: Some(verified), ..Self::sample() }
    }

    /// One that found damage.
    pub fn sample_damaged() -> Self {
        let mut view = Self::sample_verified();
        let damaged = |collection: &str, key_range: &str| Damaged {
            object: crate::samples::SNAPSHOT_ID.to_owned(),
            collection: collection.to_owned(),
            key_range: key_range.to_owned(),
            reason: "a sealed frame does not open: it was changed, moved, or sealed under another key"
                .to_owned(),
            snapshots: vec![crate::samples::SNAPSHOT_ID[..32].to_owned(); 2],
        };
        if let Some(verified) = &mut view.verified {
            verified.damaged = vec![damaged("public.orders", "after 4100 up to 4388"), damaged("", "")];
            verified.damaged[1].snapshots.clear();
            (verified.undamaged, verified.damaged_total) = (29, 2);
        }
        view
    }

    /// A clean-up that only looked.
    pub fn sample_pruned() -> Self {
        let finished_ms = Some(crate::samples::NOW_MS - 1_000);
        let (kind, state) = (job::Kind::Prune, job::State::Succeeded);
        let job = Job { kind, state, finished_ms, progress: job::Progress::default(), ..Job::sample() };
        let (objects, bytes, bytes_kept) = (1_204, 38_400_000, 412_000_000);
        let pruned = Pruned { dry_run: true, snapshots: 3, objects, bytes, bytes_kept, is_waiting: false };
        Self { database: None, job, pruned: Some(pruned), ..Self::sample() }
    }

    /// A backup that the server's end cut off.
    pub fn sample_interrupted() -> Self {
        Self { job: Job::sample_interrupted(), ..Self::sample() }
    }

    /// A backup that failed.
    pub fn sample_failed() -> Self {
        Self { job: Job::sample_failed(), ..Self::sample() }
    }
}

/// The whole page.
pub fn page(view: &JobPage) -> Markup {
    let title = match &view.database {
        Some(database) => format!("{} of {}", view.job.kind.name(), database.name),
        None => view.job.kind.name().to_owned(),
    };
    let body = html! {
        h1 { (title) }
        section.card.padded aria-label="Progress" {
            (job::live(&view.job, view.shell.now_ms, &urls::job(&view.job.id)))
        }
        @if let Some(pruned) = &view.pruned { (outcome(view, pruned)) }
        @if let Some(verified) = &view.verified { (found(view, verified)) }
    };
    let mut crumbs = vec![
        ("Projects", urls::PROJECTS.to_owned()),
        (view.project.name.as_str(), urls::project(&view.project.id)),
    ];
    if let Some(database) = &view.database {
        crumbs.push((database.name.as_str(), urls::database(&database.id)));
    }
    Frame::new(&view.shell, &title, Section::Projects, &crumbs)
        .refreshing(view.job.state.is_open())
        .render(&body)
}

fn outcome(view: &JobPage, pruned: &Pruned) -> Markup {
    let heading = if pruned.dry_run { "What would go" } else { "What went" };
    html! {
        section.card.padded aria-labelledby="pruned" {
            h2 #pruned { (heading) }
            dl.facts {
                (fact("Deleted snapshots", &html! { (format::count(pruned.snapshots)) }))
                (fact("Objects that no snapshot needs", &html! { (format::count(pruned.objects)) }))
                (fact("Space that comes free", &html! { (format::bytes(pruned.bytes)) }))
                (fact("Space that stays in use", &html! { (format::bytes(pruned.bytes_kept)) }))
            }
            @if pruned.is_waiting {
                p { "The server's grace time has yet to pass. A later clean-up removes them." }
            }
            @if pruned.dry_run {
                form.inline method="post" action=(urls::prune(&view.project.id)) {
                    input type="hidden" name="dry_run" value="false";
                    button.danger-quiet type="submit" { "Remove it now" }
                }
            }
            p { a href=(urls::settings(&view.project.id)) { "Back to the project's settings" } }
        }
    }
}

fn found(view: &JobPage, verified: &Verified) -> Markup {
    html! {
        section.card.padded aria-labelledby="verified" {
            h2 #verified {
                @if verified.damaged_total == 0 { "Nothing is wrong" } @else { "Damage was found" }
            }
            dl.facts {
                (fact("Read", &html! { (verified.thoroughness.words()) }))
                (fact("Objects", &html! { (format::count(verified.objects)) }))
                (fact("Bytes", &html! { (format::bytes(verified.bytes)) }))
                (fact("Undamaged snapshots", &html! { (format::count(verified.undamaged)) }))
            }
            @if verified.damaged_total > 0 {
                p {
                    "Collections that are not named here can be read and restored. The next backup stores anew what the "
                    "database still has of the rest."
                }
            }
            p { a href=(urls::project(&view.project.id)) { "Back to the project" } }
        }
        @if verified.damaged_total > 0 { section.card { (damages(verified)) } }
    }
}

fn damages(verified: &Verified) -> Markup {
    let shown = verified.damaged.len() as u64;
    scrolling(
        "What is wrong",
        &html! {
            table {
                caption {
                    "What is wrong"
                    @if shown < verified.damaged_total {
                        ": the first " (format::count(shown)) " of " (format::count(verified.damaged_total))
                    }
                }
                thead { tr {
                    th scope="col" { "Collection" }
                    th scope="col" { "Keys" }
                    th scope="col" { "Snapshots" }
                    th scope="col" { "What" }
                } }
                tbody {
                    @for damaged in &verified.damaged {
                        tr {
                            th scope="row" {
                                @if damaged.collection.is_empty() { span.muted { "None" } } @else { code { (damaged.collection) } }
                            }
                            td { div.wrap { (damaged.key_range) } }
                            td {
                                @if damaged.snapshots.is_empty() { span.muted { "No snapshot needs it" } }
                                @for id in &damaged.snapshots {
                                    div { a href=(urls::snapshot(id)) { (short_id(id)) } }
                                }
                            }
                            td { div.wrap { (damaged.reason) div.sub { (short_id(&damaged.object)) } } }
                        }
                    }
                }
            }
        },
    )
}

/// What live updates send.
pub fn fragment(job: &Job, now_ms: i64) -> Markup {
    job::progress(job, now_ms)
}
