//! What the collections are to hold, seen from what they hold now.

use repo_format::tree::Root;

use super::apply::Attempt;
use super::fit::Fit;
use super::{goal, plan, reversal};
use crate::catalog;
use crate::error::{Error, Kind, Result};
use crate::ingest::Output;
use crate::overlay::Overlay;
use crate::repo::{ObjectReader, Snapshot};
use crate::restore::apply::Conflicts;

impl Attempt<'_> {
    /// The goal of each member that now holds `live`, and what of an undo is in its way.
    pub(super) async fn goals(
        &self,
        fit: &Fit,
        live: &[Root],
        overlay: &Overlay,
    ) -> Result<(Vec<Root>, Conflicts)> {
        match self.safety {
            None => Ok((self.goals_of_restore(fit, live, overlay).await?, Conflicts::default())),
            Some(safety) => self.goals_of_undo(safety, fit, live, overlay).await,
        }
    }

    async fn goals_of_restore(&self, fit: &Fit, live: &[Root], overlay: &Overlay) -> Result<Vec<Root>> {
        let members = fit.members.clone();
        let live = live[..members.len()].to_vec();
        let now = plan::tables(self.repo, None, members.clone(), live.clone()).await?;
        if let Some((table, _)) =
            now.iter().zip(&self.standing.tables).find(|(now, planned)| now.root != planned.root)
        {
            let engine = self.url.engine();
            return Err(changed(&engine.display_name(&table.namespace, &table.name)));
        }
        let (keys, output) = (self.repo.keys().clone(), Output::Overlay(overlay.clone()));
        self.repo
            .with_reader_over(Some(overlay), move |reader| {
                let of_one = |(member, live)| goal::of_restore(member, live, &keys, reader, output.clone());
                members.iter().zip(&live).map(of_one).collect()
            })
            .await
    }

    async fn goals_of_undo(
        &self,
        safety: &Snapshot,
        fit: &Fit,
        live: &[Root],
        overlay: &Overlay,
    ) -> Result<(Vec<Root>, Conflicts)> {
        let kept = catalog::collections(self.repo, safety).await?;
        let (keys, output, ctx) =
            (self.repo.keys().clone(), Output::Overlay(overlay.clone()), self.ctx.clone());
        let (mut goals, mut conflicts) = (Vec::new(), Conflicts::default());
        for (member, now) in fit.members.iter().cloned().zip(live.iter().copied()) {
            let name = member.name();
            let before = kept.iter().find(|kept| kept.namespace == name.0 && kept.name == name.1);
            let before = before.ok_or_else(|| catalog::not_found(&member.display_name()))?.root();
            let mut second = ObjectReader::new(self.repo);
            second.lay_over(overlay.clone());
            let (keys, output, ctx) = (keys.clone(), output.clone(), ctx.clone());
            let goal = self.repo.with_reader_over(Some(overlay), move |reader| {
                let after = goal::of_restore(&member, &before, &keys, reader, output.clone())?;
                let (name, is_multiset) = (member.display_name(), member.is_multiset());
                let table = reversal::Table { name: &name, layout: member.layout(), is_multiset };
                let trees = reversal::Trees { before, after, now };
                reversal::goal(trees, table, &keys, reader, second, output, &ctx)
            });
            let (goal, found) = goal.await?;
            goals.push(goal);
            conflicts.count += found.count;
            conflicts.examples.extend(found.examples);
        }
        Ok((goals, conflicts))
    }
}

/// The error for what is not as planned.
pub(super) fn changed(what: &str) -> Error {
    let message = format!("the target changed since the restore was planned: {what}");
    Error::new(Kind::Conflict, message)
        .with_help("Nothing was written. Plan again, and look at what changed.")
}
