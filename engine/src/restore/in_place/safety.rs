//! What the collections held before anything was written, as a snapshot.

use repo_format::catalog::Layout;
use repo_format::id::SnapshotId;
use repo_format::manifest::{Missing, Trigger};

use super::apply::Attempt;
use super::fit::Member;
use crate::backup;
use crate::capture::Capture;
use crate::error::Result;
use crate::ingest::{Output, Tree};
use crate::repo::Writer;
use crate::source::{Collection, Source};

impl Attempt<'_> {
    /// Commits what collections held as a snapshot: the members, and those `beside` them. A tree of each.
    pub(super) async fn keep(
        &self,
        source: &Source,
        members: &[Member],
        beside: &[Collection],
        trees: &[Tree],
        writer: &Writer,
    ) -> Result<SnapshotId> {
        self.tell("taking a safety snapshot");
        let of_members = members.iter().map(|member| member.found.clone());
        let collections: Vec<Collection> = of_members.chain(beside.iter().cloned()).collect();
        let request = backup::Request { trigger: Trigger::Safety, ..self.order.request.clone() };
        let parent = backup::parent(self.repo, &request).await?;
        let layout = |found: &Collection| -> Layout {
            let is_it = |member: &&Member| {
                member.found.namespace == found.namespace && member.found.name == found.name
            };
            let member = members.iter().find(is_it);
            member.map_or_else(|| found.layout.clone(), |member| member.layout().clone())
        };
        let capture = Capture {
            repo: self.repo,
            request: &request,
            url: self.url.clone(),
            started_ms: self.ctx.clock.now_ms(),
            output: Output::Repository(writer.clone()),
            parent: parent.as_ref(),
            layout: &layout,
            ctx: self.ctx.clone(),
            steps: self.steps.clone(),
        };
        let archive = source.schema_archive().await?;
        let mut manifest = capture.describe(source, &collections, trees, archive).await?;
        let is_kept = |found: &&Collection| {
            collections.iter().any(|kept| kept.namespace == found.namespace && kept.name == found.name)
        };
        let others = source.collections().iter().filter(|found| !is_kept(found));
        manifest.missing.extend(others.map(|found| Missing {
            name: found.display_name(),
            reason: "the restore that this snapshot was taken before does not write it".to_owned(),
        }));
        self.ctx.check()?;
        manifest.new_bytes = writer.flush().await?.bytes;
        manifest.finished_ms = self.ctx.clock.now_ms();
        Ok(self.session.commit(manifest).await?.id)
    }
}
