//! A part of an archive: what makes some of its tables, and nothing else.
//!
//! Entries name those that they depend on. From the chosen tables the archive is followed down, to types,
//! functions, schemas and extensions, and up, to what is a part of a chosen table: keys, indexes, triggers.
//! A part that needs another table (a foreign key, a policy that looks into it) is left out by name. A table
//! that cannot be without another one is refused, since half a definition restores nothing.
//!
//! The result is an archive again, with fewer entries, so that everything that reads archives reads it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::error::{Error, Kind, Result};
use crate::source::postgres::toc::{self, Entry};
use crate::source::sql_name;

/// What every archive begins with, and what every database has.
const ALWAYS: &[&str] = &["ENCODING", "STDSTRINGS", "SEARCHPATH"];
/// Parts of a table: there is none without it.
const PARTS: &[&str] = &[
    "CHECK CONSTRAINT",
    "CONSTRAINT",
    "DEFAULT",
    "FK CONSTRAINT",
    "INDEX",
    "POLICY",
    "ROW SECURITY",
    "RULE",
    "SEQUENCE",
    "STATISTICS",
    "TRIGGER",
];
/// What is said of things, or made of them: comes with all that it needs.
const FOLLOWING: &[&str] = &[
    "ACL",
    "CAST",
    "COMMENT",
    "INDEX ATTACH",
    "OPERATOR",
    "OPERATOR CLASS",
    "OPERATOR FAMILY",
    "SECURITY LABEL",
    "SEQUENCE OWNED BY",
    "TABLE ATTACH",
];
/// What may call any of its kind without an archive telling.
const ROUTINES: &[&str] = &["AGGREGATE", "FUNCTION", "PROCEDURE"];

/// The name of a type whose functions are made before it.
const SHELL_TYPE: &str = "SHELL TYPE";

/// A part of a chosen table that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// "FK CONSTRAINT"
    pub(crate) kind: String,
    /// The table it is a part of.
    pub(crate) table: (String, String),
    pub(crate) name: String,
    /// The table that it needs and that was not chosen.
    needs: String,
}

/// What makes the chosen tables.
#[derive(Debug)]
pub(crate) struct Subset {
    /// An archive of it.
    pub(crate) archive: Vec<u8>,
    pub(crate) left_out: Vec<LeftOut>,
    /// How many entries come along that are no part of a table, by kind ("function").
    pub(crate) along: BTreeMap<String, u64>,
    /// The sequences in it, as (namespace, name).
    pub(crate) sequences: HashSet<(String, String)>,
    /// The extensions in it.
    pub(crate) extensions: HashSet<String>,
}

impl LeftOut {
    pub(crate) fn new(kind: &str, (namespace, table): (&str, &str), name: &str, needs: String) -> Self {
        let table = (namespace.to_owned(), table.to_owned());
        Self { kind: kind.to_owned(), table, name: name.to_owned(), needs }
    }
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind.as_str() {
            "FK CONSTRAINT" => "foreign key".to_owned(),
            other => other.to_lowercase(),
        };
        let table = sql_name(&self.table.0, &self.table.1);
        write!(f, "{kind} {} of {table} (needs {})", self.name, self.needs)
    }
}

/// What makes the tables of these (namespace, name), foreign keys between them only where those are wanted.
///
/// # Errors
/// [`Kind::Unsupported`] for an archive that cannot be read entry by entry, [`Kind::Invalid`] when a
/// table cannot be made, or not without another one.
pub(crate) fn subset(archive: &[u8], chosen: &[(String, String)], with_foreign_keys: bool) -> Result<Subset> {
    let Some(entries) = toc::read(archive) else {
        let message = "parts of this snapshot cannot be restored: the format or the encoding of its schema archive \
                       is not known entry by entry";
        return Err(Error::new(Kind::Unsupported, message).with_help("Restore the whole snapshot."));
    };
    let graph = Graph { with_foreign_keys, ..Graph::new(&entries, chosen)? };
    let (taken, left_out) = graph.pick()?;
    let keep = |at: usize| taken.contains(&at);
    let archive = toc::only(archive, &entries, &keep)
        .ok_or_else(|| Error::new(Kind::Internal, "an archive was read and cannot be read again"))?;
    let named = |kind: &str| {
        let kind = kind.to_owned();
        taken.iter().map(|at| &entries[*at]).filter(move |entry| entry.kind == kind)
    };
    let mut along = BTreeMap::new();
    for entry in taken.iter().map(|at| &entries[*at]) {
        let is_own = entry.kind != SHELL_TYPE && !FOLLOWING.contains(&entry.kind.as_str());
        if is_own && !graph.is_of_tables(entry) {
            *along.entry(entry.kind.to_lowercase()).or_default() += 1;
        }
    }
    Ok(Subset {
        left_out,
        along,
        sequences: named("SEQUENCE").map(|entry| (entry.namespace.clone(), entry.tag.clone())).collect(),
        extensions: named("EXTENSION").map(|entry| entry.tag.clone()).collect(),
        archive,
    })
}

struct Graph<'a> {
    entries: &'a [Entry],
    by_id: HashMap<i64, usize>,
    /// The chosen tables and their partitions.
    chosen: HashSet<usize>,
    with_foreign_keys: bool,
}

impl<'a> Graph<'a> {
    fn new(entries: &'a [Entry], chosen: &[(String, String)]) -> Result<Self> {
        let by_id = entries.iter().enumerate().map(|(at, entry)| (entry.id, at)).collect();
        let mut graph = Self { entries, by_id, chosen: HashSet::new(), with_foreign_keys: true };
        for (namespace, name) in chosen {
            let is_it =
                |entry: &Entry| graph.is_table(entry) && entry.namespace == *namespace && entry.tag == *name;
            let Some(at) = entries.iter().position(is_it) else {
                let message = format!(
                    "{} cannot be restored: its definition is not in the snapshot",
                    sql_name(namespace, name)
                );
                return Err(Error::new(Kind::Invalid, message).with_help("Leave it out."));
            };
            graph.chosen.insert(at);
        }
        // Partitions are attached one by one, and may have partitions.
        let attached: Vec<Vec<usize>> = (entries.iter())
            .filter(|entry| entry.kind == "TABLE ATTACH")
            .map(|entry| graph.needs(entry).filter(|at| graph.is_table(&entries[*at])).collect())
            .collect();
        let is_partition = |entry: &Entry, at: usize| {
            entries[at].tag == entry.tag && entries[at].namespace == entry.namespace
        };
        let attaches: Vec<&Entry> = entries.iter().filter(|entry| entry.kind == "TABLE ATTACH").collect();
        loop {
            let before = graph.chosen.len();
            for (attach, tables) in attaches.iter().zip(&attached) {
                let (partitions, roots): (Vec<usize>, Vec<usize>) =
                    tables.iter().partition(|at| is_partition(attach, **at));
                if roots.iter().any(|root| graph.chosen.contains(root)) {
                    graph.chosen.extend(partitions);
                }
            }
            if graph.chosen.len() == before {
                return Ok(graph);
            }
        }
    }

    /// The entries that make the chosen tables, and the parts of these that cannot be made.
    fn pick(&self) -> Result<(BTreeSet<usize>, Vec<LeftOut>)> {
        let mut taken = self.tables()?;
        let left_out = self.add_parts(&mut taken)?;
        self.add_routines(&mut taken);
        self.add_following(&mut taken);
        taken.extend((0..self.entries.len()).filter(|at| self.is_always(*at)));
        Ok((taken, left_out))
    }

    fn is_table(&self, entry: &Entry) -> bool {
        matches!(entry.kind.as_str(), "TABLE" | "FOREIGN TABLE")
    }

    fn is_of_tables(&self, entry: &Entry) -> bool {
        self.is_table(entry) || PARTS.contains(&entry.kind.as_str()) || self.is_named_always(entry)
    }

    fn is_named_always(&self, entry: &Entry) -> bool {
        let is_public = match entry.kind.as_str() {
            "SCHEMA" => entry.tag == "public",
            "ACL" | "COMMENT" => entry.tag == "SCHEMA public",
            _ => false,
        };
        is_public || ALWAYS.contains(&entry.kind.as_str())
    }

    fn is_always(&self, at: usize) -> bool {
        self.is_named_always(&self.entries[at])
    }

    /// The entries that one depends on, as far as they are there.
    fn needs<'e>(&'e self, entry: &'e Entry) -> impl Iterator<Item = usize> + 'e {
        entry.needs.iter().filter_map(|id| self.by_id.get(id).copied())
    }

    /// All that has to be there before an entry and is not taken yet, itself included; or the table among it
    /// that is not chosen.
    fn below(&self, from: usize, taken: &BTreeSet<usize>) -> Result<Vec<usize>, usize> {
        let (mut found, mut seen, mut pending) = (Vec::new(), HashSet::new(), vec![from]);
        while let Some(at) = pending.pop() {
            if taken.contains(&at) || !seen.insert(at) {
                continue;
            }
            let entry = &self.entries[at];
            if self.is_table(entry) && !self.chosen.contains(&at) {
                return Err(at);
            }
            found.push(at);
            // A sequence is made without the table whose column owns it.
            let is_free = entry.kind == "SEQUENCE" && entry.definition.trim_start().starts_with("CREATE ");
            pending.extend(self.needs(entry).filter(|at| !is_free || !self.is_table(&self.entries[*at])));
            pending.extend(self.completion(entry));
        }
        Ok(found)
    }

    /// The type that a shell stands in for, so that its own functions can name it. These do not depend on
    /// the type, and come to nothing without it.
    fn completion(&self, shell: &Entry) -> Option<usize> {
        let is_whole = |entry: &Entry| {
            entry.kind == "TYPE" && entry.tag == shell.tag && entry.namespace == shell.namespace
        };
        if shell.kind == SHELL_TYPE { self.entries.iter().position(is_whole) } else { None }
    }

    fn display(&self, at: usize) -> String {
        sql_name(&self.entries[at].namespace, &self.entries[at].tag)
    }

    /// The chosen tables and all that they need.
    fn tables(&self) -> Result<BTreeSet<usize>> {
        let mut taken = BTreeSet::new();
        let mut chosen: Vec<usize> = self.chosen.iter().copied().collect();
        chosen.sort_unstable();
        for at in chosen {
            let found = self.below(at, &taken).map_err(|other| self.inseparable(at, other))?;
            taken.extend(found);
        }
        Ok(taken)
    }

    fn inseparable(&self, table: usize, other: usize) -> Error {
        let (table, other) = (self.display(table), self.display(other));
        Error::new(Kind::Invalid, format!("{table} cannot be made without {other}"))
            .with_help(format!("Choose {other} too, or restore the whole snapshot."))
    }

    /// The table that an entry is a part of, by the name it begins with.
    fn owner(&self, entry: &Entry) -> Option<usize> {
        let tables = || {
            let is_table = |at: &usize| self.is_table(&self.entries[*at]);
            self.needs(entry).filter(is_table)
        };
        match entry.kind.as_str() {
            // Of sequences, those that a column owns.
            "INDEX" | "SEQUENCE" | "STATISTICS" => tables().next(),
            _ => {
                let names = |at: &usize| {
                    let table = &self.entries[*at];
                    let rest = entry.tag.strip_prefix(table.tag.as_str());
                    table.namespace == entry.namespace
                        && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
                };
                tables().filter(names).max_by_key(|at| self.entries[*at].tag.len())
            }
        }
    }

    /// Adds the parts of the chosen tables that can be made, and gives the others.
    fn add_parts(&self, taken: &mut BTreeSet<usize>) -> Result<Vec<LeftOut>> {
        let mut left_out = Vec::new();
        for (at, entry) in self.entries.iter().enumerate() {
            if !PARTS.contains(&entry.kind.as_str()) {
                continue;
            }
            let Some(owner) = self.owner(entry).filter(|owner| self.chosen.contains(owner)) else { continue };
            let refers = |at: &usize| *at != owner && self.is_table(&self.entries[*at]);
            let below = match entry.kind == "FK CONSTRAINT" && !self.with_foreign_keys {
                // To itself, if to no other.
                true => Err(self.needs(entry).find(refers).unwrap_or(owner)),
                false => self.below(at, taken),
            };
            match below {
                Ok(found) => taken.extend(found),
                Err(other) if entry.kind == "DEFAULT" => return Err(self.inseparable(owner, other)),
                Err(other) => {
                    let table = &self.entries[owner];
                    let name = entry.tag.strip_prefix(&format!("{} ", table.tag)).unwrap_or(&entry.tag);
                    let place = (table.namespace.as_str(), table.tag.as_str());
                    left_out.push(LeftOut::new(&entry.kind, place, name, self.display(other)));
                }
            }
        }
        Ok(left_out)
    }

    /// Where there is one routine, there are all that can be made: which of them its body calls is not told.
    fn add_routines(&self, taken: &mut BTreeSet<usize>) {
        let is_routine = |at: usize| ROUTINES.contains(&self.entries[at].kind.as_str());
        if !taken.iter().any(|at| is_routine(*at)) {
            return;
        }
        for at in (0..self.entries.len()).filter(|at| is_routine(*at)) {
            if let Ok(found) = self.below(at, taken) {
                taken.extend(found);
            }
        }
    }

    /// Adds what is said of entries that are taken.
    fn add_following(&self, taken: &mut BTreeSet<usize>) {
        loop {
            let before = taken.len();
            for (at, entry) in self.entries.iter().enumerate() {
                let follows = FOLLOWING.contains(&entry.kind.as_str())
                    && self.needs(entry).next().is_some()
                    && self.needs(entry).all(|need| taken.contains(&need))
                    && (entry.kind != "SEQUENCE OWNED BY" || self.is_owners_there(entry));
                if follows {
                    taken.insert(at);
                }
            }
            if taken.len() == before {
                return;
            }
        }
    }

    /// Whether the table is chosen whose column owns the sequence that an entry is about.
    fn is_owners_there(&self, entry: &Entry) -> bool {
        let mut tables = self
            .needs(entry)
            .flat_map(|sequence| self.needs(&self.entries[sequence]))
            .filter(|at| self.is_table(&self.entries[*at]));
        tables.all(|at| self.chosen.contains(&at))
    }
}

#[cfg(test)]
mod tests;
