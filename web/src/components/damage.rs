//! What is said of snapshots that a verification found damaged, until a later one finds them whole.

use maud::{Markup, html};

use super::icons;
use crate::{format, urls};

/// Damage that a verification found.
#[derive(Clone, Debug)]
pub struct Damage {
    /// When it was found last.
    pub found_ms: i64,
    /// The verification's job.
    pub job: String,
}

impl Damage {
    /// Found an hour ago.
    pub fn sample() -> Self {
        Self { found_ms: crate::samples::NOW_MS - 3_600_000, job: "j7".to_owned() }
    }
}

/// The label of a damaged snapshot.
pub fn label() -> Markup {
    html! { span.state.bad { (icons::failed()) "Damaged" } }
}

/// A box that says what is damaged, where it is told in detail, and what to do. `what` is a sentence.
pub fn notice(what: &str, damage: &Damage, connected: bool, now_ms: i64) -> Markup {
    html! {
        div.notice.bad {
            p {
                (icons::failed()) strong { (what) } " "
                a href=(urls::job(&damage.job)) { "What was found" } ", " (format::ago(damage.found_ms, now_ms)) "."
            }
            p {
                @if connected {
                    "Back up now: what the database still holds is stored anew, for its older snapshots, too. "
                }
                "Then verify again, on the project's page: a snapshot that is whole by then is no longer told to be "
                "damaged. Of one that stays damaged, the collections that are not named there can be restored."
            }
        }
    }
}
