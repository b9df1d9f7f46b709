//! Signing in with GitHub (OAuth 2) and Google (OpenID Connect): where the browser is sent, and
//! what the code it brings back is worth. PKCE, state and nonce travel in a cookie that only this
//! server can open, so that nothing is kept for those who never come back.

use std::time::Duration;

use futures::future::BoxFuture;
use oauth2::basic::{
    BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointNotSet, EndpointSet,
    ExtraTokenFields, HttpRequest, HttpResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope,
    StandardRevocableToken, StandardTokenResponse, TokenResponse, TokenUrl,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use crate::config::SignInProvider;
use crate::error::{Problem, Result};
use crate::meta::Provider;

/// How long a provider may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Tokens and people are described in a few kilobytes.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// What the provider's answer holds beside the access token.
#[derive(Debug, Serialize, Deserialize)]
struct IdToken {
    id_token: Option<String>,
}

impl ExtraTokenFields for IdToken {}

type Client = oauth2::Client<
    BasicErrorResponse,
    StandardTokenResponse<IdToken, BasicTokenType>,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

/// The secrets of one attempt to sign in.
#[derive(Serialize, Deserialize)]
pub struct Secrets {
    /// Comes back with the code: the attempt was begun in this browser.
    pub state: String,
    /// Comes back in the ID token: it was made for this attempt.
    pub nonce: String,
    /// Shown with the code alone: whoever saw the code on its way cannot use it.
    pub verifier: Zeroizing<String>,
}

/// Somebody, as a provider knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub subject: String,
    pub email: String,
    pub name: String,
}

fn client(provider: &SignInProvider, redirect: &Url) -> Client {
    oauth2::Client::new(ClientId::new(provider.client_id.clone()))
        .set_client_secret(ClientSecret::new(provider.client_secret.to_string()))
        .set_auth_uri(AuthUrl::from_url(provider.auth_url.clone()))
        .set_token_uri(TokenUrl::from_url(provider.token_url.clone()))
        .set_redirect_uri(RedirectUrl::from_url(redirect.clone()))
        .set_auth_type(AuthType::RequestBody)
}

/// Where the browser goes to be asked.
pub fn authorize_url(provider: &SignInProvider, redirect: &Url, secrets: &Secrets) -> Url {
    let client = client(provider, redirect);
    let verifier = PkceCodeVerifier::new(secrets.verifier.to_string());
    let state = CsrfToken::new(secrets.state.clone());
    let request = client
        .authorize_url(|| state)
        .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
    let scope = |name: &str| Scope::new(name.to_owned());
    let request = match provider.provider {
        Provider::GitHub => request.add_scope(scope("user:email")),
        Provider::Google => request
            .add_scopes([scope("openid"), scope("email"), scope("profile")])
            .add_extra_param("nonce", secrets.nonce.clone()),
    };
    request.url().0
}

/// Trades the code for a token, and the token for who it is of. Boxed: the compiler cannot see
/// that what `oauth2` makes of our client goes between threads.
pub fn identify<'a>(
    provider: &'a SignInProvider,
    redirect: &'a Url,
    secrets: &'a Secrets,
    code: String,
    now_ms: i64,
) -> BoxFuture<'a, Result<Person>> {
    Box::pin(ask(provider, redirect, secrets, code, now_ms))
}

async fn ask(
    provider: &SignInProvider,
    redirect: &Url,
    secrets: &Secrets,
    code: String,
    now_ms: i64,
) -> Result<Person> {
    let http = http_client()?;
    let verifier = PkceCodeVerifier::new(secrets.verifier.to_string());
    let client = client(provider, redirect);
    let request = client.exchange_code(AuthorizationCode::new(code)).set_pkce_verifier(verifier);
    let answer =
        request.request_async(&Exchange(http.clone())).await.map_err(|error| refused(provider, &error))?;
    let token = Zeroizing::new(answer.access_token().secret().clone());
    let user = fetch(&http, provider, &provider.userinfo_url, &token).await?;
    match provider.provider {
        Provider::GitHub => github_person(&http, provider, &token, &user).await,
        Provider::Google => {
            let claims = answer.extra_fields().id_token.as_deref().and_then(claims);
            let claims = claims.filter(|claims| claims.are_for(provider, &secrets.nonce, now_ms));
            let claims =
                claims.ok_or_else(|| unexpected(provider, "its ID token is not for this sign-in"))?;
            google_person(provider, &claims, &user)
        }
    }
}

/// The claims that tie an ID token to this sign-in.
#[derive(Debug, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Value,
    exp: i64,
    nonce: Option<String>,
    /// For whom it is, of several that may read it.
    azp: Option<String>,
}

/// The token came straight from the provider's token endpoint, which TLS vouches for as its signature
/// would (OpenID Connect Core 3.1.3.7, 6), so no key of the provider is needed.
fn claims(id_token: &str) -> Option<Claims> {
    jsonwebtoken::dangerous::insecure_decode::<Claims>(id_token).ok().map(|token| token.claims)
}

impl Claims {
    fn are_for(&self, provider: &SignInProvider, nonce: &str, now_ms: i64) -> bool {
        let audience = match &self.aud {
            Value::String(audience) => *audience == provider.client_id,
            Value::Array(all) => all.iter().any(|audience| *audience == *provider.client_id),
            _ => false,
        };
        // Elsewhere than at Google the operator chose whom to trust by the token endpoint's address.
        let is_google = provider.token_url.host_str() == Some("oauth2.googleapis.com");
        let issuer =
            !is_google || matches!(&*self.iss, "https://accounts.google.com" | "accounts.google.com");
        let nonce = self.nonce.as_deref().is_some_and(|found| equal(found, nonce));
        let party = self.azp.as_ref().is_none_or(|party| *party == provider.client_id);
        audience && party && issuer && nonce && self.exp > now_ms / 1000
    }
}

/// Whether two secrets are equal, in a time that does not tell where they differ.
pub fn equal(a: &str, b: &str) -> bool {
    // Hashes compare in constant time.
    blake3::hash(a.as_bytes()) == blake3::hash(b.as_bytes())
}

fn google_person(provider: &SignInProvider, claims: &Claims, user: &Value) -> Result<Person> {
    let text = |field: &str| user[field].as_str().map(str::to_owned);
    if text("sub").as_ref() != Some(&claims.sub) {
        return Err(unexpected(provider, "its answers are about two people"));
    }
    let email = text("email").ok_or_else(|| unexpected(provider, "it gave no e-mail address"))?;
    Ok(Person { subject: claims.sub.clone(), name: email.clone(), email })
}

async fn github_person(
    http: &reqwest::Client,
    provider: &SignInProvider,
    token: &str,
    user: &Value,
) -> Result<Person> {
    let id = user["id"].as_u64().ok_or_else(|| unexpected(provider, "it gave no id"))?;
    let login = user["login"].as_str().unwrap_or_default();
    let email = match user["email"].as_str() {
        Some(email) => email.to_owned(),
        // Hidden from the profile, and asked for by the scope.
        None => {
            let mut url = provider.userinfo_url.clone();
            url.set_path(&format!("{}/emails", url.path().trim_end_matches('/')));
            let all = fetch(http, provider, &url, token).await.unwrap_or_default();
            let primary = all.as_array().and_then(|all| all.iter().find(|email| email["primary"] == true));
            let email = primary.and_then(|email| email["email"].as_str());
            // GitHub's own form of an address for those who show none.
            email.map_or_else(|| format!("{id}+{login}@users.noreply.github.com"), str::to_owned)
        }
    };
    Ok(Person { subject: id.to_string(), name: login.to_owned(), email })
}

fn http_client() -> Result<reqwest::Client> {
    let client = reqwest::Client::builder()
        .user_agent(concat!("dbsnap/", env!("CARGO_PKG_VERSION")))
        .timeout(ANSWER_TIMEOUT)
        // A token is for the endpoint it was given to, not for where that points.
        .redirect(reqwest::redirect::Policy::none());
    client.build().map_err(Problem::internal)
}

async fn fetch(http: &reqwest::Client, provider: &SignInProvider, url: &Url, token: &str) -> Result<Value> {
    let request = http.get(url.clone()).bearer_auth(token).header("accept", "application/json");
    let response = request.send().await.map_err(|error| refused(provider, &error.without_url()))?;
    if !response.status().is_success() {
        return Err(unexpected(provider, &format!("it answered {}", response.status())));
    }
    let body = read(response).await.map_err(|error| refused(provider, &error))?;
    serde_json::from_slice(&body).map_err(|error| refused(provider, &error))
}

/// Why a provider could not be asked.
#[derive(Debug, thiserror::Error)]
enum Unreachable {
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error("the answer is longer than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
    #[error(transparent)]
    Malformed(#[from] oauth2::http::Error),
}

/// How `oauth2` sends its requests.
struct Exchange(reqwest::Client);

impl<'c> oauth2::AsyncHttpClient<'c> for Exchange {
    type Error = Unreachable;
    type Future = BoxFuture<'c, std::result::Result<HttpResponse, Unreachable>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(forward(&self.0, request))
    }
}

async fn forward(
    http: &reqwest::Client,
    request: HttpRequest,
) -> std::result::Result<HttpResponse, Unreachable> {
    let (parts, body) = request.into_parts();
    let request = http.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body);
    let response = request.send().await.map_err(reqwest::Error::without_url)?;
    let mut answer = oauth2::http::Response::builder().status(response.status());
    if let Some(headers) = answer.headers_mut() {
        headers.clone_from(response.headers());
    }
    Ok(answer.body(read(response).await?)?)
}

async fn read(mut response: reqwest::Response) -> std::result::Result<Vec<u8>, Unreachable> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Unreachable::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The provider did not accept the code, or could not be asked. Why is for the log: the answer may
/// repeat what was sent.
fn refused(provider: &SignInProvider, error: &(dyn std::error::Error + 'static)) -> Problem {
    unexpected(provider, &crate::error::causes(error))
}

/// What a provider says may repeat what it was sent. The code and its verifier are spent by then.
fn without_secret(provider: &SignInProvider, text: &str) -> String {
    text.replace(provider.client_secret.as_str(), "***")
}

fn unexpected(provider: &SignInProvider, cause: &str) -> Problem {
    let name = provider.provider.name();
    let cause = without_secret(provider, cause);
    tracing::warn!(provider = provider.provider.as_str(), cause, "a sign-in failed");
    let detail = format!("{name} did not confirm who you are. Sign in again; the server's log says more.");
    let status = axum::http::StatusCode::UNPROCESSABLE_ENTITY;
    Problem::new(status, "sign-in-failed", "The sign-in failed", detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use serde_json::json;

    fn google() -> SignInProvider {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::read(|name| match name {
            "DBSNAP_DATA_DIR" => Some(folder.path().into()),
            "DBSNAP_OAUTH_GOOGLE_CLIENT_ID" => Some("me".into()),
            "DBSNAP_OAUTH_GOOGLE_CLIENT_SECRET" => Some("hush-hush".into()),
            _ => None,
        });
        config.unwrap().providers.remove(0)
    }

    #[test]
    fn an_id_token_must_be_for_this_client_attempt_and_time() {
        let provider = google();
        let good = json!({
            "iss": "https://accounts.google.com", "sub": "1", "aud": "me", "exp": 1000, "nonce": "n",
        });
        let fits = |change: &Value| {
            let mut claims = good.clone();
            claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            serde_json::from_value::<Claims>(claims).unwrap().are_for(&provider, "n", 999_999)
        };
        assert!(fits(&json!({})) && fits(&json!({ "aud": ["other", "me"], "azp": "me" })));
        for wrong in [
            json!({ "iss": "https://evil.example" }),
            json!({ "aud": "other" }),
            json!({ "aud": ["other"] }),
            json!({ "aud": ["other", "me"], "azp": "other" }),
            json!({ "exp": 999 }),
            json!({ "nonce": "m" }),
            json!({ "nonce": null }),
        ] {
            assert!(!fits(&wrong), "{wrong}");
        }
    }

    #[test]
    fn the_browser_is_sent_with_state_nonce_and_a_hashed_verifier() {
        let secrets = Secrets {
            state: "the-state".to_owned(),
            nonce: "the-nonce".to_owned(),
            verifier: Zeroizing::new("the-verifier-the-verifier-the-verifier-the-v".to_owned()),
        };
        let redirect = Url::parse("https://dbsnap.example.com/api/v1/auth/google/callback").unwrap();
        let url = authorize_url(&google(), &redirect, &secrets);
        let query: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
        assert!(url.as_str().starts_with("https://accounts.google.com/o/oauth2/v2/auth?"));
        for (name, value) in [
            ("response_type", "code"),
            ("client_id", "me"),
            ("redirect_uri", redirect.as_str()),
            ("state", "the-state"),
            ("nonce", "the-nonce"),
            ("code_challenge_method", "S256"),
            ("scope", "openid email profile"),
        ] {
            assert_eq!(query[name], value, "{url}");
        }
        assert!(!url.as_str().contains("the-verifier") && !url.as_str().contains("hush-hush"));
        assert!(!format!("{:?}", google()).contains("hush-hush"));
        assert_eq!(without_secret(&google(), "got client_secret=hush-hush"), "got client_secret=***");
    }
}
