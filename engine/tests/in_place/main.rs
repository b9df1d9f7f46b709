//! Restoring into tables that hold rows, on a real server: what is written, what proves it, what takes it
//! back.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod refused;
#[path = "../support/mod.rs"]
mod support;
mod undone;
mod written;

use std::collections::BTreeMap;

use engine::backup;
use engine::diff::{Change, CollectionDiff, Filter};
use engine::repo::Snapshot;
use engine::restore::{self, Back, Order, Plan, Preview, Reached, Restored, Scope};
use engine::rows::PageRequest;
use engine_testutils::postgres::Cluster;
use futures::future::BoxFuture;
use support::{TestRepo, database, request};

/// A database with a snapshot of it, and what happens to it then.
struct Target {
    cluster: &'static Cluster,
    name: String,
    test: TestRepo,
    snapshot: Snapshot,
}

impl Target {
    async fn new(sql: &str) -> Self {
        let (cluster, name, url) = database(sql).await;
        let test = TestRepo::new().await;
        let snapshot = test.backup(&url).await;
        assert_eq!(snapshot.manifest.missing, []);
        Self { cluster, name, test, snapshot }
    }

    fn url(&self) -> String {
        self.cluster.superuser_url(&self.name)
    }

    async fn execute(&self, sql: &str) {
        self.cluster.execute(&self.name, sql).await;
    }

    async fn text(&self, sql: &str) -> String {
        let rows = self.cluster.query_text(&self.name, sql).await;
        let line = |row: &Vec<Option<String>>| {
            row.iter().map(|cell| cell.as_deref().unwrap_or_default()).collect::<Vec<_>>().join("|")
        };
        rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    async fn try_plan(&self, scope: &Scope) -> engine::Result<(Plan, Preview)> {
        let url = self.url();
        restore::plan_in_place(&self.test.repo, &self.snapshot, scope, &url, &self.test.ctx).await
    }

    async fn plan(&self, scope: &Scope) -> (Plan, Preview) {
        let (plan, preview) = self.try_plan(scope).await.unwrap();
        assert!(plan.is_clear(), "{:#?}", plan.preflight);
        (plan, preview)
    }

    async fn apply(&self, scope: &Scope, plan: &Plan) -> engine::Result<Restored> {
        self.apply_with(scope, plan, &self.url()).await
    }

    async fn apply_with(&self, scope: &Scope, plan: &Plan, url: &str) -> engine::Result<Restored> {
        let request = backup::Request { note: Some("before a restore".to_owned()), ..request(url) };
        let order = Order { confirm: &plan.confirm_phrase, request: &request, note: &note };
        restore::apply_in_place(&self.test.repo, &self.snapshot, scope, plan, &order, &self.test.ctx).await
    }

    /// Plans and carries out.
    async fn restore(&self, scope: &Scope) -> (Plan, Restored) {
        let (plan, _) = self.plan(scope).await;
        let restored = self.apply(scope, &plan).await.unwrap();
        assert!(restored.proof.matches, "{:#?}", restored.proof);
        (plan, restored)
    }

    async fn safety(&self, restored: &Restored) -> Snapshot {
        let id = restored.safety_snapshot.clone().unwrap();
        let all = self.test.repo.snapshots().await.unwrap();
        all.into_iter().find(|snapshot| snapshot.id.to_string() == id).unwrap()
    }

    async fn undo(&self, scope: &Scope, plan: &Plan, restored: &Restored) -> engine::Result<Restored> {
        let request = request(&self.url());
        let order = Order { confirm: &plan.confirm_phrase, request: &request, note: &note };
        let safety = self.safety(restored).await;
        let (repo, ctx) = (&self.test.repo, &self.test.ctx);
        let back = Back { safety: &safety, records: None };
        restore::undo(repo, &self.snapshot, &back, scope, plan, &order, ctx).await
    }

    async fn changes(&self, preview: &Preview, table: &str) -> Vec<Change> {
        let (filter, page) = (Filter::default(), PageRequest::default());
        preview.changes(&self.test.repo, table, &filter, &page).await.unwrap().items
    }
}

/// Nobody has to know how far they came: these restores end with the test.
fn note(_: Reached) -> BoxFuture<'static, engine::Result<()>> {
    Box::pin(std::future::ready(Ok(())))
}

/// Inserts, updates and deletes of a table in a plan.
fn counts(plan: &Plan, table: &str) -> (u64, u64, u64) {
    let is_it = |found: &&CollectionDiff| found.name == table;
    let found = plan.preview.collections.iter().find(is_it).unwrap().records;
    (found.added, found.changed, found.removed)
}

fn detail<'p>(plan: &'p Plan, check: &str) -> &'p str {
    &plan.preflight.iter().find(|found| found.check == check).unwrap().detail
}

fn tables(names: &[&str]) -> Scope {
    Scope::Collections(names.iter().map(|name| (*name).to_owned()).collect())
}

fn records(table: &str, ids: Vec<String>) -> Scope {
    Scope::Records(BTreeMap::from([(table.to_owned(), ids)]))
}

/// Everything in these tables, in one text.
async fn all_of(target: &Target, tables: &[&str]) -> String {
    let mut text = String::new();
    for table in tables {
        let sql = format!("SELECT string_agg(t::text, '|' ORDER BY t::text) FROM {table} t");
        text.push_str(&format!("{table}: {}\n", target.text(&sql).await));
    }
    text
}
