//! What a definition asks of its server: the release it needs, and what no release has any more.

use super::archive::{Definition, Form};
use super::indexes::{indexes, kinds};
use super::inspect::Release;
use super::raw;
use crate::error::Result;

/// Options of collections, and the release that brought each. Those of every supported release are
/// 0.0; of an option that is not here nothing is known.
const OPTIONS: [(&str, Release); 19] = [
    ("capped", Release(0, 0)),
    ("size", Release(0, 0)),
    ("max", Release(0, 0)),
    ("collation", Release(0, 0)),
    ("validator", Release(0, 0)),
    ("validationLevel", Release(0, 0)),
    ("validationAction", Release(0, 0)),
    ("viewOn", Release(0, 0)),
    ("pipeline", Release(0, 0)),
    ("storageEngine", Release(0, 0)),
    ("indexOptionDefaults", Release(0, 0)),
    ("autoIndexId", Release(0, 0)),
    ("temp", Release(0, 0)),
    ("flags", Release(0, 0)),
    ("expireAfterSeconds", Release(5, 0)),
    ("timeseries", Release(5, 0)),
    ("recordPreImages", Release(5, 0)),
    ("clusteredIndex", Release(5, 3)),
    ("changeStreamPreAndPostImages", Release(6, 0)),
];

/// Options inside `timeseries` that came later than it.
const SERIES_OPTIONS: [(&str, Release); 2] =
    [("bucketMaxSpanSeconds", Release(6, 3)), ("bucketRoundingSeconds", Release(6, 3))];

/// Options of indexes that came later than the oldest supported release.
const INDEX_OPTIONS: [(&str, Release); 2] =
    [("prepareUnique", Release(6, 0)), ("columnstoreProjection", Release(6, 1))];

/// Kinds of index that are gone, and the release that has them no more.
const GONE: [(&str, Release); 2] = [("geoHaystack", Release(5, 0)), ("columnstore", Release(7, 0))];

/// What `definition` asks for that a server of `release` does not have, in words.
pub(super) fn lacking(definition: &Definition, release: Release) -> Result<Vec<String>> {
    let name = definition.display_name();
    let mut lacking = Vec::new();
    for element in raw::elements(&definition.options)? {
        let option = String::from_utf8_lossy(element.name).into_owned();
        match OPTIONS.iter().find(|(known, _)| *known == option) {
            Some((_, since)) if *since > release => {
                lacking.push(format!("{option} of {name} (from {since} on)"));
            }
            Some(_) => {}
            None => lacking.push(format!("{option} of {name} (not known)")),
        }
    }
    let series = raw::inner(&definition.options, "timeseries")?;
    lacking.extend(since(&series, &SERIES_OPTIONS, release, &format!("time series {name}"))?);
    for index in &indexes(definition)?.0 {
        let index_name = format!("index {} of {name}", index.name);
        lacking.extend(since(&index.specification, &INDEX_OPTIONS, release, &index_name)?);
    }
    Ok(lacking)
}

fn since(
    document: &bson::RawDocument,
    known: &[(&str, Release)],
    release: Release,
    of: &str,
) -> Result<Vec<String>> {
    let mut lacking = Vec::new();
    for (option, since) in known.iter().filter(|(_, since)| *since > release) {
        if raw::find(document, option)?.is_some() {
            lacking.push(format!("{option} of {of} (from {since} on)"));
        }
    }
    Ok(lacking)
}

/// Indexes of kinds that a server of `release` has no more: they are left out.
pub(super) fn gone(definition: &Definition, release: Release) -> Result<Vec<String>> {
    let mut gone = Vec::new();
    for index in &indexes(definition)?.0 {
        for kind in kinds(&index.specification)? {
            if GONE.iter().any(|(name, until)| *name == kind && release >= *until) {
                gone.push(format!("{} of {} ({kind})", index.name, definition.display_name()));
            }
        }
    }
    Ok(gone)
}

/// Whether the collection is part of what Queryable Encryption keeps: its documents are of no use
/// without collections that only the driver may write.
pub(super) fn is_queryably_encrypted(definition: &Definition) -> Result<bool> {
    let name = &definition.name;
    let is_state =
        name.starts_with("enxcol_.") && [".esc", ".ecoc", ".ecc"].iter().any(|end| name.ends_with(end));
    Ok(is_state || definition.has("encryptedFields")?)
}

/// Names of definitions of a form.
pub(super) fn of_form(definitions: &[Definition], form: Form) -> Vec<String> {
    definitions.iter().filter(|found| found.form == form).map(Definition::display_name).collect()
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, rawdoc};

    use super::*;

    fn definition(name: &str, options: RawDocumentBuf, indexes: Vec<RawDocumentBuf>) -> Definition {
        Definition {
            namespace: "a".to_owned(),
            database: "a".to_owned(),
            name: name.to_owned(),
            form: Form::Collection,
            options,
            indexes,
            search_indexes: Vec::new(),
        }
    }

    #[test]
    fn what_came_later_is_lacking_in_an_older_server() {
        let index = rawdoc! { "v": 2, "key": { "a": 1 }, "name": "x", "prepareUnique": true };
        let series = rawdoc! { "timeseries": { "timeField": "t", "bucketMaxSpanSeconds": 60 } };
        let series = definition("s", series, vec![]);
        let plain = definition("p", rawdoc! { "capped": true, "size": 1 }, vec![index]);
        assert_eq!(lacking(&series, Release(6, 0)).unwrap().len(), 1);
        assert_eq!(lacking(&series, Release(4, 4)).unwrap().len(), 2);
        assert!(lacking(&series, Release(7, 0)).unwrap().is_empty());
        assert_eq!(
            lacking(&plain, Release(5, 0)).unwrap(),
            ["prepareUnique of index x of a.p (from 6.0 on)"]
        );
        let new = definition("n", rawdoc! { "futureOption": 1 }, vec![]);
        assert_eq!(lacking(&new, Release(8, 0)).unwrap(), ["futureOption of a.n (not known)"]);
    }

    #[test]
    fn kinds_of_index_that_are_gone_are_named() {
        let haystack =
            rawdoc! { "v": 2, "key": { "at": "geoHaystack", "a": 1 }, "name": "h", "bucketSize": 1 };
        let sphere = rawdoc! { "v": 2, "key": { "at": "2dsphere" }, "name": "s" };
        let places = definition("places", rawdoc! {}, vec![haystack, sphere]);
        assert_eq!(gone(&places, Release(5, 0)).unwrap(), ["h of a.places (geoHaystack)"]);
        assert!(gone(&places, Release(4, 4)).unwrap().is_empty());
    }

    #[test]
    fn queryable_encryption_is_seen_by_option_and_by_name() {
        let is = |name: &str, options: RawDocumentBuf| {
            is_queryably_encrypted(&definition(name, options, vec![])).unwrap()
        };
        assert!(is("people", rawdoc! { "encryptedFields": { "fields": [] } }));
        assert!(is("enxcol_.people.esc", rawdoc! {}));
        assert!(!is("enxcol_", rawdoc! {}) && !is("people", rawdoc! { "capped": true }));
    }
}
