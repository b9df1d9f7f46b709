//! Whether a server can read at one time, and at which.

use std::time::Duration;

use futures::StreamExt;

use super::catalog::{Kind, Listed, Listing};
use super::connect::Deployment;
use super::fault::{self, code};
use super::read::{Find, Order, ReadAt};
use super::sessions::Sessions;
use super::wire::{ClusterTime, CursorReply};
use crate::error::Result;

const ATTEMPTS: u32 = 4;
const BACKOFF: Duration = Duration::from_millis(150);

/// What a server was found to do with snapshot reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// It reads at the times it is asked to; this one is new.
    Honoured(ClusterTime),
    /// It does not, and why that is believed.
    NotHonoured(String),
}

/// The first version that reads capped collections in snapshots.
pub(super) const CAPPED_SNAPSHOTS: (u32, u32) = (8, 0);

/// One reply to a probe.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    time: Option<ClusterTime>,
    document: Option<Vec<u8>>,
}

/// The collection to probe: one that every version reads snapshots of.
pub(super) fn subject(listing: &Listing) -> Option<&Listed> {
    let with_records = || listing.collections.iter().filter(|listed| listed.kind != Kind::View);
    let ordinary =
        with_records().find(|listed| listed.kind == Kind::Plain && !listed.name.starts_with("system."));
    ordinary.or_else(|| with_records().next())
}

/// The time at which everything listed can be read; else why there is none, so that changes have to be
/// followed.
pub(super) fn time_for_all(
    probe: &Probe,
    deployment: &Deployment,
    listing: &Listing,
) -> std::result::Result<ClusterTime, String> {
    let has_capped = listing.collections.iter().any(|listed| listed.kind == Kind::Capped);
    match probe {
        Probe::Honoured(_) if has_capped && deployment.release() < CAPPED_SNAPSHOTS => {
            Err(format!("MongoDB {} does not read capped collections in snapshots", deployment.version))
        }
        Probe::Honoured(time) => Ok(*time),
        Probe::NotHonoured(why) => Err(why.clone()),
    }
}

/// Asks for a snapshot's time, then for the same one and for an earlier one. A server that only
/// echoes times, or that gives every read the present, is found out by the earlier one.
pub(super) async fn probe(deployment: &Deployment, subject: &Listed, sessions: &Sessions) -> Result<Probe> {
    let mut why = String::new();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(BACKOFF * (1 << attempt)).await;
        }
        let first = match ask(deployment, subject, ReadAt::Snapshot, sessions).await? {
            Ok(seen) => seen,
            Err(Refusal { reason, may_pass: true }) => {
                why = reason;
                continue;
            }
            Err(Refusal { reason, .. }) => return Ok(Probe::NotHonoured(reason)),
        };
        let Some(time) = first.time else {
            return Ok(Probe::NotHonoured("the server tells no time for snapshot reads".to_owned()));
        };
        // The first tick of the second before: as good as any other past time.
        let earlier = ClusterTime((u64::from(time.seconds().saturating_sub(1)) << 32) | 1);
        let again = ask(deployment, subject, ReadAt::Time(time), sessions).await?;
        let past = ask(deployment, subject, ReadAt::Time(earlier), sessions).await?;
        match (again, past) {
            (Ok(again), Ok(past)) if again == first && past.time == Some(earlier) => {
                return Ok(Probe::Honoured(time));
            }
            (Ok(_), Ok(_)) => {
                let reason = "the server does not read at the time asked for";
                return Ok(Probe::NotHonoured(reason.to_owned()));
            }
            (Err(refusal), _) | (_, Err(refusal)) if refusal.may_pass => why = refusal.reason,
            (Err(refusal), _) | (_, Err(refusal)) => return Ok(Probe::NotHonoured(refusal.reason)),
        }
    }
    Ok(Probe::NotHonoured(why))
}

/// A time that is new, of a server that honours times.
pub(super) async fn fresh(
    deployment: &Deployment,
    subject: &Listed,
    sessions: &Sessions,
) -> Result<Option<ClusterTime>> {
    Ok(ask(deployment, subject, ReadAt::Snapshot, sessions).await?.ok().and_then(|seen| seen.time))
}

struct Refusal {
    reason: String,
    may_pass: bool,
}

async fn ask(
    deployment: &Deployment,
    subject: &Listed,
    at: ReadAt,
    sessions: &Sessions,
) -> Result<Result<Seen, Refusal>> {
    let order = Order::of(subject)?;
    let find = Find {
        listed: subject,
        filter: None,
        order,
        from: None,
        batch: 1,
        limit: Some(1),
        may_time_out: true,
    };
    let mut held = sessions.open().await?;
    let replied = match find.open(deployment, at, &mut held.session).await {
        Ok(mut cursor) => cursor.stream(&mut held.session).next().await.transpose(),
        Err(error) => Err(error),
    };
    let reply = match replied {
        Ok(reply) => reply,
        Err(error) if fault::code_of(&error) == Some(code::UNAUTHORIZED) || fault::is_network(&error) => {
            return Err(fault::statement(&format!("reading {}", subject.display()), &error));
        }
        Err(error) => {
            let may_pass = fault::is_history_lost(&error) || fault::is_passing(&error);
            let reason = fault::statement("reading a snapshot", &error).message().to_owned();
            return Ok(Err(Refusal { reason, may_pass }));
        }
    };
    let Some(reply) = reply else { return Ok(Ok(Seen { time: None, document: None })) };
    let reply = CursorReply::parse(reply.as_raw_document().as_bytes())?;
    let document = reply.documents()?.next().transpose()?.map(<[u8]>::to_vec);
    Ok(Ok(Seen { time: reply.at_cluster_time, document }))
}
