//! A collection's options: which of them make it, which have to wait, and which it can do without.

use bson::{RawDocument, RawDocumentBuf};
use repo_format::bson::{Element, kind};

use super::archive::{Definition, Form};
use super::raw::{self, Builder};
use crate::error::Result;
use crate::source::mongodb::wire;

/// What refuses documents, or deletes them, once they are there.
const VALIDATION: [&str; 3] = ["validator", "validationLevel", "validationAction"];
/// Fields of the command `create` that are no options of the collection, and those that belong to
/// the source's server. A collection could not be made with them.
const NO_OPTIONS: [&str; 9] =
    ["create", "uuid", "comment", "writeConcern", "lsid", "$db", "$clusterTime", "temp", "autoIndexId"];
/// Options that change neither what a collection holds nor what it accepts. A server may refuse
/// them for reasons of its own.
const INCIDENTAL: [&str; 4] = ["storageEngine", "indexOptionDefaults", "flags", "recordPreImages"];
/// The bucket spans that the named granularities stand for, in seconds.
const SPANS: [(&str, i64); 3] = [("seconds", 3_600), ("minutes", 86_400), ("hours", 2_592_000)];

/// A collection's options, divided by when they are applied.
#[derive(Clone, Debug, Default)]
pub(super) struct Divided {
    /// For the command `create`.
    pub create: Vec<Owned>,
    /// For `collMod`, once the documents are there.
    pub validation: Vec<Owned>,
    /// For `collMod`, once the restore is proven: seconds until documents expire.
    pub expiry: Option<Owned>,
    /// Names of options that are left out.
    pub left_out: Vec<String>,
}

/// One option, as the source's server gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owned {
    pub kind: u8,
    pub name: Vec<u8>,
    pub value: Vec<u8>,
}

impl Owned {
    fn of(element: &Element<'_>) -> Self {
        Self { kind: element.kind, name: element.name.to_vec(), value: element.value.to_vec() }
    }

    /// The option as an element.
    pub fn element(&self) -> Element<'_> {
        Element { kind: self.kind, name: &self.name, value: &self.value }
    }

    /// Its value as a whole number; none when it is no number.
    pub fn integer(&self) -> Option<i64> {
        wire::whole_number(self.kind, &self.value)
    }

    /// Its name, for messages.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }

    /// Whether a collection is the same without it.
    pub fn is_incidental(&self) -> bool {
        INCIDENTAL.iter().any(|name| name.as_bytes() == self.name)
    }
}

/// Divides the options of a collection. An option that is there twice counts once, as it does for
/// the server.
pub(super) fn divide(definition: &Definition) -> Result<Divided> {
    let mut divided = Divided::default();
    let mut seen: Vec<&[u8]> = Vec::new();
    for element in &raw::elements(&definition.options)? {
        let name = String::from_utf8_lossy(element.name);
        if seen.contains(&element.name) {
            divided.left_out.push(format!("{name} (which was there twice)"));
        } else if NO_OPTIONS.contains(&&*name) {
            // Every collection has an index on _id, and says so in old versions.
            let is_usual = name == "autoIndexId" && raw::flag(&definition.options, "autoIndexId")?;
            if !is_usual {
                divided.left_out.push(name.into_owned());
            }
        } else if definition.form != Form::View && VALIDATION.contains(&&*name) {
            divided.validation.push(Owned::of(element));
        } else if name == "expireAfterSeconds" {
            divided.expiry = Some(Owned::of(element));
        } else if name == "timeseries" && element.kind == kind::DOCUMENT {
            divided.create.push(time_series(element)?);
        } else {
            divided.create.push(Owned::of(element));
        }
        seen.push(element.name);
    }
    Ok(divided)
}

/// Servers list the span of a granularity beside it, and not all of them take both.
fn time_series(element: &Element<'_>) -> Result<Owned> {
    let options = raw::document(element.value.to_vec())?;
    let granularity = raw::text(&options, "granularity")?;
    let span = raw::integer(&options, "bucketMaxSpanSeconds")?;
    let says_twice = SPANS.iter().any(|(name, usual)| granularity == *name && span == Some(*usual));
    if !says_twice {
        return Ok(Owned::of(element));
    }
    let mut kept = Builder::new();
    for part in raw::elements(&options)?.iter().filter(|part| part.name != b"bucketMaxSpanSeconds") {
        kept.push_element(part);
    }
    Ok(Owned { value: kept.finish()?.as_bytes().to_vec(), ..Owned::of(element) })
}

/// A command that begins with `start` and has these options.
pub(super) fn command<'a>(
    start: &RawDocument,
    options: impl IntoIterator<Item = &'a Owned>,
) -> Result<RawDocumentBuf> {
    let mut command = Builder::from_document(start)?;
    for option in options {
        command.push_element(&option.element());
    }
    command.finish()
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    fn of(form: Form, options: RawDocumentBuf) -> Divided {
        let definition = Definition {
            namespace: "a".to_owned(),
            database: "a".to_owned(),
            name: "c".to_owned(),
            form,
            options,
            indexes: Vec::new(),
            search_indexes: Vec::new(),
        };
        divide(&definition).unwrap()
    }

    fn names(options: &[Owned]) -> Vec<String> {
        options.iter().map(Owned::shown).collect()
    }

    #[test]
    fn what_judges_or_deletes_documents_waits() {
        let divided = of(
            Form::Collection,
            rawdoc! { "capped": true, "validator": { "a": 1 }, "size": 4096, "validationLevel": "moderate",
            "expireAfterSeconds": 60, "create": "x", "autoIndexId": true, "temp": true },
        );
        assert_eq!(names(&divided.create), ["capped", "size"]);
        assert_eq!(names(&divided.validation), ["validator", "validationLevel"]);
        assert_eq!(divided.expiry.unwrap().value, 60i32.to_le_bytes());
        assert_eq!(divided.left_out, ["create", "temp"]);
    }

    #[test]
    fn an_option_that_is_there_twice_counts_once() {
        let mut options = Builder::from_document(&rawdoc! { "size": 1 }).unwrap();
        options.push(kind::INT32, b"size", &2i32.to_le_bytes());
        let divided = of(Form::Collection, options.finish().unwrap());
        assert_eq!(divided.create.len(), 1);
        assert_eq!(divided.create[0].value, 1i32.to_le_bytes());
        assert_eq!(divided.left_out, ["size (which was there twice)"]);
    }

    #[test]
    fn a_span_is_left_out_where_the_granularity_says_it() {
        let series = |options: RawDocumentBuf| {
            let divided = of(Form::TimeSeries, rawdoc! { "timeseries": options });
            raw::document(divided.create[0].value.clone()).unwrap()
        };
        let usual =
            series(rawdoc! { "timeField": "t", "granularity": "minutes", "bucketMaxSpanSeconds": 86_400 });
        assert_eq!(usual, rawdoc! { "timeField": "t", "granularity": "minutes" });
        let own = rawdoc! { "timeField": "t", "bucketMaxSpanSeconds": 900, "bucketRoundingSeconds": 900 };
        assert_eq!(series(own.clone()), own);
    }

    #[test]
    fn commands_hold_options_as_they_were() {
        let divided =
            of(Form::View, rawdoc! { "viewOn": "c", "pipeline": [{ "$sort": { "b": 1, "a": -1 } }] });
        let command = command(&rawdoc! { "create": "v" }, &divided.create).unwrap();
        let wanted = rawdoc! { "create": "v", "viewOn": "c", "pipeline": [{ "$sort": { "b": 1, "a": -1 } }] };
        assert_eq!(command, wanted);
    }
}
