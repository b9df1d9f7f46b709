//! A project's settings: the keys that open its snapshots, and its end.

use maud::{Markup, html};

use super::Named;
use crate::{
    components::{
        Problem, alert, fact,
        form::{Field, post_button},
        table::scrolling,
        warning,
    },
    format,
    layout::{Frame, Section, Shell},
    urls,
};

/// What kind of key opens the snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// This or another server's key file.
    Server,
    /// A key in AWS KMS.
    Kms,
    /// A recovery key.
    Recovery,
    /// Its file is damaged.
    Damaged,
}

impl KeyKind {
    fn words(self) -> &'static str {
        match self {
            Self::Server => "Server key",
            Self::Kms => "AWS KMS",
            Self::Recovery => "Recovery key",
            Self::Damaged => "Damaged",
        }
    }
}

/// One key.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its slot's id.
    pub slot: String,
    /// Of what kind it is.
    pub kind: KeyKind,
    /// The name of the key in KMS.
    pub kms_key_id: Option<String>,
    /// Whether this server opened the snapshots with it just now.
    pub usable: bool,
}

impl Key {
    /// What is typed to remove it.
    pub fn confirmation(&self) -> &str {
        Self::confirmation_of(&self.slot)
    }

    /// What is typed to remove the key in `slot`.
    pub fn confirmation_of(slot: &str) -> &str {
        slot.get(..8).unwrap_or(slot)
    }
}

/// The settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The frame.
    pub shell: Shell,
    /// The project.
    pub project: Named,
    /// When it was made.
    pub created_ms: i64,
    /// When a recovery key was last made.
    pub recovery_key_ms: Option<i64>,
    /// Whether that one opens nothing any more.
    pub recovery_key_lost: bool,
    /// All keys.
    pub keys: Vec<Key>,
    /// The number of the data key in use.
    pub epoch: u32,
    /// Whether this server uses AWS KMS.
    pub has_kms: bool,
    /// Why the last request was not carried out.
    pub problem: Option<Problem>,
}

impl Settings {
    /// Without a recovery key.
    pub fn sample() -> Self {
        Self {
            shell: Shell::sample(),
            project: Named::new("p1", "Web shop"),
            created_ms: crate::samples::NOW_MS - 400_000_000,
            recovery_key_ms: None,
            recovery_key_lost: false,
            keys: vec![Key { slot: "5a1f".repeat(8), kind: KeyKind::Server, kms_key_id: None, usable: true }],
            epoch: 0,
            has_kms: false,
            problem: None,
        }
    }

    /// With one, and with a key in KMS.
    pub fn sample_saved() -> Self {
        let arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
        let mut keys = Self::sample().keys;
        keys.push(Key { slot: "7b20".repeat(8), kind: KeyKind::Recovery, kms_key_id: None, usable: false });
        keys.push(Key {
            slot: "9c31".repeat(8),
            kind: KeyKind::Kms,
            kms_key_id: Some(arn.to_owned()),
            usable: true,
        });
        let recovery_key_ms = Some(crate::samples::NOW_MS - 90_000_000);
        Self { recovery_key_ms, keys, epoch: 3, has_kms: true, ..Self::sample() }
    }

    /// With one that a verification found to be lost.
    pub fn sample_lost() -> Self {
        let recovery_key_ms = Some(crate::samples::NOW_MS - 90_000_000);
        Self { recovery_key_ms, recovery_key_lost: true, ..Self::sample() }
    }

    /// Somebody tried to remove the last key.
    pub fn sample_refused() -> Self {
        let problem = Problem::new("The last key stays").with_fix("Add another key first.");
        Self { problem: Some(problem), ..Self::sample() }
    }
}

/// The whole page.
pub fn page(view: &Settings) -> Markup {
    let now_ms = view.shell.now_ms;
    let body = html! {
        h1 { "Settings of " (view.project.name) }
        @if let Some(problem) = &view.problem { (alert(problem)) }
        section.card.padded aria-labelledby="recovery" {
            h2 #recovery { "Recovery key" }
            p {
                "Snapshots are encrypted. This server keeps a key that opens them; a recovery key opens them without it, "
                "on any other DBSnap server."
            }
            @match view.recovery_key_ms {
                None => {
                    (warning(&html! { p { strong { "None has been made." } " If this server's key file is lost, so are the snapshots." } }))
                    (post_button(&urls::recovery_key(&view.project.id), "Make a recovery key", "primary"))
                }
                Some(at_ms) if view.recovery_key_lost => {
                    (warning(&html! { p {
                        strong { "The recovery key that was written down opens nothing any more." }
                        " It was made on " (format::time(at_ms, now_ms)) ", and what it opened was lost from the storage. Make a new one."
                    } }))
                    (post_button(&urls::recovery_key(&view.project.id), "Make a recovery key", "primary"))
                }
                Some(at_ms) => {
                    p { "One was made on " (format::time(at_ms, now_ms)) ". It cannot be shown again; another can be made." }
                    (post_button(&urls::recovery_key(&view.project.id), "Make another recovery key", "plain"))
                }
            }
        }
        section.card.padded aria-labelledby="keys" {
            h2 #keys { "All keys" }
            p {
                "Each of these opens every snapshot. Removing one does not shut out whoever has already used it to copy "
                "the key within; what they copied opens what is stored here, now and later."
            }
            (keys(view))
            div.actions {
                (add_button(view, "server", "Add this server's key"))
                @if view.has_kms { (add_button(view, "kms", "Add a key of AWS KMS")) }
            }
        }
        section.card.padded aria-labelledby="data" {
            h2 #data { "Data key" }
            p {
                "New records are sealed under data key " (view.epoch) ". A new one limits how much is sealed under one key; "
                "what is stored stays readable and is not sealed again."
            }
            (post_button(&urls::key_epoch(&view.project.id), "Begin a new data key", "plain"))
        }
        section.card.padded aria-labelledby="clean-up" {
            h2 #clean-up { "Clean-up" }
            p {
                "Deleted snapshots leave behind what only they needed. A clean-up removes that, and merges small files. "
                "Backups, comparisons and restores may go on meanwhile."
            }
            form.inline method="post" action=(urls::prune(&view.project.id)) {
                input type="hidden" name="dry_run" value="true";
                button.plain type="submit" { "See what would go" }
            }
        }
        dl.facts.card.padded {
            (fact("Project", &html! { (view.project.name) }))
            (fact("Created", &format::time(view.created_ms, now_ms)))
        }
        (end(view))
    };
    let crumbs = [
        ("Projects", urls::PROJECTS.to_owned()),
        (view.project.name.as_str(), urls::project(&view.project.id)),
    ];
    Frame::new(&view.shell, &format!("Settings of {}", view.project.name), Section::Projects, &crumbs)
        .render(&body)
}

fn keys(view: &Settings) -> Markup {
    scrolling(
        "Keys",
        &html! {
            table {
                caption.visually-hidden { "Keys" }
                thead { tr {
                    th scope="col" { "Key" }
                    th scope="col" { "Opens here" }
                    th scope="col" { "Change" }
                } }
                tbody { @for key in &view.keys { (row(view, key)) } }
            }
        },
    )
}

fn row(view: &Settings, key: &Key) -> Markup {
    let opens = match (key.usable, key.kind) {
        (true, _) => "Yes",
        (false, KeyKind::Recovery) => "Only whoever has it knows",
        (false, _) => "No",
    };
    html! {
        tr {
            th scope="row" {
                (key.kind.words())
                div.sub { (key.kms_key_id.as_deref().unwrap_or_default()) " " code { (key.confirmation()) } }
            }
            td { (opens) }
            td {
                div.actions {
                    @if key.kind != KeyKind::Damaged {
                        (post_button(&urls::key_rotate(&view.project.id, &key.slot), "Replace", "plain"))
                    }
                }
                (removal(view, key))
            }
        }
    }
}

/// Folded away: whoever loses the wrong key loses the snapshots.
fn removal(view: &Settings, key: &Key) -> Markup {
    let field = Field::code("confirm", "Type the first eight characters of its id", "");
    html! {
        details.new {
            summary { "Remove" span.visually-hidden { " " (key.kind.words()) } }
            form.stack method="post" action=(urls::key_remove(&view.project.id, &key.slot)) {
                @if key.kind == KeyKind::Recovery {
                    p { "The recovery key that somebody keeps opens nothing any more." }
                }
                (Field { of: Some(&key.slot), ..field }.hint(key.confirmation()).render())
                div.actions { button.danger-quiet type="submit" { "Remove this key" } }
            }
        }
    }
}

fn add_button(view: &Settings, kind: &str, words: &str) -> Markup {
    html! {
        form.inline method="post" action=(urls::keys(&view.project.id)) {
            input type="hidden" name="kind" value=(kind);
            button.plain type="submit" { (words) }
        }
    }
}

fn end(view: &Settings) -> Markup {
    html! {
        section.card.padded aria-labelledby="delete" {
            h2 #delete { "Delete this project" }
            p {
                "First its keys are destroyed, then all its snapshots. No recovery key opens anything then, and nothing "
                "brings it back."
            }
            p {
                "It does not reach what is elsewhere: copies of the storage (backups, replicas, versions that a bucket keeps), "
                "a copied data folder together with a copied key, and what was exported or restored."
            }
            form.stack method="post" action=(urls::project_delete(&view.project.id)) {
                (Field::text("name", "Type the project's name to delete it", "").render())
                button.danger-quiet type="submit" { "Delete the project and its snapshots" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_deletes_looks_like_it() {
        let html = end(&Settings::sample()).into_string();
        assert!(
            html.contains(r#"<form class="stack""#) && html.contains(r#"<button class="danger-quiet""#),
            "{html}"
        );
    }
}
