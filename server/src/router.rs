//! The table of routes, and what every request passes through.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};

use crate::api::{
    accounts, audit, databases, diffs, jobs, keys, openapi, projects, restores, schedules, sign_in,
    snapshots, status, usage,
};
use crate::app::App;
use crate::routes;
use crate::routing::{Route, Table, delete, get, post};
use crate::{auth, metrics, security};

/// Everything this server answers.
pub fn router(app: App) -> Router {
    let layered = |app: &App| app.clone();
    Router::new()
        .merge(operation().into_router())
        .nest("/api/v1", api().into_router())
        .merge(pages().into_router())
        .fallback(status::not_found)
        .method_not_allowed_fallback(status::wrong_method)
        // The last layer is the first that a request meets.
        .layer(DefaultBodyLimit::max(security::MAX_BODY_BYTES))
        .layer(from_fn_with_state(layered(&app), routes::errors_as_pages))
        .layer(from_fn_with_state(layered(&app), auth::carry_session))
        .layer(from_fn_with_state(layered(&app), security::refuse_cross_site))
        .layer(from_fn(security::limit_time))
        // Again, for what the layers between refuse.
        .layer(from_fn_with_state(layered(&app), routes::errors_as_pages))
        .layer(from_fn_with_state(layered(&app), security::add_headers))
        .layer(from_fn_with_state(layered(&app), metrics::count_answers))
        .with_state(app)
}

/// Every route of the JSON API, below `/api/v1`.
pub fn api_routes() -> Vec<Route> {
    api().routes().to_vec()
}

/// Every route of the pages.
pub fn page_routes() -> Vec<Route> {
    pages().routes().to_vec()
}

/// For whoever runs the server.
fn operation() -> Table {
    Table::new()
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz))
        .route("/metrics", get(status::metrics))
}

fn api() -> Table {
    Table::new()
        .route("/openapi.json", get(openapi::document))
        .route("/auth/register", post(accounts::register))
        .route("/auth/login", post(accounts::login))
        .route("/auth/refresh", post(accounts::refresh))
        .route("/auth/logout", post(accounts::logout))
        .route("/auth/{provider}/start", get(sign_in::start))
        .route("/auth/{provider}/callback", get(sign_in::callback))
        .route("/me", get(accounts::me))
        .route("/me/password", post(accounts::change_password))
        .route("/me/sign-out-everywhere", post(accounts::sign_out_everywhere))
        .route("/me/delete", post(accounts::delete))
        .route("/me/identities", get(sign_in::identities))
        .route("/me/identities/{provider}", delete(sign_in::unlink))
        .route("/projects", get(projects::list).post(projects::create))
        .route("/projects/{id}", get(projects::get).delete(projects::delete))
        .route("/projects/{id}/connection-test", post(projects::test_connection))
        .route("/projects/{id}/verify", post(projects::verify))
        .route("/projects/{id}/prune", post(projects::prune))
        .route("/projects/{id}/usage", get(usage::of_project))
        .route("/projects/{id}/keys", get(keys::list).post(keys::add))
        .route("/projects/{id}/keys/recovery", post(projects::export_recovery_key))
        .route("/projects/{id}/keys/epoch", post(keys::begin_epoch))
        .route("/projects/{id}/keys/{slot}", delete(keys::remove))
        .route("/projects/{id}/keys/{slot}/rotate", post(keys::rotate))
        .route("/storage", get(keys::storage))
        .route("/storage/open", post(keys::open_storage))
        .route("/projects/{id}/databases", get(databases::list).post(databases::create))
        .route("/projects/{id}/diffs", get(diffs::list))
        .route("/projects/{id}/jobs", get(jobs::list))
        .route("/databases/{id}", get(databases::get).patch(databases::change).delete(databases::remove))
        .route("/databases/{id}/backups", post(databases::start_backup))
        .route("/databases/{id}/schedule", get(schedules::get).put(schedules::set).delete(schedules::remove))
        .route("/databases/{id}/schedule/preview", post(schedules::preview))
        .route("/databases/{id}/snapshots", get(snapshots::list))
        .route("/jobs/{id}", get(jobs::get))
        .route("/jobs/{id}/cancel", post(jobs::cancel))
        .route("/jobs/{id}/events", get(jobs::follow))
        .route("/snapshots/{id}", get(snapshots::get).patch(snapshots::change).delete(snapshots::delete))
        .route("/snapshots/{id}/cost", post(usage::start_cost))
        .route("/snapshots/{id}/collections/{name}/records", get(snapshots::records))
        .route("/diffs", post(diffs::start))
        .route("/diffs/{id}", get(diffs::get))
        .route("/diffs/{id}/collections/{name}/changes", get(diffs::changes))
        .route("/restores", get(restores::list))
        .route("/restores/plan", post(restores::plan))
        .route("/restores/{id}", get(restores::get))
        .route("/restores/{id}/apply", post(restores::apply))
        .route("/restores/{id}/undo", post(restores::undo))
        .route("/restores/{id}/collections/{name}/changes", get(restores::changes))
        .route("/audit", get(audit::list))
        .route("/audit/verify", get(audit::verify))
        .route("/audit/export", get(audit::export))
}

fn pages() -> Table {
    use crate::routes::{
        account, account_settings, assets, audit, database_settings, databases, diffs, jobs, keys, projects,
        restores, restores_in_place, schedules, snapshots, usage,
    };
    Table::new()
        .route("/", get(account::front))
        .route("/assets/{file}", get(assets::asset))
        .route("/register", get(account::register_form).post(account::register))
        .route("/login", get(account::login_form).post(account::login))
        .route("/logout", post(account::logout))
        .route("/account", get(account_settings::page))
        .route("/account/password", post(account_settings::change_password))
        .route("/account/sign-out-everywhere", post(account_settings::sign_out_everywhere))
        .route("/account/unlink", post(account_settings::unlink))
        .route("/account/delete", post(account_settings::delete))
        .route("/example", post(projects::example))
        .route("/projects", get(projects::dashboard).post(projects::create))
        .route("/projects/{id}", get(projects::project_page))
        .route("/projects/{id}/settings", get(projects::settings_page))
        .route("/projects/{id}/usage", get(usage::page))
        .route("/projects/{id}/recovery-key", post(keys::recovery_key))
        .route("/projects/{id}/keys", post(keys::add))
        .route("/projects/{id}/keys/epoch", post(keys::begin_epoch))
        .route("/projects/{id}/keys/{slot}/rotate", post(keys::rotate))
        .route("/projects/{id}/keys/{slot}/remove", post(keys::remove))
        .route("/projects/{id}/delete", post(projects::delete))
        .route("/projects/{id}/prune", post(projects::prune))
        .route("/projects/{id}/verify", post(projects::verify))
        .route("/storage", get(keys::storage_form).post(keys::open_storage))
        .route("/projects/{id}/connect", get(databases::connect_form).post(databases::connect))
        .route("/databases/{id}", get(databases::history))
        .route("/databases/{id}/settings", get(database_settings::form).post(database_settings::save))
        .route("/databases/{id}/schedule", get(schedules::form).post(schedules::save))
        .route("/databases/{id}/schedule/remove", post(schedules::remove))
        .route("/databases/{id}/remove", post(database_settings::remove))
        .route("/databases/{id}/backups", post(databases::back_up))
        .route("/jobs/{id}", get(jobs::page))
        .route("/jobs/{id}/live", get(jobs::live))
        .route("/jobs/{id}/cancel", post(jobs::cancel))
        .route("/snapshots/{id}", get(snapshots::page))
        .route("/snapshots/{id}/change", post(snapshots::change))
        .route("/snapshots/{id}/cost", post(usage::start_cost))
        .route("/snapshots/{id}/delete", post(snapshots::delete))
        .route("/snapshots/{id}/collections/{name}", get(snapshots::records))
        .route("/snapshots/{id}/restore", get(restores::new_form).post(restores::plan))
        .route("/diffs", post(diffs::start))
        .route("/diffs/{id}", get(diffs::page))
        .route("/diffs/{id}/collections/{name}", get(diffs::changes))
        .route("/restores", get(restores::index))
        .route("/restores/{id}", get(restores::page))
        .route("/restores/{id}/apply", post(restores::apply))
        .route("/restores/{id}/undo", post(restores_in_place::undo))
        .route("/restores/{id}/collections/{name}", get(restores_in_place::changes))
        .route("/audit", get(audit::page))
}
