//! Accounts: passwords, access tokens, refresh tokens and who is signed in.

mod current;
pub mod oauth;
mod password;
mod session;
mod throttle;
mod token;

pub use current::{ApiUser, PageUser, Visitor};
pub use password::Passwords;
pub use session::{Rotations, attempt, carry_session, end_attempt, end_cookies, set_attempt, set_cookies};
pub use throttle::{Attempt, Origin, Refusal, Throttle};
pub(crate) use token::random_text;
pub use token::{Claims, TokenKeys, Tokens, hash as hash_token, new_refresh_token};

/// How long an access token is accepted.
pub const ACCESS_SECONDS: i64 = 15 * 60;
/// How long a session lasts after it was last used.
pub const REFRESH_SECONDS: i64 = 30 * 24 * 60 * 60;
