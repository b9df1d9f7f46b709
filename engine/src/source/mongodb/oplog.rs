//! Whether a server's oplog still reaches back to where a change stream was.
//!
//! MongoDB fails a stream whose place in the oplog is gone. A server whose resume tokens are not
//! MongoDB's may go on with the oldest entry it has and say nothing. Such a server is asked to resume
//! where it was some time ago: that it can proves that its oplog still holds everything since, so that
//! nothing of what it has told since is missing. If it cannot, something may be.

use std::time::Duration;

use futures::FutureExt;
use tokio::time::{Interval, MissedTickBehavior};

use super::wire::ClusterTime;

/// How often is asked while nobody waits for an answer. The longer, the more an oplog has to hold.
const EVERY: Duration = Duration::from_secs(1);

/// What is proven of one change stream.
pub(super) struct Proof {
    /// Where the stream was when it was proven last, as a resume token.
    pub token: Vec<u8>,
    /// Up to when every change was told by then.
    known: ClusterTime,
    /// Up to when every change was told since, if nothing is missing.
    told: ClusterTime,
    due: Interval,
}

impl Proof {
    /// Of a stream that was opened just now, and stands at this token.
    pub fn begin(token: Vec<u8>) -> Self {
        let mut due = tokio::time::interval(EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { token, known: ClusterTime::default(), told: ClusterTime::default(), due }
    }

    /// Notes up to when the server has told all changes. Says whether that is to be proven now:
    /// because somebody waits for `wanted`, or because it is time.
    pub fn note(&mut self, told: ClusterTime, wanted: ClusterTime) -> bool {
        self.told = self.told.max(told);
        let is_awaited = self.known < wanted && wanted <= self.told;
        is_awaited || self.due.tick().now_or_never().is_some()
    }

    /// The server could resume at the token, and the stream stands at `token` now. Returns up to when
    /// every change is known.
    pub fn hold(&mut self, token: Vec<u8>) -> ClusterTime {
        self.token = token;
        self.known = self.told;
        self.known
    }
}
