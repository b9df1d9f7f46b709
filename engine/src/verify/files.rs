//! Reading the named files: each must open under its name and hold what it should.

use repo_format::files::{self, PruneFile};
use repo_format::id::{PackId, SlotId};
use repo_format::mark::Mark;
use repo_format::prune::{Run, Verdict, moment, parse_moment};
use repo_format::session::Beginning;
use repo_format::{config, slot};

use crate::cpu;
use crate::error::{Error, Kind, Result};
use crate::verify::Verify;

/// Folders of files that are sealed under their names; manifests are walked, and packs read, apart.
const FOLDERS: [&str; 7] =
    [files::INDEX, files::GC, files::MARKS, files::SUSPECTS, files::SESSIONS, files::EPOCHS, files::OWNERS];

const MISSING: &str = "it is missing";
const ANEW: &str = "it was made anew";

impl Verify<'_> {
    /// Opens every named file and reads it. Names that nobody knows are left alone.
    pub(super) async fn named_files(&mut self) -> Result<()> {
        self.config().await?;
        for folder in FOLDERS.into_iter().chain([files::SLOTS]) {
            for name in self.repo.list_names(folder).await? {
                self.ctx.check()?;
                self.file(&name).await?;
            }
        }
        self.missing_epochs().await
    }

    /// Epochs that something was sealed in and whose beginnings are lost are begun again.
    async fn missing_epochs(&mut self) -> Result<()> {
        let listed = self.repo.list_names(files::EPOCHS).await?;
        for epoch in 1..=self.repo.epoch() {
            let name = files::epoch(epoch);
            if listed.contains(&name) {
                continue;
            }
            self.repo.create_epoch(epoch, self.ctx.clock.now_ms()).await?;
            let reason =
                format!("it was missing, though files are sealed in its epoch or a later one; {ANEW}");
            self.damaged_file(name, Vec::new(), reason);
        }
        Ok(())
    }

    async fn file(&mut self, name: &str) -> Result<()> {
        match self.repo.store().read(name).await {
            Ok(bytes) => match self.read_file(name, &bytes) {
                Err(error) if error.kind() == Kind::Damaged => {
                    if name.starts_with(files::INDEX) {
                        self.repo.cache().forget(name)?;
                    }
                    if self.replace(name).await? {
                        self.damaged_file(name.to_owned(), Vec::new(), format!("{error}; {ANEW}"));
                        return Ok(());
                    }
                    self.are_prunes_whole &= !name.starts_with(files::GC);
                    let hidden = match files::parse_mark(name) {
                        Some((id, None)) => vec![id.to_string()],
                        // The one that counts is read with its snapshot.
                        Some((id, Some(1..))) if self.repo.snapshot_ids().await?.contains(&id) => {
                            return Ok(());
                        }
                        _ => Vec::new(),
                    };
                    self.damaged_file(name.to_owned(), hidden, error.to_string());
                    Ok(())
                }
                read => read,
            },
            // Gone since it was listed.
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn read_file(&self, name: &str, bytes: &[u8]) -> Result<()> {
        if let Some(id) = name.strip_prefix(files::SLOTS).and_then(SlotId::parse) {
            let root = self.repo.keys().root();
            // A creation that ended early leaves the slot of a repository that never was.
            if slot::is_foreign(self.repo.id(), bytes, root) {
                return Ok(());
            }
            return slot::prove(self.repo.id(), id, bytes, root).map_err(|error| {
                Error::damaged(format!("the key that this slot is for opens nothing any more: {error}"))
            });
        }
        let Some(parse) = parser(name) else { return Ok(()) };
        Ok(parse(&self.repo.open_file(name, bytes)?)?)
    }

    /// Config and copy: one that is missing or damaged is made anew from the other. A copy that is missing
    /// is no loss: whoever made the repository may have been cut off before.
    async fn config(&mut self) -> Result<()> {
        let names = [files::CONFIG, files::CONFIG_COPY];
        let mut whole = None;
        let mut lost = Vec::new();
        for name in names {
            let read = self.repo.store().read(name).await;
            match read.and_then(|bytes| self.read_config(&bytes).map(|()| bytes)) {
                Ok(bytes) => whole = Some(bytes),
                Err(error) if error.kind() == Kind::NotFound => lost.push((name, MISSING.to_owned())),
                Err(error) if error.kind() == Kind::Damaged => lost.push((name, error.to_string())),
                Err(error) => return Err(error),
            }
        }
        for (name, reason) in lost {
            let Some(bytes) = &whole else {
                self.damaged_file(name.to_owned(), Vec::new(), reason);
                continue;
            };
            // Readers find the other one meanwhile.
            self.repo.store().delete(name).await?;
            self.repo.store().create(name, bytes.clone()).await?;
            if name == files::CONFIG_COPY && reason == MISSING {
                continue;
            }
            self.damaged_file(
                name.to_owned(),
                Vec::new(),
                format!("{reason}; it was made anew from its copy"),
            );
        }
        Ok(())
    }

    fn read_config(&self, bytes: &[u8]) -> Result<()> {
        let (preamble, sealed) = config::parse_preamble(bytes)?;
        let keys = self.repo.keys();
        if preamble.repository != self.repo.id() || preamble.commitment != keys.root().commitment() {
            return Err(Error::damaged("it is of another repository"));
        }
        let settings =
            cpu::with_opener(self.repo.id(), keys, |opener| config::open_settings(&preamble, sealed, opener));
        Ok(settings.map(drop)?)
    }

    /// Makes a damaged file anew of which all that matters is known otherwise, and says whether it did. What
    /// the gap between deletion and creation may look like to others is in the format's 14.3.
    async fn replace(&self, name: &str) -> Result<bool> {
        let now_ms = self.ctx.clock.now_ms();
        if let Some(epoch) = files::parse_epoch(name) {
            if !self.has_begun(epoch).await? || !self.is_damaged_still(name).await? {
                return Ok(false);
            }
            self.repo.store().delete(name).await?;
            return self.repo.create_epoch(epoch, now_ms).await.map(|_| true);
        }
        let Some((n, file)) = files::parse_prune(name) else { return Ok(false) };
        let Some(plain) = self.told_by_verdict(n, file).await? else { return Ok(false) };
        if !self.is_damaged_still(name).await? {
            return Ok(false);
        }
        self.repo.store().delete(name).await?;
        self.repo.create_file(name, &plain).await.map(|_| true)
    }

    /// Whether an epoch began, or was about to as the next one.
    async fn has_begun(&self, epoch: u32) -> Result<bool> {
        let newest = self.repo.epoch();
        if epoch <= newest {
            return Ok(epoch > 0);
        }
        let is_there =
            newest == 0 || self.repo.list_names(files::EPOCHS).await?.contains(&files::epoch(newest));
        Ok(epoch - 1 == newest && is_there)
    }

    /// Reads a damaged file again: what came garbled once may be whole.
    async fn is_damaged_still(&self, name: &str) -> Result<bool> {
        match self.repo.store().read(name).await.and_then(|bytes| self.read_file(name, &bytes)) {
            Err(error) if error.kind() == Kind::Damaged => Ok(true),
            Err(error) if error.kind() != Kind::NotFound => Err(error),
            _ => Ok(false),
        }
    }

    /// What another file of a prune says, as far as it matters once the verdict is there; `None` where that
    /// is lost or yet to come.
    async fn told_by_verdict(&self, n: u64, file: PruneFile) -> Result<Option<Vec<u8>>> {
        if file == PruneFile::Verdict {
            return Ok(None);
        }
        let Verdict { snapshots, deleted, kept, .. } = match self.repo.read_verdict(n).await {
            Err(error) if matches!(error.kind(), Kind::Damaged | Kind::NotFound) => return Ok(None),
            verdict => verdict?,
        };
        let now_ms = self.ctx.clock.now_ms();
        Ok(Some(match file {
            PruneFile::Done => moment(now_ms),
            _ => Run { began_ms: now_ms, snapshots, condemned: &deleted | &kept }.to_bytes(),
        }))
    }

    /// The files of prunes stay for ever: verdicts say what must never be believed again. The others are made
    /// anew where their verdict is whole.
    pub(super) async fn prunes(&mut self) -> Result<()> {
        // Listed twice: one that goes on meanwhile may look as if it lacked something.
        let missing: Vec<String> = self.missing_prune_files().await?;
        let still = if missing.is_empty() { missing } else { self.missing_prune_files().await? };
        for name in still {
            let told = match files::parse_prune(&name) {
                Some((n, file)) => self.told_by_verdict(n, file).await?,
                None => None,
            };
            let reason = match told {
                Some(plain) => {
                    self.repo.create_file(&name, &plain).await?;
                    format!("it was missing, and is never deleted; {ANEW}")
                }
                None => {
                    self.are_prunes_whole = false;
                    "it is missing, and is never deleted".to_owned()
                }
            };
            self.damaged_file(name, Vec::new(), reason);
        }
        Ok(())
    }

    async fn missing_prune_files(&self) -> Result<Vec<String>> {
        let prunes = self.repo.prunes().await?;
        let Some((last, _)) = prunes.last() else { return Ok(Vec::new()) };
        let mut missing = Vec::new();
        for n in 1..=last {
            let there = prunes.0.get(&n).cloned().unwrap_or_default();
            let is_done = n < last || there.contains(&PruneFile::Done);
            let expected =
                [(PruneFile::Run, true), (PruneFile::Verdict, is_done), (PruneFile::Done, n < last)];
            let lacking = expected.into_iter().filter(|(file, is_due)| *is_due && !there.contains(file));
            missing.extend(lacking.map(|(file, _)| files::prune(n, file)));
        }
        Ok(missing)
    }
}

/// Reads a plaintext.
type Parse = fn(&[u8]) -> repo_format::Result<()>;

/// What reads the content of a file of this name; `None` for a name that nobody knows.
fn parser(name: &str) -> Option<Parse> {
    let a_moment: Parse = |plain| parse_moment(plain).map(drop);
    let id = |folder: &str| name.strip_prefix(folder).and_then(PackId::parse);
    if id(files::INDEX).is_some() {
        return Some(|plain| repo_format::index::parse(plain).map(drop));
    }
    if let Some((_, file)) = files::parse_prune(name) {
        return Some(match file {
            PruneFile::Run => |plain| Run::parse(plain).map(drop),
            PruneFile::Verdict => |plain| Verdict::parse(plain).map(drop),
            PruneFile::Done => a_moment,
        });
    }
    if let Some((_, beat)) = files::parse_session(name) {
        return Some(if beat > 0 { a_moment } else { |plain| Beginning::parse(plain).map(drop) });
    }
    if matches!(files::parse_mark(name), Some((_, Some(_)))) {
        return Some(|plain| Mark::from_bytes(plain).map(drop));
    }
    let is_deletion = matches!(files::parse_mark(name), Some((_, None)));
    let is_moment = is_deletion
        || id(files::SUSPECTS).is_some()
        || id(files::OWNERS).is_some()
        || files::parse_epoch(name).is_some();
    is_moment.then_some(a_moment)
}
