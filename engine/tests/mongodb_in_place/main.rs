//! Restoring into collections that hold documents, on a real server: what is written, what guards and
//! proves it, what takes it back.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod guarded;
#[path = "../support/mod.rs"]
mod support;
mod undone;
mod written;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use bson::{Document, RawDocumentBuf, doc, rawdoc};
use engine::diff::{Change, CollectionDiff, Filter};
use engine::repo::Snapshot;
use engine::restore::{self, Back, Order, Plan, Preview, Reached, Restored, Scope};
use engine::rows::PageRequest;
use engine_testutils::mongodb::{Scope as Reads, Server};
use futures::future::BoxFuture;
use mongodb::ClientSession;
use mongodb::change_stream::ChangeStream;
use mongodb::change_stream::event::ChangeStreamEvent;
use support::{TestRepo, request};

/// Documents of one namespace, as bytes.
type Bytes = Vec<Vec<u8>>;

/// A database with a snapshot of it, and what happens to it then.
struct Target {
    server: &'static Server,
    name: String,
    test: TestRepo,
    snapshot: Snapshot,
    /// How far restores came, as they told of it.
    reached: &'static Mutex<Vec<Reached>>,
}

impl Target {
    /// `documents` by collection, and commands to define those first.
    async fn new(commands: Vec<Document>, documents: Vec<(&str, Vec<RawDocumentBuf>)>) -> Self {
        Self::on(Server::shared(), commands, documents).await
    }

    async fn on(
        server: &'static Server,
        commands: Vec<Document>,
        documents: Vec<(&str, Vec<RawDocumentBuf>)>,
    ) -> Self {
        let name = server.fresh_database("place");
        for command in commands {
            server.command(&name, command).await;
        }
        for (collection, documents) in documents {
            server.insert_raw(&format!("{name}.{collection}"), &documents).await;
        }
        let test = TestRepo::new().await;
        let url = server.create_read_only_user(Reads::Database(&name), &format!("{name}_reader")).await;
        let snapshot = test.backup(&url).await;
        assert_eq!(snapshot.manifest.missing, []);
        // What hears of it lives as long as any job.
        let reached = Box::leak(Box::default());
        Self { server, name, test, snapshot, reached }
    }

    fn url(&self) -> String {
        self.server.admin_url().replace("/admin?", &format!("/{}?", self.name))
    }

    /// A collection's display name.
    fn named(&self, collection: &str) -> String {
        format!("{}.{collection}", self.name)
    }

    async fn run(&self, command: Document) -> Document {
        self.server.command(&self.name, command).await
    }

    async fn set(&self, collection: &str, filter: Document, set: Document) {
        let updates = vec![doc! { "q": filter, "u": { "$set": set }, "multi": true }];
        self.run(doc! { "update": collection, "updates": updates }).await;
    }

    async fn remove(&self, collection: &str, filter: Document) {
        self.run(doc! { "delete": collection, "deletes": [{ "q": filter, "limit": 0 }] }).await;
    }

    async fn insert(&self, collection: &str, documents: &[RawDocumentBuf]) {
        self.server.insert_raw(&self.named(collection), documents).await;
    }

    async fn uuid(&self, collection: &str) -> bson::Bson {
        let listed = self.run(doc! { "listCollections": 1, "filter": { "name": collection } }).await;
        let first = listed.get_document("cursor").unwrap().get_array("firstBatch").unwrap()[0].clone();
        first.as_document().unwrap().get_document("info").unwrap().get("uuid").unwrap().clone()
    }

    /// What somebody is told who follows a collection.
    async fn watch(&self, collection: &str) -> ChangeStream<ChangeStreamEvent<Document>> {
        let client = self.server.client().await;
        client.database(&self.name).collection::<Document>(collection).watch().await.unwrap()
    }

    async fn all(&self, collection: &str) -> Bytes {
        let documents = self.server.read_raw(&self.named(collection)).await;
        documents.into_iter().map(RawDocumentBuf::into_bytes).collect()
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
        self.apply_with(scope, plan, &self.url(), &self.test.ctx).await
    }

    async fn apply_with(
        &self,
        scope: &Scope,
        plan: &Plan,
        url: &str,
        ctx: &engine::Context,
    ) -> engine::Result<Restored> {
        let (request, all) = (request(url), self.reached);
        let note = move |reached| -> BoxFuture<'static, engine::Result<()>> {
            all.lock().unwrap().push(reached);
            Box::pin(std::future::ready(Ok(())))
        };
        let order = Order { confirm: &plan.confirm_phrase, request: &request, note: &note };
        restore::apply_in_place(&self.test.repo, &self.snapshot, scope, plan, &order, ctx).await
    }

    /// Plans and carries out.
    async fn restore(&self, scope: &Scope) -> (Plan, Restored) {
        let (plan, _) = self.plan(scope).await;
        let restored = self.apply(scope, &plan).await.unwrap();
        assert!(restored.proof.matches, "{:#?}", restored.proof);
        (plan, restored)
    }

    /// The safety snapshot that was told of last.
    async fn safety(&self) -> Snapshot {
        let id = self.reached.lock().unwrap().last().unwrap().safety;
        let all = self.test.repo.snapshots().await.unwrap();
        all.into_iter().find(|snapshot| snapshot.id == id).unwrap()
    }

    async fn undo(&self, scope: &Scope, plan: &Plan, safety: &Snapshot) -> engine::Result<Restored> {
        let request = request(&self.url());
        let note = |_| -> BoxFuture<'static, engine::Result<()>> { Box::pin(std::future::ready(Ok(()))) };
        let order = Order { confirm: &plan.confirm_phrase, request: &request, note: &note };
        let (repo, ctx) = (&self.test.repo, &self.test.ctx);
        let records = self.reached.lock().unwrap().last().map(|reached| reached.records);
        let back = Back { safety, records };
        restore::undo(repo, &self.snapshot, &back, scope, plan, &order, ctx).await
    }

    async fn changes(&self, preview: &Preview, collection: &str) -> Vec<Change> {
        let (filter, page) = (Filter::default(), PageRequest::default());
        let name = self.named(collection);
        preview.changes(&self.test.repo, &name, &filter, &page).await.unwrap().items
    }

    /// Inserts, updates and deletes of a collection in a plan.
    fn counts(&self, plan: &Plan, collection: &str) -> (u64, u64, u64) {
        let name = self.named(collection);
        let is_it = |found: &&CollectionDiff| found.name == name;
        let found = plan.preview.collections.iter().find(is_it).unwrap().records;
        (found.added, found.changed, found.removed)
    }

    fn collections(&self, names: &[&str]) -> Scope {
        Scope::Collections(names.iter().map(|name| self.named(name)).collect())
    }

    fn records(&self, collection: &str, ids: Vec<String>) -> Scope {
        Scope::Records(BTreeMap::from([(self.named(collection), ids)]))
    }

    /// Somebody else's transaction that has written to a document and is still open.
    async fn foreign_write(&self, collection: &str, id: i32, set: Document) -> ClientSession {
        let client = self.server.client().await;
        let mut session = client.start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        let collection = client.database(&self.name).collection::<Document>(collection);
        let updated = collection.update_one(doc! { "_id": id }, doc! { "$set": set }).session(&mut session);
        assert_eq!(updated.await.unwrap().matched_count, 1);
        session
    }

    /// Waits until a restore has taken its safety snapshot: from then on it writes.
    async fn begins_to_write(&self) {
        while self.test.repo.snapshots().await.unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn detail<'p>(plan: &'p Plan, check: &str) -> &'p str {
    &plan.preflight.iter().find(|found| found.check == check).unwrap().detail
}

fn warns(plan: &Plan, check: &str) -> bool {
    plan.preflight.iter().any(|found| found.check == check && found.warns)
}

fn numbered(n: std::ops::Range<i32>) -> Vec<RawDocumentBuf> {
    n.map(|n| rawdoc! { "_id": n, "v": format!("v{n}") }).collect()
}

/// Documents of which fifteen fill a transaction.
fn large(n: std::ops::Range<i32>) -> Vec<RawDocumentBuf> {
    n.map(|n| rawdoc! { "_id": n, "v": "x".repeat(1 << 20) }).collect()
}
