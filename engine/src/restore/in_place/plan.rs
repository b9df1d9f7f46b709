//! What a restore in place would do: the collections are read and compared, nothing is written.

use std::sync::Arc;

use repo_format::catalog::NaturalOrder;
use repo_format::tree::Root;

use super::around::Around;
use super::checks::Checked;
use super::delta::deltas;
use super::fit::{Chosen, Fit, Member, choose};
use super::{Standing, TableStanding, check_engine, goal};
use crate::capture::{catalog_record, write_catalog};
use crate::catalog;
use crate::context::Context;
use crate::diff::{self, Change, Filter, Keeper, Side};
use crate::error::{Error, Result};
use crate::ingest::Output;
use crate::monitor::Steps;
use crate::overlay::{self, Overlay};
use crate::reading::{Read, read_database};
use crate::repo::{Mark, Repository, Session, Snapshot};
use crate::restore::{Plan, Scope, TargetIdentity};
use crate::rows::{Page, PageRequest};
use crate::source::{DatabaseUrl, Options, Source};

/// The changes that a restore in place would make, for as long as the planned target's reading is kept.
#[derive(Clone)]
pub struct Preview {
    before: Snapshot,
    after: Snapshot,
    overlay: Overlay,
}

impl std::fmt::Debug for Preview {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Preview").field("objects", &self.overlay.objects()).finish_non_exhaustive()
    }
}

impl Preview {
    /// Bytes that it takes on disk.
    pub fn size_bytes(&self) -> u64 {
        self.overlay.size_bytes()
    }

    /// One page of the changes in a collection, from what it holds to what it would hold.
    pub async fn changes(
        &self,
        repo: &Repository,
        table: &str,
        filter: &Filter,
        page: &PageRequest,
    ) -> Result<Page<Change>> {
        let [before, after] =
            [&self.before, &self.after].map(|snapshot| Side { snapshot, overlay: Some(&self.overlay) });
        diff::changes(repo, before, after, table, filter, page).await
    }
}

/// The collections in scope as they were read.
struct Reading {
    fit: Fit,
    /// What each member holds.
    live: Vec<Root>,
    overlay: Overlay,
}

/// Reads the target's collections and says what a restore into them would do. Credentials that may only read
/// are enough.
///
/// # Errors
/// [`NotFound`](crate::Kind::NotFound) for collections that the snapshot has not, and records that neither side
/// has; as a backup's where the target cannot be read.
pub async fn plan_in_place(
    repo: &Repository,
    snapshot: &Snapshot,
    scope: &Scope,
    target_url: &str,
    ctx: &Context,
) -> Result<(Plan, Preview)> {
    let url = DatabaseUrl::parse(target_url)?.within(ctx.addresses);
    check_engine(&url, snapshot)?;
    let session = Session::begin_reading(repo, &[snapshot.id], ctx).await?;
    let ctx = Context { monitor: Arc::new(Steps::new(ctx.monitor.clone())), ..ctx.clone() };
    let planned = async {
        let chosen = choose(scope, repo, snapshot, &url).await?;
        let around = Around::look(&url, &chosen).await?;
        let reading = read(repo, snapshot, &chosen, None, &url, &around, &ctx).await?;
        let standing = standing(repo, &reading, &around).await?;
        let goals = goals(repo, &reading).await?;
        let preview = preview(repo, snapshot, &reading, &goals, &session, &ctx).await?;
        let catalogs = [&preview.before, &preview.after]
            .map(|snapshot| Side { snapshot, overlay: Some(&reading.overlay) });
        let [before, after] = catalogs;
        let (before, after) =
            (catalog::collections(repo, before).await?, catalog::collections(repo, after).await?);
        let summary = diff::compare_collections(repo, before, after, &reading.overlay, &ctx).await?;
        let pairs = reading.fit.members.iter().cloned().zip(reading.live.iter().copied()).zip(goals);
        let collections = pairs.map(|((member, live), goal)| (member, live, goal)).collect();
        let deltas = deltas(repo, &reading.overlay, collections).await?;
        let (fit, bystanders) = (&reading.fit, standing.bystanders.as_slice());
        let checked = Checked { snapshot, scope, fit, bystanders, others_write: true };
        let mut preflight = around.checks(&checked);
        preflight.extend(around.extent(repo, &reading.overlay, deltas).await?);
        let target = TargetIdentity::of(&url);
        let plan = Plan {
            preflight,
            preview: summary,
            confirm_phrase: target.confirm_phrase(),
            target,
            in_place: Some(standing),
        };
        Ok((plan, preview))
    }
    .await;
    session.conclude(planned).await
}

/// Whether the target's collections still hold what they held when the restore was planned. Reads them.
pub async fn is_as_planned(
    repo: &Repository,
    snapshot: &Snapshot,
    scope: &Scope,
    plan: &Plan,
    url: &str,
    ctx: &Context,
) -> Result<bool> {
    let url = DatabaseUrl::parse(url)?.within(ctx.addresses);
    check_engine(&url, snapshot)?;
    let session = Session::begin_reading(repo, &[snapshot.id], ctx).await?;
    let compared = async {
        let chosen = choose(scope, repo, snapshot, &url).await?;
        let planned = plan.in_place.as_ref();
        let around = Around::look(&url, &chosen).await?;
        let reading = read(repo, snapshot, &chosen, planned, &url, &around, ctx).await?;
        Ok(Some(&standing(repo, &reading, &around).await?) == planned)
    };
    // A connection that is dead and does not look it answers no request to stop.
    let compared = tokio::select! {
        biased;
        () = ctx.cancel.cancelled() => Err(Error::cancelled()),
        compared = compared => compared,
    };
    session.conclude(compared).await
}

async fn read(
    repo: &Repository,
    snapshot: &Snapshot,
    chosen: &[Chosen],
    planned: Option<&Standing>,
    url: &DatabaseUrl,
    around: &Around,
    ctx: &Context,
) -> Result<Reading> {
    let overlay = Overlay::new(repo, overlay::MOST_BYTES, ctx)?;
    let output = Output::Overlay(overlay.clone());
    let fit = |source: &Source| {
        let missing = &snapshot.manifest.missing;
        let fit = Fit::of(chosen, missing, source.collections(), &source.incomplete(), &around.barred());
        match planned {
            Some(planned) => fit.narrowed_to(planned),
            None => fit,
        }
    };
    let choose = |source: &Source| Ok(fit(source).members.iter().map(Member::target).collect());
    let options = Options::new(ctx.workers, around.consistency());
    let Read { source, trees } =
        read_database(url, options, &choose, repo, &output, "reading the target", ctx).await?;
    let fit = fit(&source);
    source.close().await?;
    Ok(Reading { fit, live: trees.iter().map(|tree| tree.root).collect(), overlay })
}

async fn standing(repo: &Repository, reading: &Reading, around: &Around) -> Result<Standing> {
    let (members, live) = (reading.fit.members.clone(), reading.live.clone());
    let names: Vec<_> = members.iter().map(Member::name).collect();
    Ok(Standing {
        tables: tables(repo, Some(&reading.overlay), members, live).await?,
        bystanders: around.bystanders(&names),
        left_out: reading.fit.left_out.clone(),
    })
}

/// What collections hold, as a plan keeps it.
pub(super) async fn tables(
    repo: &Repository,
    overlay: Option<&Overlay>,
    members: Vec<Member>,
    live: Vec<Root>,
) -> Result<Vec<TableStanding>> {
    let keys = repo.keys().clone();
    repo.with_reader_over(overlay, move |reader| {
        let of_one = |(member, live): (&Member, &Root)| {
            let (namespace, name) = member.name();
            let root = match &member.chosen.ids {
                None => live.id.to_string(),
                Some(ids) => goal::standing_of_selected(member, ids, live, &keys, reader)?,
            };
            Ok(TableStanding { namespace, name, root })
        };
        members.iter().zip(&live).map(of_one).collect()
    })
    .await
}

async fn goals(repo: &Repository, reading: &Reading) -> Result<Vec<Root>> {
    let (members, live) = (reading.fit.members.clone(), reading.live.clone());
    let (keys, output) = (repo.keys().clone(), Output::Overlay(reading.overlay.clone()));
    repo.with_reader_over(Some(&reading.overlay), move |reader| {
        let of_one = |(member, live)| goal::of_restore(member, live, &keys, reader, output.clone());
        members.iter().zip(&live).map(of_one).collect()
    })
    .await
}

/// Both sides as snapshots that are never committed, kept in the overlay as far as pages of their
/// differences open them.
async fn preview(
    repo: &Repository,
    snapshot: &Snapshot,
    reading: &Reading,
    goals: &[Root],
    session: &Session,
    ctx: &Context,
) -> Result<Preview> {
    let side = |roots: Vec<Root>| async move {
        let records = (reading.fit.members.iter().zip(&roots))
            .map(|(member, root)| {
                catalog_record(&member.found, member.layout().clone(), *root, None::<NaturalOrder>)
            })
            .collect();
        let output = Output::Overlay(reading.overlay.clone());
        let catalog = write_catalog(repo, &output, records).await?;
        let mut manifest = snapshot.manifest.clone();
        (manifest.catalog_root, manifest.catalog_level) = (catalog.id, catalog.level);
        manifest.collections = roots.len() as u64;
        (manifest.schema, manifest.missing) = (None, Vec::new());
        Ok::<_, crate::Error>(Snapshot { id: session.id(), manifest, mark: Mark::default() })
    };
    let (before, after) = (side(reading.live.clone()).await?, side(goals.to_vec()).await?);
    let catalogs = [&before, &after].map(catalog::catalog_root);
    let pairs: Vec<(Root, Root)> = reading.live.iter().copied().zip(goals.iter().copied()).collect();
    let (overlay, ctx) = (reading.overlay.clone(), ctx.clone());
    repo.with_reader_over(Some(&reading.overlay), move |reader| {
        let mut keeper = Keeper::new(reader, &overlay, &ctx);
        catalogs.iter().try_for_each(|catalog| keeper.tree(None, catalog))?;
        // What comparing keeps is the other direction: what only the goal has.
        pairs.iter().try_for_each(|(live, goal)| keeper.tree(Some(goal), live))
    })
    .await?;
    Ok(Preview { before, after, overlay: reading.overlay.clone() })
}
