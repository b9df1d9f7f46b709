//! A project's repository that is not where it was, as when a mount is missing.

use reqwest::StatusCode;

use crate::harness::{Api, Browser, PASSWORD, Server, shop};

const OPEN: [(&str, &str); 1] = [("DBSNAP_SIGNUP", "open")];

#[tokio::test]
async fn a_repository_out_of_reach_is_told_and_hides_no_other() {
    let (_, url) = shop().await;
    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let (good, lost) = (api.project("good").await, api.project("lost").await);
    let kept = api.database(&good, &url).await;
    api.back_up(&kept).await;
    let gone = api.database(&lost, &url).await;
    api.back_up(&gone).await;
    let repository = server.folder.path().join("repositories").join(&lost);
    let aside = server.folder.path().join("aside");
    std::fs::rename(&repository, &aside).unwrap();
    // An empty folder, as an unmounted mount leaves it.
    std::fs::create_dir(&repository).unwrap();

    let check = async |api: &Api, base: &str| {
        let listed = api.get(&format!("/databases/{gone}/snapshots")).await;
        let told = listed.problem(503, "storage");
        assert!(told["detail"].as_str().unwrap().contains("Bring the storage back"), "{told:#}");
        let page = Browser::signed_in(base, "ada@example.com", PASSWORD).await.get("/projects").await;
        assert_eq!(page.status, StatusCode::OK);
        for words in [">good<", ">lost<", "Bring the storage back", "Can be recovered from"] {
            assert!(page.text.contains(words), "{words} in {}", page.text);
        }
        api.get(&format!("/databases/{kept}/snapshots")).await.expect(StatusCode::OK);
    };
    check(&api, &server.base).await;
    let server = Server::start_in(server.stop().await, &OPEN).await;
    let api = Api { base: server.base.clone(), ..api };
    check(&api, &server.base).await;

    std::fs::remove_dir(server.folder.path().join("repositories").join(&lost)).unwrap();
    std::fs::rename(
        server.folder.path().join("aside"),
        server.folder.path().join("repositories").join(&lost),
    )
    .unwrap();
    let listed = api.get(&format!("/databases/{gone}/snapshots")).await.expect(StatusCode::OK);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
}
