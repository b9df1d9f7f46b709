//! What collections are called outside, and which one a name from outside means.

use repo_format::catalog::Layout;

use super::Engine;

impl Engine {
    /// The engine that collections of this layout come from.
    pub(crate) fn of(layout: &Layout) -> Self {
        if layout.is_documents() { Self::MongoDb } else { Self::Postgres }
    }

    /// The name that outsiders use: `schema.table` quoted as in SQL where needed, or
    /// `database.collection` as it is.
    pub fn display_name(self, namespace: &str, name: &str) -> String {
        match self {
            Self::Postgres => sql_name(namespace, name),
            Self::MongoDb => dotted_name(namespace, name),
        }
    }

    /// The (namespace, name) of a name that [`display_name`](Self::display_name) made, or that a
    /// person wrote in its form.
    pub fn parse_display_name(self, text: &str) -> Option<(String, String)> {
        match self {
            Self::Postgres => parse_sql_name(text),
            // Databases of MongoDB have no dots in their names.
            Self::MongoDb => {
                let (database, name) = text.split_once('.')?;
                (!database.is_empty() && !name.is_empty()).then(|| (database.to_owned(), name.to_owned()))
            }
        }
    }
}

/// `namespace.name`, each part quoted as in SQL where it has to be.
pub(crate) fn sql_name(namespace: &str, name: &str) -> String {
    format!("{}.{}", quote_where_needed(namespace), quote_where_needed(name))
}

/// `database.collection`, as MongoDB writes namespaces.
pub(crate) fn dotted_name(database: &str, name: &str) -> String {
    format!("{database}.{name}")
}

fn quote_where_needed(part: &str) -> String {
    let plain = part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$');
    if plain { part.to_owned() } else { format!("\"{}\"", part.replace('"', "\"\"")) }
}

fn parse_sql_name(text: &str) -> Option<(String, String)> {
    let (namespace, rest) = parse_part(text)?;
    let (name, rest) = parse_part(rest.strip_prefix('.')?)?;
    rest.is_empty().then_some((namespace, name))
}

fn parse_part(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find('.').unwrap_or(text.len());
        let (part, rest) = text.split_at(end);
        return (!part.is_empty() && !part.contains('"')).then(|| (part.to_owned(), rest));
    };
    let (mut part, mut rest) = (String::new(), quoted);
    loop {
        let end = rest.find('"')?;
        part.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                part.push('"');
                rest = after;
            }
            None => return Some((part, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let odd =
            [("public", "orders"), ("My Schema", "a.b"), ("x", "say \"hi\""), ("ü", "Ü"), ("x", "a\nb")];
        for (namespace, name) in odd {
            for engine in [Engine::Postgres, Engine::MongoDb] {
                let text = engine.display_name(namespace, name);
                let read = engine.parse_display_name(&text);
                assert_eq!(read, Some((namespace.into(), name.into())), "{text}");
            }
        }
        for wrong in ["", "orders", ".", "a.", "\"a.b", "a.b.c\"", "a\"b.c"] {
            assert_eq!(Engine::Postgres.parse_display_name(wrong), None, "{wrong}");
        }
        for wrong in ["", "orders", ".", "a.", ".b"] {
            assert_eq!(Engine::MongoDb.parse_display_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_sql_names_are_quoted() {
        assert_eq!(Engine::Postgres.display_name("public", "fs.files"), "public.\"fs.files\"");
        assert_eq!(Engine::MongoDb.display_name("shop", "fs.files"), "shop.fs.files");
        assert_eq!(Engine::MongoDb.display_name("Shop", "say \"hi\""), "Shop.say \"hi\"");
        let (database, name) = Engine::MongoDb.parse_display_name("shop.a..b.").unwrap();
        assert_eq!((database.as_str(), name.as_str()), ("shop", "a..b."));
    }
}
