//! The account: its password, what else opens it, and its end.

use maud::{Markup, html};

use super::account::SignInLink;
use crate::{
    components::{
        Problem, alert,
        form::{Field, post_button},
        note, warning,
    },
    format,
    layout::{Frame, Section, Shell},
    urls,
};

/// An identity at a provider that opens the account.
#[derive(Clone, Debug)]
pub struct Linked {
    /// The provider's word in addresses.
    pub provider: String,
    /// The provider's name.
    pub provider_name: String,
    /// What the provider calls the person.
    pub name: String,
    /// Since when it opens the account.
    pub linked_ms: i64,
}

/// What one of the forms led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was sent yet.
    None,
    /// The password is another now.
    PasswordChanged,
    /// It was not accepted.
    Refused(Problem),
}

/// The account's settings.
#[derive(Clone, Debug)]
pub struct AccountSettings {
    /// The frame.
    pub shell: Shell,
    /// The account's address.
    pub email: String,
    /// Whether a password opens it.
    pub has_password: bool,
    /// The identities that open it.
    pub linked: Vec<Linked>,
    /// The providers that could, too.
    pub linkable: Vec<SignInLink>,
    /// What the form that was sent led to.
    pub outcome: Outcome,
}

impl AccountSettings {
    /// With a password and an identity.
    pub fn sample() -> Self {
        Self {
            shell: Shell::sample(),
            email: "mira@example.com".to_owned(),
            has_password: true,
            linked: vec![Linked {
                provider: "github".to_owned(),
                provider_name: "GitHub".to_owned(),
                name: "mira".to_owned(),
                linked_ms: crate::samples::NOW_MS - 400_000_000,
            }],
            linkable: vec![SignInLink::new("google", "Google", Some(urls::ACCOUNT))],
            outcome: Outcome::None,
        }
    }

    /// Made by a provider's sign-in, after a wrong confirmation.
    pub fn sample_without_password() -> Self {
        let problem =
            Problem::new("The request cannot be used").with_fix("Type mira@example.com to confirm.");
        Self {
            has_password: false,
            linkable: Vec::new(),
            outcome: Outcome::Refused(problem),
            ..Self::sample()
        }
    }
}

/// The whole page.
pub fn page(view: &AccountSettings) -> Markup {
    let body = html! {
        h1 { "Your account" }
        p.lead { (view.email) }
        @match &view.outcome {
            Outcome::None => {}
            Outcome::PasswordChanged => (note(&html! { p { "The password is changed. Every other browser and program was signed out." } })),
            Outcome::Refused(problem) => (alert(problem)),
        }
        (password(view))
        @if !view.linked.is_empty() || !view.linkable.is_empty() { (identities(view)) }
        section.card.padded aria-labelledby="sessions" {
            h2 #sessions { "Sign out everywhere" }
            p { "Ends every session of this account, on every device, this one too. Access tokens of programs end with them." }
            (post_button(urls::ACCOUNT_SIGN_OUT, "Sign out everywhere", "plain"))
        }
        (deletion(view))
    };
    Frame::new(&view.shell, "Your account", Section::None, &[]).render(&body)
}

fn password(view: &AccountSettings) -> Markup {
    let field = |name, label| Field { kind: "password", ..Field::text(name, label, "") };
    let new = Field { autocomplete: "new-password", ..field("new_password", "New password") };
    html! {
        form.stack.card.padded method="post" action=(urls::ACCOUNT_PASSWORD) {
            h2 { (if view.has_password { "Change the password" } else { "Set a password" }) }
            @if view.has_password {
                (Field { autocomplete: "current-password", ..field("current_password", "Current password") }.render())
            }
            (new.hint("At least 8 characters. Every other session is signed out.").render())
            div.actions { button.primary type="submit" { "Save the password" } }
        }
    }
}

fn identities(view: &AccountSettings) -> Markup {
    html! {
        section.card.padded aria-labelledby="identities" {
            h2 #identities { "Other ways to sign in" }
            @for linked in &view.linked {
                form.inline method="post" action=(urls::ACCOUNT_UNLINK) {
                    input type="hidden" name="provider" value=(linked.provider);
                    p {
                        strong { (linked.provider_name) } " as " (linked.name) ", linked "
                        (format::time(linked.linked_ms, view.shell.now_ms)) " "
                        button.small type="submit" { "Unlink " (linked.provider_name) }
                    }
                }
            }
            @for link in &view.linkable {
                p { a.button href=(link.url) { "Link " (link.name) } }
            }
        }
    }
}

fn deletion(view: &AccountSettings) -> Markup {
    let confirm = Field::code("confirm", "Type your e-mail address", "");
    let password = Field {
        kind: "password",
        autocomplete: "current-password",
        ..Field::text("password", "Password", "")
    };
    html! {
        form.stack.card.padded method="post" action=(urls::ACCOUNT_DELETE) {
            h2 { "Delete the account" }
            (warning(&html! {
                p { strong { "All its projects go with it" } ", with every snapshot in them and the keys that open them. Nothing brings them back." }
            }))
            (confirm.hint(&view.email).render())
            @if view.has_password { (password.render()) }
            div.actions { button.danger-quiet type="submit" { "Delete the account and its snapshots" } }
        }
    }
}
