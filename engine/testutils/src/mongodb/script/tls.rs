//! TLS for scripted servers, which ask their clients for a certificate.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;

/// An authority of a test's own, and the certificates that it gave a server and a client.
#[derive(Debug)]
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// Makes them.
    ///
    /// # Panics
    /// When there is no `openssl`.
    pub fn make() -> Self {
        let folder = tempfile::tempdir().expect("because tests need a writable temporary folder");
        let folder_path = folder.path();
        let authority = ["-addext", "basicConstraints=critical,CA:TRUE"];
        certify(folder_path, "authority", &authority);
        let signed = ["-CA", "authority.pem", "-CAkey", "authority.key"];
        let is_none = ["-addext", "basicConstraints=critical,CA:FALSE"];
        let place = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
        certify(folder_path, "server", &[&signed[..], &is_none, &place].concat());
        certify(folder_path, "client", &[&signed[..], &is_none].concat());
        Self { folder }
    }

    /// The file that clients must trust (PEM).
    pub fn authority(&self) -> PathBuf {
        self.file("authority.pem")
    }

    /// The client's certificate and key, as one PEM text.
    pub fn client(&self) -> String {
        self.text("client.pem") + &self.text("client.key")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).expect("because openssl wrote it")
    }

    /// For a server that lets in nobody without a certificate of the authority.
    pub(super) fn server(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut trusted = RootCertStore::empty();
        trusted.add(self.certificate("authority.pem")).expect("because it is an authority's");
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), provider.clone());
        let key = PrivateKeyDer::from_pem_file(self.file("server.key")).expect("because openssl wrote it");
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("because the provider has them")
            .with_client_cert_verifier(clients.build().expect("because an authority is trusted"))
            .with_single_cert(vec![self.certificate("server.pem")], key);
        Arc::new(config.expect("because the key is the certificate's"))
    }

    fn certificate(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.file(name)).expect("because openssl wrote it")
    }
}

fn certify(folder: &Path, name: &str, more: &[&str]) {
    let mut openssl = Command::new("openssl");
    openssl.current_dir(folder);
    openssl.args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split(' '));
    openssl.args(["-subj", &format!("/CN={name}")]).args(more);
    openssl.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")]);
    let output = openssl.output().expect("because a test of TLS needs the program `openssl`");
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
}
