//! Every page with believable content: what the tests look at, and what `examples/samples.rs` writes
//! out to be looked at by people.

use maud::Markup;

use super::{
    account, account_settings, changes, connect, database, database_settings, diff, error, job, project,
    projects, records, recovery_key, restore_new, restore_plan, restore_result, restores, settings, snapshot,
    storage,
};

/// Every sample, named after its page.
pub fn samples() -> Vec<(&'static str, Markup)> {
    vec![
        ("login", account::page(&account::Account::sample())),
        ("register", account::page(&account::Account::sample_register())),
        ("login-providers", account::page(&account::Account::sample_providers())),
        ("account", account_settings::page(&account_settings::AccountSettings::sample())),
        (
            "account-without-password",
            account_settings::page(&account_settings::AccountSettings::sample_without_password()),
        ),
        ("projects", projects::page(&projects::Projects::sample())),
        ("projects-first-run", projects::page(&projects::Projects::sample_first_run())),
        ("project", project::page(&project::Project::sample())),
        ("connect", connect::page(&connect::Connect::sample())),
        ("connect-refused", connect::page(&connect::Connect::sample_refused())),
        ("connect-unreachable", connect::page(&connect::Connect::sample_unreachable())),
        ("connect-refused-user", connect::page(&connect::Connect::sample_refused_user())),
        ("connect-standalone", connect::page(&connect::Connect::sample_standalone())),
        ("database", database::page(&database::Database::sample())),
        ("database-running", database::page(&database::Database::sample_running())),
        ("database-removed", database::page(&database::Database::sample_removed())),
        ("database-standalone", database::page(&database::Database::sample_standalone())),
        (
            "database-settings-standalone",
            database_settings::page(&database_settings::DatabaseSettings::sample_standalone()),
        ),
        (
            "database-settings-other",
            database_settings::page(&database_settings::DatabaseSettings::sample_other()),
        ),
        ("database-settings", database_settings::page(&database_settings::DatabaseSettings::sample())),
        (
            "database-settings-refused",
            database_settings::page(&database_settings::DatabaseSettings::sample_refused()),
        ),
        ("database-empty", database::page(&database::Database::sample_empty())),
        ("job", job::page(&job::JobPage::sample())),
        ("job-failed", job::page(&job::JobPage::sample_failed())),
        ("snapshot", snapshot::page(&snapshot::Snapshot::sample())),
        ("snapshot-documents", snapshot::page(&snapshot::Snapshot::sample_documents())),
        ("records", records::page(&records::Records::sample())),
        ("records-documents", records::page(&records::Records::sample_documents())),
        ("diff", diff::page(&diff::Diff::sample())),
        ("diff-documents", diff::page(&diff::Diff::sample_documents())),
        ("diff-equal", diff::page(&diff::Diff::sample_equal())),
        ("diff-running", diff::page(&diff::Diff::sample_running())),
        ("changes", changes::page(&changes::Changes::sample())),
        ("changes-documents", changes::page(&changes::Changes::sample_documents())),
        ("changes-all-columns", changes::page(&changes::Changes::sample_all_columns())),
        ("changes-rekeyed", changes::page(&changes::Changes::sample_rekeyed())),
        ("changes-none", changes::page(&changes::Changes::sample_none())),
        ("restore-new", restore_new::page(&restore_new::RestoreNew::sample())),
        ("restore-new-documents", restore_new::page(&restore_new::RestoreNew::sample_documents())),
        ("restore-plan", restore_plan::page(&restore_plan::Restore::sample())),
        ("restore-plan-documents", restore_plan::page(&restore_plan::Restore::sample_documents())),
        ("restore-plan-incomplete", restore_plan::page(&restore_plan::Restore::sample_incomplete())),
        ("restore-plan-refused", restore_plan::page(&restore_plan::Restore::sample_refused())),
        ("restore-running", restore_plan::page(&restore_plan::Restore::sample_running())),
        ("restore-result", restore_result::page(&restore_result::Result::sample())),
        ("restore-result-missing", restore_result::page(&restore_result::Result::sample_missing())),
        ("restore-result-differs", restore_result::page(&restore_result::Result::sample_differs())),
        ("restores", restores::page(&restores::Restores::sample())),
        ("restores-empty", restores::page(&restores::Restores::sample_empty())),
        ("settings", settings::page(&settings::Settings::sample())),
        ("settings-saved", settings::page(&settings::Settings::sample_saved())),
        ("settings-refused", settings::page(&settings::Settings::sample_refused())),
        ("storage", storage::page(&storage::Storage::sample())),
        ("storage-refused", storage::page(&storage::Storage::sample_refused())),
        ("storage-empty", storage::page(&storage::Storage::sample_empty())),
        ("recovery-key", recovery_key::page(&recovery_key::RecoveryKey::sample())),
        ("error", error::page(&error::ErrorPage::sample())),
        ("error-server", error::page(&error::ErrorPage::sample_server())),
    ]
}
