use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::harness::{Answer, Api, Browser, PASSWORD, Server, text};

#[tokio::test]
async fn only_the_first_account_may_register_by_default() {
    let server = Server::start_with(&[]).await;
    let api = server.user("Ada@Example.com").await;
    let me = api.get("/me").await.expect(StatusCode::OK);
    assert_eq!(me["email"], "ada@example.com");
    let body = json!({ "email": "eve@example.com", "password": PASSWORD });
    api.post("/auth/register", body).await.problem(403, "signup-closed");
}

#[tokio::test]
async fn of_many_first_accounts_at_once_one_is_made() {
    let server = Server::start_with(&[]).await;
    let attempts = (0..4).map(|n| {
        let api = Api::new(&server.base);
        async move {
            let body = json!({ "email": format!("u{n}@example.com"), "password": PASSWORD });
            api.post("/auth/register", body).await.status.as_u16()
        }
    });
    let mut statuses = futures::future::join_all(attempts).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 403, 403, 403]);
}

#[tokio::test]
async fn registering_asks_for_an_address_and_a_password_of_some_length() {
    let server = Server::start().await;
    let api = Api::new(&server.base);
    for (email, password, field) in
        [("ada", PASSWORD, "email"), ("ada@example.com", "short", "password"), ("", "", "email")]
    {
        let body = json!({ "email": email, "password": password });
        let problem = api.post("/auth/register", body).await.problem(422, "invalid");
        assert_eq!(problem["field"], field);
    }
    server.user("ada@example.com").await;
    let body = json!({ "email": "ADA@example.com", "password": PASSWORD });
    api.post("/auth/register", body).await.problem(409, "email-taken");
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_get_the_same_answer() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let login = async |email: &str, password: &str| {
        api.post("/auth/login", json!({ "email": email, "password": password })).await
    };
    let wrong = login("ada@example.com", "wrong password").await.problem(401, "wrong-credentials");
    let unknown = login("nobody@example.com", "wrong password").await.problem(401, "wrong-credentials");
    assert_eq!(wrong, unknown);
    let tokens = login("Ada@example.com ", PASSWORD).await.expect(StatusCode::OK);
    assert_eq!(tokens["expires_in"], 900);
}

/// Clicks in a hurry are no guesses.
#[tokio::test]
async fn right_passwords_whose_sender_hangs_up_are_no_failures() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let body = json!({ "email": "ada@example.com", "password": PASSWORD });
    for _ in 0..6 {
        let request = api.request(Method::POST, "/auth/login").json(&body);
        request.timeout(Duration::from_millis(10)).send().await.unwrap_err();
    }
    api.post("/auth/login", body).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn guessing_is_slowed_down_even_for_the_right_password() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let login = async |password: &str| {
        api.post("/auth/login", json!({ "email": "ada@example.com", "password": password })).await
    };
    for _ in 0..5 {
        login("wrong password").await.problem(401, "wrong-credentials");
    }
    let answer = login(PASSWORD).await;
    assert!(answer.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 800);
    answer.problem(429, "too-many-attempts");
    login(PASSWORD).await.problem(429, "too-many-attempts");
    // It is told once: refusals come without end.
    let told = api.get("/audit?action=account.sign-in").await.expect(StatusCode::OK);
    let told: Vec<_> =
        told["items"].as_array().unwrap().iter().map(|entry| &entry["detail"]["problem"]).collect();
    assert_eq!((told.len(), told[0].as_str()), (6, Some("too-many-attempts")), "{told:?}");
    // Others are not held up by it.
    server.user("bob@example.com").await;
}

/// Names that nobody can have are not remembered, and where they come from is.
#[tokio::test]
async fn endless_names_fill_no_memory() {
    let server = Server::start().await;
    let api = Api::new(&server.base);
    let long = "a".repeat(200_000);
    let login = async |n: u32| {
        let email = format!("{n}{long}@example.com");
        api.post("/auth/login", json!({ "email": email, "password": PASSWORD })).await
    };
    for n in 0..50 {
        login(n).await.problem(401, "wrong-credentials");
    }
    login(50).await.problem(429, "too-many-attempts");
    assert_eq!(server.app.logins.remembered(), 0);
    let email = "ada@example.com";
    api.post("/auth/login", json!({ "email": email, "password": PASSWORD }))
        .await
        .problem(429, "too-many-attempts");
    assert_eq!(server.app.logins.remembered(), 0, "nor what is refused anyway");
}

#[tokio::test]
async fn a_refresh_token_works_once_and_twice_ends_its_session() {
    let server = Server::start().await;
    server.user("ada@example.com").await;
    let api = Api::new(&server.base);
    let login = json!({ "email": "ada@example.com", "password": PASSWORD });
    let first = api.post("/auth/login", login.clone()).await.expect(StatusCode::OK);
    let other = api.post("/auth/login", login).await.expect(StatusCode::OK);
    let refresh =
        async |token: &serde_json::Value| api.post("/auth/refresh", json!({ "refresh_token": token })).await;
    let second = refresh(&first["refresh_token"]).await.expect(StatusCode::OK);
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    let signed_in = api.with_token(&text(&second["access_token"]));
    signed_in.get("/me").await.expect(StatusCode::OK);

    refresh(&first["refresh_token"]).await.problem(401, "unauthorized");
    refresh(&second["refresh_token"]).await.problem(401, "unauthorized");
    signed_in.get("/me").await.problem(401, "unauthorized");
    api.with_token(&text(&other["access_token"])).get("/me").await.expect(StatusCode::OK);
}

#[tokio::test]
async fn signing_out_ends_the_session_at_once() {
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    assert_eq!(api.post("/auth/logout", json!({})).await.status, StatusCode::NO_CONTENT);
    api.get("/me").await.problem(401, "unauthorized");
    Api::new(&server.base).get("/me").await.problem(401, "unauthorized");
    api.with_token("nonsense").get("/projects").await.problem(401, "unauthorized");
}

#[tokio::test]
async fn another_password_signs_out_everywhere_else() {
    let server = Server::start().await;
    let here = server.user("ada@example.com").await;
    let login = json!({ "email": "ada@example.com", "password": PASSWORD });
    let elsewhere = here.post("/auth/login", login.clone()).await.expect(StatusCode::OK);
    let elsewhere = here.with_token(&text(&elsewhere["access_token"]));
    let change = |current: &str| json!({ "current_password": current, "new_password": "another long one" });
    here.post("/me/password", change("wrong password")).await.problem(422, "invalid");
    assert_eq!(here.post("/me/password", change(PASSWORD)).await.status, StatusCode::NO_CONTENT);
    here.get("/me").await.expect(StatusCode::OK);
    elsewhere.get("/me").await.problem(401, "unauthorized");
    here.post("/auth/login", login).await.problem(401, "wrong-credentials");
}

/// A browser sends several requests with the same cookies: they all are renewed, none is a theft.
#[tokio::test]
async fn cookies_are_renewed_by_whatever_request_comes_first() {
    let server = Server::start().await;
    server.user("ada@example.com").await;
    let api = Api::new(&server.base);
    let login = json!({ "email": "ada@example.com", "password": PASSWORD });
    let tokens = api.post("/auth/login", login).await.expect(StatusCode::OK);
    let cookie = format!("dbsnap_access=ended; dbsnap_refresh={}", text(&tokens["refresh_token"]));
    let me = || Answer::of(api.request(Method::GET, "/me").header("cookie", &cookie));
    let (a, b) = tokio::join!(me(), me());
    for answer in [&a, &b] {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let set: Vec<_> = answer.headers.get_all("set-cookie").iter().map(|c| c.to_str().unwrap()).collect();
        assert_eq!(set.len(), 2);
        assert!(set.iter().all(|c| c.contains("HttpOnly") && c.contains("SameSite=Lax")), "{set:?}");
        assert!(set.iter().all(|c| !c.contains("Secure")), "http: {set:?}");
    }
    let nonsense =
        Answer::of(api.request(Method::GET, "/me").header("cookie", "dbsnap_refresh=nonsense")).await;
    assert!(nonsense.headers["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    nonsense.problem(401, "unauthorized");
}

#[tokio::test]
async fn signing_out_everywhere_ends_every_session() {
    let server = Server::start().await;
    let here = server.user("ada@example.com").await;
    let login = json!({ "email": "ada@example.com", "password": PASSWORD });
    let elsewhere = here.post("/auth/login", login).await.expect(StatusCode::OK);
    let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    let answer = browser.send(Method::POST, "/account/sign-out-everywhere", &[]).await;
    assert_eq!(
        (answer.status, &answer.headers["location"]),
        (StatusCode::SEE_OTHER, &"/login".parse().unwrap())
    );
    here.get("/me").await.problem(401, "unauthorized");
    here.with_token(&text(&elsewhere["access_token"])).get("/me").await.problem(401, "unauthorized");
    let refresh = json!({ "refresh_token": elsewhere["refresh_token"] });
    here.post("/auth/refresh", refresh).await.problem(401, "unauthorized");
    assert!(browser.get("/projects").await.status.is_redirection());
}

#[tokio::test]
async fn a_deleted_account_leaves_nothing_and_others_alone() {
    let server = Server::start().await;
    let (ada, eve) = (server.user("ada@example.com").await, server.user("eve@example.com").await);
    let (project, other) = (ada.project("shop").await, eve.project("other").await);
    let delete = |confirm: &str, password: &str| json!({ "confirm": confirm, "password": password });
    let answer = ada.post("/me/delete", delete("eve@example.com", PASSWORD)).await;
    assert_eq!(answer.problem(422, "invalid")["field"], "confirm");
    let answer = ada.post("/me/delete", delete("ada@example.com", "wrong password")).await;
    assert_eq!(answer.problem(422, "invalid")["field"], "password");
    ada.get(&format!("/projects/{project}")).await.expect(StatusCode::OK);

    let repositories = server.folder.path().join("repositories");
    assert_eq!(
        ada.post("/me/delete", delete("Ada@example.com", PASSWORD)).await.status,
        StatusCode::NO_CONTENT
    );
    ada.get("/me").await.problem(401, "unauthorized");
    let login = json!({ "email": "ada@example.com", "password": PASSWORD });
    ada.post("/auth/login", login.clone()).await.problem(401, "wrong-credentials");
    assert!(!repositories.join(&project).exists());
    eve.get(&format!("/projects/{other}")).await.expect(StatusCode::OK);
    ada.post("/auth/register", login).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn the_accounts_page_changes_the_password_and_says_what_is_wrong() {
    let server = Server::start().await;
    server.user("ada@example.com").await;
    let browser = Browser::signed_in(&server.base, "ada@example.com", PASSWORD).await;
    let form = |current: &str, new: &str| {
        [("current_password", current.to_owned()), ("new_password", new.to_owned())]
    };
    let wrong =
        browser.send(Method::POST, "/account/password", &form("wrong password", "another long one")).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        wrong.text.contains("not the account") && !wrong.text.contains("wrong password"),
        "{}",
        wrong.text
    );
    let right = browser.send(Method::POST, "/account/password", &form(PASSWORD, "another long one")).await;
    assert_eq!(right.headers["location"], "/account?done=password", "{}", right.text);
    Browser::signed_in(&server.base, "ada@example.com", "another long one").await;
    let confirm = [("confirm", "ada".to_owned()), ("password", "another long one".to_owned())];
    let refused = browser.send(Method::POST, "/account/delete", &confirm).await;
    assert!(refused.text.contains("Type ada@example.com to confirm."), "{}", refused.text);
}
