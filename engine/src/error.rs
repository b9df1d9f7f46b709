//! One error type for the crate. A [`Kind`] is a decision of the caller, not a place in the code.

use std::fmt;

/// The result of every fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller has to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The request itself is wrong (a malformed URL, an unknown column): change it.
    Invalid,
    /// The named thing does not exist in this repository or database.
    NotFound,
    /// The database or the storage cannot be reached: check host, port and network.
    Unreachable,
    /// The database or the storage refused the credentials.
    Denied,
    /// The credentials could write, so backing up with them is refused.
    NotReadOnly,
    /// The restore target holds data, or changed since it was looked at.
    Conflict,
    /// Another process ended this one's session, because it had shown no sign of life: start again.
    Ended,
    /// The repository is another server's alone.
    InUse,
    /// No key that is here opens the repository.
    Locked,
    /// The source changed under the snapshot (dropped table, lost transaction): try again.
    SourceChanged,
    /// Stored bytes are missing or are not what was written: verify, then back up again.
    Damaged,
    /// The storage refused or failed an operation (disk full, read-only): mend it and try again.
    Storage,
    /// The service that keeps keys (AWS KMS) refused or failed: mend it and try again.
    Keys,
    /// The target's server refused a statement of a restore: its message says which and why.
    Refused,
    /// A value or object is over a stated limit, or of a kind that is not supported.
    Unsupported,
    /// The job was cancelled, or its process is stopping.
    Cancelled,
    /// A defect in this program or an answer it did not expect.
    Internal,
}

/// An error: what happened, what to do about it, and what caused it.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    help: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`. `message` is a full clause without a trailing stop and never holds a
    /// credential.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: shortened(message.into()), help: None, source: None }
    }

    /// Adds what the user should do, as a sentence.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(shortened(help.into()));
        self
    }

    /// Adds the underlying error; it is shown in logs, not to users.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Stored bytes that are not what was written.
    pub fn damaged(message: impl Into<String>) -> Self {
        Self::new(Kind::Damaged, message).with_help("Run a full verify to see which snapshots are hurt.")
    }

    /// The job was cancelled.
    pub fn cancelled() -> Self {
        Self::new(Kind::Cancelled, "cancelled")
    }

    /// What the caller has to do.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What happened, without what to do about it.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it, when that is known.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }
}

/// Bytes of a message that are kept: some of it is what a server says, which may say as much as it likes.
const LONGEST: usize = 4_000;

/// The beginning of a text, which says that there was more.
pub fn shortened(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push_str(" [...]");
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl From<repo_format::Error> for Error {
    fn from(error: repo_format::Error) -> Self {
        Self::damaged(error.to_string()).with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server says goes into records, logs and answers.
    #[test]
    fn texts_without_end_are_cut_where_a_letter_ends() {
        let error = Error::new(Kind::Unreachable, "é".repeat(1_000_000)).with_help("x".repeat(LONGEST + 1));
        assert_eq!(error.message(), "é".repeat(LONGEST / 2) + " [...]");
        assert_eq!(error.help().map(str::len), Some(LONGEST + " [...]".len()));
        assert_eq!(Error::new(Kind::Denied, "x".repeat(LONGEST)).message().len(), LONGEST);
    }
}
