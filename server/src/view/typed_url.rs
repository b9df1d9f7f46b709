//! A database URL as somebody typed it, to be shown again on a form without its secrets.

use engine::source::postgres::PostgresUrl;

/// What may be shown again.
#[derive(Debug, PartialEq, Eq)]
pub struct TypedUrl {
    /// The URL without any password.
    pub shown: String,
    /// Whether there was something to take out.
    pub password_removed: bool,
}

/// Takes passwords out of `text`, whether it is a URL or only nearly one. Where it is in doubt what
/// is secret, more is taken out rather than less.
pub fn without_password(text: &str) -> TypedUrl {
    let text = text.trim();
    if let Ok(url) = PostgresUrl::parse(text) {
        let redacted = url.redacted();
        let shown = redacted.replacen(":***@", "@", 1);
        return TypedUrl { password_removed: shown != redacted, shown };
    }
    let shown = without_parameters(&without_credentials(text));
    TypedUrl { password_removed: shown != text, shown }
}

/// A password that was not percent-encoded may hold any of `:/?@`, so all up to the last `@` goes.
/// Text without either `://` or `@` is no URL: it may be a password pasted into the wrong field.
fn without_credentials(text: &str) -> String {
    let start = text.find("://").map(|at| at + 3);
    let Some(at) = text.rfind('@') else {
        return if start.is_some() { text.to_owned() } else { String::new() };
    };
    let start = start.filter(|start| *start <= at).unwrap_or(0);
    match text[start..at].find(':') {
        Some(colon) => format!("{}{}", &text[..start + colon], &text[at..]),
        None => text.to_owned(),
    }
}

/// Ends the text before a parameter that carries a password. `to_ascii_lowercase` keeps positions.
fn without_parameters(text: &str) -> String {
    let end = text.to_ascii_lowercase().find("password=").unwrap_or(text.len());
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_url_loses_only_its_password() {
        let typed = without_password(" postgresql://me:hunter2@db.internal:5433/shop?sslmode=require ");
        assert_eq!(typed.shown, "postgres://me@db.internal:5433/shop?sslmode=require");
        assert!(typed.password_removed);
        assert!(!without_password("postgres://me@db/shop").password_removed);
    }

    #[test]
    fn nothing_that_may_be_secret_comes_back() {
        for text in [
            "postgres://me:hunter2@host:99999/db",
            "postgres://me:hunter2/hunter2@host/db",
            "postgres://me:hunter2@hunter2@host:x/db",
            "mysql://me:hunter2@h/d",
            "me:hunter2@host/db",
            "hunter2",
            "postgres://host:x/db?user=me&password=hunter2",
            "postgres://me@host/db?sslpassword=hunter2",
            "postgres://host/db?PASSWORD=hunter2&sslmode=wrong",
        ] {
            let typed = without_password(text);
            assert!(!typed.shown.contains("hunter2"), "{text}: {}", typed.shown);
            assert!(typed.password_removed, "{text}");
        }
    }

    #[test]
    fn what_is_left_helps_to_mend_the_rest() {
        assert_eq!(without_password("mysql://me:pw@h/d").shown, "mysql://me@h/d");
        assert_eq!(without_password("postgres:///db").shown, "postgres:///db");
    }
}
