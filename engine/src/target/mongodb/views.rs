//! Views, each after the view it is made on.

use std::collections::BTreeSet;

use super::Target;
use super::archive::{self, Definition, Form};
use super::raw;
use crate::error::Result;
use crate::target::{Note, Restoring};

impl Target {
    /// Makes the views in scope.
    pub(super) async fn make_views(&self, restoring: &Restoring<'_>) -> Result<Vec<Note>> {
        let definitions = archive::definitions(self.database.as_deref(), restoring)?;
        let views = definitions.into_iter().filter(|found| found.form == Form::View).collect();
        let mut notes = Vec::new();
        for view in in_order(views)? {
            notes.extend(self.make(&view).await?);
        }
        Ok(notes)
    }
}

/// The collection or view that a view is made on.
pub(super) fn made_on(view: &Definition) -> Result<String> {
    raw::text(&view.options, "viewOn")
}

/// Orders views so that each comes after the one it is made on. Servers accept no circle; should
/// one be there all the same, its views come last.
fn in_order(mut views: Vec<Definition>) -> Result<Vec<Definition>> {
    let mut ordered = Vec::with_capacity(views.len());
    loop {
        let waiting: BTreeSet<(String, String)> =
            views.iter().map(|view| (view.database.clone(), view.name.clone())).collect();
        let (mut ready, mut rest) = (Vec::new(), Vec::new());
        for view in views {
            let base = (view.database.clone(), made_on(&view)?);
            if waiting.contains(&base) { rest.push(view) } else { ready.push(view) }
        }
        if ready.is_empty() {
            ordered.append(&mut rest);
            return Ok(ordered);
        }
        ordered.append(&mut ready);
        views = rest;
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    fn view(database: &str, name: &str, on: &str) -> Definition {
        Definition {
            namespace: database.to_owned(),
            database: database.to_owned(),
            name: name.to_owned(),
            form: Form::View,
            options: rawdoc! { "viewOn": on, "pipeline": [] },
            indexes: Vec::new(),
            search_indexes: Vec::new(),
        }
    }

    #[test]
    fn a_view_comes_after_the_one_it_is_made_on() {
        let views = vec![
            view("a", "a1", "b1"),
            view("a", "b1", "c1"),
            view("a", "c1", "orders"),
            view("b", "c1", "a1"),
        ];
        let ordered = in_order(views).unwrap();
        let names: Vec<_> = ordered.iter().map(Definition::display_name).collect();
        assert_eq!(names, ["a.c1", "b.c1", "a.b1", "a.a1"]);
    }

    #[test]
    fn a_circle_ends() {
        let ordered = in_order(vec![view("a", "x", "y"), view("a", "y", "x"), view("a", "z", "z")]).unwrap();
        assert_eq!(ordered.len(), 3);
    }
}
