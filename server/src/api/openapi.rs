//! The API's own description, OpenAPI 3.1, made from the code that answers.

use std::collections::BTreeMap;

use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{Modify, OpenApi, ToSchema};

use super::{
    accounts, audit, databases, diffs, jobs, keys, projects, restores, schedules, sign_in, snapshots, usage,
};

/// A problem in the sense of RFC 9457. Each kind adds fields of its own.
#[derive(ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// What programs may rely on: a stable word such as `not-found`.
    pub r#type: String,
    pub title: String,
    /// What to do.
    pub detail: String,
    pub status: u16,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "DBSnap",
        description = "Snapshots, diffs and proven restores of PostgreSQL and MongoDB.\n\nFailures are \
            `application/problem+json`. Lists are read with `limit` and `cursor`. Times are RFC 3339 in UTC.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/api/v1")),
    security(("bearer" = []), ("session" = [])),
    components(schemas(ProblemBody)),
    modifiers(&Everywhere),
    paths(
        document,
        accounts::register,
        accounts::login,
        accounts::refresh,
        accounts::logout,
        accounts::me,
        accounts::change_password,
        accounts::sign_out_everywhere,
        accounts::delete,
        sign_in::start,
        sign_in::callback,
        sign_in::identities,
        sign_in::unlink,
        projects::list,
        projects::create,
        projects::get,
        projects::delete,
        projects::test_connection,
        projects::verify,
        projects::prune,
        usage::of_project,
        projects::export_recovery_key,
        keys::list,
        keys::add,
        keys::rotate,
        keys::remove,
        keys::begin_epoch,
        keys::storage,
        keys::open_storage,
        databases::list,
        databases::create,
        databases::get,
        databases::change,
        databases::remove,
        databases::start_backup,
        jobs::list,
        jobs::get,
        jobs::cancel,
        jobs::follow,
        snapshots::list,
        snapshots::get,
        snapshots::change,
        snapshots::delete,
        snapshots::records,
        usage::start_cost,
        diffs::list,
        diffs::start,
        diffs::get,
        diffs::changes,
        restores::list,
        restores::plan,
        restores::get,
        restores::apply,
        restores::undo,
        restores::changes,
        schedules::get,
        schedules::set,
        schedules::remove,
        schedules::preview,
        audit::list,
        audit::verify,
        audit::export,
    )
)]
struct Document;

/// The whole description.
pub fn describe() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// This description.
#[utoipa::path(
    get, path = "/openapi.json", tag = "document",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)),
    security(()),
)]
pub async fn document() -> axum::Json<utoipa::openapi::OpenApi> {
    axum::Json(describe())
}

/// What holds for every operation, so that none has to say it.
struct Everywhere;

impl Modify for Everywhere {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let cookie = ApiKey::Cookie(ApiKeyValue::new("dbsnap_access"));
        components.add_security_scheme("session", SecurityScheme::ApiKey(cookie));
        for (path, item) in &mut document.paths.paths {
            for operation in operations(item) {
                add_refusals(path, operation);
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let methods = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
    methods.into_iter().flatten()
}

/// The refusals that follow from what an operation takes; what it says itself stays.
fn add_refusals(path: &str, operation: &mut Operation) {
    let mut refusals = BTreeMap::from([
        ("403", "`cross-site`: another site asked for it"),
        ("500", "A defect, or a machine in trouble"),
        ("503", "The server is stopping, or its storage does not work"),
    ]);
    let is_open = operation.security.is_some();
    if !is_open {
        refusals.insert("401", "Nobody is signed in");
    }
    if path.contains('{') {
        refusals.insert("404", "Nothing of that name that is the caller's");
    }
    if operation.parameters.as_ref().is_some_and(|parameters| !parameters.is_empty()) {
        refusals.insert("422", "A value that cannot be used");
    }
    if operation.request_body.is_some() {
        refusals.insert("400", "The body is not JSON");
        refusals.insert("404", "Nothing of that name that is the caller's");
        refusals.insert("409", "The state of things does not allow it");
        refusals.insert("413", "The body is too large");
        refusals.insert("415", "The body's type is not JSON");
        refusals.insert("422", "A value that cannot be used");
    }
    let responses = &mut operation.responses.responses;
    for (status, description) in refusals {
        responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(problem(description)));
    }
    for (status, response) in responses {
        if let (true, RefOr::T(response)) = (status.starts_with(['4', '5']), response)
            && let Some(content) = response.content.swap_remove("application/json")
        {
            response.content.insert(PROBLEM.to_owned(), content);
        }
    }
}

const PROBLEM: &str = "application/problem+json";

fn problem(description: &str) -> Response {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    ResponseBuilder::new().description(description).content(PROBLEM, content).build()
}
