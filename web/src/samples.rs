//! What the samples of several pages share.

/// The moment of all samples: 2026-03-14 15:09 UTC.
pub const NOW_MS: i64 = 1_773_500_940_000;

/// SQL for a role with read access only, as the server fills it in.
pub const READ_ONLY_SQL: &str = "\
-- Run as a superuser, or a role with CREATEROLE and ADMIN on pg_read_all_data,
-- while connected to the database. Choose a password of your own.
CREATE ROLE \"dbsnap_ro\" LOGIN PASSWORD 'choose-a-long-password';
ALTER ROLE \"dbsnap_ro\" SET default_transaction_read_only = on;
GRANT CONNECT ON DATABASE \"shop\" TO \"dbsnap_ro\";
GRANT pg_read_all_data TO \"dbsnap_ro\";";

/// A mongosh script for a user with read access only, as the server fills it in.
pub const READ_ONLY_USER: &str = "\
// Run in mongosh as a user who may create users. It asks for a password for the new user.
db.getSiblingDB(\"admin\").createUser({
  user: \"dbsnap\",
  pwd: passwordPrompt(),
  roles: [{ role: \"readAnyDatabase\", db: \"admin\" }]
})";

/// A document with most of what documents have.
pub const ORDER: &str = r#"{"_id":{"$oid":"65f0c0ffee65f0c0ffee65f0"},"status":"pending","qty":{"$numberInt":"3"},"total":{"$numberDecimal":"80.00"},"placed_at":{"$date":{"$numberLong":"1773491331420"}},"customer":{"name":"Ada <b>Quist</b>","address":{"city":"Bern","zip":"3011"}},"tags":["gift","express"],"lines":[{"sku":"kettle","n":{"$numberInt":"1"}},{"sku":"umbrella","n":{"$numberInt":"2"}}],"note":null}"#;
/// The same some time later.
pub const ORDER_LATER: &str = r#"{"_id":{"$oid":"65f0c0ffee65f0c0ffee65f0"},"status":"paid","qty":{"$numberLong":"3"},"total":{"$numberDecimal":"80.00"},"placed_at":{"$date":{"$numberLong":"1773491331420"}},"customer":{"name":"Ada <b>Quist</b>","address":{"city":"Basel","zip":"3011"}},"tags":["express","fragile"],"lines":[{"sku":"umbrella","n":{"$numberInt":"2"}},{"sku":"kettle","n":{"$numberInt":"1"}}],"paid_at":{"$date":{"$numberLong":"1773494991000"}}}"#;

/// A snapshot id.
pub const SNAPSHOT_ID: &str = "9f2c41d07be85a3316c0e4f1a27d9b58c3e6f70412ab98d5e01c7f3b64a2d890";
