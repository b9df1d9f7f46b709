//! `/diffs`.

use axum::extract::State;
use axum::http::StatusCode;
use engine::diff::{Change, ChangeKind, CollectionDiff, Counts, Filter, Operation, Status};
use engine::rows::{Content, PageRequest};
use serde::{Deserialize, Serialize};

use super::extract::{self, Json, ListQuery, Path, Query};
use super::rfc3339;
use super::snapshots::RecordValue;
use crate::app::App;
use crate::auth::ApiUser;
use crate::error::{Problem, Result};
use crate::ids::{DiffId, JobId, ProjectId};
use crate::meta::{JobState, Page};
use crate::service::diffs::{self, FoundDiff};

#[derive(Deserialize)]
pub struct NewDiff {
    from: String,
    to: String,
}

#[derive(Serialize)]
pub struct Started {
    id: DiffId,
    job_id: JobId,
}

#[derive(Serialize)]
pub struct DiffBody {
    id: DiffId,
    project_id: ProjectId,
    job_id: JobId,
    from: String,
    to: String,
    state: JobState,
    created_at: String,
    /// Absent until the comparison is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    collections: Option<Vec<CollectionBody>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_compared: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    objects_read: Option<u64>,
}

#[derive(Serialize)]
pub struct CollectionBody {
    name: String,
    status: Status,
    /// Null where `rekeyed` says why the records were not compared: zeros would say they are equal.
    records: Option<Counts>,
    schema_changes: Vec<String>,
    rekeyed: Option<String>,
}

#[derive(Deserialize)]
pub struct ChangesQuery {
    limit: Option<String>,
    cursor: Option<String>,
    kind: Option<ChangeKind>,
    column: Option<String>,
}

#[derive(Serialize)]
pub struct ChangeBody {
    id: String,
    kind: ChangeKind,
    key: String,
    old: Option<RecordValue>,
    new: Option<RecordValue>,
    /// The columns whose values differ; of documents, the top-level fields.
    columns: Vec<String>,
    /// Of documents alone: what makes `new` of `old` (RFC 6902). Null where nothing was changed but
    /// added or removed, and where it is longer than what is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<Option<Vec<Operation>>>,
    /// Whether a document differs in nothing but the order of its fields.
    order_only: bool,
    /// Of the columns, those of type `json` in which only white space differs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reformatted: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

impl From<FoundDiff> for DiffBody {
    fn from(found: FoundDiff) -> Self {
        let state = found.state();
        let FoundDiff { diff, summary, .. } = found;
        let (collections, not_compared, objects_read) = match summary {
            Some(summary) => {
                let collections = summary.collections.into_iter().map(CollectionBody::from).collect();
                (Some(collections), Some(summary.not_compared), Some(summary.objects_read))
            }
            None => (None, None, None),
        };
        Self {
            id: diff.id,
            project_id: diff.project_id,
            job_id: diff.job_id,
            from: diff.from,
            to: diff.to,
            state,
            created_at: rfc3339(diff.created_ms),
            collections,
            not_compared,
            objects_read,
        }
    }
}

impl From<CollectionDiff> for CollectionBody {
    fn from(diff: CollectionDiff) -> Self {
        Self {
            name: diff.name,
            status: diff.status,
            records: diff.rekeyed.is_none().then_some(diff.records),
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
            truncated: change.truncated,
        })
    }
}

pub async fn start(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Json(body): Json<NewDiff>,
) -> Result<(StatusCode, axum::Json<Started>)> {
    let (id, job_id) = diffs::start(&app, visitor.user_id, &body.from, &body.to).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(Started { id, job_id })))
}

pub async fn list(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(project): Path<ProjectId>,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<Page<DiffBody>>> {
    let page = diffs::list(&app, visitor.user_id, project, query.page()?).await?;
    Ok(axum::Json(page.map(DiffBody::from)))
}

pub async fn get(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<DiffId>,
) -> Result<axum::Json<DiffBody>> {
    Ok(axum::Json(diffs::find(&app, visitor.user_id, id).await?.into()))
}

pub async fn changes(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path((id, collection)): Path<(DiffId, String)>,
    Query(query): Query<ChangesQuery>,
) -> Result<axum::Json<Page<ChangeBody>>> {
    let filter = Filter { kind: query.kind, column: query.column };
    let page =
        PageRequest { cursor: query.cursor, from_key: None, limit: extract::limit(query.limit.as_deref())? };
    let page = diffs::changes(&app, visitor.user_id, id, &collection, &filter, &page).await?;
    let items = page.items.into_iter().map(ChangeBody::try_from).collect::<Result<_>>()?;
    Ok(axum::Json(Page { items, next_cursor: page.next_cursor }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rekeyed_table_has_no_counts() {
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
        assert_eq!(bodies[0]["records"]["added"], 0);
        assert!(bodies[1]["records"].is_null());
        assert_eq!(bodies[1]["rekeyed"], "another key");
    }
}
