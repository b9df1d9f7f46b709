//! The API's document against its answers: every answer that a test gets is held against it.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};
use server::router::api_routes;

use crate::harness::{Answer, Api, Server};

/// The document, with nothing allowed that it does not name.
fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let mut document = serde_json::to_value(server::api::openapi::describe()).unwrap();
        let schemas = document["components"]["schemas"].as_object_mut().unwrap();
        for (name, schema) in schemas {
            // A problem has fields of its kind.
            if name != "Problem" {
                close(schema);
            }
        }
        document
    })
}

fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.contains_key("properties") && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// The operation that an address and a method mean, if the document has one.
fn operation(method: &Method, path: &str) -> Option<&'static Map<String, Value>> {
    let path = path.split('?').next().unwrap();
    let fits = |template: &str| {
        let mut parts = template.split('/').zip(path.split('/'));
        template.split('/').count() == path.split('/').count()
            && parts.all(|(wanted, found)| wanted.starts_with('{') || wanted == found)
    };
    let paths = document()["paths"].as_object().unwrap();
    // A fixed segment is meant rather than a parameter.
    let template =
        paths.keys().filter(|template| fits(template)).min_by_key(|path| path.matches('{').count());
    paths[template?].get(method.as_str().to_lowercase())?.as_object()
}

/// Panics where an answer is not what the document says.
#[track_caller]
pub fn check(method: &Method, path: &str, answer: &Answer) {
    let Some(operation) = operation(method, path) else { return };
    let status = answer.status.as_str();
    let Some(response) = operation["responses"].get(status) else {
        panic!("the document has no {status} for {method} {path}: {}", answer.text);
    };
    let Some(content) = response.get("content").and_then(Value::as_object) else {
        assert!(answer.text.is_empty(), "the document has no body for {method} {path}: {}", answer.text);
        return;
    };
    let kind = answer.headers["content-type"].to_str().unwrap();
    let kind = kind.split(';').next().unwrap();
    let Some(media) = content.get(kind) else {
        panic!("the document has no {kind} for {method} {path}, only {:?}", content.keys());
    };
    if kind.ends_with("json") {
        let schema = json!({ "allOf": [media["schema"]], "components": document()["components"] });
        let validator = jsonschema::validator_for(&schema).unwrap();
        let wrong: Vec<String> = validator
            .iter_errors(&answer.body)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{method} {path} {status}: {wrong:#?} in {:#}", answer.body);
    }
}

#[test]
fn the_document_names_every_route_and_no_other() {
    let served: BTreeSet<(String, String)> = api_routes()
        .into_iter()
        .map(|route| (route.method.as_str().to_lowercase(), route.path.to_owned()))
        .collect();
    let paths = document()["paths"].as_object().unwrap();
    let named: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(|method| (method.clone(), path.clone()))
        })
        .collect();
    assert_eq!(named, served);
}

#[test]
fn every_operation_says_what_it_needs_and_what_it_answers() {
    for (path, item) in document()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let at = format!("{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|text| text.len() > 5), "{at} has no summary");
            let responses = operation["responses"].as_object().unwrap();
            assert!(
                responses.keys().any(|status| status.starts_with('2') || status.starts_with('3')),
                "{at}"
            );
            let refusals = responses.iter().filter(|(status, _)| status.starts_with(['4', '5']));
            for (status, response) in refusals {
                assert!(
                    response["content"].get("application/problem+json").is_some(),
                    "{at} {status}: {response:#}"
                );
            }
            let named = path.matches('{').count();
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            assert_eq!(
                parameters.iter().filter(|parameter| parameter["in"] == "path").count(),
                named,
                "{at}"
            );
        }
    }
}

#[tokio::test]
async fn the_document_is_served_to_everybody() {
    let server = Server::start().await;
    let served = Api::new(&server.base).get("/openapi.json").await.expect(StatusCode::OK);
    assert!(served["openapi"].as_str().unwrap().starts_with("3.1"), "{}", served["openapi"]);
    assert_eq!(served, serde_json::to_value(server::api::openapi::describe()).unwrap());
}

/// The check above would be worth nothing if it passed everything.
#[test]
#[should_panic(expected = "the document has no")]
fn an_answer_that_the_document_does_not_have_is_found() {
    let answer = Answer {
        status: StatusCode::IM_A_TEAPOT,
        headers: Default::default(),
        body: Value::Null,
        text: String::new(),
    };
    check(&Method::GET, "/me", &answer);
}

#[test]
#[should_panic(expected = "Additional properties")]
fn a_field_that_the_document_does_not_name_is_found() {
    let body = json!({ "id": "1", "email": "ada@example.com", "password_hash": "x" });
    let mut headers = reqwest::header::HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    check(&Method::GET, "/me", &Answer { status: StatusCode::OK, headers, text: body.to_string(), body });
}

/// Every object of a schema, those that it refers to included.
fn objects(schema: &Value, schemas: &Value, each: &mut dyn FnMut(&Value)) {
    match schema {
        Value::Object(fields) => {
            if let Some(name) = fields.get("$ref").and_then(Value::as_str) {
                objects(&schemas[name.rsplit('/').next().unwrap()], schemas, each);
            }
            if fields.contains_key("properties") {
                each(schema);
            }
            fields.values().for_each(|part| objects(part, schemas, each));
        }
        Value::Array(items) => items.iter().for_each(|part| objects(part, schemas, each)),
        _ => {}
    }
}

/// A field that is misspelt, at whatever depth, would be taken for one that is not there.
#[tokio::test]
async fn bodies_refuse_the_fields_that_they_do_not_know() {
    let document = serde_json::to_value(server::api::openapi::describe()).unwrap();
    let mut bodies = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for operation in operations.as_object().unwrap().values() {
            let Some(body) = operation.get("requestBody") else { continue };
            bodies += 1;
            objects(body, &document["components"]["schemas"], &mut |object| {
                assert_eq!(object["additionalProperties"], json!(false), "{path}: {object:#}");
            });
        }
    }
    assert!(bodies >= 18, "only {bodies}");

    let server = Server::start().await;
    let api = server.user("ada@example.com").await;
    let refused =
        api.post("/projects", json!({ "name": "shop", "colour": "red" })).await.problem(422, "invalid");
    assert_eq!(refused["field"], "colour");
    assert!(refused["detail"].as_str().unwrap().contains("unknown field, expected `name`"), "{refused:#}");
    let plan = json!({ "snapshot": "x", "scope": { "every": true }, "target": { "url": "postgres://h/d" } });
    let refused = api.post("/restores/plan", plan).await.problem(422, "invalid");
    assert_eq!(refused["field"], "scope");
}
