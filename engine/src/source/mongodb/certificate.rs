//! Certificates that log a client in (X.509).
//!
//! The driver takes a file's name. A URL that named one would use whatever key lies on the machine
//! DBSnap runs on, so the certificate and its key stand in the URL itself, and are sealed with it.

use std::io::{Seek, Write};
use std::os::fd::AsRawFd;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use mongodb::Client;
use mongodb::options::{ClientOptions, Tls};
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result};

/// A certificate, its key and what lies between it and its authority are a few kilobytes.
const LONGEST: usize = 64 << 10;

/// What `tlsCertificateKey` holds and how to make it.
pub(super) const HELP: &str = "Add tlsCertificateKey= with the contents of the PEM file that holds certificate and \
     key, in base64: base64 -w0 client.pem prints them. They are stored as a password is.";

/// A client's certificate and private key (PEM).
#[derive(Clone)]
pub(super) struct ClientCertificate(Zeroizing<Vec<u8>>);

impl ClientCertificate {
    /// Reads the value of the option: PEM, percent-encoded or in base64.
    pub fn parse(value: &str) -> Result<Self> {
        let text: Zeroizing<Vec<u8>> = Zeroizing::new(percent_decode_str(value).collect());
        if text.len() > LONGEST {
            return Err(invalid("is longer than a certificate and its key"));
        }
        let pem = if text.starts_with(b"-----BEGIN") { text } else { from_base64(&text)? };
        let has = |what: &str| memchr::memmem::find(&pem, what.as_bytes()).is_some();
        if has("BEGIN ENCRYPTED PRIVATE KEY") || has("Proc-Type: 4,ENCRYPTED") {
            return Err(Error::new(Kind::Invalid, "the private key of tlsCertificateKey is encrypted").with_help(
                "Decrypt it first: openssl pkey -in client.pem prints the plain key. It is sealed where it is stored.",
            ));
        }
        if !has("BEGIN CERTIFICATE-") || !has("PRIVATE KEY-") {
            return Err(invalid("does not hold both a certificate and its private key"));
        }
        Ok(Self(pem))
    }

    /// A client with these options that shows the certificate. The driver reads the key before this
    /// returns, from a file that has no name, so nothing is left even if this process is killed.
    pub fn client(&self, mut options: ClientOptions) -> mongodb::error::Result<Client> {
        let mut file = tempfile::tempfile()?;
        file.write_all(&self.0)?;
        file.rewind()?;
        if let Some(Tls::Enabled(tls)) = &mut options.tls {
            tls.cert_key_file_path = Some(format!("/dev/fd/{}", file.as_raw_fd()).into());
        }
        let client = Client::with_options(options);
        // Whoever still has the blocks of the disk finds zeros.
        file.rewind()?;
        file.write_all(&vec![0; self.0.len()])?;
        client
    }
}

fn from_base64(text: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    // A file's name is no secret, and the likeliest mistake.
    if text.contains(&b'.') {
        return Err(invalid("is the name of a file, not its contents"));
    }
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let plain: Zeroizing<Vec<u8>> = Zeroizing::new(
        text.iter()
            .filter(|byte| !byte.is_ascii_whitespace())
            .map(|byte| match byte {
                b'-' => b'+',
                b'_' => b'/',
                other => *other,
            })
            .collect(),
    );
    let decoded = GeneralPurpose::new(&alphabet::STANDARD, config).decode(&*plain);
    decoded.map(Zeroizing::new).map_err(|_| invalid("is neither PEM nor base64"))
}

fn invalid(what: &str) -> Error {
    Error::new(Kind::Invalid, format!("tlsCertificateKey {what}")).with_help(HELP)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nMIIB/+==\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n\
                       c2VjcmV0\n-----END PRIVATE KEY-----\n";

    #[test]
    fn both_ways_of_writing_it_are_read() {
        let encoded =
            percent_encoding::utf8_percent_encode(PEM, percent_encoding::NON_ALPHANUMERIC).to_string();
        let standard = base64::engine::general_purpose::STANDARD.encode(PEM);
        let for_urls = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(PEM);
        let escaped = standard.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        for value in [encoded, standard, for_urls, escaped] {
            assert_eq!(*ClientCertificate::parse(&value).unwrap().0, PEM.as_bytes(), "{value}");
        }
    }

    #[test]
    fn what_is_no_certificate_with_its_key_is_refused_without_repeating_it() {
        let only_key = &PEM[PEM.find("-----BEGIN PRIVATE").unwrap()..];
        let encrypted = PEM.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        for (value, said) in [
            ("/etc/client.pem".to_owned(), "name of a file"),
            ("c2VjcmV0".to_owned(), "does not hold both"),
            ("hunter2!".to_owned(), "neither PEM nor base64"),
            (base64::engine::general_purpose::STANDARD.encode(only_key), "does not hold both"),
            (base64::engine::general_purpose::STANDARD.encode(&encrypted), "is encrypted"),
            ("A".repeat(LONGEST + 1), "longer than"),
        ] {
            let error = ClientCertificate::parse(&value).err().unwrap();
            assert_eq!(error.kind(), Kind::Invalid);
            assert!(error.message().contains(said), "{error}");
            let told = format!("{error} {error:?}");
            assert!(!told.contains("hunter2") && !told.contains("c2VjcmV0"), "{told}");
        }
    }
}
