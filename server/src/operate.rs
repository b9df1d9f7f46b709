//! What an operator does with the program beside serving. Each command opens the data folder by
//! itself, so no server may be running on it.

use std::path::Path;
use std::sync::Arc;

use engine::clock::{Clock, System};

use crate::app::{StartError, kms, open_meta, read_meta, unlock_meta};
use crate::audit::{Actor, Event, Outcome, action};
use crate::config::Config;
use crate::meta::{self, Meta, Provider, Verified};
use crate::server_key::{Rotated, rotate};
use crate::service::accounts;

pub const USAGE: &str = "usage:
    dbsnap                          serve; configuration is in environment variables
    dbsnap reset-password EMAIL     give an account a new password, print it, end its sessions
    dbsnap rotate-server-key        replace the server key by a new one
    dbsnap verify-audit             follow every chain of the audit log and say where one is broken";

/// What the program says of itself, where it was asked for nothing else.
pub fn about(arguments: &[String]) -> Option<String> {
    match arguments {
        [word] if matches!(word.as_str(), "--help" | "-h" | "help") => Some(USAGE.to_owned()),
        [word] if matches!(word.as_str(), "--version" | "-V") => {
            Some(concat!("dbsnap ", env!("CARGO_PKG_VERSION")).to_owned())
        }
        _ => None,
    }
}

/// What the program was started for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Serve,
    Operate(Operation),
}

/// What is done once, with the server stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    ResetPassword { email: String },
    RotateServerKey,
    VerifyAudit,
}

impl Command {
    /// Reads the program's arguments; none if they mean nothing.
    pub fn parse(arguments: &[String]) -> Option<Self> {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match arguments[..] {
            [] => Some(Self::Serve),
            ["reset-password", email] => {
                Some(Self::Operate(Operation::ResetPassword { email: email.to_owned() }))
            }
            ["rotate-server-key"] => Some(Self::Operate(Operation::RotateServerKey)),
            ["verify-audit"] => Some(Self::Operate(Operation::VerifyAudit)),
            _ => None,
        }
    }
}

impl Operation {
    /// Does it; returns what to print.
    pub async fn carry_out(self, config: &Config) -> Result<String, String> {
        let path = config.data_dir.join("meta.redb");
        if !path.is_file() {
            let folder = config.data_dir.display();
            return Err(format!("{folder} holds no DBSnap data: set DBSNAP_DATA_DIR to the server's"));
        }
        match self {
            Self::VerifyAudit => verify_audit(config, &path).await,
            Self::ResetPassword { email } => {
                let meta = unlocked(config, &path).await.map_err(|error| error.to_string())?;
                let reset = accounts::reset_password(&meta, &System, Arc::new(System), &email).await;
                match reset.map_err(|problem| problem.describe())? {
                    Some(password) => Ok(format!("the new password of {email}: {password}")),
                    None => Err(without_password(&meta, &email).await.map_err(|error| error.to_string())?),
                }
            }
            Self::RotateServerKey => {
                let meta = unlocked(config, &path).await.map_err(|error| error.to_string())?;
                let rotated = rotate(config, &meta).await.map_err(|error| error.to_string())?;
                let event = Event::new(action::SERVER_KEY_REPLACE, "server").by(Actor::Operator);
                let told = meta.append_audit(None, System.now_ms(), event, Outcome::Succeeded).await;
                told.map_err(|error| error.to_string())?;
                Ok(described(rotated))
            }
        }
    }
}

/// What there is to say of a new server key.
fn described(Rotated { repositories, slots_left }: Rotated) -> String {
    let left = match slots_left {
        0 => String::new(),
        n => format!(". Slots of the old key that could not be removed: {n}; the next start tries it again"),
    };
    format!(
        "the server key is a new one (repositories that it opens: {repositories}). Keep a copy of it, and destroy the \
         copies of the old one, once no backup of this data folder needs it{left}"
    )
}

/// The metadata, with the server key: the audit log's entries are made with a key that it opens.
async fn unlocked(config: &Config, path: &Path) -> Result<Meta, StartError> {
    let (meta, kms) = (open_meta(path).await?, kms(config).await);
    unlock_meta(config, &meta, kms.as_ref(), &System, System.now_ms()).await?;
    Ok(meta)
}

/// Follows every chain, and changes nothing: what it finds is what there was.
async fn verify_audit(config: &Config, path: &Path) -> Result<String, String> {
    let meta = read_meta(config, path).await.map_err(|error| error.to_string())?;
    let chains = meta.verify_all_audit().await.map_err(|error| error.to_string())?;
    let broken = |(chain, found): &(String, Verified)| {
        let sentence = found.broken?.describe();
        Some(format!("the chain of {chain} is broken: {sentence}"))
    };
    match chains.iter().filter_map(broken).collect::<Vec<_>>() {
        broken if broken.is_empty() => {
            let entries: u64 = chains.iter().map(|(_, found)| found.entries).sum();
            Ok(format!("{} chains with {entries} entries are whole", chains.len()))
        }
        broken => Err(broken.join("\n")),
    }
}

/// Why there is no password to reset.
async fn without_password(meta: &Meta, email: &str) -> meta::Result<String> {
    let providers = meta.providers_of(email.trim().to_lowercase()).await?;
    let names: Vec<&str> = providers.into_iter().map(Provider::name).collect();
    Ok(match names.is_empty() {
        true => format!("no account signs in by {email} and a password: nothing was changed"),
        false => format!(
            "the account of {email} has no password: it signs in by {}, and only there can it be let in again. \
             Nothing was changed",
            names.join(" or ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_mean_one_thing_or_nothing() {
        let parse =
            |words: &[&str]| Command::parse(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(parse(&[]), Some(Command::Serve));
        let email = "ada@example.com".to_owned();
        assert_eq!(
            parse(&["reset-password", &email]),
            Some(Command::Operate(Operation::ResetPassword { email }))
        );
        assert_eq!(parse(&["rotate-server-key"]), Some(Command::Operate(Operation::RotateServerKey)));
        assert_eq!(parse(&["verify-audit"]), Some(Command::Operate(Operation::VerifyAudit)));
        let asked = |word: &str| about(&[word.to_owned()]);
        assert_eq!(asked("--help").as_deref(), Some(USAGE));
        assert!(asked("--version").is_some_and(|version| version.starts_with("dbsnap ")));
        assert_eq!(asked("serve"), None);
        for words in [&["serve"][..], &["reset-password"], &["reset-password", "a", "b"], &["--help"]] {
            assert_eq!(parse(words), None, "{words:?}");
        }
    }
}
