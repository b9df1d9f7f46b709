//! A database URL as somebody typed it, to be shown again on a form without its secrets.

use engine::source::DatabaseUrl;

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
    if let Ok(url) = DatabaseUrl::parse(text) {
        let redacted = url.redacted();
        let shown = without_parameters(&redacted.replacen(":***@", "@", 1));
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
        return start.map_or_else(String::new, |start| without_wrong_port(text, start));
    };
    let start = start.filter(|start| *start <= at).unwrap_or(0);
    match text[start..at].find(':') {
        Some(colon) => format!("{}{}", &text[..start + colon], &text[at..]),
        None => text.to_owned(),
    }
}

/// What stands in a port's place and is no port may be the password of a URL that was pasted in part.
fn without_wrong_port(text: &str, start: usize) -> String {
    let end = text[start..].find(['/', '?']).map_or(text.len(), |at| start + at);
    let mut host_start = start;
    for host in text[start..end].split(',') {
        let port =
            host.rfind(':').filter(|colon| !host[colon + 1..].bytes().all(|byte| byte.is_ascii_digit()));
        if let Some(colon) = port {
            return text[..host_start + colon].to_owned();
        }
        host_start += host.len() + 1;
    }
    text.to_owned()
}

/// Ends the text before a parameter that carries a secret. `to_ascii_lowercase` keeps positions.
fn without_parameters(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let secrets = ["password=", "aws_session_token", "aws_secret", "tlscertificatekey="];
    let end = secrets.iter().filter_map(|name| lower.find(name)).min().unwrap_or(text.len());
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
            "host=db user=me password=hunter2 dbname=shop",
            "host=db user=me password='hunter2 hunter2",
            "psql \"postgres://me:hunter2@host/db\"",
            "psql postgres://me:hunter2@host:99999/db",
            "jdbc:postgresql://host/db?user=me&password=hunter2",
            "DATABASE_URL=postgres://me:hunter2@host/db",
            "hunter2",
            "postgres://host:x/db?user=me&password=hunter2",
            "postgres://me@host/db?sslpassword=hunter2",
            "postgres://host/db?PASSWORD=hunter2&sslmode=wrong",
            "mongodb://me:hunter2@a,b:27018/shop?replicaSet=rs0",
            "mongodb+srv://me:hunter2@cluster0.example.mongodb.net/?retryWrites=true",
            "mongodb+srv://me:hunter2@cluster0.example.mongodb.net:27017/shop",
            "mongodb://me:hunter2@hunter2@a:x,b/shop",
            "mongodb://me:hunter2/hunter2@a",
            "mongodb://me:hunter2",
            "MONGODB://me:hunter2@a/b/c/d",
            "mongodb://me@a/?tls=true&tlsCertificateKeyFilePassword=hunter2",
            "mongodb://a/?tls=true&tlsCertificateKey=hunter2",
            "mongodb://me@a/?authMechanism=MONGODB-AWS&authMechanismProperties=AWS_SESSION_TOKEN:hunter2",
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
        assert_eq!(without_password("mysql://a:1,b:2/d").shown, "mysql://a:1,b:2/d");
    }
}
