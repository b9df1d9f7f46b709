//! The connection test.

use super::MongoUrl;
use crate::source::ConnectionReport;

/// Tests a connection, stage by stage. Reads only.
pub async fn test(url: &MongoUrl) -> ConnectionReport {
    unimplemented!("{url:?}")
}
