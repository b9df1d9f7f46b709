//! Large objects: made anew under their own numbers, page by page.

use repo_format::catalog::Layout;
use tokio::sync::mpsc::Receiver;

use super::{Target, fault};
use crate::error::Result;
use crate::source::RecordBatch;

/// Rows go through a table of the session's own: one statement then makes all objects.
const STAGING: &str =
    "CREATE TEMPORARY TABLE dbsnap_pages (loid oid, pageno integer, data bytea) ON COMMIT DROP";
pub(super) const STAGING_NAME: (&str, &str) = ("pg_temp", "dbsnap_pages");
/// Page -1 stands for the object itself, which may have no pages.
const MAKE: &str = "SELECT pg_catalog.lo_create(loid) FROM pg_temp.dbsnap_pages WHERE pageno = -1";
/// A page holds a quarter of the server's block.
const FILL: &str = "SELECT pg_catalog.lo_put(loid, \
    pageno::bigint * (pg_catalog.current_setting('block_size')::bigint / 4), data) \
    FROM pg_temp.dbsnap_pages WHERE pageno >= 0 ORDER BY loid, pageno";

impl Target {
    /// Loads the large objects' records, as the source gives them.
    pub(super) async fn load_large_objects(
        &self,
        layout: &Layout,
        expected: u64,
        rows: Receiver<RecordBatch>,
    ) -> Result<u64> {
        let doing = "loading large objects";
        let failed = |error| fault::statement(doing, error);
        let session = self.connect().await?;
        let guard = session.cancel_guard();
        session.run(&format!("BEGIN; {} {STAGING}", self.pins())).await.map_err(failed)?;
        let loaded = super::load::copy(&session, layout, STAGING_NAME, doing, expected, rows).await?;
        session.run(MAKE).await.map_err(failed)?;
        session.run(FILL).await.map_err(failed)?;
        session.run("COMMIT").await.map_err(failed)?;
        guard.disarm();
        Ok(loaded)
    }
}
