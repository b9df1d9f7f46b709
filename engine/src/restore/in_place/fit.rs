//! Which tables of a snapshot can be written in a target, as both are. Pure but for the snapshot's catalog.

use std::collections::{BTreeMap, BTreeSet};

use repo_format::catalog::{CollectionKind, KeySource, Layout};
use repo_format::manifest::Missing;

use super::Standing;
use crate::catalog::{self, Cataloged};
use crate::error::{Error, Kind, Result};
use crate::reading::Target;
use crate::repo::{Repository, Snapshot};
use crate::restore::Scope;
use crate::rows;
use crate::source::{Collection, Incomplete, concerns};

/// Keys of single records.
pub(super) type Ids = BTreeSet<Vec<u8>>;

/// A table in scope, as the snapshot has it.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub cataloged: Cataloged,
    /// The records in scope; all where there is no list.
    pub ids: Option<Ids>,
}

/// A table that is in the target, too, and alike enough to be written.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub chosen: Chosen,
    /// As the target has it.
    pub found: Collection,
}

impl Member {
    pub fn name(&self) -> (String, String) {
        (self.found.namespace.clone(), self.found.name.clone())
    }

    pub fn display_name(&self) -> String {
        self.chosen.cataloged.display_name()
    }

    /// Rows are read and written with the snapshot's layout, so that what is the same has the same bytes.
    pub fn layout(&self) -> &Layout {
        &self.chosen.cataloged.descriptor.layout
    }

    /// Whether equal rows are told apart by nothing but their number.
    pub fn is_multiset(&self) -> bool {
        self.layout().key.source == KeySource::Multiset
    }

    pub fn target(&self) -> Target {
        Target { layout: self.layout().clone(), ..Target::from(&self.found) }
    }
}

/// The tables in scope, sorted by whether they can be written.
#[derive(Clone, Debug, Default)]
pub(super) struct Fit {
    pub members: Vec<Member>,
    /// Those that cannot, by display name, and why.
    pub left_out: Vec<(String, String)>,
    /// Tables of the target that are not in scope, by display name.
    pub others: Vec<String>,
}

/// What a scope means in a snapshot.
pub(super) async fn choose(scope: &Scope, repo: &Repository, snapshot: &Snapshot) -> Result<Vec<Chosen>> {
    let all = catalog::collections(repo, snapshot).await?;
    let names: Vec<&String> = match scope {
        Scope::All => {
            return Ok(all.into_iter().map(|cataloged| Chosen { cataloged, ids: None }).collect());
        }
        Scope::Collections(names) => names.iter().collect(),
        Scope::Records(records) => records.keys().collect(),
    };
    if names.is_empty() {
        return Err(Error::new(Kind::Invalid, "no table is named").with_help("Name at least one."));
    }
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|found| found.display_name() == ***name))
    {
        return Err(catalog::not_found(unknown));
    }
    let mut chosen = Vec::new();
    for cataloged in all {
        let name = cataloged.display_name();
        if !names.contains(&&name) {
            continue;
        }
        let ids = match scope {
            Scope::Records(records) => Some(ids(&name, records)?),
            Scope::All | Scope::Collections(_) => None,
        };
        chosen.push(Chosen { cataloged, ids });
    }
    Ok(chosen)
}

fn ids(table: &str, records: &BTreeMap<String, Vec<String>>) -> Result<Ids> {
    let listed = records.get(table).map(Vec::as_slice).unwrap_or_default();
    if listed.is_empty() {
        return Err(Error::new(Kind::Invalid, format!("no record of {table} is named"))
            .with_help("Name at least one, by the id that lists of records give."));
    }
    listed.iter().map(|id| rows::decode_id(id)).collect()
}

impl Fit {
    /// Holds what is chosen against what the target has.
    pub fn of(
        chosen: &[Chosen],
        missing: &[Missing],
        found: &[Collection],
        unreadable: &[Incomplete],
    ) -> Self {
        let mut fit = Self::default();
        for chosen in chosen {
            let cataloged = &chosen.cataloged;
            let name = cataloged.display_name();
            let there = found
                .iter()
                .find(|found| found.namespace == cataloged.namespace && found.name == cataloged.name);
            let lacks = missing.iter().find(|missing| concerns(&missing.name, &name));
            let hidden = unreadable.iter().find(|hidden| concerns(&hidden.name, &name));
            let obstacle = match (there, lacks, hidden) {
                _ if cataloged.descriptor.layout.kind == CollectionKind::LargeObjects => {
                    Some("large objects are restored into a new database only".to_owned())
                }
                // Its rows would be taken for removed.
                (_, Some(lacks), _) => Some(format!("the snapshot lacks {}", lacks.name)),
                (_, _, Some(hidden)) => Some(format!("{} cannot be read: {}", hidden.name, hidden.reason)),
                (None, _, _) => Some("the target has no such table".to_owned()),
                (Some(there), _, _) => obstacle(&cataloged.descriptor.layout, &there.layout),
            };
            match (obstacle, there) {
                (None, Some(there)) => {
                    fit.members.push(Member { chosen: chosen.clone(), found: there.clone() });
                }
                (why, _) => fit.left_out.push((name, why.unwrap_or_default())),
            }
        }
        let is_chosen = |found: &Collection| {
            let is_it = |chosen: &Chosen| {
                chosen.cataloged.namespace == found.namespace && chosen.cataloged.name == found.name
            };
            chosen.iter().any(is_it)
        };
        fit.others = found.iter().filter(|found| !is_chosen(found)).map(Collection::display_name).collect();
        fit
    }
}

impl Fit {
    /// What was planned and nothing else: whoever carries it out may see more than whoever planned it.
    pub fn narrowed_to(mut self, standing: &Standing) -> Self {
        let planned = standing.names();
        self.members.retain(|member| planned.contains(&member.name()));
        self.left_out.clone_from(&standing.left_out);
        self
    }
}

/// Why rows of one layout cannot be written into a table of another.
fn obstacle(snapshot: &Layout, target: &Layout) -> Option<String> {
    let lacks = |one: &Layout, other: &Layout| {
        let has = |name: &str| other.columns.iter().any(|column| column.name == name);
        let lacking: Vec<&str> =
            one.columns.iter().map(|column| column.name.as_str()).filter(|name| !has(name)).collect();
        (!lacking.is_empty()).then(|| lacking.join(", "))
    };
    if let Some(columns) = lacks(snapshot, target) {
        return Some(format!("the target's table has no column {columns} to write"));
    }
    if let Some(columns) = lacks(target, snapshot) {
        return Some(format!("the target's table has a column that the snapshot's has not: {columns}"));
    }
    let key = |layout: &Layout| -> Vec<_> {
        let name = |at: u32| layout.columns.get(at as usize).map(|column| column.name.clone());
        layout.key.columns.iter().map(|part| (name(part.column), part.encoding)).collect()
    };
    (key(snapshot) != key(target)).then(|| "its key is another than in the snapshot".to_owned())
}

#[cfg(test)]
mod tests {
    use repo_format::catalog::{Column, Descriptor, Key, KeyColumn};
    use repo_format::id::ObjectId;
    use repo_format::order::KeyEncoding;

    use super::*;

    fn layout(columns: &[&str], key: Option<&str>) -> Layout {
        let column = |name: &&str| Column { name: (*name).to_owned(), type_name: "text".to_owned() };
        let at = key.map(|key| columns.iter().position(|name| *name == key).unwrap());
        let part = |at: usize| KeyColumn { column: u32::try_from(at).unwrap(), encoding: KeyEncoding::Text };
        let source = if key.is_some() { KeySource::Primary } else { KeySource::Multiset };
        Layout {
            kind: CollectionKind::Table,
            columns: columns.iter().map(column).collect(),
            key: Key { source, name: None, columns: at.map(part).into_iter().collect() },
        }
    }

    fn left_out(snapshot: Layout, target: Layout, missing: &[&str], unreadable: &[&str]) -> Option<String> {
        let descriptor = Descriptor {
            layout: snapshot,
            data_root: ObjectId([0; 32]),
            level: 0,
            records: 0,
            logical_bytes: 0,
            schema_version: 1,
            natural_order: None,
        };
        let (namespace, name) = ("public".to_owned(), "t".to_owned());
        let cataloged = Cataloged { namespace, name, descriptor, schema: String::new() };
        let found = Collection {
            namespace: "public".to_owned(),
            name: "t".to_owned(),
            layout: target,
            schema: String::new(),
            schema_version: 1,
            estimated_rows: 0,
            estimated_bytes: 0,
        };
        let missing: Vec<Missing> = (missing.iter())
            .map(|name| Missing { name: (*name).to_owned(), reason: "denied".to_owned() })
            .collect();
        let unreadable: Vec<Incomplete> = (unreadable.iter())
            .map(|name| Incomplete { name: (*name).to_owned(), reason: "denied".to_owned() })
            .collect();
        let fit = Fit::of(&[Chosen { cataloged, ids: None }], &missing, &[found], &unreadable);
        assert_eq!(fit.members.len() + fit.left_out.len(), 1);
        fit.left_out.into_iter().next().map(|(_, why)| why)
    }

    #[test]
    fn tables_that_hold_the_same_columns_and_key_are_written_in_any_order_of_them() {
        let snapshot = || layout(&["id", "v"], Some("id"));
        assert_eq!(left_out(snapshot(), layout(&["v", "id"], Some("id")), &[], &[]), None);
        assert_eq!(left_out(layout(&["v"], None), layout(&["v"], None), &["public.u"], &["public.u"]), None);
    }

    #[test]
    fn whatever_would_lose_something_is_left_out_and_named() {
        let snapshot = || layout(&["id", "v"], Some("id"));
        for (target, missing, unreadable, why) in [
            (layout(&["id"], Some("id")), vec![], vec![], "no column v"),
            (layout(&["id", "v", "w"], Some("id")), vec![], vec![], "the snapshot's has not: w"),
            (layout(&["id", "v"], Some("v")), vec![], vec![], "its key is another"),
            (layout(&["id", "v"], None), vec![], vec![], "its key is another"),
            (snapshot(), vec!["public.p (partition of public.t)"], vec![], "the snapshot lacks public.p"),
            (snapshot(), vec![], vec!["public.t"], "cannot be read"),
        ] {
            let found = left_out(snapshot(), target, &missing, &unreadable).unwrap();
            assert!(found.contains(why), "{found}");
        }
    }
}
