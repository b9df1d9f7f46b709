//! Everything that comes after the documents and before the proof: indexes, validators, views.

use bson::{Document, RawDocumentBuf, rawdoc};
use futures::{StreamExt, TryStreamExt, stream};
use repo_format::bson::kind;

use super::archive::{self, Definition};
use super::indexes::{Index, indexes};
use super::raw::{self, Builder};
use super::{Target, concern, fault, options};
use crate::error::Result;
use crate::target::{Note, Restoring};

/// Collections whose indexes are built at a time. A build reads its whole collection.
const COLLECTIONS: usize = 4;

impl Target {
    /// Builds indexes, then sets validators, then makes views.
    pub async fn post_data(&self, restoring: &Restoring<'_>) -> Result<Vec<Note>> {
        let definitions = archive::definitions(self.database.as_deref(), restoring)?;
        let mut notes = self.take_notes();
        let built: Vec<Vec<Note>> = stream::iter(&definitions)
            .map(|definition| self.build_indexes(definition))
            .buffered(COLLECTIONS)
            .try_collect()
            .await?;
        notes.extend(built.into_iter().flatten());
        for definition in &definitions {
            notes.extend(self.set_validator(definition).await?);
        }
        notes.extend(self.make_views(restoring).await?);
        Ok(notes)
    }

    async fn build_indexes(&self, definition: &Definition) -> Result<Vec<Note>> {
        let (build, mut notes) = indexes(definition)?;
        let (_, build): (Vec<_>, Vec<_>) = build.into_iter().partition(|index| index.expires);
        if build.is_empty() {
            return Ok(notes);
        }
        let doing = format!("building the indexes of {}", definition.display_name());
        let all: Vec<RawDocumentBuf> = build.iter().map(|index| index.specification.clone()).collect();
        // All or none: together they read the collection once.
        match self.create_indexes(definition, &doing, &all, false).await? {
            Ok(_) => return Ok(notes),
            Err(error) if fault::is_refusal(&error) => {}
            Err(error) => return Err(fault::command(&doing, error)),
        }
        for index in &build {
            let doing = format!("building index {} of {}", index.name, definition.display_name());
            notes.extend(self.build_index(definition, index, &doing).await?);
        }
        Ok(notes)
    }

    /// Builds one index, in other words where the server refuses the first ones. An index that
    /// cannot be had is noted; documents that break a unique one fail.
    pub(super) async fn build_index(
        &self,
        definition: &Definition,
        index: &Index,
        doing: &str,
    ) -> Result<Option<Note>> {
        let named = format!("index {} of {}", index.name, definition.display_name());
        let as_it_was = [index.specification.clone()];
        let refusal = match self.create_indexes(definition, doing, &as_it_was, false).await? {
            Ok(_) => return Ok(None),
            Err(error) if fault::is_refusal(&error) => error,
            Err(error) => return Err(fault::command(doing, error)),
        };
        let why = fault::message_of(&refusal);
        if index.prepares_unique {
            return self.build_and_prepare(definition, index, doing, &named).await;
        }
        let known_options = match self.create_indexes(definition, doing, &as_it_was, true).await? {
            Ok(_) => true,
            Err(error) if fault::is_refusal(&error) => false,
            Err(error) => return Err(fault::command(doing, error)),
        };
        Ok(Some(if known_options {
            Note::remark(format!("{named} is built without options that the target does not know ({why})"))
        } else {
            Note::failed(format!("{named} is not restored, because the target refuses it: {why}"))
        }))
    }

    /// Some servers take `prepareUnique` only for an index that is there.
    async fn build_and_prepare(
        &self,
        definition: &Definition,
        index: &Index,
        doing: &str,
        named: &str,
    ) -> Result<Option<Note>> {
        let mut plain = Builder::new();
        for element in
            raw::elements(&index.specification)?.iter().filter(|part| part.name != b"prepareUnique")
        {
            plain.push_element(element);
        }
        match self.create_indexes(definition, doing, &[plain.finish()?], false).await? {
            Ok(_) => {}
            Err(error) if fault::is_refusal(&error) => {
                let why = fault::message_of(&error);
                return Ok(Some(Note::failed(format!(
                    "{named} is not restored, because the target refuses it: {why}"
                ))));
            }
            Err(error) => return Err(fault::command(doing, error)),
        }
        let command = rawdoc! { "collMod": definition.name.as_str(),
        "index": { "name": index.name.as_str(), "prepareUnique": true } };
        match self.define(doing, &definition.database, command).await? {
            Ok(_) => Ok(None),
            Err(error) if fault::is_refusal(&error) => Ok(Some(Note::failed(format!(
                "{named} is built without prepareUnique, which the target refuses: {}",
                fault::message_of(&error)
            )))),
            Err(error) => Err(fault::command(doing, error)),
        }
    }

    async fn create_indexes(
        &self,
        definition: &Definition,
        doing: &str,
        specifications: &[RawDocumentBuf],
        ignore_unknown: bool,
    ) -> Result<mongodb::error::Result<Document>> {
        let mut command = Builder::from_document(&rawdoc! { "createIndexes": definition.name.as_str() })?;
        command.push_array("indexes", specifications)?;
        if ignore_unknown {
            command.push(kind::BOOLEAN, b"ignoreUnknownIndexOptions", &[1]);
        }
        command.push_document("writeConcern", concern()?.as_bytes());
        self.define(doing, &definition.database, command.finish()?).await
    }

    async fn set_validator(&self, definition: &Definition) -> Result<Option<Note>> {
        let validation = options::divide(definition)?.validation;
        if validation.is_empty() {
            return Ok(None);
        }
        let doing = format!("setting the validator of {}", definition.display_name());
        let start = rawdoc! { "collMod": definition.name.as_str(), "writeConcern": concern()? };
        let command = options::command(&start, &validation)?;
        match self.define(&doing, &definition.database, command).await? {
            Ok(_) => Ok(None),
            Err(error) if fault::is_refusal(&error) => Ok(Some(Note::failed(format!(
                "{} has no validator, because the target refuses it: {}",
                definition.display_name(),
                fault::message_of(&error)
            )))),
            Err(error) => Err(fault::command(&doing, error)),
        }
    }
}
