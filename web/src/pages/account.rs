//! Signing in and registering.

use maud::{Markup, html};

use crate::{
    components::{Problem, alert, form::Field},
    layout::{Frame, Section, Shell},
    urls,
};

/// Which of the two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Into an existing account.
    SignIn,
    /// A new account.
    Register,
}

/// A way in by another site.
#[derive(Clone, Debug)]
pub struct SignInLink {
    /// The site's name.
    pub name: String,
    /// Where it begins.
    pub url: String,
}

impl SignInLink {
    /// By `provider`, leading to `next` afterwards.
    pub fn new(provider: &str, name: &str, next: Option<&str>) -> Self {
        Self { name: name.to_owned(), url: urls::sign_in_with(provider, next) }
    }
}

/// The form for signing in or registering.
#[derive(Clone, Debug)]
pub struct Account {
    /// The frame.
    pub shell: Shell,
    /// Which form.
    pub purpose: Purpose,
    /// What was typed; the password never comes back.
    pub email: String,
    /// Why it was not accepted.
    pub problem: Option<Problem>,
    /// Whether a new account may be made here.
    pub signup_open: bool,
    /// Ways in by other sites.
    pub providers: Vec<SignInLink>,
    /// A local address to go to afterwards.
    pub next: Option<String>,
}

impl Account {
    /// A refused sign-in.
    pub fn sample() -> Self {
        Self {
            shell: Shell::signed_out(crate::samples::NOW_MS),
            purpose: Purpose::SignIn,
            email: "mira@example.com".to_owned(),
            problem: Some(Problem::new("E-mail and password do not match an account.")),
            signup_open: true,
            providers: Vec::new(),
            next: Some("/databases/d1".to_owned()),
        }
    }

    /// With providers to sign in by.
    pub fn sample_providers() -> Self {
        let link = |word, name| SignInLink::new(word, name, Some("/databases/d1"));
        Self {
            problem: None,
            providers: vec![link("github", "GitHub"), link("google", "Google")],
            ..Self::sample()
        }
    }

    /// The first account of a new server.
    pub fn sample_register() -> Self {
        Self { purpose: Purpose::Register, email: String::new(), problem: None, next: None, ..Self::sample() }
    }
}

/// The whole page.
pub fn page(view: &Account) -> Markup {
    let (title, action, button) = match view.purpose {
        Purpose::SignIn => ("Sign in", urls::LOGIN, "Sign in"),
        Purpose::Register => ("Create an account", urls::REGISTER, "Create account"),
    };
    let is_closed = view.purpose == Purpose::Register && !view.signup_open;
    let body = html! {
        div.narrow {
            h1 { (title) }
            @if view.purpose == Purpose::Register {
                p.lead { "Snapshots, diffs and proven restores of your databases, kept on this server." }
            }
            @if let Some(problem) = &view.problem { (alert(problem)) }
            @if is_closed {
                p { "This server takes no new accounts. Ask its operator for one." }
            } @else { (form(view, action, button)) }
            @match view.purpose {
                Purpose::Register => p.muted { "Already have an account? " a href=(urls::LOGIN) { "Sign in" } },
                Purpose::SignIn if view.signup_open => {
                    p.muted { "New here? " a href=(urls::REGISTER) { "Create an account" } }
                }
                Purpose::SignIn => {}
            }
        }
    };
    Frame::new(&view.shell, title, Section::None, &[]).render(&body)
}

fn form(view: &Account, action: &str, button: &str) -> Markup {
    html! {
        form.stack method="post" action=(action) {
            (Field { kind: "email", autocomplete: "username", ..Field::text("email", "E-mail", &view.email) }.render())
            (password(view.purpose))
            @if let Some(next) = &view.next { input type="hidden" name="next" value=(next); }
            button.primary type="submit" { (button) }
        }
        @for provider in &view.providers {
            p { a.button href=(provider.url) { "Continue with " (provider.name) } }
        }
    }
}

fn password(purpose: Purpose) -> Markup {
    let field = Field { kind: "password", ..Field::text("password", "Password", "") };
    match purpose {
        Purpose::SignIn => Field { autocomplete: "current-password", ..field }.render(),
        Purpose::Register => {
            Field { autocomplete: "new-password", ..field }.hint("At least 8 characters.").render()
        }
    }
}
