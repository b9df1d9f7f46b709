//! AWS KMS: a key that never leaves it wraps keys that do.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_kms::Client;
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::DataKeySpec;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use futures::FutureExt;
use repo_format::slot::KmsKey;
use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result};
use crate::store::Credentials;

/// For one request, repetitions included.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a wrapped key is for. KMS takes it in as associated data and shows it in its logs, so it
/// holds no names.
pub type EncryptionContext = [(&'static str, String)];

// The SDK's futures are nested deeply. Boxed, they do not add to the depth of every caller's.

/// A connection to AWS KMS, and the key there that wraps others. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Kms {
    client: Client,
    key_id: String,
}

impl Kms {
    /// Uses the key of this id, ARN or alias, at AWS or at `endpoint`. Credentials and region come
    /// from the usual `AWS_*` variables and the places that AWS's programs look at; an ARN names
    /// its region itself. `credentials` come before those. Nothing is sent yet.
    pub async fn new(key_id: &str, endpoint: Option<&str>, credentials: Option<&Credentials>) -> Self {
        let tls = Provider::rustls(CryptoMode::Ring);
        let mut config = aws_config::defaults(BehaviorVersion::latest())
            .http_client(Builder::new().tls_provider(tls).build_https())
            .timeout_config(TimeoutConfig::builder().operation_timeout(TIMEOUT).build());
        if let Some(region) = region_of(key_id) {
            config = config.region(Region::new(region.to_owned()));
        }
        if let Some(endpoint) = endpoint {
            config = config.endpoint_url(endpoint);
        }
        if let Some(Credentials { access_key_id, secret_access_key }) = credentials {
            let (id, secret) = (access_key_id.as_str(), secret_access_key.as_str());
            config = config
                .credentials_provider(aws_sdk_kms::config::Credentials::new(id, secret, None, None, "given"));
        }
        Self { client: Client::new(&config.load().await), key_id: key_id.to_owned() }
    }

    /// Draws a new key, and wraps it.
    pub async fn generate(&self, context: &EncryptionContext) -> Result<(Zeroizing<[u8; 32]>, KmsKey)> {
        let mut request = self.client.generate_data_key().key_id(&self.key_id);
        for (name, value) in context {
            request = request.encryption_context(*name, value);
        }
        let answer =
            request.key_spec(DataKeySpec::Aes256).send().boxed().await.map_err(|error| self.failed(error))?;
        let (Some(plain), Some(wrapped)) = (answer.plaintext, answer.ciphertext_blob) else {
            return Err(Error::new(Kind::Internal, "KMS answered without a key"));
        };
        // The name that was asked for may be an alias, which can be pointed at another key.
        let key_id = answer.key_id.unwrap_or_else(|| self.key_id.clone());
        Ok((key_of(plain)?, KmsKey { key_id, ciphertext: wrapped.into_inner() }))
    }

    /// Wraps a key that exists.
    pub async fn wrap(&self, key: &[u8; 32], context: &EncryptionContext) -> Result<KmsKey> {
        let mut request = self.client.encrypt().key_id(&self.key_id).plaintext(Blob::new(key.as_slice()));
        for (name, value) in context {
            request = request.encryption_context(*name, value);
        }
        let answer = request.send().boxed().await.map_err(|error| self.failed(error))?;
        let Some(wrapped) = answer.ciphertext_blob else {
            return Err(Error::new(Kind::Internal, "KMS answered without a key"));
        };
        let key_id = answer.key_id.unwrap_or_else(|| self.key_id.clone());
        Ok(KmsKey { key_id, ciphertext: wrapped.into_inner() })
    }

    /// Unwraps a key: under the key that wrapped it, whichever this connection wraps with.
    pub async fn unwrap(&self, key: &KmsKey, context: &EncryptionContext) -> Result<Zeroizing<[u8; 32]>> {
        let wrapped = Blob::new(key.ciphertext.as_slice());
        let mut request = self.client.decrypt().key_id(&key.key_id).ciphertext_blob(wrapped);
        for (name, value) in context {
            request = request.encryption_context(*name, value);
        }
        let answer = request.send().boxed().await.map_err(|error| self.failed(error))?;
        let plain =
            answer.plaintext.ok_or_else(|| Error::new(Kind::Internal, "KMS answered without a key"))?;
        key_of(plain)
    }

    /// Says what KMS said. Its errors hold no secrets.
    fn failed<E, R>(&self, error: SdkError<E, R>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        let code = error.code().unwrap_or_default().to_owned();
        let said = error.message().unwrap_or_default().to_owned();
        let help = match (code.as_str(), &error) {
            ("NotFoundException", _) => "Correct DBSNAP_KMS_KEY_ID, or the region.",
            ("AccessDeniedException" | "UnrecognizedClientException" | "InvalidSignatureException", _) => {
                "Check the AWS_* variables, and that they may kms:GenerateDataKey, kms:Encrypt and kms:Decrypt."
            }
            ("DisabledException" | "KMSInvalidStateException", _) => {
                "Enable the key in KMS, or cancel its deletion."
            }
            ("InvalidCiphertextException" | "IncorrectKeyException", _) => {
                "What is to be unwrapped was wrapped by another key, or was changed."
            }
            (_, SdkError::ConstructionFailure(_)) => "Set AWS_REGION, or name the key by its ARN.",
            (_, SdkError::DispatchFailure(_) | SdkError::TimeoutError(_)) => {
                "Check DBSNAP_KMS_ENDPOINT, the network, and the AWS_* variables."
            }
            _ => "Try again.",
        };
        let why = match (code.is_empty(), said.is_empty()) {
            (true, _) => reasons(&error),
            (false, true) => code,
            (false, false) => format!("{code}: {said}"),
        };
        Error::new(Kind::Keys, format!("AWS KMS failed with the key {}: {why}", self.key_id)).with_help(help)
    }
}

/// An error and its causes, each once.
fn reasons(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut told: Vec<String> = Vec::new();
    for reason in causes.map(ToString::to_string) {
        if !told.iter().any(|before| before.contains(&reason)) {
            told.push(reason);
        }
    }
    told.join(": ")
}

/// The region that an ARN names.
fn region_of(key_id: &str) -> Option<&str> {
    let mut parts = key_id.split(':');
    let is_arn = parts.next() == Some("arn") && parts.next().is_some() && parts.next() == Some("kms");
    parts.next().filter(|region| is_arn && !region.is_empty())
}

fn key_of(plain: Blob) -> Result<Zeroizing<[u8; 32]>> {
    let plain = Zeroizing::new(plain.into_inner());
    let key: Option<&[u8; 32]> = plain.as_slice().try_into().ok();
    key.map(|key| Zeroizing::new(*key))
        .ok_or_else(|| Error::new(Kind::Internal, "KMS gave a key of another length than 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_names_its_region() {
        let arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
        assert_eq!(region_of(arn), Some("eu-central-1"));
        for other in
            ["alias/dbsnap", "1234abcd-12ab-34cd-56ef-1234567890ab", "arn:aws:s3:eu::x", "arn:aws:kms"]
        {
            assert_eq!(region_of(other), None, "{other}");
        }
    }
}
