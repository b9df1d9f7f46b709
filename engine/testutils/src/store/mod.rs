//! Object stores for tests: a real distributed one, and one in this process that can be made to fail.
//!
//! [`seaweedfs`] runs SeaweedFS, in which racing writers are kept apart as in S3 itself. What only
//! needs S3's protocol runs faster against [`s3`], which is served from a folder by this process.

pub mod s3;
pub mod seaweedfs;

/// The bucket of every store here.
pub const BUCKET: &str = "dbsnap";
/// The key id that every store here takes.
pub const ACCESS_KEY_ID: &str = "dbsnap";
/// The secret that belongs to it.
pub const SECRET_ACCESS_KEY: &str = "dbsnap-secret";

/// What `DBSNAP_STORAGE` would say for the bucket of a store on `port`.
fn url(port: u16, prefix: &str) -> String {
    format!("s3://{BUCKET}/{prefix}?region=us-east-1&endpoint=http://127.0.0.1:{port}")
}
