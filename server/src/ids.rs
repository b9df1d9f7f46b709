//! Ids of what the server keeps. They sort by the time they were made, so a list in order of ids
//! is a list in order of creation and an id is a cursor.

use std::fmt;

use engine::clock::{Clock, Entropy};

fn draw(clock: &dyn Clock, entropy: &dyn Entropy) -> [u8; 16] {
    let mut bytes = [0; 16];
    entropy.fill(&mut bytes[6..]);
    // 48 bits of milliseconds last until the year 10889.
    bytes[..6].copy_from_slice(&clock.now_ms().to_be_bytes()[2..]);
    bytes
}

fn parse(text: &str) -> Option<[u8; 16]> {
    // The format crate has the one spelling of hexadecimal; a snapshot's id is as long as ours.
    repo_format::id::SnapshotId::parse(text).map(|id| id.0)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[derive(utoipa::ToSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schema(value_type = String)]
        pub struct $name([u8; 16]);

        impl $name {
            /// A new id: the time, then 80 random bits.
            pub fn new(clock: &dyn Clock, entropy: &dyn Entropy) -> Self {
                Self(draw(clock, entropy))
            }

            /// Reads what `Display` writes; nothing else.
            pub fn parse(text: &str) -> Option<Self> {
                parse(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::parse(&text).ok_or("not an id")
            }
        }
    };
}

id! {
    /// An account.
    UserId
}
id! {
    /// A signed-in browser or API client: one login and all the tokens that followed from it.
    SessionId
}
id! {
    /// A project, and its repository.
    ProjectId
}
id! {
    /// A connected database; the `source_id` of its snapshots.
    DatabaseId
}
id! {
    /// A piece of work.
    JobId
}
impl JobId {
    /// The smallest id that is greater.
    #[must_use]
    pub fn next(self) -> Self {
        Self(u128::from_be_bytes(self.0).saturating_add(1).to_be_bytes())
    }
}

id! {
    /// A comparison of two snapshots.
    DiffId
}
id! {
    /// A restore, from its plan on.
    RestoreId
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::clock::System;

    struct At(i64);

    impl Clock for At {
        fn now_ms(&self) -> i64 {
            self.0
        }
    }

    #[test]
    fn ids_sort_by_time_and_round_trip() {
        let earlier = JobId::new(&At(1_700_000_000_000), &System);
        let later = JobId::new(&At(1_700_000_000_001), &System);
        assert!(earlier < later && earlier.to_string() < later.to_string());
        assert_eq!(JobId::parse(&later.to_string()), Some(later));
        assert!(later.next() > later && later.next().to_string() > later.to_string());
        assert_eq!(JobId::parse("../../etc"), None);
    }
}
