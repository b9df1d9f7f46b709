//! A store, clocks and chance for many simulated processes, and the one scheduler that decides what
//! happens next.
//!
//! Every store call waits until the scheduler picks it. It keeps what S3 promises: a call takes
//! effect at one moment between its beginning and its end, creation under a taken name fails, and a
//! listing, which goes page by page, shows everything that was there all the while. And it does
//! what S3 does not rule out: a call fails although it took effect, fails and takes effect much
//! later, and with it the next ones of its process; a listing starts again; bytes are garbled on
//! their way; a process is suspended for an hour, or is never heard of again.
//!
//! Chance alone gives everybody about the same speed, and rules that matter only when one process
//! does much between two calls of another are then hardly ever needed. So in most worlds processes
//! have ranks: the call of the highest one is picked, and ranks change now and then. That is
//! probabilistic concurrency testing (Burckhardt et al., ASPLOS 2010).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use repo_format::files::{PACKS, SNAPSHOTS};
use tokio::sync::oneshot;

use crate::clock::{Clock, Entropy, Sleep};
use crate::error::{Error, Kind, Result};
use crate::store::{Created, Listed};

/// A small generator whose every number follows from the seed.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.any() % limit.max(1)
    }

    /// One of these.
    pub fn one_of<T: Copy, const N: usize>(&mut self, these: [T; N]) -> T {
        these[self.below(N as u64) as usize]
    }

    /// Whether something happens that happens in so many of a thousand cases.
    pub fn in_thousand(&mut self, cases: u64) -> bool {
        self.below(1000) < cases
    }
}

/// What a call asks for.
#[derive(Clone, Debug)]
enum Call {
    Create(String, Bytes),
    Read { name: String, is_whole: bool },
    List { folder: String, after: String, found: Vec<Listed> },
    Delete(String),
}

#[derive(Debug)]
enum Answer {
    Created(Created),
    Content(Bytes),
    Listed(Vec<Listed>),
    Deleted,
}

#[derive(Debug)]
struct Pending {
    process: usize,
    since_ms: u64,
    call: Call,
    reply: oneshot::Sender<Result<Answer>>,
}

#[derive(Debug)]
struct Sleeper {
    process: usize,
    until_ms: u64,
    order: u64,
    wake: oneshot::Sender<()>,
}

/// A simulated process, as the world sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct Fate {
    /// Store calls it has made.
    pub calls: u64,
    /// It dies at this call.
    pub dies_at: Option<u64>,
    pub is_dead: bool,
    /// It is suspended until then.
    suspended_until_ms: u64,
    /// Its longest suspension, or wait for one call.
    pub longest_ms: u64,
    /// Its calls that failed.
    pub faults: u64,
    /// Its next calls that fail, too.
    outage: u64,
    /// Among processes that wait, the highest goes first.
    rank: u64,
    /// How fast its clock runs, in thousandths.
    rate: u64,
    /// How wrong its calendar is.
    offset_ms: i64,
}

/// How hostile a world is. All of it in a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    /// Calls that fail.
    pub faults: u64,
    /// Of those, the ones that take the next calls of their process with them.
    pub outages: u64,
    /// Steps at which a process is suspended.
    pub suspensions: u64,
    /// Steps at which time passes although there is work.
    pub delays: u64,
    /// Reads of whole packs that are garbled on their way.
    pub garbled: u64,
    /// Steps at which a process's rank changes; without any, ranks do not count.
    pub turns: u64,
    /// Calls that change something before which a process comes last, until ranks change.
    pub pauses: u64,
    /// Reads of objects at which a process is suspended for some minutes, but not until it seems dead.
    pub naps: u64,
    /// Creations of manifests that fail, beside other faults.
    pub lost_commits: u64,
}

/// What happened, for the figures.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub calls: u64,
    pub faults: u64,
    pub late: u64,
    pub garbled: u64,
    pub deaths: u64,
    pub suspensions: u64,
}

#[derive(Debug)]
struct State {
    files: BTreeMap<String, Bytes>,
    now_ms: u64,
    order: u64,
    pending: Vec<Pending>,
    sleepers: Vec<Sleeper>,
    /// Calls that failed and will take effect then.
    late: Vec<(u64, Call)>,
    chance: Chance,
    fates: Vec<Fate>,
    weather: Weather,
    counts: Counts,
}

/// Everything that simulated processes share.
#[derive(Clone, Debug)]
pub(crate) struct World(Arc<Mutex<State>>);

/// The store, as one process sees it.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    world: World,
    process: usize,
}

impl World {
    pub fn new(files: BTreeMap<String, Bytes>, seed: u64, weather: Weather) -> Self {
        Self(Arc::new(Mutex::new(State {
            files,
            now_ms: 1_000_000,
            order: 0,
            pending: Vec::new(),
            sleepers: Vec::new(),
            late: Vec::new(),
            chance: Chance::new(seed),
            fates: Vec::new(),
            weather,
            counts: Counts::default(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a process, whose clock is somewhat wrong.
    pub fn add_process(&self, dies_at: Option<u64>) -> usize {
        let mut state = self.state();
        let rate = 900 + state.chance.below(200);
        let offset_ms = state.chance.below(20_000_000) as i64 - 10_000_000;
        let rank = state.chance.any();
        state.fates.push(Fate { dies_at, rate, offset_ms, rank, ..Fate::default() });
        state.fates.len() - 1
    }

    pub fn disk(&self, process: usize) -> Disk {
        Disk { world: self.clone(), process }
    }

    pub fn fate(&self, process: usize) -> Fate {
        self.state().fates[process].clone()
    }

    pub fn files(&self) -> BTreeMap<String, Bytes> {
        self.state().files.clone()
    }

    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// No faults from now on, and everything that was to come late comes now.
    pub fn calm_down(&self) {
        let mut state = self.state();
        state.weather = Weather::default();
        for (_, call) in std::mem::take(&mut state.late) {
            state.apply(&call);
        }
    }

    /// Lets one thing happen. False when nothing is left to happen.
    pub fn step(&self) -> bool {
        let mut state = self.state();
        state.now_ms += state.chance.below(50);
        state.apply_late();
        let now_ms = state.now_ms;
        let ready: Vec<usize> = (0..state.pending.len())
            .filter(|&at| state.fates[state.pending[at].process].suspended_until_ms <= now_ms)
            .collect();
        let suspensions = state.weather.suspensions;
        if !state.fates.is_empty() && state.chance.in_thousand(suspensions) {
            state.suspend_one();
        }
        if ready.is_empty() {
            return state.pass_time();
        }
        // Now and then time passes although there is work: every call is a slow one sometimes.
        let delays = state.weather.delays;
        if state.chance.in_thousand(delays) {
            state.now_ms += state.chance.below(90_000);
            state.wake();
            return true;
        }
        let at = state.pick(ready);
        state.answer(at);
        state.wake();
        true
    }
}

impl State {
    /// The call that is answered next.
    fn pick(&mut self, mut ready: Vec<usize>) -> usize {
        let turns = self.weather.turns;
        if turns > 0 {
            if self.chance.in_thousand(turns) {
                let process = self.chance.below(self.fates.len() as u64) as usize;
                self.fates[process].rank = self.chance.any();
            }
            let rank = |at: &usize| self.fates[self.pending[*at].process].rank;
            let highest = ready.iter().map(rank).max();
            ready.retain(|at| Some(rank(at)) == highest);
        }
        ready[self.chance.below(ready.len() as u64) as usize]
    }

    fn suspend_one(&mut self) {
        let process = self.chance.below(self.fates.len() as u64) as usize;
        let wait_ms = 60_000 + self.chance.below(80 * 60_000);
        self.suspend(process, wait_ms);
    }

    fn suspend(&mut self, process: usize, wait_ms: u64) {
        let fate = &mut self.fates[process];
        fate.suspended_until_ms = self.now_ms + wait_ms;
        fate.longest_ms = fate.longest_ms.max(wait_ms);
        self.counts.suspensions += 1;
    }

    /// Goes to the next moment at which something happens.
    fn pass_time(&mut self) -> bool {
        let ends = self.pending.iter().map(|pending| self.fates[pending.process].suspended_until_ms);
        let sleeps = self
            .sleepers
            .iter()
            .map(|sleeper| sleeper.until_ms.max(self.fates[sleeper.process].suspended_until_ms));
        let lates = self.late.iter().map(|(at_ms, _)| *at_ms);
        let Some(next_ms) = ends.chain(sleeps).chain(lates).min() else { return false };
        self.now_ms = self.now_ms.max(next_ms);
        self.apply_late();
        self.wake();
        true
    }

    fn wake(&mut self) {
        let now_ms = self.now_ms;
        let mut due: Vec<Sleeper> = Vec::new();
        let mut at = 0;
        while at < self.sleepers.len() {
            let sleeper = &self.sleepers[at];
            if sleeper.until_ms.max(self.fates[sleeper.process].suspended_until_ms) <= now_ms {
                due.push(self.sleepers.swap_remove(at));
            } else {
                at += 1;
            }
        }
        due.sort_by_key(|sleeper| sleeper.order);
        for sleeper in due {
            // A sleeper that was aborted needs no waking.
            let _ = sleeper.wake.send(());
        }
    }

    fn apply_late(&mut self) {
        let now_ms = self.now_ms;
        let (due, rest) = std::mem::take(&mut self.late).into_iter().partition(|(at_ms, _)| *at_ms <= now_ms);
        self.late = rest;
        let due: Vec<(u64, Call)> = due;
        for (_, call) in due {
            self.apply(&call);
        }
    }

    /// The effect of a call that changes something.
    fn apply(&mut self, call: &Call) -> Answer {
        match call {
            Call::Create(name, _) if self.files.contains_key(name) => Answer::Created(Created::Taken),
            Call::Create(name, content) => {
                self.files.insert(name.clone(), content.clone());
                Answer::Created(Created::New)
            }
            Call::Delete(name) => {
                self.files.remove(name);
                Answer::Deleted
            }
            Call::Read { .. } | Call::List { .. } => Answer::Deleted,
        }
    }

    /// Answers a call, unless its process dies of it.
    fn answer(&mut self, at: usize) {
        let mut pending = self.pending.swap_remove(at);
        self.counts.calls += 1;
        let fate = &mut self.fates[pending.process];
        fate.calls += 1;
        fate.longest_ms = fate.longest_ms.max(self.now_ms - pending.since_ms);
        if fate.dies_at == Some(fate.calls) {
            self.die(&pending);
            return;
        }
        if self.is_faulty(pending.process) || self.is_lost_commit(&pending) {
            match self.chance.below(3) {
                0 => drop(self.apply(&pending.call)),
                1 => self.come_late(pending.call.clone()),
                _ => {}
            }
            drop(pending.reply.send(Err(Error::new(Kind::Storage, "a fault of the simulation"))));
            return;
        }
        let answer = match &mut pending.call {
            Call::Create(..) | Call::Delete(_) => Ok(self.apply(&pending.call)),
            Call::Read { name, is_whole } => match self.files.get(name).cloned() {
                Some(content) if *is_whole => Ok(Answer::Content(self.carry(name, content))),
                Some(content) => Ok(Answer::Content(content)),
                None => Err(Error::new(Kind::NotFound, format!("there is no {name}"))),
            },
            Call::List { folder, after, found } => {
                if !found.is_empty() && self.chance.in_thousand(20) {
                    *after = folder.clone();
                    found.clear();
                }
                let page = 1 + self.chance.below(6) as usize;
                let rest = self
                    .files
                    .range::<str, _>((std::ops::Bound::Excluded(after.as_str()), std::ops::Bound::Unbounded));
                let mut names = rest.take_while(|(name, _)| name.starts_with(folder.as_str()));
                let mut is_done = false;
                for _ in 0..page {
                    match names.next() {
                        Some((name, content)) => {
                            found.push(Listed { name: name.clone(), size_bytes: content.len() as u64 })
                        }
                        None => is_done = true,
                    }
                }
                if is_done {
                    Ok(Answer::Listed(std::mem::take(found)))
                } else {
                    *after = found.last().map(|file| file.name.clone()).unwrap_or_default();
                    self.pending.push(pending);
                    return;
                }
            }
        };
        drop(pending.reply.send(answer));
    }

    /// Whether a call of a process fails now.
    fn is_faulty(&mut self, process: usize) -> bool {
        let Weather { faults, outages, .. } = self.weather;
        let is_out = self.fates[process].outage > 0 && self.chance.in_thousand(850);
        let is_faulty = is_out || self.chance.in_thousand(faults);
        let outage = if is_faulty && !is_out && self.chance.in_thousand(outages) {
            1 + self.chance.below(6)
        } else {
            self.fates[process].outage.saturating_sub(1)
        };
        let fate = &mut self.fates[process];
        fate.outage = outage;
        fate.faults += u64::from(is_faulty);
        self.counts.faults += u64::from(is_faulty);
        is_faulty
    }

    /// Whether a snapshot cannot be committed now, and nothing else is wrong.
    fn is_lost_commit(&mut self, pending: &Pending) -> bool {
        let lost = self.weather.lost_commits;
        let is_commit = matches!(&pending.call, Call::Create(name, _) if name.starts_with(SNAPSHOTS));
        let is_lost = lost > 0 && is_commit && self.chance.in_thousand(lost);
        self.fates[pending.process].faults += u64::from(is_lost);
        self.counts.faults += u64::from(is_lost);
        is_lost
    }

    /// What arrives of a file that is read whole. Reads of single objects are not garbled: they are
    /// repeated, and chance would garble both.
    fn carry(&mut self, name: &str, content: Bytes) -> Bytes {
        let garbled = self.weather.garbled;
        if !name.starts_with(PACKS) || !self.chance.in_thousand(garbled) {
            return content;
        }
        self.counts.garbled += 1;
        let mut bytes = content.to_vec();
        let at = self.chance.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << self.chance.below(8);
        bytes.into()
    }

    fn come_late(&mut self, call: Call) {
        if matches!(call, Call::Create(..) | Call::Delete(_)) {
            let wait_ms = if self.chance.in_thousand(500) { 60_000 } else { 120 * 60_000 };
            let at_ms = self.now_ms + self.chance.below(wait_ms);
            self.counts.late += 1;
            self.late.push((at_ms, call));
        }
    }

    /// A process dies: what it had under way took effect, or will, or never does.
    fn die(&mut self, last: &Pending) {
        let process = last.process;
        self.counts.deaths += 1;
        self.fates[process].is_dead = true;
        let (dying, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|pending| pending.process == process);
        self.pending = rest;
        self.sleepers.retain(|sleeper| sleeper.process != process);
        let calls: Vec<Call> =
            std::iter::once(&last.call).chain(dying.iter().map(|pending| &pending.call)).cloned().collect();
        for call in calls {
            match self.chance.below(3) {
                0 => drop(self.apply(&call)),
                1 => self.come_late(call),
                _ => {}
            }
        }
    }
}

impl Disk {
    async fn call(&self, call: Call) -> Result<Answer> {
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.world.state();
            if !state.fates[self.process].is_dead {
                let Weather { pauses, naps, .. } = state.weather;
                if matches!(call, Call::Create(..) | Call::Delete(_)) && state.chance.in_thousand(pauses) {
                    state.fates[self.process].rank = state.chance.any() >> 32;
                }
                let is_object = matches!(call, Call::Read { is_whole: false, .. });
                if naps > 0 && is_object && state.chance.in_thousand(naps) {
                    let wait_ms = 60_000 + state.chance.below(6 * 60_000);
                    state.suspend(self.process, wait_ms);
                }
                let since_ms = state.now_ms;
                state.pending.push(Pending { process: self.process, since_ms, call, reply });
            }
        }
        match answer.await {
            Ok(answer) => answer,
            // The process is dead: nothing of it goes on.
            Err(_) => std::future::pending().await,
        }
    }

    pub async fn create(&self, name: &str, content: Bytes) -> Result<Created> {
        match self.call(Call::Create(name.to_owned(), content)).await? {
            Answer::Created(created) => Ok(created),
            other => unreachable!("a creation was answered with {other:?}"),
        }
    }

    pub async fn read(&self, name: &str) -> Result<Bytes> {
        self.read_as(name, true).await
    }

    async fn read_as(&self, name: &str, is_whole: bool) -> Result<Bytes> {
        match self.call(Call::Read { name: name.to_owned(), is_whole }).await? {
            Answer::Content(content) => Ok(content),
            other => unreachable!("a read was answered with {other:?}"),
        }
    }

    pub async fn read_range(&self, name: &str, offset: u64, len: usize) -> Result<Bytes> {
        let content = self.read_as(name, false).await?;
        let end = offset as usize + len;
        if end > content.len() {
            return Err(Error::damaged(format!("the stored file {name} is too short")));
        }
        Ok(content.slice(offset as usize..end))
    }

    pub async fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        let call = Call::List { folder: folder.to_owned(), after: folder.to_owned(), found: Vec::new() };
        match self.call(call).await? {
            Answer::Listed(listed) => Ok(listed),
            other => unreachable!("a listing was answered with {other:?}"),
        }
    }

    pub async fn delete(&self, name: &str) -> Result<()> {
        self.call(Call::Delete(name.to_owned())).await.map(drop)
    }
}

/// The clock of one process.
pub(super) struct Watch {
    pub world: World,
    pub process: usize,
}

impl Clock for Watch {
    fn now_ms(&self) -> i64 {
        let mut state = self.world.state();
        // Somebody sets the calendar now and then.
        if state.chance.in_thousand(20) {
            state.fates[self.process].offset_ms = state.chance.below(2_000_000_000) as i64 - 1_000_000_000;
        }
        1_790_000_000_000 + state.now_ms as i64 + state.fates[self.process].offset_ms
    }

    fn elapsed_ms(&self) -> u64 {
        let state = self.world.state();
        state.now_ms * state.fates[self.process].rate / 1000
    }

    fn sleep(&self, wait_ms: u64) -> Sleep {
        let (wake, woken) = oneshot::channel();
        let mut state = self.world.state();
        state.order += 1;
        let fate = &state.fates[self.process];
        if !fate.is_dead {
            let until_ms = state.now_ms + wait_ms * 1000 / fate.rate;
            let (process, order) = (self.process, state.order);
            state.sleepers.push(Sleeper { process, until_ms, order, wake });
        }
        Box::pin(async move {
            if woken.await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

/// The chance of one process.
pub(crate) struct Dice(pub Mutex<Chance>);

impl Entropy for Dice {
    fn fill(&self, out: &mut [u8]) {
        let mut chance = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        out.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&chance.any().to_le_bytes()[..chunk.len()]));
    }
}
