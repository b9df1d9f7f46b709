//! What an operator does with the program beside serving. Each command opens the data folder by
//! itself, so no server may be running on it.

use std::sync::Arc;

use engine::clock::{Entropy, System};

use crate::app::open_meta;
use crate::config::Config;
use crate::server_key::rotate;
use crate::service::accounts;

pub const USAGE: &str = "usage:
    dbsnap                          serve; configuration is in environment variables
    dbsnap reset-password EMAIL     give an account a new password, print it, end its sessions
    dbsnap rotate-server-key        replace the server key by a new one";

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
        let meta = open_meta(&path).map_err(|error| error.to_string())?;
        let entropy: Arc<dyn Entropy> = Arc::new(System);
        match self {
            Self::ResetPassword { email } => {
                let reset = accounts::reset_password(&meta, entropy, &email).await;
                match reset.map_err(|problem| problem.describe())? {
                    Some(password) => Ok(format!("the new password of {email}: {password}")),
                    None => Err(format!("no account signs in by {email} and a password")),
                }
            }
            Self::RotateServerKey => {
                let rotated = rotate(config, &meta).await.map_err(|error| error.to_string())?;
                Ok(format!(
                    "the server key is a new one (repositories that it opens: {}). Keep a copy of it, and destroy \
                     the copies of the old one, once no backup of this data folder needs it",
                    rotated.repositories
                ))
            }
        }
    }
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
        for words in [&["serve"][..], &["reset-password"], &["reset-password", "a", "b"], &["--help"]] {
            assert_eq!(parse(words), None, "{words:?}");
        }
    }
}
