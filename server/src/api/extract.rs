//! Extractors whose refusals are problems like any other.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr};

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{StatusCode, request::Parts};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use url::form_urlencoded;
use utoipa::IntoParams;

use crate::error::{Problem, Result};
use crate::meta::PageRequest;

/// A JSON body.
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        match axum::Json::from_request(request, state).await {
            Ok(axum::Json(Object(value))) => Ok(Self(value)),
            Err(rejection) => Err(refused(&rejection)),
        }
    }
}

/// A JSON object: by itself serde also takes an array for the fields of a struct, in their order.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(Object(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<PhantomData<T>> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

fn refused(rejection: &JsonRejection) -> Problem {
    match rejection {
        JsonRejection::JsonDataError(error) => {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            let problem = Problem::new(status, "invalid", "The request cannot be used", reason(error));
            match wrong_field(&innermost(error).to_string()) {
                Some(field) => problem.with("field", field),
                None => problem,
            }
        }
        JsonRejection::JsonSyntaxError(error) => {
            Problem::new(StatusCode::BAD_REQUEST, "malformed", "The body is not JSON", reason(error))
        }
        JsonRejection::MissingJsonContentType(_) => {
            let detail = "Send JSON with the header Content-Type: application/json.";
            Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", "The body is not JSON", detail)
        }
        other => {
            let detail = "Send a smaller body, whole.";
            Problem::new(other.status(), "malformed", "The body cannot be read", detail)
        }
    }
}

/// A JSON body that a handler read itself.
pub fn from_slice<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    axum::Json::from_bytes(body)
        .map(|axum::Json(Object(value))| value)
        .map_err(|rejection| refused(&rejection))
}

/// The field of the body that serde was at, of nested ones the outermost, or the one that is not
/// there: what is wrong is said as "path: what", and of the body as a whole as "what".
fn wrong_field(text: &str) -> Option<&str> {
    let missing = text.strip_prefix("missing field `").and_then(|rest| rest.split_once('`'));
    let name = match missing {
        Some((name, _)) => name,
        None => text.split_once(": ")?.0.split(['.', '[']).next()?,
    };
    Some(name).filter(is_name)
}

/// The error that the others are about.
fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    std::iter::successors(Some(error), |error| error.source()).last().unwrap_or(error)
}

/// What serde found, without axum's words around it and without repeating the body.
fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    // serde_json repeats wrong values ("invalid type: string \"hunter2\""), and one may be a secret
    // in the wrong place.
    let text = innermost(error).to_string();
    for what in ["unknown variant", "unknown field"] {
        let named = text.split_once(&format!("{what} `"));
        if let Some((_, expected)) = named.and_then(|(_, text)| text.rsplit_once("`, expected")) {
            return format!("{what}, expected{expected}.");
        }
    }
    match text.split_once('"') {
        Some((before, after)) => {
            // The last one is serde's own: what was sent comes before it.
            let expected = after.rfind("\", expected ").map(|at| &after[at + 1..]);
            let rest = expected.or_else(|| after.rfind(" at line").map(|at| &after[at..]));
            format!("{}…{}.", before.trim_end(), rest.unwrap_or_default())
        }
        None => format!("{text}."),
    }
}

/// The parameters in a path.
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        // An id that is not one of ours is an address of nothing.
        path.map(|axum::extract::Path(value)| Self(value)).map_err(|_: PathRejection| Problem::not_found())
    }
}

/// The parameters of a query. One that the document does not name is refused: a filter that means nothing
/// would answer with what it was to leave out.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + IntoParams> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let names = names::<T>();
        check_names(parts, &names)?;
        read(parts).map(Self)
    }
}

/// As [`Query`], of what two types name together.
pub struct Queries<A, B>(pub A, pub B);

impl<S, A, B> FromRequestParts<S> for Queries<A, B>
where
    S: Send + Sync,
    A: DeserializeOwned + IntoParams,
    B: DeserializeOwned + IntoParams,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let names = [names::<A>(), names::<B>()].concat();
        check_names(parts, &names)?;
        Ok(Self(read(parts)?, read(parts)?))
    }
}

/// The parameters of an address that browsers are sent to: others add theirs to it.
pub struct OpenQuery<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for OpenQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        read(parts).map(Self)
    }
}

fn read<T: DeserializeOwned>(parts: &Parts) -> Result<T> {
    let query = axum::extract::Query::try_from_uri(&parts.uri);
    query.map(|axum::extract::Query(value)| value).map_err(|rejection: QueryRejection| {
        let (field, detail) = wrong_parameter(&rejection.body_text());
        unusable(field.as_deref(), detail)
    })
}

fn unusable(field: Option<&str>, detail: String) -> Problem {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    let problem = Problem::new(status, "invalid", "The request cannot be used", detail);
    match field {
        Some(field) => problem.with("field", field),
        None => problem,
    }
}

/// What the document calls the parameters of a query.
fn names<T: IntoParams>() -> Vec<String> {
    T::into_params(|| None).into_iter().map(|parameter| parameter.name).collect()
}

fn check_names(parts: &Parts, known: &[String]) -> Result<()> {
    let query = parts.uri.query().unwrap_or_default();
    let sent = form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
    match sent.into_iter().find(|name| !known.iter().any(|known| known == name)) {
        Some(name) => {
            let named = Some(&*name).filter(is_name);
            let parameter = named.map_or_else(|| "A parameter of the address".to_owned(), of_name);
            Err(unusable(named, format!("{parameter} means nothing here. Use one of {}.", known.join(", "))))
        }
        None => Ok(()),
    }
}

/// Whether a name may be one of ours: another may be a secret in the wrong place.
fn is_name(name: &&str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

fn of_name(name: &str) -> String {
    format!("The parameter {name}")
}

/// Which parameter of a query cannot be used, and what could, without repeating what was sent. The
/// text is the extractor's: "...: kind: unknown variant `moved`, expected one of `added`, `removed`".
fn wrong_parameter(text: &str) -> (Option<String>, String) {
    let reason = text.split_once(": ").map_or(text, |(_, reason)| reason);
    let field = reason.split_once(": ").map(|(name, _)| name).filter(is_name).map(str::to_owned);
    let expected = reason.rsplit_once("`, expected ").map(|(_, expected)| expected);
    let name = field.as_deref().map_or_else(|| "A parameter of the address".to_owned(), of_name);
    let detail = match expected {
        Some(expected) => format!("{name} has an unknown value. Use {expected}."),
        None => format!("{name} has a value that cannot be used."),
    };
    (field, detail)
}

/// `?limit=` and `?cursor=` of every list.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    #[param(value_type = u32, required = false, minimum = 1, maximum = 1000, default = 100)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    #[param(value_type = String, required = false)]
    cursor: Option<String>,
}

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

/// A list's `limit`, 1 to 1000.
pub fn limit(text: Option<&str>) -> Result<usize> {
    let Some(text) = text else { return Ok(DEFAULT_LIMIT) };
    match text.parse() {
        Ok(limit @ 1..=MAX_LIMIT) => Ok(limit),
        _ => Err(Problem::invalid("limit", format!("Use a number from 1 to {MAX_LIMIT}."))),
    }
}

impl ListQuery {
    /// The limit and the cursor of a list whose cursors are no ids.
    pub fn limit_and_cursor(self) -> Result<(usize, Option<String>)> {
        Ok((limit(self.limit.as_deref())?, self.cursor))
    }

    /// The page of a list whose cursors are ids.
    pub fn page(self) -> Result<PageRequest> {
        if let Some(cursor) = &self.cursor
            && crate::ids::JobId::parse(cursor).is_none()
        {
            return Err(Problem::wrong_cursor());
        }
        Ok(PageRequest { after: self.cursor, limit: limit(self.limit.as_deref())? })
    }
}

/// Who asks: the other end of the connection, or whom a trusted proxy forwards for. The accept loop puts it
/// into every request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// The caller's address, for throttling.
#[derive(Clone, Copy, Debug)]
pub struct From(pub IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for From {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> std::result::Result<Self, Self::Rejection> {
        let peer = parts.extensions.get::<Peer>();
        Ok(Self(peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_body_is_explained_without_repeating_it() {
        #[derive(Debug, Deserialize)]
        #[allow(dead_code)]
        struct Body {
            count: u32,
        }
        let error = serde_json::from_str::<Body>(r#"{"count": "hunter2"}"#).unwrap_err();
        let text = reason(&error);
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(text, "invalid type: string…, expected u32 at line 1 column 19.");
        let error = serde_json::from_str::<Body>(r#"{"count": "\", expected hunter2"}"#).unwrap_err();
        assert!(!reason(&error).contains("hunter2"), "{}", reason(&error));
        let error = serde_json::from_str::<crate::meta::Environment>("\"hunter2`, expected\"").unwrap_err();
        assert!(!reason(&error).contains("hunter2"), "{}", reason(&error));
        assert!(reason(&error).starts_with("unknown variant, expected one of `prod`"), "{}", reason(&error));
    }

    #[test]
    fn the_field_that_is_wrong_is_named_if_it_is_ours() {
        assert_eq!(wrong_field("keep.hunter2: unknown field `hunter2`, expected `last`"), Some("keep"));
        assert_eq!(wrong_field("items[3].name: invalid type: string"), Some("items"));
        assert_eq!(wrong_field("missing field `name` at line 1 column 2"), Some("name"));
        for text in ["invalid type: string", "Hunter2: x", "unknown field `a: b`"] {
            assert_eq!(wrong_field(text), None, "{text}");
        }
        let problem =
            from_slice::<std::collections::BTreeMap<String, u8>>(b"{\"count\": \"hunter2\"}").unwrap_err();
        assert_eq!(problem.fields["field"], "count");
        assert!(!problem.body().to_string().contains("hunter2"), "{problem:?}");
    }

    #[test]
    fn an_array_is_no_object() {
        #[derive(Debug, Deserialize)]
        #[expect(dead_code, reason = "only whether it is read matters")]
        struct Named {
            name: String,
        }
        from_slice::<Named>(b"{\"name\": \"a\"}").unwrap();
        for body in ["[\"a\"]", "\"a\"", "null"] {
            let problem = from_slice::<Named>(body.as_bytes()).unwrap_err();
            assert_eq!(problem.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
            assert!(problem.body().to_string().contains("expected an object"), "{problem:?}");
        }
    }

    #[test]
    fn a_wrong_parameter_is_named_with_what_it_takes() {
        let text = "Failed to deserialize query string: kind: unknown variant `hunter2`, expected one of `added`, `removed`";
        let (field, detail) = wrong_parameter(text);
        assert_eq!(field.as_deref(), Some("kind"));
        assert_eq!(detail, "The parameter kind has an unknown value. Use one of `added`, `removed`.");
        let (field, detail) = wrong_parameter("Failed to deserialize query string: odd");
        assert_eq!(
            (field, detail.as_str()),
            (None, "A parameter of the address has a value that cannot be used.")
        );
    }

    #[test]
    fn limits_are_checked() {
        let query = |limit: &str, cursor: Option<&str>| ListQuery {
            limit: Some(limit.to_owned()),
            cursor: cursor.map(str::to_owned),
        };
        assert_eq!(query("1000", None).page().unwrap().limit, 1000);
        assert_eq!(ListQuery::default().page().unwrap().limit, 100);
        for bad in ["0", "1001", "-1", "x"] {
            assert!(query(bad, None).page().is_err());
        }
        assert!(query("1", Some("../x")).page().is_err());
    }
}
