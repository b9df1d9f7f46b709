//! What the collections are to hold, seen from what they hold now.

use repo_format::tree::{Diff, Root};

use super::apply::Attempt;
use super::fit::{Fit, Member};
use super::reached::{Share, shares};
use super::{Back, goal, plan, reversal};
use crate::catalog::{self, Cataloged};
use crate::error::Result;
use crate::ingest::Output;
use crate::overlay::Overlay;
use crate::repo::ObjectReader;
use crate::restore::apply::Conflicts;

/// What a restore wrote into a collection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    /// What it held before.
    pub before: Root,
    /// What it was to hold.
    pub after: Root,
    /// How much of the difference was written, if not all of it.
    pub share: Option<Share>,
}

impl Attempt<'_> {
    /// The goal of each member that now holds `live`, and what of an undo is in its way.
    pub(super) async fn goals(
        &self,
        fit: &Fit,
        live: &[Root],
        overlay: &Overlay,
    ) -> Result<(Vec<Root>, Conflicts)> {
        match self.back {
            None => Ok((self.goals_of_restore(fit, live, overlay).await?, Conflicts::default())),
            Some(back) => self.goals_of_undo(back, fit, live, overlay).await,
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
            return Err(self.changed(&engine.display_name(&table.namespace, &table.name)));
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
        back: &Back<'_>,
        fit: &Fit,
        live: &[Root],
        overlay: &Overlay,
    ) -> Result<(Vec<Root>, Conflicts)> {
        let written = self.written(back, fit, overlay).await?;
        let (keys, output, ctx) =
            (self.repo.keys().clone(), Output::Overlay(overlay.clone()), self.ctx.clone());
        let (mut goals, mut conflicts) = (Vec::new(), Conflicts::default());
        for ((member, now), written) in fit.members.iter().cloned().zip(live.iter().copied()).zip(written) {
            let mut second = ObjectReader::new(self.repo);
            second.lay_over(overlay.clone());
            let (keys, output, ctx) = (keys.clone(), output.clone(), ctx.clone());
            let goal = self.repo.with_reader_over(Some(overlay), move |reader| {
                let (name, is_multiset) = (member.display_name(), member.is_multiset());
                let table = reversal::Table { name: &name, layout: member.layout(), is_multiset, now };
                reversal::goal(written, table, &keys, reader, second, output, &ctx)
            });
            let (goal, found) = goal.await?;
            goals.push(goal);
            conflicts.count += found.count;
            conflicts.examples.extend(found.examples);
        }
        Ok((goals, conflicts))
    }

    /// What the restore that is taken back wrote into each member.
    async fn written(&self, back: &Back<'_>, fit: &Fit, overlay: &Overlay) -> Result<Vec<Written>> {
        let kept = catalog::collections(self.repo, back.safety).await?;
        let before = |member: &Member| {
            let name = member.name();
            let is_it = |kept: &&Cataloged| kept.namespace == name.0 && kept.name == name.1;
            let found = kept.iter().find(is_it).map(Cataloged::root);
            Ok((member.clone(), found.ok_or_else(|| catalog::not_found(&member.display_name()))?))
        };
        let members = fit.members.iter().map(before).collect::<Result<Vec<_>>>()?;
        let (keys, output, records) =
            (self.repo.keys().clone(), Output::Overlay(overlay.clone()), back.records);
        self.repo
            .with_reader_over(Some(overlay), move |reader| {
                let mut written = Vec::with_capacity(members.len());
                for (member, before) in &members {
                    let after = goal::of_restore(member, before, &keys, reader, output.clone())?;
                    written.push(Written { before: *before, after, share: None });
                }
                let Some(records) = records else { return Ok(written) };
                let counts =
                    |written: &Written| Diff::new(&written.before, &written.after, None).count(reader);
                let counts = written.iter().map(counts).collect::<std::result::Result<Vec<_>, _>>()?;
                for (written, share) in written.iter_mut().zip(shares(counts, records)) {
                    written.share = Some(share);
                }
                Ok(written)
            })
            .await
    }
}
