//! Indexes, from the specifications that the source's server gave.

use bson::{RawDocument, RawDocumentBuf, rawdoc};
use repo_format::bson::kind;

use super::archive::{Definition, Form};
use super::raw::{self, Builder};
use crate::error::Result;
use crate::target::Note;

/// The collation that compares bytes. An index without one takes its collection's.
const SIMPLE: &str = "simple";

/// An index as it is to be built.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Index {
    pub name: String,
    pub specification: RawDocumentBuf,
    /// It deletes documents after a time.
    pub expires: bool,
    /// It is to become unique: documents are refused as if it were.
    pub prepares_unique: bool,
}

/// What is to be done about a specification of the archive.
enum Found {
    Build(Index),
    /// It comes with its collection.
    Included,
    /// It was being built when the snapshot was taken.
    Unfinished(String),
}

/// The indexes of a collection that are to be built, and notes on those that are not.
pub(super) fn indexes(definition: &Definition) -> Result<(Vec<Index>, Vec<Note>)> {
    let (mut build, mut notes) = (Vec::new(), Vec::new());
    if definition.form == Form::View {
        return Ok((build, notes));
    }
    let has_collation = definition.has("collation")?;
    for specification in &definition.indexes {
        match read(specification, has_collation)? {
            Found::Build(index) => build.push(index),
            Found::Included => {}
            Found::Unfinished(name) => notes.push(Note::remark(format!(
                "index {name} of {} was still being built in the source and is not restored",
                definition.display_name()
            ))),
        }
    }
    Ok((build, notes))
}

fn read(specification: &RawDocument, has_collation: bool) -> Result<Found> {
    if raw::find(specification, "buildUUID")?.is_some() {
        return Ok(Found::Unfinished(raw::text(&raw::inner(specification, "spec")?, "name")?));
    }
    let name = raw::text(specification, "name")?;
    // An index {_id: "hashed"} has another name: only the default one is called this.
    if name == "_id_" || raw::flag(specification, "clustered")? {
        return Ok(Found::Included);
    }
    let prepares_unique = raw::flag(specification, "prepareUnique")?;
    let expires = raw::find(specification, "expireAfterSeconds")?.is_some();
    let specification = restated(specification, has_collation)?;
    Ok(Found::Build(Index { name, specification, expires, prepares_unique }))
}

/// The specification as a server takes it and means the same by it.
fn restated(specification: &RawDocument, has_collation: bool) -> Result<RawDocumentBuf> {
    let version = raw::integer(specification, "v")?;
    let (mut restated, mut collation) = (Builder::new(), false);
    for element in &raw::elements(specification)? {
        let is_collation = element.name == b"collation";
        // Where the index was says nothing of it. Version 1 has no collations; newer servers list one
        // all the same.
        if element.name == b"ns" || (is_collation && version == Some(1)) {
            continue;
        }
        collation |= is_collation;
        restated.push_element(element);
    }
    if has_collation && !collation && version != Some(1) {
        restated.push_document("collation", rawdoc! { "locale": SIMPLE }.as_bytes());
    }
    let is_sphere = kinds(specification)?.iter().any(|kind| kind == "2dsphere");
    // The first version did not say which it was; a new one would index other documents.
    if is_sphere && raw::find(specification, "2dsphereIndexVersion")?.is_none() {
        restated.push(kind::INT32, b"2dsphereIndexVersion", &1i32.to_le_bytes());
    }
    restated.finish()
}

/// The kind of each of its fields that has one, as in "2dsphere" or "hashed".
pub(super) fn kinds(specification: &RawDocument) -> Result<Vec<String>> {
    let key = raw::inner(specification, "key")?;
    let parts = raw::elements(&key)?;
    let named = parts.iter().filter(|part| part.kind == kind::STRING);
    named.map(|part| raw::text(&key, &String::from_utf8_lossy(part.name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(options: RawDocumentBuf, indexes: Vec<RawDocumentBuf>) -> Definition {
        Definition {
            namespace: "a".to_owned(),
            database: "a".to_owned(),
            name: "c".to_owned(),
            form: Form::Collection,
            options,
            indexes,
            search_indexes: Vec::new(),
        }
    }

    fn one(options: RawDocumentBuf, index: RawDocumentBuf) -> Index {
        let (mut build, notes) = indexes(&definition(options, vec![index])).unwrap();
        assert_eq!((build.len(), notes), (1, vec![]));
        build.remove(0)
    }

    #[test]
    fn what_comes_with_a_collection_is_not_built() {
        let given = vec![
            rawdoc! { "v": 2, "key": { "_id": 1 }, "name": "_id_", "ns": "a.c" },
            rawdoc! { "v": 2, "key": { "_id": 1 }, "name": "own", "unique": true, "clustered": true },
            rawdoc! { "v": 2, "key": { "_id": "hashed" }, "name": "_id_hashed" },
            rawdoc! { "spec": { "v": 2, "key": { "a": 1 }, "name": "a_1" }, "buildUUID": "x" },
        ];
        let (build, notes) = indexes(&definition(rawdoc! {}, given)).unwrap();
        assert_eq!(build.iter().map(|index| index.name.as_str()).collect::<Vec<_>>(), ["_id_hashed"]);
        assert!(notes.len() == 1 && notes[0].text.contains("a_1") && !notes[0].failed);
    }

    #[test]
    fn specifications_stay_as_they_were_but_for_their_place() {
        let given = rawdoc! { "v": 2, "key": { "a": 1, "b": -1 }, "name": "x", "ns": "old.c", "background": true,
        "partialFilterExpression": {}, "hidden": true, "expireAfterSeconds": 5 };
        let wanted = rawdoc! { "v": 2, "key": { "a": 1, "b": -1 }, "name": "x", "background": true,
        "partialFilterExpression": {}, "hidden": true, "expireAfterSeconds": 5 };
        let index = one(rawdoc! {}, given);
        assert_eq!(index.specification, wanted);
        assert!(index.expires && !index.prepares_unique);
    }

    #[test]
    fn an_index_does_not_take_over_its_collections_collation() {
        let collated = || rawdoc! { "collation": { "locale": "de" } };
        let plain = || rawdoc! { "v": 2, "key": { "a": 1 }, "name": "x" };
        let simple = rawdoc! { "v": 2, "key": { "a": 1 }, "name": "x", "collation": { "locale": "simple" } };
        assert_eq!(one(collated(), plain()).specification, simple);
        assert_eq!(one(rawdoc! {}, plain()).specification, plain());
        assert_eq!(one(rawdoc! {}, simple.clone()).specification, simple);
        let own = rawdoc! { "v": 2, "key": { "a": 1 }, "name": "x", "collation": { "locale": "fr" } };
        assert_eq!(one(collated(), own.clone()).specification, own);
        let old = rawdoc! { "v": 1, "key": { "a": 1 }, "name": "x", "collation": { "locale": "simple" } };
        assert_eq!(one(rawdoc! {}, old).specification, rawdoc! { "v": 1, "key": { "a": 1 }, "name": "x" });
    }

    #[test]
    fn an_old_sphere_stays_old() {
        let old = one(rawdoc! {}, rawdoc! { "v": 1, "key": { "at": "2dsphere" }, "name": "x" });
        let wanted = rawdoc! { "v": 1, "key": { "at": "2dsphere" }, "name": "x", "2dsphereIndexVersion": 1 };
        assert_eq!(old.specification, wanted);
        assert_eq!(kinds(&old.specification).unwrap(), ["2dsphere"]);
        let new = rawdoc! { "v": 2, "key": { "at": "2dsphere" }, "name": "x", "2dsphereIndexVersion": 3 };
        assert_eq!(one(rawdoc! {}, new.clone()).specification, new);
    }
}
