//! Defects that the simulation plants, to see that it would find them.
//!
//! Each is a rule of the protocol for writers, readers and prunes that somebody could forget. Outside
//! of this crate's own tests nothing is ever planted, and the compiler drops the branches.

/// A rule that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), allow(dead_code, reason = "named in code that only tests reach"))]
pub(crate) enum Defect {
    /// Sessions are not awaited once packs are condemned.
    SkipWaiting,
    /// What is needed is not counted again after sessions were awaited.
    SkipRecheck,
    /// Packs are deleted before the verdict is there.
    DeleteBeforeVerdict,
    /// A pack of copies takes the name of a condemned one.
    ReusePackName,
    /// An executor that came late obeys its own count instead of the verdict.
    IgnoreVerdict,
    /// A dead session is no longer awaited, and no tombstone stops its commit.
    SkipTombstone,
    /// A writer relies on condemned packs.
    RelyOnCondemned,
    /// The index is listed before the session is there.
    ListBeforeSession,
    /// A session is closed although its commit may still arrive.
    CloseUnsettled,
    /// Packs in no index are condemned although they were listed after the run was published.
    CondemnLateOrphans,
    /// Packs that verdicts deleted are believed when an index names them.
    ForgetVerdicts,
    /// A snapshot that was deleted after the run was published no longer counts.
    DropLateDeletions,
    /// An object counts as kept although its only place is about to be deleted.
    CountDoomedPlaces,
    /// Index files go before the ones that replace them are there.
    ReplaceIndexesLate,
    /// A manifest is committed before the index that it needs.
    CommitBeforeIndex,
    /// Who removes a key slot relies on one that somebody else is removing.
    RemoveSlotUnannounced,
    /// A prune goes on although a snapshot's manifest was lost.
    ForgetMissing,
    /// A deletion does not take a number among the marks.
    DeleteBesideMarks,
}

#[cfg(not(test))]
pub(crate) const fn is_planted(_: Defect) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Defect>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
pub(crate) fn is_planted(defect: Defect) -> bool {
    PLANTED.get() == Some(defect)
}

/// Plants a defect on this thread, or none.
#[cfg(test)]
pub(crate) fn plant(defect: Option<Defect>) {
    PLANTED.set(defect);
}
