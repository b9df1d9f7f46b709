//! Small labels: a word, and a colour that only repeats it.

use maud::{Markup, html};

use super::icons;

/// What a database is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// Customers depend on it.
    Prod,
    /// It rehearses production.
    Staging,
    /// Nobody depends on it.
    Dev,
}

impl Environment {
    /// All, as the form lists them.
    pub const ALL: [Self; 3] = [Self::Prod, Self::Staging, Self::Dev];

    /// Its value in forms and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prod => "prod",
            Self::Staging => "staging",
            Self::Dev => "dev",
        }
    }

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prod => "Production",
            Self::Staging => "Staging",
            Self::Dev => "Development",
        }
    }
}

/// The label of an environment.
pub fn environment(environment: Environment) -> Markup {
    html! { span.tag.(environment.as_str()) { (environment.as_str()) } }
}

/// How a snapshot came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Somebody pressed the button.
    Manual,
    /// The schedule.
    Schedule,
    /// A restore that was about to overwrite.
    Safety,
}

impl Trigger {
    /// In a word or two.
    pub fn name(self) -> &'static str {
        match self {
            Self::Manual => "Manual",
            Self::Schedule => "Schedule",
            Self::Safety => "Before a restore",
        }
    }
}

/// Whether a snapshot holds everything: a sign and the word.
pub fn completeness(complete: bool) -> Markup {
    html! {
        @if complete {
            span.state { (icons::ok()) "Complete" }
        } @else {
            span.state.warn { (icons::warning()) "Incomplete" }
        }
    }
}

/// The label of a snapshot whose records may be of different moments; nothing for all others.
pub fn moments(point_in_time: bool) -> Markup {
    html! { @if !point_in_time { span.tag.mixed { "not point-in-time" } } }
}

/// The label of a snapshot that nothing deletes; nothing for all others.
pub fn pinned(pinned: bool) -> Markup {
    html! { @if pinned { span.tag.pinned { (icons::pin()) "pinned" } } }
}

/// How thorough a verification was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thoroughness {
    /// What leads to other objects.
    Structure,
    /// That, and a part of the others.
    Sample,
    /// Every byte.
    Full,
}

impl Thoroughness {
    /// All, as the form lists them.
    pub const ALL: [Self; 3] = [Self::Sample, Self::Full, Self::Structure];

    /// Its value in forms and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Structure => "structure",
            Self::Sample => "sample",
            Self::Full => "full",
        }
    }

    /// What it reads, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Structure => "the structure",
            Self::Sample => "a sample",
            Self::Full => "every byte",
        }
    }
}
