//! `/audit`: what was done in the caller's account, and whether the record of it is whole.

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{ListQuery, Queries, Query};
use crate::app::App;
use crate::audit::{Break, Entry, Filter, Outcome, action};
use crate::auth::ApiUser;
use crate::error::{Problem, Result};
use crate::ids::UserId;
use crate::meta::Page;
use crate::service::audit;

/// Which entries are wanted.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FilterQuery {
    /// An action such as `backup.end`, or the part of it before the dot.
    #[param(value_type = String, required = false)]
    pub action: Option<String>,
    /// Who: an address, `schedule`, `operator` or `unknown`.
    #[param(value_type = String, required = false)]
    pub actor: Option<String>,
    /// To what: a target such as `snapshot/<id>`, its kind alone, or its id alone.
    #[param(value_type = String, required = false)]
    pub target: Option<String>,
    #[param(value_type = Outcome, required = false, inline)]
    pub result: Option<String>,
    /// Not before this moment: RFC 3339, or a date.
    #[param(value_type = String, required = false)]
    pub from: Option<String>,
    /// Before this moment: RFC 3339, or a date.
    #[param(value_type = String, required = false)]
    pub to: Option<String>,
}

impl FilterQuery {
    /// The filter that is meant. What is empty, as forms send it, is not there.
    pub fn filter(&self) -> Result<Filter> {
        let given = |text: &Option<String>| {
            text.as_ref().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let unknown = || {
            let words = Outcome::ALL.map(Outcome::as_str).join(", ");
            Problem::invalid("result", format!("Use one of {words}."))
        };
        let result = given(&self.result).map(|text| Outcome::parse(&text).ok_or_else(unknown)).transpose()?;
        let action = given(&self.action);
        if action.as_ref().is_some_and(|action| !action::is_known(action)) {
            let all = action::ALL.join(", ");
            let detail =
                format!("There is no such action. Use one of {all}, or the part of one before the dot.");
            return Err(Problem::invalid("action", detail));
        }
        let moment =
            |field: &str, text: Option<String>| text.map(|text| audit::moment(field, &text)).transpose();
        Ok(Filter {
            action,
            actor: given(&self.actor),
            target: given(&self.target),
            result,
            from: moment("from", given(&self.from))?,
            to: moment("to", given(&self.to))?,
        })
    }
}

#[derive(Serialize, ToSchema)]
pub struct VerifiedBody {
    ok: bool,
    entries: u64,
    /// The number of the first entry that is not what was written.
    #[schema(required)]
    broken_at: Option<u64>,
    /// What is wrong there, in a sentence.
    #[schema(required)]
    broken: Option<String>,
    /// The hash of the last entry: who notes it elsewhere can tell later that nothing before it changed.
    head: String,
}

/// The account's entries, newest first. One that cannot be read is in every list, with its number and the action
/// `unreadable`.
#[utoipa::path(
    get, path = "/audit", tag = "audit",
    params(ListQuery, FilterQuery),
    responses((status = 200, description = "A page", body = Page<Entry>)),
)]
pub async fn list(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Queries(query, filter): Queries<ListQuery, FilterQuery>,
) -> Result<axum::Json<Page<Entry>>> {
    let (limit, cursor) = query.limit_and_cursor()?;
    Ok(axum::Json(audit::list(&app, &visitor, filter.filter()?, cursor.as_deref(), limit).await?))
}

/// Follows the account's chain from end to end.
#[utoipa::path(
    get, path = "/audit/verify", tag = "audit",
    responses((status = 200, description = "What was found", body = VerifiedBody)),
)]
pub async fn verify(State(app): State<App>, ApiUser(visitor): ApiUser) -> Result<axum::Json<VerifiedBody>> {
    let verified = audit::verify(&app, &visitor).await?;
    Ok(axum::Json(VerifiedBody {
        ok: verified.broken.is_none(),
        entries: verified.entries,
        broken_at: verified.broken.map(Break::at),
        broken: verified.broken.map(Break::describe),
        head: verified.head,
    }))
}

/// The account's entries as lines of JSON, oldest first; without a filter a chain that can be checked
/// by whoever has it. Some of them, which are called `dbsnap-audit-part.jsonl`, cannot: whether one was left out
/// shows only in the whole.
#[utoipa::path(
    get, path = "/audit/export", tag = "audit",
    params(FilterQuery),
    responses((status = 200, description = "One entry a line", body = Entry, content_type = "application/jsonl")),
)]
pub async fn export(
    State(app): State<App>,
    ApiUser(visitor): ApiUser,
    Query(filter): Query<FilterQuery>,
) -> Result<Response> {
    let filter = filter.filter()?;
    let name = if filter == Filter::default() { "dbsnap-audit" } else { "dbsnap-audit-part" };
    let disposition = format!("attachment; filename=\"{name}.jsonl\"");
    audit::begin_export(&app, &visitor).await?;
    let body = Body::from_stream(lines(app, visitor.user_id, filter));
    let headers =
        [(header::CONTENT_TYPE, "application/jsonl".to_owned()), (header::CONTENT_DISPOSITION, disposition)];
    Ok((headers, body).into_response())
}

/// Where an export is.
enum Next {
    Behind(u64),
    Nothing,
}

/// The lines, a few at a time. A failure in the middle breaks the answer off, so that it is not
/// taken for the whole.
fn lines(
    app: App,
    user: UserId,
    filter: Filter,
) -> impl futures::Stream<Item = std::result::Result<Bytes, std::io::Error>> {
    stream::unfold(Next::Behind(0), move |next| {
        let (app, filter) = (app.clone(), filter.clone());
        async move {
            let Next::Behind(after) = next else { return None };
            match audit::lines(&app, user, filter, after).await {
                Ok(None) => None,
                Ok(Some((lines, last))) => {
                    let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
                    Some((Ok(Bytes::from(text)), Next::Behind(last)))
                }
                Err(problem) => {
                    problem.log();
                    Some((Err(std::io::Error::other("the audit log cannot be read")), Next::Nothing))
                }
            }
        }
    })
}
