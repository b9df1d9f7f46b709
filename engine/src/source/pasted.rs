//! What is pasted where a URL belongs.

use crate::error::{Error, Kind, Result};

/// Programs whose command lines are copied instead of the URL in them.
const PROGRAMS: [&str; 3] = ["mongosh", "mongo", "psql"];
const QUOTES: [(char, char); 5] = [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('‘', '’')];

/// The URL in a text: without blanks and quotes around it, and without the program before it.
///
/// # Errors
/// [`Kind::Invalid`] when there is more than a URL; nothing of the text is repeated.
pub(super) fn url_of(text: &str) -> Result<&str> {
    let text = text.trim();
    let after_program = PROGRAMS.iter().find_map(|program| {
        text.strip_prefix(program).filter(|rest| rest.starts_with(char::is_whitespace)).map(str::trim_start)
    });
    let rest = after_program.unwrap_or(text);
    let closing = QUOTES.iter().find(|(opening, _)| rest.starts_with(*opening)).map(|(_, closing)| *closing);
    let (url, more) = match closing {
        Some(closing) => {
            let inside = &rest[rest.chars().next().map_or(0, char::len_utf8)..];
            // The last one: a password may hold quotes.
            inside.rsplit_once(closing).ok_or_else(|| {
                Error::new(Kind::Invalid, "the URL begins with a quotation mark and does not end with one")
                    .with_help("Paste the URL without quotation marks.")
            })?
        }
        None if after_program.is_some() => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        None => (rest, ""),
    };
    if !more.trim().is_empty() {
        return Err(Error::new(Kind::Invalid, "this is a command with more than a URL in it").with_help(
            "Paste the URL alone. What the options after it say belongs into it: user, password, host, port and \
             database, as in mongodb://user:password@host:27017/database.",
        ));
    }
    Ok(url.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_programs_around_a_url_are_taken_off() {
        let url = "mongodb://u:p'\"x@h:1/d?a=b";
        for text in [
            url.to_owned(),
            format!(" \n{url}\t"),
            format!("\"{url}\""),
            format!("'{url}'"),
            format!("“{url}”"),
            format!("mongosh \"{url}\""),
            format!("mongosh   {url}  "),
            format!("mongo ' {url} '"),
        ] {
            assert_eq!(url_of(&text).unwrap(), url, "{text}");
        }
        assert_eq!(url_of("mongosh://u").unwrap(), "mongosh://u");
        assert_eq!(url_of("").unwrap(), "");
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
