//! The schema archive: what each collection was, and where it goes.

use std::collections::{BTreeMap, BTreeSet};

use bson::{RawBsonRef, RawDocument, RawDocumentBuf};

use super::raw;
use crate::error::{Error, Kind, Result};
use crate::source::dotted_name;
use crate::target::Restoring;

/// What a collection is to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// It holds documents.
    Collection,
    /// It is a query over others.
    View,
    /// It holds measurements.
    TimeSeries,
}

/// One collection as the server described it.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    /// The database it was in.
    pub namespace: String,
    /// The database it goes to.
    pub database: String,
    /// Its name in both.
    pub name: String,
    /// What it is.
    pub form: Form,
    /// The options of `listCollections`.
    pub options: RawDocumentBuf,
    /// The specifications of `listIndexes`.
    pub indexes: Vec<RawDocumentBuf>,
    /// Names of its search indexes.
    pub search_indexes: Vec<String>,
}

impl Definition {
    /// Its name in the target, as outsiders write it.
    pub fn display_name(&self) -> String {
        dotted_name(&self.database, &self.name)
    }

    /// Whether an option is there.
    pub fn has(&self, option: &str) -> Result<bool> {
        Ok(raw::find(&self.options, option)?.is_some())
    }
}

/// Where a collection of `namespace` goes.
pub(super) fn placed<'a>(database: Option<&'a str>, namespace: &'a str) -> &'a str {
    database.unwrap_or(namespace)
}

/// The definitions of the collections in scope, by database and name in the target.
pub(super) fn definitions(database: Option<&str>, restoring: &Restoring<'_>) -> Result<Vec<Definition>> {
    let mut wanted: BTreeSet<&(String, String)> = restoring.collections.iter().collect();
    let mut found: BTreeMap<(String, String), Definition> = BTreeMap::new();
    let mut rest = restoring.archive;
    while !rest.is_empty() {
        let (entry, after) = split(rest)?;
        rest = after;
        let entry = raw::document(entry.to_vec())?;
        let key = (text(&entry, "db")?, text(&entry, "name")?);
        if !wanted.remove(&key) {
            continue;
        }
        let definition = definition(&entry, database, key)?;
        let place = (definition.database.clone(), definition.name.clone());
        if let Some(other) = found.insert(place, definition) {
            let message = format!(
                "several collections would become {}, one of them {}",
                other.display_name(),
                dotted_name(&other.namespace, &other.name)
            );
            return Err(Error::new(Kind::Invalid, message).with_help(
                "Leave the database out of the target's URL, or choose collections of one database.",
            ));
        }
    }
    if let Some((namespace, name)) = wanted.first() {
        let name = dotted_name(namespace, name);
        return Err(Error::damaged(format!("the schema archive does not describe {name}")));
    }
    Ok(found.into_values().collect())
}

/// The first document of the bytes, and what comes after it.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let cut = || Error::damaged("the schema archive ends inside a document");
    let head = bytes.first_chunk().ok_or_else(cut)?;
    let len = usize::try_from(i32::from_le_bytes(*head)).map_err(|_| cut())?;
    bytes.split_at_checked(len.max(5)).ok_or_else(cut)
}

fn definition(
    entry: &RawDocument,
    database: Option<&str>,
    (namespace, name): (String, String),
) -> Result<Definition> {
    let form = match text(entry, "type")?.as_str() {
        "collection" => Form::Collection,
        "view" => Form::View,
        "timeseries" => Form::TimeSeries,
        other => {
            let what = dotted_name(&namespace, &name);
            return Err(Error::new(Kind::Unsupported, format!("{what} is a {other}, which is not known"))
                .with_help("Leave it out of the restore."));
        }
    };
    let options = match entry.get("options").map_err(unreadable)? {
        Some(RawBsonRef::Document(options)) => options.to_owned(),
        _ => RawDocumentBuf::new(),
    };
    Ok(Definition {
        database: placed(database, &namespace).to_owned(),
        namespace,
        name,
        form,
        options,
        indexes: documents(entry, "indexes")?,
        search_indexes: documents(entry, "searchIndexes")?
            .iter()
            .map(|index| text(index, "name"))
            .collect::<Result<_>>()?,
    })
}

fn unreadable(error: bson::error::Error) -> Error {
    Error::damaged(format!("the schema archive cannot be read: {error}")).with_source(error)
}

fn text(document: &RawDocument, name: &str) -> Result<String> {
    document.get_str(name).map(str::to_owned).map_err(unreadable)
}

fn documents(document: &RawDocument, name: &str) -> Result<Vec<RawDocumentBuf>> {
    let Some(RawBsonRef::Array(array)) = document.get(name).map_err(unreadable)? else {
        return Ok(Vec::new());
    };
    let documents = array.into_iter().filter_map(|item| match item {
        Ok(RawBsonRef::Document(document)) => Some(Ok(document.to_owned())),
        Ok(_) => None,
        Err(error) => Some(Err(unreadable(error))),
    });
    documents.collect()
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;
    use repo_format::manifest::Source;

    use super::*;

    fn source() -> Source {
        Source {
            id: String::new(),
            name: String::new(),
            engine: "mongodb".to_owned(),
            version: "8.0.4".to_owned(),
            database: String::new(),
            encoding: String::new(),
            collation: String::new(),
            extensions: Vec::new(),
            system_identifier: None,
        }
    }

    fn read(archive: &[u8], database: Option<&str>, wanted: &[(&str, &str)]) -> Result<Vec<Definition>> {
        let collections: Vec<_> =
            wanted.iter().map(|(db, name)| ((*db).to_owned(), (*name).to_owned())).collect();
        let source = source();
        definitions(
            database,
            &Restoring { source: &source, archive, collections: &collections, unfilled_views: &[] },
        )
    }

    fn archive() -> Vec<u8> {
        let entry = |db: &str, name: &str| {
            rawdoc! { "db": db, "name": name, "type": "collection", "options": { "capped": true, "size": 1.0 },
            "indexes": [{ "v": 2, "key": { "_id": 1 }, "name": "_id_" }] }
        };
        [entry("a", "x"), entry("b", "x"), entry("b", "y")].map(|entry| entry.as_bytes().to_vec()).concat()
    }

    #[test]
    fn only_collections_in_scope_are_read_and_placed() {
        let found = read(&archive(), Some("t"), &[("a", "x"), ("b", "y")]).unwrap();
        let names: Vec<_> = found.iter().map(Definition::display_name).collect();
        assert_eq!(names, ["t.x", "t.y"]);
        assert_eq!((found[0].namespace.as_str(), found[0].indexes.len()), ("a", 1));
        assert!(found[0].has("capped").unwrap() && !found[0].has("collation").unwrap());
        let found = read(&archive(), None, &[("b", "x")]).unwrap();
        assert_eq!(found[0].display_name(), "b.x");
    }

    #[test]
    fn collections_that_would_become_one_are_refused() {
        let refused = read(&archive(), Some("t"), &[("a", "x"), ("b", "x")]).unwrap_err();
        assert_eq!(refused.kind(), Kind::Invalid);
        assert!(read(&archive(), None, &[("a", "x"), ("b", "x")]).is_ok());
    }

    #[test]
    fn what_the_archive_lacks_or_cuts_is_damage() {
        assert_eq!(read(&archive(), None, &[("c", "x")]).unwrap_err().kind(), Kind::Damaged);
        let whole = archive();
        for end in [1, 3, 4, whole.len() - 1] {
            assert_eq!(read(&whole[..end], None, &[]).unwrap_err().kind(), Kind::Damaged, "{end}");
        }
    }
}
