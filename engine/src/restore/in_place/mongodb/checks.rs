//! What is looked at before documents are written in place.

use crate::error::Result;
use crate::overlay::Overlay;
use crate::repo::Repository;
use crate::restore::in_place::checks::{Checked, check, listed};
use crate::restore::in_place::delta::Delta;
use crate::restore::in_place::fit::Member;
use crate::target::PreflightCheck;
use crate::target::mongodb::in_place::{BYTES, DOCUMENTS, Definition, NEEDED, Surroundings};

use super::write::portions;

const WORD: &str = "collection";
/// The check that another user may mend.
pub(super) const RIGHTS: &str = "right to write";

/// The checks of a restore into collections.
pub(in crate::restore::in_place) fn checks(
    checked: &Checked<'_>,
    around: &Surroundings,
) -> Vec<PreflightCheck> {
    let looked = Looked { checked, around };
    let mut checks: Vec<PreflightCheck> = checked.completeness().into_iter().collect();
    checks.extend([looked.deployment(), checked.members(WORD), checked.definitions(WORD), looked.rights()]);
    checks.extend([looked.validators(), looked.expiry()].into_iter().flatten());
    checks
}

/// How many transactions a difference takes.
pub(in crate::restore::in_place) async fn extent(
    repo: &Repository,
    overlay: &Overlay,
    deltas: Vec<Delta>,
) -> Result<PreflightCheck> {
    const NAME: &str = "transactions";
    let documents: u64 = deltas.iter().map(Delta::differing).sum();
    // What goes makes room in a transaction before. What changes can be in the way of what else changes.
    let is_unique = |delta: &&Delta| {
        delta.counts.changed > 1 && Definition::of(&delta.member.found.schema).has_unique_values
    };
    let unique: Vec<String> =
        deltas.iter().filter(is_unique).map(|delta| delta.member.display_name()).collect();
    let transactions = repo.with_reader_over(Some(overlay), move |reader| portions(&deltas, reader)).await?;
    let counted = match documents {
        1 => "1 document".to_owned(),
        _ => format!("{documents} documents"),
    };
    Ok(match transactions {
        0 => check(NAME, true, "nothing differs, so nothing will be written"),
        1 => check(NAME, true, format!("{counted} in one transaction: all of it is written, or nothing")),
        _ => {
            let mut detail = format!(
                "{counted} in {transactions} transactions, since one takes at most {DOCUMENTS} documents and {} MiB. If \
                 one fails, what those before it wrote stays, and can be undone",
                BYTES >> 20
            );
            if !unique.is_empty() {
                detail.push_str(&format!(
                    ". One fails where a value under a unique index has moved from one document to another that is \
                     not in the same transaction: {}",
                    listed(&unique)
                ));
            }
            PreflightCheck { warns: true, ..check(NAME, true, detail) }
        }
    })
}

struct Looked<'a> {
    checked: &'a Checked<'a>,
    around: &'a Surroundings,
}

impl Looked<'_> {
    fn deployment(&self) -> PreflightCheck {
        const NAME: &str = "deployment";
        if !self.around.is_replicated {
            let detail = "a server without replication has no transactions, so nothing can be restored in place: restore \
                          into a new database, and copy from there what is needed";
            return check(NAME, false, detail);
        }
        if !self.around.takes_writes {
            let detail = "the member that answers is not the primary and takes no writes: name the primary, or the whole \
                          replica set";
            return check(NAME, false, detail);
        }
        // What is written is read again at once.
        if self.around.reads_others && !self.checked.others_write {
            let detail = "the URL's readPreference lets members be read that are behind the primary: leave it out of the URL";
            return check(NAME, false, detail);
        }
        let (version, source) = (&self.around.version, &self.checked.snapshot.manifest.source.version);
        check(NAME, true, format!("MongoDB {version}; the snapshot's source was {source}"))
    }

    fn rights(&self) -> PreflightCheck {
        let Some(user) = self.around.user() else {
            return check(RIGHTS, true, "the server lets anybody write: nobody has to log in");
        };
        if !self.around.tells_rights() {
            let detail =
                format!("the server does not tell what {user} may do, so that shows when it is tried");
            return check(RIGHTS, true, detail);
        }
        let lacks = |member: &&Member| !self.around.lacking(&member.name()).is_empty();
        let may_not: Vec<String> =
            self.checked.fit.members.iter().filter(lacks).map(Member::display_name).collect();
        if may_not.is_empty() {
            return check(RIGHTS, true, format!("{user} may read and write their documents"));
        }
        let (collections, needed) = (listed(&may_not), NEEDED.join(", "));
        if self.checked.others_write {
            let detail = format!(
                "{user} may not write {collections}, which is enough to plan: carrying the plan out takes a user who may \
                 {needed} there, as the role readWrite allows"
            );
            return check(RIGHTS, true, detail);
        }
        let detail = format!("{user} lacks {needed} on {collections}: use a user with the role readWrite");
        check(RIGHTS, false, detail)
    }

    /// Members whose definition is of that kind.
    fn defined(&self, is: impl Fn(&Definition) -> bool) -> Vec<&Member> {
        let members = self.checked.fit.members.iter();
        members.filter(|member| is(&Definition::of(&member.found.schema))).collect()
    }

    fn validators(&self) -> Option<PreflightCheck> {
        const NAME: &str = "validators";
        let judged = self.defined(|definition| definition.validates);
        let names = listed(&judged.iter().map(|member| member.display_name()).collect::<Vec<_>>());
        if judged.is_empty() {
            return None;
        }
        if judged.iter().all(|member| self.around.may_bypass(&member.name())) {
            let detail = format!("documents are put back whatever these say of them: {names}");
            return Some(check(NAME, true, detail));
        }
        let detail = format!(
            "a document that one refuses stops the restore, unless its user may pass them by \
             (bypassDocumentValidation, as the role dbAdmin allows): {names}"
        );
        Some(PreflightCheck { warns: !self.checked.others_write, ..check(NAME, true, detail) })
    }

    fn expiry(&self) -> Option<PreflightCheck> {
        let expiring: Vec<String> = (self.defined(|definition| definition.expires).iter())
            .map(|member| member.display_name())
            .collect();
        let detail = format!(
            "the server deletes documents of these after a time. What is put back and has expired goes again at once, and \
             the proof then differs: {}",
            listed(&expiring)
        );
        (!expiring.is_empty()).then(|| PreflightCheck { warns: true, ..check("expiry", true, detail) })
    }
}
