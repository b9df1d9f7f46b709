//! Collections: made before their documents, as the source's were.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use bson::{Document, RawDocumentBuf, rawdoc};

use super::archive::{self, Definition, Form};
use super::inspect::{Contents, inspect, list_options, listed};
use super::made::{Commands, Journal};
use super::options::{self, Divided, Owned};
use super::{Target, checked, concern, connect, fault};
use crate::error::{Error, Kind, Result};
use crate::source::mongodb::MongoUrl;
use crate::target::{Note, Restoring};

impl Target {
    /// Takes the databases that the collections in scope go to. [`Kind::Conflict`] when one of them
    /// holds anything.
    pub async fn create(url: &MongoUrl, restoring: &Restoring<'_>) -> Result<Self> {
        let database = url.database().map(str::to_owned);
        let definitions = archive::definitions(database.as_deref(), restoring)?;
        let databases: BTreeSet<&str> = definitions.iter().map(|found| found.database.as_str()).collect();
        let client = connect(url).await?;
        let state = inspect(&client, &databases).await?;
        for (database, contents) in &state.contents {
            if let Contents::Occupied { names, total } = contents {
                let message = format!("the database {database} holds {}", listed(names, *total));
                return Err(Error::new(Kind::Conflict, message).with_help("Restore into a new database."));
            }
        }
        let is_new = |contents: &Contents| *contents == Contents::Absent;
        Ok(Self {
            client,
            database,
            limits: state.limits,
            new_databases: (state.contents.into_iter())
                .filter_map(|(database, contents)| is_new(&contents).then_some(database))
                .collect(),
            made: Arc::new(Journal::default()),
            inserts: Commands::default(),
            definitions: Commands::default(),
            fills_timestamps: AtomicBool::new(false),
            notes: Mutex::default(),
        })
    }

    /// Makes the collections, without validators, indexes and views, and notes what had to be left
    /// out of them.
    pub async fn pre_data(&self, restoring: &Restoring<'_>) -> Result<Vec<Note>> {
        let mut notes = Vec::new();
        for definition in &archive::definitions(self.database.as_deref(), restoring)? {
            if definition.form != Form::View {
                notes.extend(self.make(definition).await?);
            }
        }
        Ok(notes)
    }

    /// Makes a collection or a view.
    pub(super) async fn make(&self, definition: &Definition) -> Result<Vec<Note>> {
        let Definition { database, name, .. } = definition;
        let doing = format!("making {}", definition.display_name());
        let divided = options::divide(definition)?;
        let mut notes = left_out(definition, &divided)?;
        // Servers answer yes when there is a collection of that name with the same options.
        if list_options(&self.client, database, name).await?.is_some() {
            return Err(Error::new(Kind::Conflict, format!("{doing}: somebody else has made it meanwhile"))
                .with_help("Restore into a new database, which nothing else uses."));
        }
        let whole = create_command(definition, &divided.create)?;
        let mut answer = self.send_create(&doing, definition, whole).await?;
        let (incidental, needed): (Vec<_>, Vec<_>) =
            divided.create.into_iter().partition(Owned::is_incidental);
        if let Err(refusal) = &answer
            && fault::is_refusal(refusal)
            && !incidental.is_empty()
        {
            let names: Vec<String> = incidental.iter().map(Owned::shown).collect();
            let why = fault::message_of(refusal);
            notes.push(Note::remark(format!(
                "{} is made without {}, which the target refuses ({why})",
                definition.display_name(),
                names.join(", ")
            )));
            answer = self.send_create(&doing, definition, create_command(definition, &needed)?).await?;
        }
        match answer {
            Ok(_) => Ok(notes),
            Err(error) => Err(fault::command(&doing, error)),
        }
    }

    /// Sends a command that makes a collection. What became of it is known as soon as the server
    /// answers, whether or not anybody still waits.
    async fn send_create(
        &self,
        doing: &str,
        definition: &Definition,
        command: RawDocumentBuf,
    ) -> Result<mongodb::error::Result<Document>> {
        let Definition { database: db, name, .. } = definition.clone();
        let (database, made) = (self.client.database(&db), Arc::clone(&self.made));
        made.asked(&db, &name);
        let answer = self.definitions.run(async move {
            let answer = database.run_raw_command(command).await;
            match &answer {
                Ok(_) => made.confirmed(&db, &name),
                // After a lost connection nobody knows whether it was made.
                Err(error) if fault::code_of(error).is_none() || fault::is_lost(error) => {}
                Err(_) => made.refused(&db, &name),
            }
            answer
        });
        checked(doing, answer.await?)
    }
}

/// What a collection is made without, in words.
fn left_out(definition: &Definition, divided: &Divided) -> Result<Vec<Note>> {
    let name = definition.display_name();
    let mut notes = Vec::new();
    for option in &divided.left_out {
        notes.push(Note::remark(match option.as_str() {
            "autoIndexId" => {
                format!("{name} has an index on _id now: servers make no collection without one any more")
            }
            "temp" => format!("{name} was temporary and is an ordinary collection now"),
            other => format!("{name} is made without {other}, which is no option of a collection"),
        }));
    }
    if !definition.search_indexes.is_empty() {
        let listed = definition.search_indexes.join(", ");
        notes.push(Note::failed(format!("search indexes of {name} are not restored: {listed}")));
    }
    Ok(notes)
}

fn create_command(definition: &Definition, options: &[Owned]) -> Result<RawDocumentBuf> {
    let start = rawdoc! { "create": definition.name.as_str(), "writeConcern": concern()? };
    options::command(&start, options)
}
