//! Who somebody is at GitHub or Google, and which account that opens.

use redb::WriteTransaction;
use serde::{Deserialize, Serialize};

use super::rows::{self, IDENTITIES, IDENTITIES_BY_USER, Order, USERS};
use super::{Meta, PageRequest, Result, User};
use crate::ids::UserId;

/// Who vouches for an identity.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    GitHub,
    Google,
}

impl Provider {
    pub const ALL: [Self; 2] = [Self::GitHub, Self::Google];

    /// The word of the API and of addresses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::Google => "google",
        }
    }

    /// The name people know.
    pub fn name(self) -> &'static str {
        match self {
            Self::GitHub => "GitHub",
            Self::Google => "Google",
        }
    }
}

/// An identity and the account it opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub provider: Provider,
    /// The provider's own id of the person, which never changes hands. Addresses and names do.
    pub subject: String,
    pub user_id: UserId,
    /// What the provider calls the person, for the account's page.
    pub name: String,
    pub linked_ms: i64,
}

impl Identity {
    fn key(&self) -> String {
        rows::below(self.provider.as_str(), &self.subject)
    }
}

/// How an attempt to link an identity to an account ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkOutcome {
    Linked,
    /// It opens another account.
    OpensAnother,
    /// The account has another identity of this provider.
    HasAnother,
}

/// How an attempt to unlink an identity ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnlinkOutcome {
    Unlinked,
    NotLinked,
    /// Nothing else opens the account.
    LastWayIn,
}

impl Meta {
    /// The account that an identity opens.
    pub async fn identity(&self, provider: Provider, subject: String) -> Result<Option<Identity>> {
        self.read(move |tx| rows::get(&tx.open_table(IDENTITIES)?, &rows::below(provider.as_str(), subject)))
            .await
    }

    /// An account's identities.
    pub async fn identities_of(&self, user: UserId) -> Result<Vec<Identity>> {
        self.read(move |tx| {
            let (links, table) = (tx.open_table(IDENTITIES_BY_USER)?, tx.open_table(IDENTITIES)?);
            let mut found = Vec::new();
            for provider in Provider::ALL {
                if let Some(key) = rows::follow(&links, &rows::below(user, provider.as_str()))? {
                    found.extend(rows::get::<Identity>(&table, &key)?);
                }
            }
            Ok(found)
        })
        .await
    }

    /// Links an identity to the account it names.
    pub async fn link_identity(&self, identity: Identity) -> Result<LinkOutcome> {
        self.write(move |tx| {
            match owner(tx, &identity)? {
                Some(owner) if owner == identity.user_id => return Ok(LinkOutcome::Linked),
                Some(_) => return Ok(LinkOutcome::OpensAnother),
                None => {}
            }
            let slot = rows::below(identity.user_id, identity.provider.as_str());
            if rows::follow(&tx.open_table(IDENTITIES_BY_USER)?, &slot)?.is_some() {
                return Ok(LinkOutcome::HasAnother);
            }
            add(tx, &identity)?;
            Ok(LinkOutcome::Linked)
        })
        .await
    }

    /// Takes an account's identity of a provider away, unless it is the only way in.
    pub async fn unlink_identity(&self, user: UserId, provider: Provider) -> Result<UnlinkOutcome> {
        self.write(move |tx| {
            let slot = rows::below(user, provider.as_str());
            let Some(key) = rows::follow(&tx.open_table(IDENTITIES_BY_USER)?, &slot)? else {
                return Ok(UnlinkOutcome::NotLinked);
            };
            let account: Option<User> = rows::get(&tx.open_table(USERS)?, &user.to_string())?;
            let has_password = account.is_some_and(|account| account.password_hash.is_some());
            if !has_password && slots(tx, user)?.len() == 1 {
                return Ok(UnlinkOutcome::LastWayIn);
            }
            rows::unlink(tx, IDENTITIES_BY_USER, &slot)?;
            rows::remove(tx, IDENTITIES, &key)?;
            Ok(UnlinkOutcome::Unlinked)
        })
        .await
    }
}

fn slots(tx: &WriteTransaction, user: UserId) -> Result<Vec<String>> {
    let links = tx.open_table(IDENTITIES_BY_USER)?;
    Ok(rows::children(&links, user, Order::OldestFirst, &PageRequest::all())?.items)
}

/// Whose account an identity opens.
pub(super) fn owner(tx: &WriteTransaction, identity: &Identity) -> Result<Option<UserId>> {
    let found: Option<Identity> = rows::get(&tx.open_table(IDENTITIES)?, &identity.key())?;
    Ok(found.map(|found| found.user_id))
}

pub(super) fn add(tx: &WriteTransaction, identity: &Identity) -> Result<()> {
    rows::put(tx, IDENTITIES, &identity.key(), identity)?;
    let slot = rows::below(identity.user_id, identity.provider.as_str());
    rows::link(tx, IDENTITIES_BY_USER, &slot, &identity.key())
}

pub(super) fn remove_of_user(tx: &WriteTransaction, user: UserId) -> Result<()> {
    for provider in slots(tx, user)? {
        let slot = rows::below(user, provider);
        if let Some(key) = rows::follow(&tx.open_table(IDENTITIES_BY_USER)?, &slot)? {
            rows::remove(tx, IDENTITIES, &key)?;
        }
        rows::unlink(tx, IDENTITIES_BY_USER, &slot)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Signup;
    use crate::meta::{PasswordOutcome, Registration};
    use engine::clock::System;

    fn user(email: &str, password_hash: Option<&str>) -> User {
        let id = UserId::new(&System, &System);
        User { id, email: email.to_owned(), password_hash: password_hash.map(str::to_owned), created_ms: 1 }
    }

    fn identity(provider: Provider, subject: &str, user_id: UserId) -> Identity {
        Identity { provider, subject: subject.to_owned(), user_id, name: "mira".to_owned(), linked_ms: 2 }
    }

    #[tokio::test]
    async fn an_identity_opens_one_account_and_an_equal_address_none() {
        let folder = tempfile::tempdir().unwrap();
        let meta = Meta::open(&folder.path().join("meta.redb")).unwrap();
        let by_password = user("mira@example.com", Some("x"));
        let by_google = user("mira@example.com", None);
        assert_eq!(meta.register(by_password.clone(), Signup::Open).await.unwrap(), Registration::Created);
        let google = identity(Provider::Google, "1", by_google.id);
        let made =
            meta.register_with_identity(by_google.clone(), google.clone(), Signup::Open).await.unwrap();
        assert_eq!(made, Registration::Created);
        let found = meta.user_by_email("mira@example.com".to_owned()).await.unwrap().unwrap();
        assert_eq!(found.id, by_password.id, "who signs in by the address stays who it was");
        let again = meta.register_with_identity(user("b@example.com", None), google.clone(), Signup::Open);
        assert_eq!(again.await.unwrap(), Registration::IdentityTaken);
        let outcome = |identity| meta.link_identity(identity);
        let stolen = Identity { user_id: by_password.id, ..google.clone() };
        assert_eq!(outcome(stolen).await.unwrap(), LinkOutcome::OpensAnother);
        assert_eq!(outcome(google).await.unwrap(), LinkOutcome::Linked);
        let second = identity(Provider::Google, "2", by_google.id);
        assert_eq!(outcome(second).await.unwrap(), LinkOutcome::HasAnother);
        assert_eq!(
            meta.set_password_hash(by_google.id, "y".to_owned()).await.unwrap(),
            PasswordOutcome::EmailTaken
        );
    }

    #[tokio::test]
    async fn the_last_way_in_stays_and_goes_with_the_account() {
        let folder = tempfile::tempdir().unwrap();
        let meta = Meta::open(&folder.path().join("meta.redb")).unwrap();
        let account = user("mira@example.com", None);
        let github = identity(Provider::GitHub, "7", account.id);
        meta.register_with_identity(account.clone(), github, Signup::First).await.unwrap();
        let unlink = |provider| meta.unlink_identity(account.id, provider);
        assert_eq!(unlink(Provider::Google).await.unwrap(), UnlinkOutcome::NotLinked);
        assert_eq!(unlink(Provider::GitHub).await.unwrap(), UnlinkOutcome::LastWayIn);
        meta.link_identity(identity(Provider::Google, "8", account.id)).await.unwrap();
        assert_eq!(unlink(Provider::GitHub).await.unwrap(), UnlinkOutcome::Unlinked);
        assert_eq!(meta.identities_of(account.id).await.unwrap().len(), 1);
        meta.remove_user(account.id).await.unwrap();
        assert!(meta.identity(Provider::Google, "8".to_owned()).await.unwrap().is_none());
        assert!(!meta.has_users().await.unwrap());
    }
}
