//! Materialized views are restored as definitions and filled again, each after those it reads.

use std::collections::{BTreeMap, BTreeSet};

use repo_format::manifest::ViewName;

use super::{Target, fault};
use crate::error::Result;
use crate::source::postgres::session::{Session, ident, qualified};
use crate::source::sql_name;
use crate::target::Note;

/// Every view, whether it is materialized, and the views it reads.
const VIEWS: &str = "\
SELECT c.oid::pg_catalog.text, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, \
       (c.relkind = 'm')::pg_catalog.text, \
       (SELECT pg_catalog.string_agg(DISTINCT d.refobjid::pg_catalog.text, ' ') \
        FROM pg_catalog.pg_rewrite r \
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid \
        JOIN pg_catalog.pg_class f ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND f.oid = d.refobjid \
        WHERE r.ev_class = c.oid AND f.relkind IN ('v', 'm') AND f.oid <> c.oid) \
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
WHERE c.relkind IN ('v', 'm') AND c.oid >= 16384 ORDER BY 2, 3";

struct View {
    namespace: String,
    name: String,
    is_materialized: bool,
    is_unfilled: bool,
    reads: Vec<u32>,
}

impl Target {
    /// Fills the materialized views, but for those that hold no data. One of these that a filled view
    /// reads had data once: it is filled, and emptied again at the end.
    pub(super) async fn refresh(&self, unfilled: &[ViewName]) -> Result<Vec<Note>> {
        let session = self.connect().await?;
        let rows = session.rows(VIEWS).await.map_err(|error| fault::statement("listing views", error))?;
        let is_unfilled = |namespace: &str, name: &str| {
            unfilled.iter().any(|view| view.namespace == namespace && view.name == name)
        };
        let views: BTreeMap<u32, View> = rows
            .iter()
            .map(|row| {
                let (namespace, name) = (row.text(1), row.text(2));
                let (is_unfilled, reads) = (is_unfilled(&namespace, &name), row.numbers(4));
                (row.number(0), View { namespace, name, is_materialized: row.flag(3), is_unfilled, reads })
            })
            .collect();
        let needed = needed(&views);
        let mut notes = Vec::new();
        for oid in in_order(&views) {
            let view = &views[&oid];
            if view.is_materialized && needed.contains(&oid) {
                notes.extend(self.fill(&session, view).await?);
            }
        }
        for view in needed.iter().map(|oid| &views[oid]).filter(|view| view.is_unfilled) {
            let (quiet, name) = (self.quiet(), qualified(&view.namespace, &view.name));
            let sql = format!("BEGIN; {quiet} REFRESH MATERIALIZED VIEW {name} WITH NO DATA; COMMIT");
            session.run(&sql).await.map_err(|error| fault::statement("emptying a view", error))?;
        }
        Ok(notes)
    }

    /// With the empty search path first, as everything is restored; then, because a view may call
    /// a function that itself names nothing's schema, with the path its author would have had.
    async fn fill(&self, session: &Session, view: &View) -> Result<Option<Note>> {
        let (sql, shown) = (qualified(&view.namespace, &view.name), sql_name(&view.namespace, &view.name));
        let path = format!("SET LOCAL search_path = {}, public;", ident(&view.namespace));
        let mut first = None;
        for path in ["", &path] {
            let pins = format!("{} {} {path}", self.pins(), self.quiet());
            let begin = format!("BEGIN; {pins} REFRESH MATERIALIZED VIEW {sql}; COMMIT;");
            match session.run(&begin).await {
                Ok(()) => {
                    return Ok(first.map(|why| {
                        Note::remark(format!(
                            "{shown} was filled with its own schema in the search path: {why}"
                        ))
                    }));
                }
                Err(error) => {
                    let error = fault::statement("filling it", error);
                    if error.kind() == crate::Kind::Unreachable {
                        return Err(error);
                    }
                    session.run("ROLLBACK").await.map_err(|error| fault::statement("rolling back", error))?;
                    first.get_or_insert_with(|| error.message().to_owned());
                }
            }
        }
        let why = first.unwrap_or_default();
        Ok(Some(Note::failed(format!("the materialized view {shown} is empty: {why}"))))
    }
}

/// The views that are to be filled, and all that they read.
fn needed(views: &BTreeMap<u32, View>) -> BTreeSet<u32> {
    let filled = views.iter().filter(|(_, view)| view.is_materialized && !view.is_unfilled);
    let mut pending: Vec<u32> = filled.map(|(&oid, _)| oid).collect();
    let mut needed = BTreeSet::new();
    while let Some(oid) = pending.pop() {
        if let Some(view) = views.get(&oid)
            && needed.insert(oid)
        {
            pending.extend(&view.reads);
        }
    }
    needed
}

/// Each view after all it reads. Views cannot read each other in a circle.
fn in_order(views: &BTreeMap<u32, View>) -> Vec<u32> {
    let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
    // (view, whether what it reads is already on the stack): deep chains must not use ours.
    let mut stack: Vec<(u32, bool)> = views.keys().rev().map(|&oid| (oid, false)).collect();
    while let Some((oid, is_expanded)) = stack.pop() {
        if is_expanded {
            order.push(oid);
        } else if views.contains_key(&oid) && seen.insert(oid) {
            stack.push((oid, true));
            stack.extend(views[&oid].reads.iter().map(|&read| (read, false)));
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_comes_after_everything_it_reads() {
        let view = |reads: &[u32]| View {
            namespace: String::new(),
            name: String::new(),
            is_materialized: true,
            is_unfilled: reads.is_empty(),
            reads: reads.to_vec(),
        };
        let views = BTreeMap::from([(1, view(&[3, 2])), (2, view(&[4])), (3, view(&[2])), (4, view(&[]))]);
        assert_eq!(in_order(&views), [4, 2, 3, 1]);
        let views = BTreeMap::from([(1, view(&[3])), (2, view(&[])), (3, view(&[]))]);
        assert_eq!(needed(&views), BTreeSet::from([1, 3]), "one without data only where it is read");
    }
}
