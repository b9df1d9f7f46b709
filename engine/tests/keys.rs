//! The keys that open a repository: slots of every kind, and epochs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod support;

use std::path::PathBuf;

use engine::kms::Kms;
use engine::repo::{Keyring, Repository, Session, Slot, SlotKind, UnlockKey};
use engine::store::{Credentials, Storage, Store};
use engine::verify::{self, Mode};
use engine::{Context, Kind, diff};
use engine_testutils::kms;
use support::{TestRepo, database};
use tempfile::TempDir;

/// A store, and a folder for the caches of those who open it.
struct Place {
    folder: TempDir,
    store: Store,
    ctx: Context,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::parse(&format!("fs://{}/storage", folder.path().display())).unwrap();
        Self { store: storage.store("p").unwrap(), ctx: Context::new(folder.path()), folder }
    }

    fn cache(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn create(&self, keys: &Keyring) -> Repository {
        Repository::create(self.store.clone(), keys, &self.cache("first"), &self.ctx).await.unwrap()
    }

    async fn open(&self, keys: &Keyring) -> engine::Result<Repository> {
        let cache = self.cache(&format!("{}", std::fs::read_dir(self.folder.path()).unwrap().count()));
        Repository::open(self.store.clone(), keys, &cache, &self.ctx).await
    }
}

fn server(byte: u8) -> Keyring {
    Keyring::new(UnlockKey::new([byte; 32]))
}

async fn with_kms(keyring: Keyring, key_id: &str) -> Keyring {
    let credentials = Credentials { access_key_id: "test".to_owned(), secret_access_key: "test".to_owned() };
    keyring.with_kms(Kms::new(key_id, Some(&kms::Server::shared().endpoint()), Some(&credentials)).await)
}

fn kinds(slots: &[Slot]) -> Vec<(SlotKind, bool)> {
    let mut kinds: Vec<_> = slots.iter().map(|slot| (slot.kind.unwrap(), slot.opens)).collect();
    kinds.sort_by_key(|(kind, opens)| (*kind as u8, *opens));
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_are_added_replaced_and_removed() {
    let place = Place::new();
    let (own, other) = (server(1), server(2));
    let repo = place.create(&own).await;
    let first = repo.slots(&own).await.unwrap().remove(0);
    assert_eq!(place.open(&other).await.unwrap_err().kind(), Kind::Locked);

    // Another server's key goes in beside, and each opens.
    repo.add_slot(SlotKind::Server, &other).await.unwrap();
    drop(place.open(&other).await.unwrap());
    assert_eq!(
        kinds(&repo.slots(&own).await.unwrap()),
        [(SlotKind::Server, false), (SlotKind::Server, true)]
    );

    // A recovery key is replaced: the old one opens nothing any more.
    let recovery = |text: &str| Keyring::new(UnlockKey::from_recovery_text(text).unwrap());
    let made = repo.add_slot(SlotKind::Recovery, &own).await.unwrap();
    let old = recovery(&made.recovery_key.unwrap());
    drop(place.open(&old).await.unwrap());
    let replaced = repo.rotate_slot(made.id, &own).await.unwrap();
    let new = recovery(&replaced.recovery_key.unwrap());
    drop(place.open(&new).await.unwrap());
    assert_eq!(place.open(&old).await.unwrap_err().kind(), Kind::Locked);

    // The own key's slot is replaced, too, and is then the last that opens here.
    let last = repo.rotate_slot(first.id, &own).await.unwrap();
    assert!(last.recovery_key.is_none() && last.id != first.id);
    let refused = repo.remove_slot(last.id, &own).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Conflict);
    assert_eq!(repo.slots(&own).await.unwrap().len(), 3, "nothing was removed");
    assert_eq!(repo.remove_slot(first.id, &own).await.unwrap_err().kind(), Kind::NotFound);
    repo.remove_slot(replaced.id, &own).await.unwrap();
    drop(place.open(&own).await.unwrap());
    assert_eq!(place.open(&new).await.unwrap_err().kind(), Kind::Locked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_slot_is_shown_and_hides_no_other() {
    let place = Place::new();
    let own = server(1);
    let repo = place.create(&own).await;
    let other = repo.add_slot(SlotKind::Server, &own).await.unwrap();
    let file = place.folder.path().join(format!("storage/p/slots/{}", other.id));
    std::fs::write(&file, b"not a slot").unwrap();
    let slots = repo.slots(&own).await.unwrap();
    let damaged = slots.iter().find(|slot| slot.id == other.id).unwrap();
    assert_eq!((damaged.kind, damaged.opens), (None, false));
    drop(place.open(&own).await.unwrap());
    repo.remove_slot(other.id, &own).await.unwrap();
    assert_eq!(repo.slots(&own).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn kms_opens_what_it_wrapped_and_nothing_else() {
    let place = Place::new();
    let arn = kms::Server::shared().create_key();
    let keyring = with_kms(server(1), &arn).await;
    let repo = place.create(&keyring).await;
    let slots = repo.slots(&keyring).await.unwrap();
    assert_eq!(kinds(&slots), [(SlotKind::Kms, true)]);
    assert_eq!(slots[0].kms_key_id.as_deref(), Some(arn.as_str()));
    // Nothing but KMS is needed, and the server's key alone is not enough.
    drop(place.open(&with_kms(Keyring::default(), &arn).await).await.unwrap());
    assert_eq!(place.open(&server(1)).await.unwrap_err().kind(), Kind::Locked);

    // A slot that was put under another name is another encryption context.
    let slot = place.store.read(&format!("slots/{}", slots[0].id)).await.unwrap();
    place.store.delete(&format!("slots/{}", slots[0].id)).await.unwrap();
    place.store.create(&format!("slots/{}", "ab".repeat(16)), slot.clone()).await.unwrap();
    let moved = place.open(&keyring).await.unwrap_err();
    assert_eq!(moved.kind(), Kind::Keys, "{moved}");
    place.store.create(&format!("slots/{}", slots[0].id), slot).await.unwrap();
    drop(place.open(&keyring).await.unwrap());

    // Under another key of KMS a new slot is made; then the first may go.
    let second = kms::Server::shared().create_key();
    let both = with_kms(server(1), &second).await;
    let made = repo.add_slot(SlotKind::Kms, &both).await.unwrap();
    drop(place.open(&both).await.unwrap());
    repo.remove_slot(slots[0].id, &both).await.unwrap();
    let refused = repo.remove_slot(made.id, &both).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Conflict);
    drop(place.open(&both).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kms_that_is_not_there_is_named() {
    let place = Place::new();
    let arn = kms::Server::shared().create_key();
    let (account, _) = arn.rsplit_once('/').unwrap();
    let absent = with_kms(server(1), &format!("{account}/00000000-0000-0000-0000-000000000000")).await;
    let cache = place.cache("c");
    let refused = Repository::create(place.store.clone(), &absent, &cache, &place.ctx).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Keys);
    assert!(refused.help().unwrap().contains("DBSNAP_KMS_KEY_ID"), "{refused}");
    assert!(place.store.list("slots/").await.unwrap().is_empty(), "nothing half-made stays");
    let without = place.create(&server(1)).await;
    let refused = without.add_slot(SlotKind::Kms, &server(1)).await.unwrap_err();
    assert!(refused.help().unwrap().contains("DBSNAP_KMS_KEY_ID"));
}

/// The epoch that a sealed named file says it is of.
fn epoch_of(test: &TestRepo, name: &str) -> u32 {
    let bytes = std::fs::read(test.path().join(name)).unwrap();
    u32::from_le_bytes(*bytes[3..].first_chunk().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_epoch_seals_what_is_new_and_leaves_what_is_there_readable() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 5000) n";
    let (cluster, name, url) = database(sql).await;
    let test = TestRepo::in_folder().await;
    let first = test.backup(&url).await;
    assert_eq!(test.repo.epoch(), 0);

    // Another opening of the same repository learns of it when it next begins a session.
    let (store, cache) = (test.storage().store("project").unwrap(), test.folder.path().join("other.redb"));
    let other = Repository::open(store, &support::key(), &cache, &test.ctx).await;
    let other = other.unwrap();
    assert_eq!(test.repo.begin_epoch(&test.ctx).await.unwrap(), 1);
    assert_eq!(other.epoch(), 0);
    Session::begin(&other, &test.ctx).await.unwrap().close().await;
    assert_eq!(other.epoch(), 1);
    drop(other);

    cluster.execute(&name, "UPDATE t SET v = 'new' WHERE id = 7").await;
    let second = test.backup(&url).await;
    let manifest = |id| format!("snapshots/{id}");
    assert_eq!((epoch_of(&test, &manifest(first.id)), epoch_of(&test, &manifest(second.id))), (0, 1));

    let test = test.reopen(true).await;
    assert_eq!(test.repo.epoch(), 1);
    let summary = diff::summary(&test.repo, &first, &second, &test.ctx).await.unwrap();
    assert_eq!(summary.collections[0].records.changed, 1);
    assert!(verify::run(&test.repo, Mode::Full, &test.ctx).await.unwrap().damaged.is_empty());

    // What somebody without the keys puts there begins nothing.
    std::fs::write(test.path().join("epochs/000000ff"), b"no frame").unwrap();
    let test = test.reopen(false).await;
    assert_eq!(test.repo.epoch(), 1);
    assert_eq!(test.repo.begin_epoch(&test.ctx).await.unwrap(), 2);
}
