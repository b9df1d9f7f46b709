//! What people paste where a URL is asked for: a command, a line of a settings file, another driver's
//! spelling.

use percent_encoding::percent_decode_str;

use crate::error::{Error, Kind, Result};

/// Programs whose command lines are copied instead of the URL in them.
const PROGRAMS: [&str; 7] = ["psql", "pg_dump", "pg_restore", "pgcli", "mongosh", "mongo", "export"];
const QUOTES: [(char, char); 6] =
    [('"', '"'), ('\'', '\''), ('`', '`'), ('<', '>'), ('\u{201c}', '\u{201d}'), ('\u{2018}', '\u{2019}')];

/// The URL, or the `key=value` form, within a text. What it does not know it leaves as it is, to be
/// refused by whoever reads it.
///
/// # Errors
/// [`Kind::Invalid`] when there is more than a URL; nothing of the text is repeated.
pub(super) fn url_of(text: &str) -> Result<&str> {
    let (mut text, mut is_command) = (text.trim(), false);
    loop {
        let before = text;
        text = text.trim_end_matches(';').trim();
        if let Some(arguments) = without_command(text) {
            (text, is_command) = (arguments, true);
        }
        text = without_quotes(without_variable(text))?;
        if text == before {
            break;
        }
    }
    if is_command && text.contains("://") && text.contains(char::is_whitespace) {
        return Err(more_than_a_url());
    }
    // JDBC's spelling is the same but for its beginning.
    Ok(match text.get(..5) {
        Some(start) if start.eq_ignore_ascii_case("jdbc:") => &text[5..],
        _ => text,
    })
}

/// A part of a URL without its percent-encoding; `what` names the part.
///
/// # Errors
/// [`Kind::Invalid`] for a % that encodes nothing, and for bytes that are no text.
pub(super) fn decode(part: &str, what: &str) -> Result<String> {
    let invalid = |message: String| Error::new(Kind::Invalid, message);
    let mut bytes = part.bytes();
    while let Some(byte) = bytes.next() {
        let hex = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
        if byte == b'%' && !(hex(bytes.next()) && hex(bytes.next())) {
            return Err(invalid(format!("the {what} holds a % that is not followed by two hex digits"))
                .with_help("A plain % is written %25."));
        }
    }
    let decoded = percent_decode_str(part).decode_utf8();
    decoded
        .map(|text| text.into_owned())
        .map_err(|_| invalid(format!("the {what} is not UTF-8 once decoded")))
}

fn without_quotes(text: &str) -> Result<&str> {
    let Some((opening, closing)) = QUOTES.iter().find(|(opening, _)| text.starts_with(*opening)) else {
        return Ok(text);
    };
    // The last one: a password may hold quotes.
    match text[opening.len_utf8()..].rsplit_once(*closing) {
        Some((inside, "")) => Ok(inside.trim()),
        Some(_) => Err(more_than_a_url()),
        None => {
            Err(Error::new(Kind::Invalid, "the URL begins with a quotation mark and does not end with one")
                .with_help("Paste the URL without quotation marks."))
        }
    }
}

/// What follows the name of a program.
fn without_command(text: &str) -> Option<&str> {
    let (program, rest) = text.split_once(char::is_whitespace)?;
    PROGRAMS.contains(&program).then_some(rest.trim())
}

/// `DATABASE_URL=URL`. A `key=value` form has names in small letters.
fn without_variable(text: &str) -> &str {
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    };
    match text.split_once('=') {
        Some((name, value)) if is_name(name) => value.trim(),
        _ => text,
    }
}

fn more_than_a_url() -> Error {
    Error::new(Kind::Invalid, "this is a command with more than a URL in it").with_help(
        "Paste the URL alone. What the options after it say belongs into it: user, password, host, port and \
         database, as in mongodb://user:password@host:27017/database.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_around_a_url_is_taken_off() {
        let url = "mongodb://u:p'\"x@h:1/d?a=b";
        for text in [
            url.to_owned(),
            format!(" \n{url}\t"),
            format!("\"{url}\""),
            format!("'{url}'"),
            format!("\u{201c}{url}\u{201d}"),
            format!("mongosh \"{url}\""),
            format!("mongosh   {url}  "),
            format!("mongo ' {url} '"),
            format!("psql \"{url}\""),
            format!("DATABASE_URL={url}"),
            format!("export DATABASE_URL=\"{url}\";"),
            format!("jdbc:{url}"),
        ] {
            assert_eq!(url_of(&text).unwrap(), url, "{text}");
        }
        for text in ["mongosh://u", "host=h user=u", ""] {
            assert_eq!(url_of(text).unwrap(), text);
        }
        assert_eq!(url_of("psql -h h -U u").unwrap(), "-h h -U u");
        assert_eq!(url_of("psql 'host=h user=u'").unwrap(), "host=h user=u");
    }

    #[test]
    fn what_is_more_than_a_url_is_told_without_repeating_it() {
        for (text, said) in [
            ("mongosh \"mongodb+srv://c.example.net/\" --apiVersion 1 --username secret", "more than a URL"),
            ("mongosh mongodb://h/d --password secret", "more than a URL"),
            ("\"mongodb://h/d\" secret", "more than a URL"),
            ("\"mongodb://u:secret@h/d", "does not end with one"),
        ] {
            let error = url_of(text).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid);
            assert!(error.message().contains(said) && error.help().is_some(), "{text}: {error}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }
}
