//! Which collections of a snapshot can be written in a target, as both are. Pure but for the snapshot's
//! catalog.

use std::collections::BTreeMap;

use repo_format::catalog::{CollectionKind, KeySource, Layout};
use repo_format::manifest::Missing;

use super::{Name, Standing};
use crate::catalog::Cataloged;
use crate::error::Result;
use crate::reading::Target;
use crate::repo::{Repository, Snapshot};
use crate::restore::Scope;
use crate::restore::plan::check_placement;
use crate::restore::records::{self, Ids};
use crate::source::{Collection, DatabaseUrl, Incomplete, concerns};
use crate::target::mongodb::in_place::Definition;

/// A collection in scope, as the snapshot has it.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    /// Its description, under the name it has in the target.
    pub cataloged: Cataloged,
    /// Its display name in the snapshot.
    pub origin: String,
    /// The records in scope; all where there is no list.
    pub ids: Option<Ids>,
}

/// A collection that is in the target, too, and alike enough to be written.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub chosen: Chosen,
    /// As the target has it.
    pub found: Collection,
}

impl Member {
    pub fn name(&self) -> Name {
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
        records::is_multiset(&self.chosen.cataloged)
    }

    pub fn target(&self) -> Target {
        Target { layout: self.layout().clone(), ..Target::from(&self.found) }
    }
}

/// The collections in scope, sorted by whether they can be written.
#[derive(Clone, Debug, Default)]
pub(super) struct Fit {
    pub members: Vec<Member>,
    /// Those that cannot, by display name, and why.
    pub left_out: Vec<(String, String)>,
    /// Collections of the target that are not in scope, by display name.
    pub others: Vec<String>,
}

/// What a scope means in a snapshot that is restored to `url`.
pub(super) async fn choose(
    scope: &Scope,
    repo: &Repository,
    snapshot: &Snapshot,
    url: &DatabaseUrl,
) -> Result<Vec<Chosen>> {
    let selected = scope.select(repo, snapshot).await?;
    check_placement(url, selected.iter().map(|(found, _)| found))?;
    let chosen = |(mut cataloged, ids): (Cataloged, Option<Ids>)| {
        let origin = cataloged.display_name();
        cataloged.namespace = url.placed(&cataloged.namespace).to_owned();
        Chosen { cataloged, origin, ids }
    };
    Ok(selected.into_iter().map(chosen).collect())
}

impl Fit {
    /// Holds what is chosen against what the target has. Collections in `barred` cannot be written for what
    /// is told there.
    pub fn of(
        chosen: &[Chosen],
        missing: &[Missing],
        found: &[Collection],
        unreadable: &[Incomplete],
        barred: &BTreeMap<Name, String>,
    ) -> Self {
        let mut fit = Self::default();
        for chosen in chosen {
            let cataloged = &chosen.cataloged;
            let name = cataloged.display_name();
            let there = found
                .iter()
                .find(|found| found.namespace == cataloged.namespace && found.name == cataloged.name);
            let lacks = missing.iter().find(|missing| concerns(&missing.name, &chosen.origin));
            let hidden = unreadable.iter().find(|hidden| concerns(&hidden.name, &name));
            let obstacle = match (there, lacks, hidden) {
                _ if cataloged.descriptor.layout.kind == CollectionKind::LargeObjects => {
                    Some("large objects are restored into a new database only".to_owned())
                }
                // Its rows would be taken for removed.
                (_, Some(lacks), _) => Some(format!("the snapshot lacks {}", lacks.name)),
                (_, _, Some(hidden)) => Some(format!("{} cannot be read: {}", hidden.name, hidden.reason)),
                (None, _, _) => {
                    let word = word(&cataloged.descriptor.layout);
                    Some(format!("the target has no such {word}"))
                }
                (Some(there), _, _) => (barred.get(&(there.namespace.clone(), there.name.clone())).cloned())
                    .or_else(|| obstacle(cataloged, there)),
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

/// What a collection is called where its system has another word.
fn word(layout: &Layout) -> &'static str {
    if layout.is_documents() { "collection" } else { "table" }
}

/// Why the records of a snapshot's collection cannot be written into one of the target.
fn obstacle(snapshot: &Cataloged, target: &Collection) -> Option<String> {
    let (before, now) = (&snapshot.descriptor.layout, &target.layout);
    if before.is_documents() {
        return not_plain(before, "it is")
            .or_else(|| not_plain(now, "in the target it is"))
            .or_else(|| unlike(snapshot, target));
    }
    other_columns(before, now)
}

/// Why documents of such a collection are not written one by one.
fn not_plain(layout: &Layout, it_is: &str) -> Option<String> {
    let what = match layout.kind {
        CollectionKind::CappedCollection => {
            "a capped collection, whose order is part of what it holds and from which nothing is removed"
        }
        CollectionKind::TimeSeries => "a time series, whose measurements have no _id",
        CollectionKind::View => "a view, which holds nothing itself",
        _ if layout.key.source == KeySource::Multiset => {
            "a collection without an index of _id, which does not tell its documents apart"
        }
        _ => return None,
    };
    Some(format!("{it_is} {what}"))
}

/// Why documents of one collection do not belong into another of the same kind.
fn unlike(snapshot: &Cataloged, target: &Collection) -> Option<String> {
    if target.name.starts_with("system.") {
        return Some("transactions do not write to collections of the server's own".to_owned());
    }
    let [before, now] = [&snapshot.schema, &target.schema].map(|schema| Definition::of(schema).clustered);
    (before != now).then(|| "it is clustered otherwise than in the snapshot".to_owned())
}

/// Why rows of one layout cannot be written into a table of another.
fn other_columns(snapshot: &Layout, target: &Layout) -> Option<String> {
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
        held_against(snapshot, target, ["", ""], missing, unreadable)
    }

    fn held_against(
        snapshot: Layout,
        target: Layout,
        [before, now]: [&str; 2],
        missing: &[&str],
        unreadable: &[&str],
    ) -> Option<String> {
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
        let cataloged = Cataloged { namespace, name, descriptor, schema: before.to_owned() };
        let origin = cataloged.display_name();
        let found = Collection {
            namespace: "public".to_owned(),
            name: "t".to_owned(),
            layout: target,
            schema: now.to_owned(),
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
        let fit = Fit::of(
            &[Chosen { cataloged, origin, ids: None }],
            &missing,
            &[found],
            &unreadable,
            &BTreeMap::new(),
        );
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

    fn documents(kind: CollectionKind, key: KeySource) -> Layout {
        let mut layout = layout(&["document"], (key == KeySource::Primary).then_some("document"));
        layout.kind = kind;
        layout
    }

    #[test]
    fn only_documents_with_an_id_are_written_one_by_one() {
        use CollectionKind::{CappedCollection, Collection, TimeSeries, View};
        let plain = || documents(Collection, KeySource::Primary);
        assert_eq!(left_out(plain(), plain(), &[], &[]), None);
        for (snapshot, target, why) in [
            (documents(View, KeySource::Multiset), documents(View, KeySource::Multiset), "it is a view"),
            (plain(), documents(CappedCollection, KeySource::Primary), "in the target it is a capped"),
            (documents(TimeSeries, KeySource::Multiset), plain(), "it is a time series"),
            (plain(), documents(Collection, KeySource::Multiset), "without an index of _id"),
        ] {
            let found = left_out(snapshot, target, &[], &[]).unwrap();
            assert!(found.contains(why), "{found}");
        }
        let clustered = r#"{"options":[{"name":"clusteredIndex","definition":"{\"key\":{\"_id\":1}}"}]}"#;
        let found = held_against(plain(), plain(), [clustered, "{}"], &[], &[]).unwrap();
        assert!(found.contains("clustered otherwise"), "{found}");
        assert_eq!(held_against(plain(), plain(), [clustered, clustered], &[], &[]), None);
    }
}
