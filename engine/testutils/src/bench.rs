//! The table that measurements are taken on: about 170 bytes a row as COPY text, which `zstd -3`
//! compresses about 2.5 to 1. (pgbench's filler compresses a hundredfold and flatters everyone.)

use tokio_postgres::{Client, Error};

use crate::postgres::quote_identifier;

/// Creates `name` with `rows` rows, numbered from 1 by its primary key `id`, in key order.
/// Deterministic, and made by the server: two million rows take about 20 s.
///
/// What a row is made of, and why: a UUID and a token (28 bytes that no compressor goes below), a time and
/// a counter that grow with the key (as in real tables; they compress well), an amount and a
/// random number of few digits, words from a short list (which compress as prose does), JSON with
/// constant keys, and a NULL in every fifth row.
pub async fn bench_table(client: &Client, name: &str, rows: u64) -> Result<(), Error> {
    let table = quote_identifier(name);
    let sql = format!(
        "BEGIN;
         CREATE TABLE {table} (
             id bigint NOT NULL, reference uuid NOT NULL, account integer NOT NULL, amount numeric(12, 2) NOT NULL,
             status text NOT NULL, booked_at timestamptz NOT NULL, memo text, token text NOT NULL, attributes jsonb NOT NULL);
         INSERT INTO {table}
         SELECT n, d::uuid, r[1] % 500000, (r[2] % 2000000) / 100.0,
             (ARRAY['open', 'booked', 'booked', 'booked', 'settled', 'settled', 'disputed'])[1 + r[3] % 7],
             timestamptz '2024-01-01 00:00+00' + n * interval '17 seconds' + (r[4] % 17000) * interval '1 millisecond',
             CASE WHEN n % 5 <> 0 THEN words[1 + r[1] % 64] || ' ' || words[1 + r[3] / 7 % 64] END,
             left(encode(decode(md5('token ' || n), 'hex'), 'base64'), 16),
             jsonb_build_object('channel', channels[1 + r[4] % 5], 'device', r[3] / 7 % 900, 'retries', r[2] % 3)
         FROM (SELECT n, md5(n::text) AS d FROM generate_series(1, {rows}) AS n) AS numbers,
             LATERAL (SELECT ARRAY[('x' || substr(d, 1, 7))::bit(28)::integer, ('x' || substr(d, 9, 7))::bit(28)::integer,
                 ('x' || substr(d, 17, 7))::bit(28)::integer, ('x' || substr(d, 25, 7))::bit(28)::integer] AS r OFFSET 0) AS rolls,
             (SELECT string_to_array('{WORDS}', ' ') AS words, ARRAY['web', 'phone', 'branch', 'partner', 'import'] AS channels) AS lists
         ORDER BY n;
         ALTER TABLE {table} ADD PRIMARY KEY (id);
         COMMIT;
         ANALYZE {table};"
    );
    client.batch_execute(&sql).await
}

/// 64 words.
const WORDS: &str = "invoice transfer refund deposit monthly rent salary groceries fuel insurance premium \
interest fee correction standing order direct debit card payment cash withdrawal subscription renewal membership \
donation tuition travel hotel train flight parking toll repair service parts delivery postage books music film \
theatre restaurant bakery market pharmacy dentist clinic garden furniture kitchen heating water electricity phone \
internet broadband savings pension shares dividend bonus wages overdraft";
