//! Accounts.

use redb::ReadableTableMetadata;
use serde::{Deserialize, Serialize};

use super::rows::{self, USERS, USERS_BY_EMAIL};
use super::{Meta, Result};
use crate::config::Signup;
use crate::ids::UserId;

#[derive(Clone, Serialize, Deserialize)]
pub struct User {
    pub id: UserId,
    /// In lower case: one address, one account.
    pub email: String,
    /// A PHC string of argon2id.
    pub password_hash: String,
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
}

impl Meta {
    /// Adds an account, if the sign-up rule allows it at this moment: of two first accounts at
    /// once, one is refused.
    pub async fn register(&self, user: User, rule: Signup) -> Result<Registration> {
        self.write(move |tx| {
            let open = match rule {
                Signup::Open => true,
                Signup::Closed => false,
                Signup::First => tx.open_table(USERS)?.is_empty()?,
            };
            if !open {
                return Ok(Registration::Closed);
            }
            if rows::follow(&tx.open_table(USERS_BY_EMAIL)?, &user.email)?.is_some() {
                return Ok(Registration::EmailTaken);
            }
            let id = user.id.to_string();
            rows::put(tx, USERS, &id, &user)?;
            rows::link(tx, USERS_BY_EMAIL, &user.email, &id)?;
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

    pub async fn user_by_email(&self, email: String) -> Result<Option<User>> {
        self.read(move |tx| match rows::follow(&tx.open_table(USERS_BY_EMAIL)?, &email)? {
            Some(id) => rows::get(&tx.open_table(USERS)?, &id),
            None => Ok(None),
        })
        .await
    }

    /// Gives an account another password.
    pub async fn set_password_hash(&self, id: UserId, password_hash: String) -> Result<()> {
        self.write(move |tx| {
            let user: Option<User> = rows::get(&tx.open_table(USERS)?, &id.to_string())?;
            match user {
                Some(user) => rows::put(tx, USERS, &id.to_string(), &User { password_hash, ..user }),
                None => Ok(()),
            }
        })
        .await
    }
}
