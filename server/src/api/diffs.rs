//! `/diffs`.

use axum::extract::State;
use axum::http::StatusCode;
use engine::diff::{Change, ChangeKind, CollectionDiff, Filter, Operation, Status, Summary, Window};
use engine::rows::{Content, PageRequest};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{self, Json, ListQuery, Path, Query};
use super::openapi::ProblemBody;
use super::rfc3339;
use super::snapshots::{Missing, RecordValue};
use super::words::{ChangeKindWord, CountsBody, OperationBody, StatusWord};
use crate::app::App;
use crate::auth::ApiUser;
use crate::error::{Problem, Result};
use crate::ids::{DatabaseId, DiffId, JobId, ProjectId};
use crate::meta::{ComparedWith, JobState, Page};
use crate::service::diffs::{self, FoundDiff, ReadFacts};

/// One of `to` and `live` says what to compare with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDiff {
    /// A snapshot.
    from: String,
    /// A snapshot of the same project.
    #[schema(nullable = false)]
    to: Option<String>,
    /// A database of the same project, to be read now.
    #[schema(nullable = false)]
    live: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Started {
    id: DiffId,
    job_id: JobId,
}

#[derive(Serialize, ToSchema)]
pub struct DiffBody {
    id: DiffId,
    project_id: ProjectId,
    job_id: JobId,
    from: String,
    /// The other snapshot; null where it is a live database.
    #[schema(required)]
    to: Option<String>,
    /// The live database; null where it is another snapshot.
    #[schema(required)]
    live: Option<LiveBody>,
    state: JobState,
    created_at: String,
    /// Absent until the comparison is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    collections: Option<Vec<CollectionBody>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    not_compared: Option<Vec<String>>,
    /// What differs beside tables (views, functions, types, sequences, privileges), in words. Null
    /// until the comparison is made, and where it is not known.
    #[schema(required)]
    other_objects: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    objects_read: Option<u64>,
}

/// The live side of a comparison.
#[derive(Serialize, ToSchema)]
pub struct LiveBody {
    /// Its id.
    database: DatabaseId,
    /// The moment it was read at; null until it was.
    #[schema(required)]
    read_at: Option<String>,
    /// Whether all of it is of that moment; null until it was read.
    #[schema(required)]
    point_in_time: Option<bool>,
    /// What could not be read then, and is not compared.
    incomplete: Vec<Missing>,
    /// Whether the records that differ can be listed: for an hour after they last were, as long as the
    /// server runs. The counts stay.
    has_changes: bool,
}

#[derive(Serialize, ToSchema)]
pub struct CollectionBody {
    name: String,
    #[schema(value_type = StatusWord)]
    status: Status,
    /// All zero, `unchanged` too, where `rekeyed` says why the records were not compared.
    records: CountsBody,
    schema_changes: Vec<String>,
    /// Null but where the table has another key than it had: then no record of one side is known to be
    /// one of the other's, so none is counted. It says which key, and how many records each side has.
    #[schema(required)]
    rekeyed: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ChangesQuery {
    #[param(value_type = u32, required = false, minimum = 1, maximum = 1000, default = 100)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    #[param(value_type = String, required = false)]
    cursor: Option<String>,
    #[param(value_type = ChangeKindWord, required = false)]
    kind: Option<ChangeKind>,
    /// Only changes of this column.
    #[param(value_type = String, required = false)]
    column: Option<String>,
}

impl ChangesQuery {
    /// Which changes are asked for, and which page of them.
    pub fn parts(self) -> Result<(Filter, PageRequest)> {
        let limit = extract::limit(self.limit.as_deref())?;
        let filter = Filter { kind: self.kind, column: self.column };
        Ok((filter, PageRequest { cursor: self.cursor, from_key: None, limit }))
    }
}

#[derive(Serialize, ToSchema)]
pub struct ChangeBody {
    id: String,
    #[schema(value_type = ChangeKindWord)]
    kind: ChangeKind,
    key: String,
    #[schema(required, value_type = Option<Object>)]
    old: Option<RecordValue>,
    #[schema(required, value_type = Option<Object>)]
    new: Option<RecordValue>,
    /// The columns whose values differ; of documents, the top-level fields.
    columns: Vec<String>,
    /// Of documents alone: what makes `new` of `old` (RFC 6902). Null where nothing was changed but
    /// added or removed, and where it is longer than what is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<OperationBody>>)]
    patch: Option<Option<Vec<Operation>>>,
    /// Whether a document differs in nothing but the order of its fields.
    order_only: bool,
    /// Of the columns, those of type `json` in which only white space differs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reformatted: Vec<String>,
    /// Of the columns, those with a long value: what stands around the first difference, which may be
    /// behind what `old` and `new` show.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    windows: Vec<WindowBody>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    truncated: bool,
}

/// A page of changes.
#[derive(Serialize, ToSchema)]
pub struct ChangesBody {
    items: Vec<ChangeBody>,
    #[schema(required)]
    next_cursor: Option<String>,
    /// Why there are none, where the collection's records were not compared: it has another key than
    /// it had. As in the comparison itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    rekeyed: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct WindowBody {
    column: String,
    /// Bytes from the beginning to the first difference; null when it is farther in than is looked.
    #[schema(required)]
    differs_at: Option<u64>,
    /// Where the texts below begin.
    starts_at: u64,
    old_size_bytes: u64,
    new_size_bytes: u64,
    old: String,
    new: String,
}

impl From<Window> for WindowBody {
    fn from(window: Window) -> Self {
        Self {
            column: window.column,
            differs_at: window.differs_at,
            starts_at: window.starts_at,
            old_size_bytes: window.old_size_bytes,
            new_size_bytes: window.new_size_bytes,
            old: window.old,
            new: window.new,
        }
    }
}

impl From<FoundDiff> for DiffBody {
    fn from(found: FoundDiff) -> Self {
        let state = found.state();
        let FoundDiff { diff, summary, read, has_pages, .. } = found;
        let (to, live) = match diff.to {
            ComparedWith::Snapshot(to) => (Some(to), None),
            ComparedWith::Live { database_id } => (None, Some(LiveBody::new(database_id, read, has_pages))),
        };
        let (collections, not_compared, other_objects, objects_read) = match summary {
            Some(summary) => {
                let collections = summary.collections.into_iter().map(CollectionBody::from).collect();
                (
                    Some(collections),
                    Some(summary.not_compared),
                    summary.other_objects,
                    Some(summary.objects_read),
                )
            }
            None => (None, None, None, None),
        };
        Self {
            id: diff.id,
            project_id: diff.project_id,
            job_id: diff.job_id,
            from: diff.from,
            to,
            live,
            state,
            created_at: rfc3339(diff.created_ms),
            collections,
            not_compared,
            other_objects,
            objects_read,
        }
    }
}

impl LiveBody {
    fn new(database: DatabaseId, read: Option<ReadFacts>, has_changes: bool) -> Self {
        let (at_ms, point_in_time) =
            (read.as_ref().map(|read| read.at_ms), read.as_ref().map(|read| read.point_in_time));
        let missing = read.map(|read| read.missing).unwrap_or_default().into_iter();
        Self {
            database,
            read_at: at_ms.map(rfc3339),
            point_in_time,
            incomplete: missing.map(|(name, reason)| Missing { name, reason }).collect(),
            has_changes,
        }
    }
}

/// A comparison as a restore's preview shows it: what is there now against what would be.
#[derive(Serialize, ToSchema)]
pub struct SummaryBody {
    collections: Vec<CollectionBody>,
    not_compared: Vec<String>,
    objects_read: u64,
}

impl From<Summary> for SummaryBody {
    fn from(summary: Summary) -> Self {
        Self {
            collections: summary.collections.into_iter().map(CollectionBody::from).collect(),
            not_compared: summary.not_compared,
            objects_read: summary.objects_read,
        }
    }
}

impl From<CollectionDiff> for CollectionBody {
    fn from(diff: CollectionDiff) -> Self {
        Self {
            name: diff.name,
            status: diff.status,
            records: diff.records.into(),
            schema_changes: diff.schema_changes,
            rekeyed: diff.rekeyed,
        }
    }
}

impl TryFrom<Change> for ChangeBody {
    type Error = Problem;

    fn try_from(change: Change) -> Result<Self> {
        let is_document =
            [&change.old, &change.new].into_iter().flatten().any(|side| matches!(side, Content::Document(_)));
        Ok(Self {
            id: change.id,
            kind: change.kind,
            key: change.key,
            old: change.old.map(RecordValue::try_from).transpose()?,
            new: change.new.map(RecordValue::try_from).transpose()?,
            columns: change.columns,
            patch: is_document.then_some(change.patch),
            order_only: change.order_only,
            reformatted: change.reformatted,
            windows: change.windows.into_iter().map(WindowBody::from).collect(),
            truncated: change.truncated,
        })
    }
}

/// Compares two snapshots of one project, or a snapshot with what a database of the project holds now.
#[utoipa::path(
    post, path = "/diffs", tag = "diffs",
    request_body = NewDiff,
    responses((status = 202, description = "Queued, or known already", body = Started)),
)]
pub async fn start(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Json(body): Json<NewDiff>,
) -> Result<(StatusCode, axum::Json<Started>)> {
    let (id, job_id) = match (&body.to, &body.live) {
        (Some(to), None) => diffs::start(&app, visitor.user_id, &body.from, to).await?,
        (None, Some(live)) => diffs::start_live(&app, visitor.user_id, &body.from, live).await?,
        (None, None) => {
            let detail = "Give the id of the snapshot to compare with, or of a database as live.";
            return Err(Problem::invalid("to", detail));
        }
        (Some(_), Some(_)) => {
            let detail = "Compare with a snapshot or with a live database: leave out one of to and live.";
            return Err(Problem::invalid("live", detail));
        }
    };
    Ok((StatusCode::ACCEPTED, axum::Json(Started { id, job_id })))
}

/// A project's comparisons, newest first.
#[utoipa::path(
    get, path = "/projects/{id}/diffs", tag = "diffs",
    params(("id" = String, Path), ListQuery),
    responses((status = 200, description = "A page", body = Page<DiffBody>)),
)]
pub async fn list(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(project): Path<ProjectId>,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<Page<DiffBody>>> {
    let page = diffs::list(&app, visitor.user_id, project, query.page()?).await?;
    Ok(axum::Json(page.map(DiffBody::from)))
}

/// A comparison; its collections once it is made.
#[utoipa::path(
    get, path = "/diffs/{id}", tag = "diffs",
    params(("id" = String, Path)),
    responses((status = 200, description = "The comparison", body = DiffBody)),
)]
pub async fn get(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<DiffId>,
) -> Result<axum::Json<DiffBody>> {
    Ok(axum::Json(diffs::find(&app, visitor.user_id, id).await?.into()))
}

/// The records that differ in one collection, in key order.
#[utoipa::path(
    get, path = "/diffs/{id}/collections/{name}/changes", tag = "diffs",
    params(("id" = String, Path), ("name" = String, Path, description = "The collection's name, percent-encoded"), ChangesQuery),
    responses(
        (status = 200, description = "A page", body = ChangesBody),
        (status = 409, description = "`not-compared-yet`: the live database is still being read", body = ProblemBody),
        (status = 410, description = "`reading-gone`: what was read of the live database is not kept any more", body = ProblemBody),
    ),
)]
pub async fn changes(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path((id, collection)): Path<(DiffId, String)>,
    Query(query): Query<ChangesQuery>,
) -> Result<axum::Json<ChangesBody>> {
    let (filter, page) = query.parts()?;
    let page = diffs::changes(&app, visitor.user_id, id, &collection, &filter, &page).await?;
    let items: Vec<_> = page.items.into_iter().map(ChangeBody::try_from).collect::<Result<_>>()?;
    let mut rekeyed = None;
    if items.is_empty() {
        let summary = diffs::find(&app, visitor.user_id, id).await?.summary;
        let collections = summary.into_iter().flat_map(|summary| summary.collections);
        rekeyed = collections.filter(|found| found.name == collection).find_map(|found| found.rekeyed);
    }
    Ok(axum::Json(ChangesBody { items, next_cursor: page.next_cursor, rekeyed }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::diff::Counts;

    #[test]
    fn a_rekeyed_table_counts_nothing_and_says_why() {
        let compared = CollectionDiff {
            name: "public.t".to_owned(),
            status: Status::Changed,
            records: Counts::default(),
            schema_changes: Vec::new(),
            rekeyed: None,
        };
        let rekeyed = CollectionDiff { rekeyed: Some("another key".to_owned()), ..compared.clone() };
        let bodies =
            [compared, rekeyed].map(|diff| serde_json::to_value(CollectionBody::from(diff)).unwrap());
        for body in &bodies {
            assert_eq!(body["records"]["added"], 0);
        }
        assert!(bodies[0]["rekeyed"].is_null());
        assert_eq!(bodies[1]["rekeyed"], "another key");
    }
}
