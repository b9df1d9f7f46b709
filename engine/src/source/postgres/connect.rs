//! From a URL to a session, in steps that a connection test can name.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::counted::{Counted, Passed};
use super::fault;
use super::session::Session;
use super::silence::PATIENCE;
use super::url::{PostgresUrl, SslMode};
use crate::error::{Error, Kind, Result};

/// Notices a peer that vanished without a word, which an idle snapshot holder otherwise would not.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Opens sessions on the server of one URL.
#[derive(Clone)]
pub(crate) struct Connector {
    url: Arc<PostgresUrl>,
    tls: MakeRustlsConnect,
    patience: Duration,
}

impl Connector {
    pub(crate) fn new(url: &PostgresUrl) -> Result<Self> {
        let tls = MakeRustlsConnect::new(tls_config(url.ssl_mode())?);
        Ok(Self { url: Arc::new(url.clone()), tls, patience: PATIENCE })
    }

    /// With another time after which a session that waits for an answer asks what the server does.
    pub(super) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    pub(super) fn url(&self) -> &PostgresUrl {
        &self.url
    }

    /// Resolve, connect, TLS and login in one.
    pub(crate) async fn connect(&self) -> Result<Session> {
        let stream = self.open(&self.resolve().await?).await?;
        self.login(stream).await
    }

    /// The addresses of the host, all of them allowed. What follows connects to these and looks
    /// nothing up again.
    pub(super) async fn resolve(&self) -> Result<Vec<SocketAddr>> {
        let host = self.url.host();
        let unresolved = |why: String| {
            Error::new(Kind::Unreachable, format!("the host name {host} cannot be resolved: {why}"))
                .with_help("Check the spelling of the host, and that this machine can look it up.")
        };
        let lookup = tokio::net::lookup_host((host, self.url.port()));
        let found = timeout(self.url.connect_timeout(), lookup).await;
        let found = found.map_err(|_| unresolved("no answer in time".to_owned()))?;
        let addresses: Vec<_> = found.map_err(|error| unresolved(error.to_string()))?.collect();
        self.url.address_policy().check(host, &addresses)?;
        if addresses.is_empty() { Err(unresolved("it has no address".to_owned())) } else { Ok(addresses) }
    }

    /// A TCP connection to the first address that takes one.
    pub(super) async fn open(&self, addresses: &[SocketAddr]) -> Result<TcpStream> {
        let (host, port, limit) = (self.url.host(), self.url.port(), self.url.connect_timeout());
        let attempt = async {
            let mut last = None;
            for address in addresses {
                match TcpStream::connect(address).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => last = Some(error),
                }
            }
            Err(last.unwrap_or_else(|| std::io::ErrorKind::AddrNotAvailable.into()))
        };
        let stream = match timeout(limit, attempt).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return Err(Error::new(
                    Kind::Unreachable,
                    format!("{host} does not take connections on port {port}: {error}"),
                )
                .with_help(
                    "Check that PostgreSQL listens on this host and port, and that no firewall refuses it.",
                ));
            }
            Err(_) => {
                let message = format!("{host} port {port} does not answer within {} s", limit.as_secs_f32());
                return Err(Error::new(Kind::Unreachable, message).with_help(
                    "Check the address, and that firewalls between here and there let this machine in.",
                ));
            }
        };
        let unreachable =
            |error: std::io::Error| Error::new(Kind::Unreachable, error.to_string()).with_source(error);
        stream.set_nodelay(true).map_err(unreachable)?;
        let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
        socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(unreachable)?;
        Ok(stream)
    }

    /// TLS as asked for, then the login.
    pub(super) async fn login(&self, stream: TcpStream) -> Result<Session> {
        self.login_noting(stream, &AtomicBool::new(false)).await
    }

    /// As [`login`](Self::login). Sets `has_tls` once the server has agreed to encrypt, also where
    /// what follows fails.
    pub(super) async fn login_noting(&self, stream: TcpStream, has_tls: &AtomicBool) -> Result<Session> {
        let address = stream.peer_addr().map_err(|error| Error::new(Kind::Unreachable, error.to_string()))?;
        let config = self.url.config();
        let tls = Noting { inner: self.tls_connect(), has_tls };
        let passed = Passed::default();
        let stream = Counted::new(stream, passed.clone());
        let attempt = timeout(self.url.connect_timeout(), config.connect_raw(stream, tls)).await;
        match attempt {
            Ok(Ok((client, connection))) => {
                Ok(Session::new(client, connection, self.clone(), address, passed))
            }
            Ok(Err(error)) => Err(fault::login(&self.url, &error)),
            Err(_) => Err(Error::new(
                Kind::Unreachable,
                format!("{} took the connection and then said nothing", self.url.host()),
            )
            .with_help("Check that the port belongs to PostgreSQL and that the server is not overloaded.")),
        }
    }

    /// Asks the server to stop what a session of this connector is doing.
    pub(super) async fn cancel(&self, token: tokio_postgres::CancelToken, address: SocketAddr) {
        // Nobody waits for the outcome: the session is dropped in any case.
        let attempt = async {
            if let Ok(stream) = TcpStream::connect(address).await {
                let _ = token.cancel_query_raw(stream, self.tls_connect()).await;
            }
        };
        let _ = timeout(self.url.connect_timeout(), attempt).await;
    }

    fn tls_connect(&self) -> <MakeRustlsConnect as MakeTlsConnect<TcpStream>>::TlsConnect {
        let mut tls = self.tls.clone();
        let Ok(connect) = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut tls, self.url.host());
        connect
    }
}

/// TLS that tells whether it came to be: `prefer` goes on without where the server has none.
struct Noting<'a, T> {
    inner: T,
    has_tls: &'a AtomicBool,
}

impl<T: TlsConnect<Counted>> TlsConnect<Counted> for Noting<'_, T> {
    type Stream = T::Stream;
    type Error = T::Error;
    type Future = T::Future;

    fn connect(self, stream: Counted) -> T::Future {
        self.has_tls.store(true, Ordering::Relaxed);
        self.inner.connect(stream)
    }
}

fn tls_config(mode: SslMode) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(Kind::Internal, "TLS cannot be set up").with_source(error))?;
    Ok(match mode {
        SslMode::VerifyFull => builder.with_root_certificates(system_roots()?).with_no_client_auth(),
        SslMode::VerifyCa => {
            let chain = WebPkiServerVerifier::builder_with_provider(system_roots()?, provider.clone())
                .build()
                .map_err(|error| Error::new(Kind::Internal, "TLS cannot be set up").with_source(error))?;
            let verifier = Lenient { chain: Some(chain), provider };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
        }
        SslMode::Disable | SslMode::Prefer | SslMode::Require => {
            let verifier = Lenient { chain: None, provider };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
        }
    })
}

/// The authorities known to this machine, read once.
fn system_roots() -> Result<Arc<RootCertStore>> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    if roots.is_empty() {
        return Err(Error::new(
            Kind::Unreachable,
            "this machine knows no certificate authorities to check against",
        )
        .with_help("Install the ca-certificates package where DBSnap runs, or use sslmode=require."));
    }
    Ok(roots.clone())
}

/// What libpq's weaker modes mean: `require` checks no certificate, `verify-ca` checks the chain
/// and not the name. The handshake's own signatures are always checked.
#[derive(Debug)]
struct Lenient {
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
