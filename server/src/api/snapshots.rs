//! `/snapshots`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use engine::history::{CollectionSummary, Record};
use engine::repo::Snapshot;
use engine::rows::{Content, PageRequest, Row};
use repo_format::manifest::{Grade, Manifest, Trigger};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::extract::{self, Json, ListQuery, Path, Query};
use super::openapi::ProblemBody;
use super::rfc3339;
use super::words::{SnapshotCollection, SnapshotStateWord, TriggerWord};
use crate::app::App;
use crate::auth::ApiUser;
use crate::error::{Problem, Result};
use crate::ids::DatabaseId;
use crate::meta::{self, Damage, Page, VerifyMode};
use crate::service::snapshots::{self, FoundSnapshot};
use crate::service::{damage, databases};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RecordsQuery {
    #[param(value_type = u32, required = false, minimum = 1, maximum = 1000, default = 100)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    #[param(value_type = String, required = false)]
    cursor: Option<String>,
    /// The readable key to begin at.
    #[param(value_type = String, required = false)]
    from_key: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Missing {
    pub(super) name: String,
    pub(super) reason: String,
}

#[derive(Serialize, ToSchema)]
pub struct SnapshotBody {
    id: String,
    database_id: String,
    created_at: String,
    /// When the backup began: how old what it holds may be.
    started_at: String,
    #[schema(value_type = TriggerWord)]
    trigger: &'static str,
    #[schema(value_type = SnapshotStateWord)]
    state: &'static str,
    root: String,
    /// The snapshot of the same database before it: the one that it was taken after or, once that is
    /// deleted, the newest before it that is left. Null where there is none.
    #[schema(required)]
    parent: Option<String>,
    #[schema(required)]
    note: Option<String>,
    records: u64,
    logical_bytes: u64,
    new_bytes: u64,
    collection_count: u64,
    /// Absent in lists: naming every table of every snapshot would read every catalog.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<SnapshotCollection>>, nullable = false)]
    collections: Option<Vec<SnapshotCollection>>,
    incomplete: Vec<Missing>,
    /// What is left out although nothing failed, in words.
    notes: Vec<String>,
    /// Whether no rule and nobody may delete it.
    pinned: bool,
    /// When a verification last found nothing wrong with it; null again once one found damage.
    #[schema(required)]
    verified_at: Option<String>,
    /// How thorough that verification was.
    #[schema(required)]
    verified_mode: Option<VerifyMode>,
    /// When every byte of it was last verified.
    #[schema(required)]
    fully_verified_at: Option<String>,
    /// Since when verifications find it damaged; null while none did, and again once one finds it whole.
    #[schema(required)]
    damaged_since: Option<String>,
    engine: String,
    server_version: String,
    /// "point_in_time" or "not_point_in_time": whether all records are of one moment.
    consistency: &'static str,
    /// How that is known, in words.
    consistency_method: String,
}

#[derive(Serialize, ToSchema)]
pub struct RecordBody {
    id: String,
    key: String,
    /// Column texts, null for NULL; or a document in canonical Extended JSON.
    #[schema(value_type = Object)]
    value: RecordValue,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    truncated: bool,
}

/// The word of the API for why a snapshot was taken.
pub fn trigger(manifest: &Manifest) -> &'static str {
    match manifest.trigger {
        Trigger::Manual => "manual",
        Trigger::Schedule => "schedule",
        Trigger::Safety => "safety",
    }
}

/// When a snapshot came into being, wherever the API tells it: when it was whole.
pub fn created_at(manifest: &Manifest) -> String {
    rfc3339(manifest.finished_ms)
}

/// What a record holds.
#[derive(Serialize)]
#[serde(untagged)]
pub enum RecordValue {
    /// A row: column names and their texts, null for NULL.
    Columns(Map<String, Value>),
    /// A document in canonical Extended JSON, its fields in their order and repeated ones too. Of
    /// fields that are too long to show only the size is told: `{"$truncated": bytes}`.
    Document(Box<RawValue>),
}

impl TryFrom<Content> for RecordValue {
    type Error = Problem;

    fn try_from(content: Content) -> Result<Self> {
        Ok(match content {
            Content::Row(row) => Self::Columns(columns(row)),
            // Not parsed into values: they would lose repeated fields and their order.
            Content::Document(json) => {
                Self::Document(RawValue::from_string(json).map_err(Problem::internal)?)
            }
        })
    }
}

fn columns(row: Row) -> Map<String, Value> {
    row.into_iter().map(|(column, text)| (column, text.map_or(Value::Null, Value::String))).collect()
}

/// The word of the API for whether all records of a snapshot are of one moment.
pub fn consistency(manifest: &Manifest) -> &'static str {
    match manifest.evidence.grade {
        Grade::PointInTime => "point_in_time",
        Grade::NotPointInTime => "not_point_in_time",
    }
}

impl SnapshotBody {
    fn new(snapshot: Snapshot, damage: &Damage, collections: Option<Vec<CollectionSummary>>) -> Self {
        let note = snapshot.note().map(str::to_owned);
        let verified = snapshots::verified(&snapshot.mark);
        let Snapshot { id, manifest, mark } = snapshot;
        Self {
            id: id.to_string(),
            created_at: created_at(&manifest),
            started_at: rfc3339(manifest.started_ms),
            trigger: trigger(&manifest),
            consistency: consistency(&manifest),
            state: if manifest.is_complete() { "complete" } else { "incomplete" },
            root: manifest.catalog_root.to_string(),
            parent: manifest.parent.map(|parent| parent.to_string()),
            records: manifest.records,
            logical_bytes: manifest.logical_bytes,
            new_bytes: manifest.new_bytes,
            collection_count: manifest.collections,
            collections: collections.map(|all| all.into_iter().map(SnapshotCollection::from).collect()),
            incomplete: manifest
                .missing
                .into_iter()
                .map(|missing| Missing { name: missing.name, reason: missing.reason })
                .collect(),
            notes: manifest.notes,
            pinned: mark.pinned,
            verified_at: verified.map(|(_, at_ms)| rfc3339(at_ms)),
            verified_mode: verified.map(|(mode, _)| mode),
            fully_verified_at: mark.full_ms.map(rfc3339),
            damaged_since: damage.of(&id.to_string()).map(|found| rfc3339(found.since_ms)),
            consistency_method: manifest.evidence.method,
            engine: manifest.source.engine,
            server_version: manifest.source.version,
            database_id: manifest.source.id,
            note,
        }
    }
}

impl TryFrom<Record> for RecordBody {
    type Error = Problem;

    fn try_from(record: Record) -> Result<Self> {
        let Record { id, key, content, truncated } = record;
        Ok(Self { id, key, value: content.try_into()?, truncated })
    }
}

/// A database's snapshots, newest first; those of a removed database, too.
#[utoipa::path(
    get, path = "/databases/{id}/snapshots", tag = "snapshots",
    params(("id" = String, Path), ListQuery),
    responses((status = 200, description = "A page", body = Page<SnapshotBody>)),
)]
pub async fn list(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(database): Path<DatabaseId>,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<Page<SnapshotBody>>> {
    let (limit, after) = query.limit_and_cursor()?;
    let page = meta::PageRequest { after, limit };
    let page = snapshots::list(&app, visitor.user_id, database, page).await?;
    let project = databases::find_with_history(&app, visitor.user_id, database).await?.project_id;
    let damage = damage::of(&app, project).await?;
    Ok(axum::Json(page.map(|snapshot| SnapshotBody::new(snapshot, &damage, None))))
}

/// A snapshot and its collections.
#[utoipa::path(
    get, path = "/snapshots/{id}", tag = "snapshots",
    params(("id" = String, Path)),
    responses((status = 200, description = "The snapshot", body = SnapshotBody)),
)]
pub async fn get(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<String>,
) -> Result<axum::Json<SnapshotBody>> {
    let found = snapshots::find_with_parent(&app, visitor.user_id, &id).await?;
    whole(&app, found).await
}

/// A snapshot with its collections.
async fn whole(app: &App, found: FoundSnapshot) -> Result<axum::Json<SnapshotBody>> {
    let collections = snapshots::collections(&found).await?;
    let damage = damage::of(app, found.project_id).await?;
    Ok(axum::Json(SnapshotBody::new(found.snapshot, &damage, Some(collections))))
}

/// What to say of a snapshot; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotChange {
    /// Null or empty removes it.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, required = false, max_length = 1000)]
    note: Option<Option<String>>,
    /// A pinned snapshot is deleted by no rule of a schedule, and by nobody before it is unpinned.
    #[serde(default)]
    #[schema(required = false)]
    pinned: Option<bool>,
}

/// Tells null from absent.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    body: D,
) -> std::result::Result<Option<T>, D::Error> {
    T::deserialize(body).map(Some)
}

/// Gives a snapshot another note, pins or unpins it. What was stored does not change.
#[utoipa::path(
    patch, path = "/snapshots/{id}", tag = "snapshots",
    params(("id" = String, Path)),
    request_body = SnapshotChange,
    responses(
        (status = 200, description = "As it is now", body = SnapshotBody),
        (status = 204, description = "Pinned or unpinned; its file is lost or damaged, so there is nothing to show"),
        (status = 409, description = "Its file is lost or damaged, so it takes no note", body = ProblemBody),
    ),
)]
pub async fn change(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<String>,
    Json(body): Json<SnapshotChange>,
) -> Result<Response> {
    let SnapshotChange { note, pinned } = body;
    let change = snapshots::SnapshotChange { note, pinned };
    match snapshots::change(&app, visitor.user_id, &id, change).await? {
        Some(found) => Ok(whole(&app, found).await?.into_response()),
        None => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

/// Deletes a snapshot. What only it needed goes with the next prune.
#[utoipa::path(
    delete, path = "/snapshots/{id}", tag = "snapshots",
    params(("id" = String, Path)),
    responses(
        (status = 204, description = "Gone"),
        (status = 409, description = "`pinned`: unpin it first", body = ProblemBody),
    ),
)]
pub async fn delete(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path(id): Path<String>,
) -> Result<StatusCode> {
    snapshots::delete(&app, visitor.user_id, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A collection's records, in key order.
#[utoipa::path(
    get, path = "/snapshots/{id}/collections/{name}/records", tag = "snapshots",
    params(("id" = String, Path), ("name" = String, Path, description = "The collection's name, percent-encoded"), RecordsQuery),
    responses((status = 200, description = "A page", body = Page<RecordBody>)),
)]
pub async fn records(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Path((id, collection)): Path<(String, String)>,
    Query(query): Query<RecordsQuery>,
) -> Result<axum::Json<Page<RecordBody>>> {
    let found = snapshots::find(&app, visitor.user_id, &id).await?;
    let page = PageRequest {
        cursor: query.cursor,
        from_key: query.from_key,
        limit: extract::limit(query.limit.as_deref())?,
    };
    let page = snapshots::records(&app, visitor.user_id, &found, &collection, &page).await?;
    let items = page.items.into_iter().map(RecordBody::try_from).collect::<Result<_>>()?;
    Ok(axum::Json(Page { items, next_cursor: page.next_cursor }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_keep_the_order_of_fields_and_repeated_ones() {
        let text = r#"{"b":{"$numberLong":"1"},"a":2,"b":3}"#;
        let value = RecordValue::try_from(Content::Document(text.to_owned())).unwrap();
        assert_eq!(serde_json::to_string(&value).unwrap(), text);
    }
}
