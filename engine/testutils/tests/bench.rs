//! The table for measurements has the density it promises.

use engine_testutils::bench::bench_table;
use engine_testutils::postgres::Cluster;
use futures::TryStreamExt;

const ROWS: u64 = 100_000;

#[tokio::test]
async fn rows_are_of_the_promised_size_and_compress_as_promised() {
    let cluster = Cluster::shared();
    let database = cluster.fresh_database("bench").await;
    let client = cluster.connect(&database).await;
    bench_table(&client, "ledger", ROWS).await.unwrap();
    let count =
        cluster.query_one(&database, "SELECT count(*) FROM ledger WHERE id BETWEEN 1 AND 100000").await;
    assert_eq!(count, ROWS.to_string());

    let chunks = client.copy_out("COPY ledger TO STDOUT").await.unwrap();
    let text: Vec<u8> = chunks
        .try_fold(Vec::new(), |mut all, chunk| async move {
            all.extend_from_slice(&chunk);
            Ok(all)
        })
        .await
        .unwrap();
    let bytes_per_row = text.len() as f64 / ROWS as f64;
    assert!((155.0..185.0).contains(&bytes_per_row), "{bytes_per_row} bytes a row");

    let ratio = text.len() as f64 / zstd::bulk::compress(&text, 3).unwrap().len() as f64;
    assert!((2.3..2.7).contains(&ratio), "compresses {ratio} to 1");
}
