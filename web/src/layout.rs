//! What every page has around its content.

use maud::{DOCTYPE, Markup, html};

use crate::{assets, components::icons, urls};

/// What the frame of a page needs to know.
#[derive(Clone, Debug)]
pub struct Shell {
    /// The signed-in account; none on the pages before signing in.
    pub email: Option<String>,
    /// Now, for relative times.
    pub now_ms: i64,
}

impl Shell {
    /// The frame of the samples: signed in.
    pub fn sample() -> Self {
        Self { email: Some("mira@example.com".to_owned()), now_ms: crate::samples::NOW_MS }
    }

    /// The frame before signing in.
    pub fn signed_out(now_ms: i64) -> Self {
        Self { email: None, now_ms }
    }
}

/// The part of the product a page belongs to, marked in the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Projects, their databases, snapshots and comparisons.
    Projects,
    /// Restores.
    Restores,
    /// The audit log.
    Audit,
    /// None of them.
    None,
}

/// A step of the way to this page: words and address.
pub type Crumb<'a> = (&'a str, String);

/// A page around its `body`.
pub struct Frame<'a> {
    /// The frame's facts.
    pub shell: &'a Shell,
    /// The title of the tab, without the product's name.
    pub title: &'a str,
    /// Where it belongs.
    pub section: Section,
    /// The way here, without the page itself.
    pub crumbs: &'a [Crumb<'a>],
    /// Whether the content may use the whole width (tables of records).
    pub wide: bool,
    /// Seconds after which the page loads again where scripts are off, for work under way.
    pub refresh_seconds: Option<u32>,
}

impl<'a> Frame<'a> {
    /// A page of ordinary width.
    pub fn new(shell: &'a Shell, title: &'a str, section: Section, crumbs: &'a [Crumb<'a>]) -> Self {
        Self { shell, title, section, crumbs, wide: false, refresh_seconds: None }
    }

    /// Lets the content use the whole width.
    #[must_use]
    pub fn wide(mut self) -> Self {
        self.wide = true;
        self
    }

    /// Loads the page again every few seconds where scripts are off, when `running`.
    #[must_use]
    pub fn refreshing(mut self, running: bool) -> Self {
        self.refresh_seconds = running.then_some(3);
        self
    }

    /// The whole document.
    pub fn render(&self, body: &Markup) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) " · DBSnap" }
                    link rel="icon" type="image/svg+xml" href=(assets::ICON.url());
                    link rel="stylesheet" href=(assets::STYLE.url());
                    script type="module" src=(assets::SCRIPT.url()) {}
                    @if let Some(seconds) = self.refresh_seconds {
                        noscript { meta http-equiv="refresh" content=(seconds); }
                    }
                }
                body {
                    a.skip href="#content" { "Skip to content" }
                    (self.header())
                    main #content tabindex="-1" .wide[self.wide] {
                        @if !self.crumbs.is_empty() { (self.breadcrumbs()) }
                        (body)
                    }
                }
            }
        }
    }

    fn header(&self) -> Markup {
        let signed_in = self.shell.email.is_some();
        html! {
            header.top {
                a.brand href=(if signed_in { urls::PROJECTS } else { urls::LOGIN }) {
                    (icons::brand()) span { "DBSnap" }
                }
                @if let Some(email) = &self.shell.email {
                    nav aria-label="Main" {
                        (self.nav_link(urls::PROJECTS, "Projects", Section::Projects))
                        (self.nav_link(urls::RESTORES, "Restores", Section::Restores))
                        (self.nav_link(urls::AUDIT, "Audit log", Section::Audit))
                    }
                    form.account method="post" action=(urls::LOGOUT) {
                        a.email href=(urls::ACCOUNT) { (icons::account()) span { (email) } }
                        button.quiet type="submit" { "Sign out" }
                    }
                }
            }
        }
    }

    fn nav_link(&self, url: &str, words: &str, section: Section) -> Markup {
        html! { a href=(url) aria-current=[(self.section == section).then_some("true")] { (words) } }
    }

    fn breadcrumbs(&self) -> Markup {
        html! {
            nav.crumbs aria-label="Breadcrumb" {
                ol {
                    @for (words, url) in self.crumbs { li { a href=(url) { (words) } } }
                }
            }
        }
    }
}
