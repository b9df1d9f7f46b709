//! MongoDB connection URLs.

use zeroize::Zeroizing;

use crate::error::Result;

/// A `mongodb://` or `mongodb+srv://` URL. `Debug` hides the password.
#[derive(Clone)]
pub struct MongoUrl {
    text: Zeroizing<String>,
}

impl std::fmt::Debug for MongoUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl MongoUrl {
    /// Reads a URL as it is pasted.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::Kind::Invalid) with what is wrong; passwords are never repeated.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self { text: Zeroizing::new(text.trim().to_owned()) })
    }

    /// The hosts it names; for `mongodb+srv://` the name whose records list them, with port 0.
    pub fn hosts(&self) -> Vec<(String, u16)> {
        unimplemented!()
    }

    /// The database in its path; none means every database but admin, local and config.
    pub fn database(&self) -> Option<&str> {
        unimplemented!()
    }

    /// The user; empty when there is none.
    pub fn user(&self) -> &str {
        unimplemented!()
    }

    /// The URL with `***` in the password's place.
    pub fn redacted(&self) -> String {
        unimplemented!()
    }

    /// The URL itself, password included.
    pub fn expose(&self) -> &str {
        &self.text
    }
}
