//! Whether a store does what the repository's protocol relies on, found out by trying.
//!
//! Of several writers of one name exactly one must win, and a listing must show what was written
//! before it began. Some stores ignore the condition of a conditional write without saying so.

use bytes::Bytes;
use futures::future::try_join_all;

use super::s3::Bucket;
use super::{Created, Store};
use crate::clock::{Entropy, random};
use crate::error::{Error, Kind, Result};

/// Races, and writers in each. More would find a rarer fault; every one costs requests.
const ROUNDS: usize = 2;
const WRITERS: usize = 4;
/// The smallest part that S3 takes, unless it is the last.
const PART_BYTES: usize = 5 << 20;

const HELP: &str = "Use a store with conditional writes (If-None-Match) and consistent listing, such as AWS S3. \
                    If only this one server ever uses this storage, add exclusive=true to DBSNAP_STORAGE.";

impl Bucket {
    /// Tries the store below `prefix`, unless this process did so before.
    pub(super) async fn probe(&self, store: &Store, entropy: &dyn Entropy) -> Result<()> {
        if self.is_exclusive() {
            return Ok(());
        }
        self.probed().get_or_try_init(|| self.try_out(store, entropy)).await.map(drop)
    }

    async fn try_out(&self, store: &Store, entropy: &dyn Entropy) -> Result<()> {
        let folder = format!("probe-{:032x}/", u128::from_be_bytes(random(entropy)));
        let tried = self.race(store, &folder, entropy).await.map_err(|error| {
            // Some stores at least say that they do not know the condition.
            let is_unknown = error.message().contains("NotImplemented");
            if is_unknown { unfit("it does not know conditional writes") } else { error }
        });
        // What was tried out is of no use whatever came of it.
        if let Ok(files) = store.list(&folder).await {
            for file in files {
                if let Err(error) = store.delete(&file.name).await {
                    tracing::warn!(name = file.name, %error, "a file of the probe stays in the storage");
                }
            }
        }
        tried
    }

    async fn race(&self, store: &Store, folder: &str, entropy: &dyn Entropy) -> Result<()> {
        let mut names = Vec::new();
        for round in 0..ROUNDS {
            let name = format!("{folder}{round}");
            let contents: Vec<_> =
                (0..WRITERS).map(|_| Bytes::from(random::<32>(entropy).to_vec())).collect();
            let writers = contents.iter().map(|content| store.create(&name, content.clone()));
            check_race(store, &name, &contents, try_join_all(writers).await?).await?;
            names.push(name);
            check_listing(store, folder, &names).await?;
        }
        let name = format!("{folder}parts");
        self.try_parts(store, &name, entropy).await?;
        names.push(name);
        store.delete(&names.remove(0)).await?;
        check_listing(store, folder, &names).await
    }

    /// Whether an upload in parts is refused that would end under a taken name. No race: two uploads
    /// that end together both win in some stores, and only names drawn at random are uploaded so.
    async fn try_parts(&self, store: &Store, name: &str, entropy: &dyn Entropy) -> Result<()> {
        let path = store.path(name);
        let (mut contents, mut outcomes) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let mut content = vec![0; PART_BYTES];
            content.extend_from_slice(&random::<32>(entropy));
            let content = Bytes::from(content);
            let outcome = self.try_create(&path, &content, PART_BYTES, PART_BYTES).await?;
            outcomes.push(outcome.unwrap_or(Created::Taken));
            contents.push(content);
        }
        check_race(store, name, &contents, outcomes).await
    }
}

async fn check_race(store: &Store, name: &str, contents: &[Bytes], outcomes: Vec<Created>) -> Result<()> {
    let winners: Vec<&Bytes> = contents
        .iter()
        .zip(outcomes)
        .filter(|(_, outcome)| *outcome == Created::New)
        .map(|(content, _)| content)
        .collect();
    match winners.as_slice() {
        [winner] if store.read(name).await? == **winner => Ok(()),
        [_] => Err(unfit("what one writer wrote was overwritten by another")),
        [] => Err(unfit("of several writers of one name, none was told that it won")),
        several => Err(unfit(format!("{} writers of one name were all told that they won", several.len()))),
    }
}

async fn check_listing(store: &Store, folder: &str, expected: &[String]) -> Result<()> {
    let listed: Vec<String> = store.list(folder).await?.into_iter().map(|file| file.name).collect();
    let mut expected = expected.to_vec();
    expected.sort();
    if listed == expected {
        Ok(())
    } else {
        Err(unfit("a listing did not show what had been written or deleted before it"))
    }
}

fn unfit(what: impl std::fmt::Display) -> Error {
    let message = format!("the storage cannot keep several writers apart: {what}");
    Error::new(Kind::Unsupported, message).with_help(HELP)
}
