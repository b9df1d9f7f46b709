//! Signing in with GitHub and Google. GitHub is a few lines here; Google is oidc-provider-mock, an
//! OpenID Connect provider for tests, so that both ends of the protocol are not ours.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Form, State};
use axum::http::HeaderMap;
use axum::routing::{get, post};
use axum::{Json, Router};
use oauth2::{PkceCodeChallenge, PkceCodeVerifier};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use url::Url;

use crate::harness::{Answer, Browser, PASSWORD, Server, text};
use crate::process::Program;

/// Codes that were given out: the person and the challenge of the attempt.
type Codes = Arc<Mutex<HashMap<String, (u64, String)>>>;

/// As much of GitHub as a sign-in meets. Nobody is asked: whoever comes is the person of the test.
#[derive(Clone)]
struct GitHub {
    base: String,
    codes: Codes,
}

impl GitHub {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let github = Self { base, codes: Codes::default() };
        let router = Router::new()
            .route("/token", post(Self::token))
            .route("/user", get(Self::user))
            .route("/user/emails", get(Self::emails))
            .with_state(github.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        github
    }

    /// Lets `person` in, as the page at `authorize` would, and returns the code.
    fn allow(&self, authorize: &Url, person: u64) -> String {
        let query: HashMap<_, _> = authorize.query_pairs().into_owned().collect();
        assert_eq!((&*query["client_id"], &*query["code_challenge_method"]), ("hub", "S256"));
        let mut codes = self.codes.lock().unwrap();
        let code = format!("code-{}", codes.len());
        codes.insert(code.clone(), (person, query["code_challenge"].clone()));
        code
    }

    async fn token(State(github): State<Self>, Form(form): Form<HashMap<String, String>>) -> Json<Value> {
        assert_eq!((&*form["client_id"], &*form["client_secret"]), ("hub", "hub-secret"));
        let verifier = PkceCodeVerifier::new(form["code_verifier"].clone());
        let proven = PkceCodeChallenge::from_code_verifier_sha256(&verifier);
        match github.codes.lock().unwrap().remove(&form["code"]) {
            Some((person, challenge)) if challenge == proven.as_str() => {
                Json(json!({ "access_token": format!("token-{person}"), "token_type": "bearer" }))
            }
            // GitHub says so with status 200.
            _ => Json(json!({ "error": "bad_verification_code" })),
        }
    }

    async fn user(headers: HeaderMap) -> Json<Value> {
        let person: u64 = person(&headers);
        Json(json!({ "id": person, "login": format!("hub{person}"), "email": null }))
    }

    async fn emails(headers: HeaderMap) -> Json<Value> {
        let email = format!("u{}@example.com", person(&headers));
        Json(json!([{ "email": "old@example.com", "primary": false }, { "email": email, "primary": true }]))
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("DBSNAP_OAUTH_GITHUB_CLIENT_ID", "hub".to_owned()),
            ("DBSNAP_OAUTH_GITHUB_CLIENT_SECRET", "hub-secret".to_owned()),
            ("DBSNAP_OAUTH_GITHUB_AUTH_URL", format!("{}/authorize", self.base)),
            ("DBSNAP_OAUTH_GITHUB_TOKEN_URL", format!("{}/token", self.base)),
            ("DBSNAP_OAUTH_GITHUB_USERINFO_URL", format!("{}/user", self.base)),
        ]
    }

    async fn server(&self, signup: &str) -> Server {
        let variables = self.variables();
        let mut all: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, &**value)).collect();
        all.push(("DBSNAP_SIGNUP", signup));
        Server::start_with(&all).await
    }
}

fn person(headers: &HeaderMap) -> u64 {
    let token = headers["authorization"].to_str().unwrap();
    token.strip_prefix("Bearer token-").unwrap().parse().unwrap()
}

fn location(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    answer.headers["location"].to_str().unwrap().to_owned()
}

/// Where a browser is sent when it begins.
async fn begin(browser: &Browser, provider: &str) -> Url {
    Url::parse(&location(&browser.get(&format!("/api/v1/auth/{provider}/start")).await)).unwrap()
}

fn state(authorize: &Url) -> String {
    authorize.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned()
}

async fn come_back(browser: &Browser, provider: &str, code: &str, state: &str) -> Answer {
    browser.get(&format!("/api/v1/auth/{provider}/callback?code={code}&state={state}")).await
}

/// All of it: to GitHub and back as `person`.
async fn enter(browser: &Browser, github: &GitHub, person: u64) -> Answer {
    let authorize = begin(browser, "github").await;
    come_back(browser, "github", &github.allow(&authorize, person), &state(&authorize)).await
}

async fn me(browser: &Browser) -> Value {
    browser.get("/api/v1/me").await.expect(StatusCode::OK)
}

#[tokio::test]
async fn an_identity_makes_an_account_and_opens_it_again() {
    let github = GitHub::start().await;
    let server = github.server("open").await;
    let first = Browser::new(&server.base);
    let login = first.get("/login").await;
    assert!(login.text.contains("Continue with GitHub") && !login.text.contains("Google"), "{}", login.text);
    assert_eq!(location(&enter(&first, &github, 7).await), "/projects");
    let account = me(&first).await;
    assert_eq!(account["email"], "u7@example.com");
    let second = Browser::new(&server.base);
    enter(&second, &github, 7).await;
    assert_eq!(me(&second).await, account);
    let other = Browser::new(&server.base);
    enter(&other, &github, 8).await;
    assert_ne!(me(&other).await["id"], account["id"]);

    // It has no password that the operator could reset, and is told so.
    let folder = server.stop().await;
    let reset = Program::command(folder.path()).args(["reset-password", "U7@example.com"]).output().unwrap();
    let told = String::from_utf8(reset.stderr).unwrap();
    assert_eq!(reset.status.code(), Some(1), "{told}");
    assert!(
        told.contains("has no password: it signs in by GitHub") && told.contains("Nothing was changed"),
        "{told}"
    );
}

#[tokio::test]
async fn the_rule_for_new_accounts_holds_for_identities() {
    let github = GitHub::start().await;
    let server = github.server("first").await;
    let first = Browser::new(&server.base);
    enter(&first, &github, 1).await;
    let second = Browser::new(&server.base);
    enter(&second, &github, 2).await.problem(403, "signup-closed");
    second.get("/api/v1/me").await.problem(401, "unauthorized");
    enter(&Browser::new(&server.base), &github, 1).await.expect(StatusCode::SEE_OTHER);
    let closed = github.server("closed").await;
    enter(&Browser::new(&closed.base), &github, 1).await.problem(403, "signup-closed");
    let form = Browser::new(&closed.base).get("/register").await;
    assert!(form.text.contains("takes no new accounts") && !form.text.contains("<form"), "{}", form.text);
    let typed = [("email", "ada@example.com".to_owned()), ("password", PASSWORD.to_owned())];
    let refused = Browser::new(&closed.base).send(Method::POST, "/register", &typed).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.text.contains("Sign-up is closed"), "{}", refused.text);
}

#[tokio::test]
async fn an_equal_address_opens_nothing_and_linking_needs_the_session() {
    let github = GitHub::start().await;
    let server = github.server("open").await;
    let owner = server.user("u7@example.com").await;
    let owner_id = owner.get("/me").await.expect(StatusCode::OK)["id"].clone();
    let stranger = Browser::new(&server.base);
    enter(&stranger, &github, 7).await;
    assert_ne!(me(&stranger).await["id"], owner_id, "the same address is another account");

    let browser = Browser::signed_in(&server.base, "u7@example.com", PASSWORD).await;
    enter(&browser, &github, 7).await.problem(409, "identity-taken");
    let start = "/api/v1/auth/github/start";
    browser.get_from("cross-site", start).await.problem(403, "cross-site");
    assert_eq!(browser.get_from("same-origin", start).await.status, StatusCode::SEE_OTHER);
    assert_eq!(Browser::new(&server.base).get_from("cross-site", start).await.status, StatusCode::SEE_OTHER);
    assert_eq!(location(&enter(&browser, &github, 9).await), "/account");
    enter(&browser, &github, 10).await.problem(409, "other-identity-linked");
    let elsewhere = Browser::new(&server.base);
    enter(&elsewhere, &github, 9).await;
    assert_eq!(me(&elsewhere).await["id"], owner_id);

    let listed = owner.get("/me/identities").await.expect(StatusCode::OK);
    assert_eq!(
        (&listed["items"][0]["provider"], &listed["items"][0]["name"]),
        (&json!("github"), &json!("hub9"))
    );
    let unlink = async |api: &crate::harness::Api| {
        api.send(Method::DELETE, "/me/identities/github", Value::Null).await
    };
    assert_eq!(unlink(&owner).await.status, StatusCode::NO_CONTENT);
    unlink(&owner).await.problem(404, "not-found");
    let page = stranger.send(Method::POST, "/account/unlink", &[("provider", "github".to_owned())]).await;
    assert_eq!(page.status, StatusCode::CONFLICT);
    assert!(page.text.contains("only way into the account"), "{}", page.text);
}

#[tokio::test]
async fn an_attempt_is_one_browsers_and_ends_once() {
    let github = GitHub::start().await;
    let server = github.server("open").await;
    let (victim, attacker) = (Browser::new(&server.base), Browser::new(&server.base));
    let authorize = begin(&attacker, "github").await;
    let (code, state_of) = (github.allow(&authorize, 66), state(&authorize));
    // The attacker's code in the victim's browser would sign the victim in as the attacker.
    come_back(&victim, "github", &code, &state_of).await.problem(400, "stale-sign-in");
    begin(&victim, "github").await;
    come_back(&victim, "github", &code, &state_of).await.problem(400, "stale-sign-in");
    // The right state, and a code of another attempt: the verifier does not fit it.
    let authorize = begin(&victim, "github").await;
    come_back(&victim, "github", &code, &state(&authorize)).await.problem(422, "sign-in-failed");
    come_back(&victim, "github", &code, &state(&authorize)).await.problem(400, "stale-sign-in");
    let authorize = begin(&victim, "github").await;
    let denied = format!("/api/v1/auth/github/callback?error=access_denied&state={}", state(&authorize));
    victim.get(&denied).await.problem(403, "sign-in-denied");
    victim.get("/api/v1/me").await.problem(401, "unauthorized");
    victim.get("/api/v1/auth/google/start").await.problem(404, "provider-not-configured");
    victim.get("/api/v1/auth/nobody/start").await.problem(404, "not-found");

    // Begun by somebody signed in, ended by somebody else: nothing is linked.
    server.user("a@example.com").await;
    let browser = Browser::signed_in(&server.base, "a@example.com", PASSWORD).await;
    let authorize = begin(&browser, "github").await;
    browser.send(Method::POST, "/logout", &[]).await;
    let code = github.allow(&authorize, 70);
    come_back(&browser, "github", &code, &state(&authorize)).await.problem(400, "stale-sign-in");
}

/// oidc-provider-mock on a port of its own.
struct Google {
    _process: Child,
    base: String,
}

impl Google {
    async fn start() -> Self {
        let home = std::env::var("HOME").unwrap();
        let program = format!("{home}/.cache/dbsnap/tools/api/bin/oidc-provider-mock");
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program);
        command.args(["--require-nonce", "true", "--port", &port.to_string()]).kill_on_drop(true);
        let process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut process = process.expect("`cargo xtask test` installs oidc-provider-mock");
        let base = format!("http://127.0.0.1:{port}");
        let client = reqwest::Client::new();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        // Read on, or the pipe fills and the provider waits.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let configuration = format!("{base}/.well-known/openid-configuration");
        let ready = async {
            while client.get(&configuration).send().await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ready).await.unwrap();
        Self { _process: process, base }
    }

    async fn server(&self) -> Server {
        let url = |path: &str| format!("{}{path}", self.base);
        Server::start_with(&[
            ("DBSNAP_SIGNUP", "open"),
            ("DBSNAP_OAUTH_GOOGLE_CLIENT_ID", "goo"),
            ("DBSNAP_OAUTH_GOOGLE_CLIENT_SECRET", "goo-secret"),
            ("DBSNAP_OAUTH_GOOGLE_AUTH_URL", &url("/oauth2/authorize")),
            ("DBSNAP_OAUTH_GOOGLE_TOKEN_URL", &url("/oauth2/token")),
            ("DBSNAP_OAUTH_GOOGLE_USERINFO_URL", &url("/userinfo")),
        ])
        .await
    }

    /// Fills in the provider's form and returns where it sends the browser, without its host.
    async fn allow(&self, authorize: &Url, subject: &str) -> String {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let answer = Answer::of(client.post(authorize.clone()).form(&[("sub", subject)])).await;
        assert!(answer.status.is_redirection(), "{} {}", answer.status, answer.text);
        let back = Url::parse(answer.headers["location"].to_str().unwrap()).unwrap();
        format!("{}?{}", back.path(), back.query().unwrap())
    }
}

#[tokio::test]
async fn a_provider_of_openid_connect_signs_in() {
    let google = Google::start().await;
    let server = google.server().await;
    let browser = Browser::new(&server.base);
    let authorize = begin(&browser, "google").await;
    let back = google.allow(&authorize, "mira@example.com").await;
    assert_eq!(location(&browser.get(&back).await), "/projects");
    let account = me(&browser).await;
    assert_eq!(text(&account["email"]), "mira@example.com");
    browser.get(&back).await.problem(400, "stale-sign-in");

    // Linked to an account with a password, it opens that one.
    server.user("ada@example.com").await;
    let ada = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    let authorize = begin(&ada, "google").await;
    assert_eq!(location(&ada.get(&google.allow(&authorize, "ada").await).await), "/account");
    let page = ada.get("/account").await;
    assert!(page.text.contains("Unlink Google"), "{}", page.text);
    let again = Browser::new(&server.base);
    let authorize = begin(&again, "google").await;
    again.get(&google.allow(&authorize, "ada").await).await;
    assert_eq!(me(&again).await["email"], "ada@example.com");

    // An ID token of another attempt has another nonce, though state and verifier fit the code.
    let mut forged = begin(&again, "google").await;
    let query: Vec<(String, String)> = forged
        .query_pairs()
        .map(|(name, value)| match &*name {
            "nonce" => (name.into_owned(), "of-another-attempt".to_owned()),
            _ => (name.into_owned(), value.into_owned()),
        })
        .collect();
    forged.query_pairs_mut().clear().extend_pairs(query);
    again.get(&google.allow(&forged, "ada").await).await.problem(422, "sign-in-failed");
}
