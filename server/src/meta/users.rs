//! Accounts.

use std::collections::BTreeSet;

use redb::{ReadableTableMetadata, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::rows::{self, IDENTITIES_BY_USER, USERS, USERS_BY_EMAIL};
use super::{Identity, Meta, Provider, Result, audit, identities, sessions};
use crate::config::Signup;
use crate::ids::UserId;

#[derive(Clone, Serialize, Deserialize)]
pub struct User {
    pub id: UserId,
    /// In lower case. Among accounts with a password it is unique, since it is what they sign in
    /// with. An account made by a provider's sign-in may bear the same address: nobody proved it.
    pub email: String,
    /// A PHC string of argon2id; none where only a provider signs in.
    pub password_hash: Option<String>,
    pub created_ms: i64,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("id", &self.id).finish_non_exhaustive()
    }
}

/// How an attempt to register ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    Created,
    Closed,
    EmailTaken,
    /// Somebody signed in by the same identity a moment before.
    IdentityTaken,
}

/// How an attempt to set a password ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordOutcome {
    Set,
    /// It would be the account's first, and another account signs in by this address.
    EmailTaken,
    NoSuchUser,
}

impl Meta {
    /// Adds an account that signs in by a password, if the sign-up rule allows it at this moment:
    /// of two first accounts at once, one is refused.
    pub async fn register(&self, user: User, rule: Signup) -> Result<Registration> {
        self.write(move |tx| {
            if !is_open(tx, rule)? {
                return Ok(Registration::Closed);
            }
            if rows::follow(&tx.open_table(USERS_BY_EMAIL)?, &user.email)?.is_some() {
                return Ok(Registration::EmailTaken);
            }
            let id = user.id.to_string();
            rows::put(tx, USERS, &id, &user)?;
            rows::link(tx, USERS_BY_EMAIL, &user.email, &id)?;
            audit::begin(tx, user.id)?;
            Ok(Registration::Created)
        })
        .await
    }

    /// Adds an account that signs in by a provider's identity.
    pub async fn register_with_identity(
        &self,
        user: User,
        identity: Identity,
        rule: Signup,
    ) -> Result<Registration> {
        self.write(move |tx| {
            if !is_open(tx, rule)? {
                return Ok(Registration::Closed);
            }
            if identities::owner(tx, &identity)?.is_some() {
                return Ok(Registration::IdentityTaken);
            }
            rows::put(tx, USERS, &user.id.to_string(), &user)?;
            identities::add(tx, &identity)?;
            audit::begin(tx, user.id)?;
            Ok(Registration::Created)
        })
        .await
    }

    /// Whether anybody has registered yet.
    pub async fn has_users(&self) -> Result<bool> {
        self.read(|tx| Ok(!tx.open_table(USERS)?.is_empty()?)).await
    }

    pub async fn user(&self, id: UserId) -> Result<Option<User>> {
        self.read(move |tx| rows::get(&tx.open_table(USERS)?, &id.to_string())).await
    }

    /// The account that signs in by this address and a password.
    pub async fn user_by_email(&self, email: String) -> Result<Option<User>> {
        self.read(move |tx| match rows::follow(&tx.open_table(USERS_BY_EMAIL)?, &email)? {
            Some(id) => rows::get(&tx.open_table(USERS)?, &id),
            None => Ok(None),
        })
        .await
    }

    /// By which providers accounts of an address sign in that have no password. There may be several: nobody
    /// proved that the address is theirs.
    pub async fn providers_of(&self, email: String) -> Result<BTreeSet<Provider>> {
        self.read(move |tx| {
            let links = tx.open_table(IDENTITIES_BY_USER)?;
            let mut found = BTreeSet::new();
            for entry in tx.open_table(USERS)?.range::<&str>(..)? {
                let user: User = serde_json::from_slice(entry?.1.value())?;
                if user.email != email || user.password_hash.is_some() {
                    continue;
                }
                for provider in Provider::ALL {
                    if rows::follow(&links, &rows::below(user.id, provider.as_str()))?.is_some() {
                        found.insert(provider);
                    }
                }
            }
            Ok(found)
        })
        .await
    }

    /// Gives an account another password, or its first.
    pub async fn set_password_hash(&self, id: UserId, password_hash: String) -> Result<PasswordOutcome> {
        self.write(move |tx| {
            let user: Option<User> = rows::get(&tx.open_table(USERS)?, &id.to_string())?;
            let Some(user) = user else { return Ok(PasswordOutcome::NoSuchUser) };
            let holder = rows::follow(&tx.open_table(USERS_BY_EMAIL)?, &user.email)?;
            if holder.is_some_and(|holder| holder != id.to_string()) {
                return Ok(PasswordOutcome::EmailTaken);
            }
            rows::link(tx, USERS_BY_EMAIL, &user.email, &id.to_string())?;
            rows::put(tx, USERS, &id.to_string(), &User { password_hash: Some(password_hash), ..user })?;
            Ok(PasswordOutcome::Set)
        })
        .await
    }

    /// Removes an account with its sessions and identities. Its projects went before.
    pub async fn remove_user(&self, id: UserId) -> Result<()> {
        self.write(move |tx| {
            sessions::end_all(tx, id, None)?;
            identities::remove_of_user(tx, id)?;
            let user: Option<User> = rows::get(&tx.open_table(USERS)?, &id.to_string())?;
            let Some(user) = user else { return Ok(()) };
            let holder = rows::follow(&tx.open_table(USERS_BY_EMAIL)?, &user.email)?;
            if holder.is_some_and(|holder| holder == id.to_string()) {
                rows::unlink(tx, USERS_BY_EMAIL, &user.email)?;
            }
            rows::remove(tx, USERS, &id.to_string())
        })
        .await
    }
}

fn is_open(tx: &WriteTransaction, rule: Signup) -> Result<bool> {
    Ok(match rule {
        Signup::Open => true,
        Signup::Closed => false,
        Signup::First => tx.open_table(USERS)?.is_empty()?,
    })
}
