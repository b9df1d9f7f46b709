//! One connection, and how its answers are read.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::task::AbortHandle;
use tokio_postgres::tls::TlsStream;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Connection, CopyInSink, CopyOutStream, Row};

use super::connect::Connector;
use super::counted::{Counted, Passed};

/// A logged-in connection. Dropping it closes the socket at once.
pub(crate) struct Session {
    client: Client,
    driver: AbortHandle,
    connector: Connector,
    address: SocketAddr,
    passed: Passed,
    /// The server's number for it, once it was asked.
    backend: AtomicU32,
}

impl Session {
    pub(super) fn new<T>(
        client: Client,
        connection: Connection<Counted, T>,
        connector: Connector,
        address: SocketAddr,
        passed: Passed,
    ) -> Self
    where
        T: TlsStream + tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        // What ends the connection is also what the pending query reports, so it is not kept here.
        let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Self { client, driver, connector, address, passed, backend: AtomicU32::new(0) }
    }

    /// Asks for the server's number for this session. In a transaction: to the next one, a pooler may
    /// give another session.
    pub(super) async fn note_backend(&self) -> Result<(), tokio_postgres::Error> {
        let rows = self.rows("SELECT pg_backend_pid()::text").await?;
        self.backend.store(rows.first().map_or(0, |row| row.number(0)), Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn backend(&self) -> u32 {
        self.backend.load(Ordering::Relaxed)
    }

    /// How many bytes went either way since it began.
    pub(super) fn bytes_passed(&self) -> u64 {
        self.passed.bytes()
    }

    pub(super) fn patience(&self) -> Duration {
        self.connector.patience()
    }

    /// Another session on the same server.
    pub(super) async fn beside(&self) -> crate::error::Result<Self> {
        self.connector.login(self.connector.open(&[self.address]).await?).await
    }

    /// Where it is connected to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The user that logged in, as the URL names it.
    pub(super) fn login(&self) -> &str {
        self.connector.url().user()
    }

    /// Runs statements one after the other, without answers. Utility statements sent this way take
    /// no snapshot, which the extended protocol could not promise.
    pub(crate) async fn run(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute(sql).await
    }

    /// Runs a query whose columns are all `text`. Its statement has no name, so poolers between
    /// here and the server do not mix it up with another's.
    pub(crate) async fn rows(&self, sql: &str) -> Result<Vec<TextRow>, tokio_postgres::Error> {
        let rows = self.client.query_typed(sql, &[]).await?;
        Ok(rows.into_iter().map(TextRow).collect())
    }

    /// Runs a query that takes arrays of text and gives columns of `text`. The texts are in the
    /// session's encoding, and need not be UTF-8.
    pub(crate) async fn rows_of_texts(
        &self,
        sql: &str,
        arrays: &[Vec<Option<Text<'_>>>],
    ) -> Result<Vec<TextRow>, tokio_postgres::Error> {
        let texts = |array| (array as &(dyn ToSql + Sync), Type::TEXT_ARRAY);
        let parameters: Vec<_> = arrays.iter().map(texts).collect();
        let rows = self.client.query_typed(sql, &parameters).await?;
        Ok(rows.into_iter().map(TextRow).collect())
    }

    pub(crate) async fn copy_in(&self, sql: &str) -> Result<CopyInSink<bytes::Bytes>, tokio_postgres::Error> {
        self.client.copy_in(sql).await
    }

    pub(super) async fn copy_out(&self, sql: &str) -> Result<CopyOutStream, tokio_postgres::Error> {
        self.client.copy_out(sql).await
    }

    /// Cancels what the server is doing for this session, should the guard be dropped before
    /// [`CancelGuard::disarm`].
    pub(crate) fn cancel_guard(&self) -> CancelGuard {
        CancelGuard { cancel: Some((self.connector.clone(), self.client.cancel_token(), self.address)) }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Closing the socket alone would leave the server working until it next writes to it, which for
/// a sort or a lock wait can be hours.
pub(crate) struct CancelGuard {
    cancel: Option<(Connector, tokio_postgres::CancelToken, SocketAddr)>,
}

impl CancelGuard {
    /// The server is done: there is nothing to cancel.
    pub(crate) fn disarm(mut self) {
        self.cancel = None;
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        if let Some((connector, token, address)) = self.cancel.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { connector.cancel(token, address).await });
        }
    }
}

/// A row of text columns. A database without an encoding (SQL_ASCII) may hold any bytes in them.
pub(crate) struct TextRow(Row);

impl TextRow {
    fn bytes(&self, column: usize) -> Option<&[u8]> {
        self.0.get::<_, Option<Raw<'_>>>(column).map(|raw| raw.0)
    }

    /// The text, with `\xHH` for bytes that are not UTF-8; `None` for NULL.
    pub(crate) fn optional(&self, column: usize) -> Option<String> {
        self.bytes(column).map(readable)
    }

    /// As [`optional`](Self::optional), NULL being empty.
    pub(crate) fn text(&self, column: usize) -> String {
        self.optional(column).unwrap_or_default()
    }

    /// Whether the text is UTF-8, so that the server knows it by that name.
    pub(super) fn is_utf8(&self, column: usize) -> bool {
        self.bytes(column).is_none_or(|bytes| std::str::from_utf8(bytes).is_ok())
    }

    /// `true`, of `true` and everything else.
    pub(crate) fn flag(&self, column: usize) -> bool {
        self.bytes(column) == Some(b"true")
    }

    /// A number, 0 for what is none.
    pub(crate) fn number<N: std::str::FromStr + Default>(&self, column: usize) -> N {
        self.bytes(column).and_then(|bytes| std::str::from_utf8(bytes).ok()?.parse().ok()).unwrap_or_default()
    }

    /// The numbers of an `int2vector` or `oidvector`.
    pub(crate) fn numbers<N: std::str::FromStr + Default>(&self, column: usize) -> Vec<N> {
        self.text(column).split_whitespace().map(|number| number.parse().unwrap_or_default()).collect()
    }
}

fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A text on its way to the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a>(pub(crate) &'a [u8]);

impl ToSql for Text<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.0);
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TEXT
    }

    to_sql_checked!();
}

/// An identifier as SQL, always quoted.
pub(crate) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `namespace.name` as SQL, both quoted.
pub(crate) fn qualified(namespace: &str, name: &str) -> String {
    format!("{}.{}", ident(namespace), ident(name))
}

/// A string as SQL, whatever `standard_conforming_strings` says.
pub(crate) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}
