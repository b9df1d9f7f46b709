//! Style sheet, script and icon. Their addresses change with their content.

use axum::extract::Path;
use axum::http::header;
use axum::response::IntoResponse;

use crate::error::{Problem, Result};

/// An asset by its file name.
pub async fn asset(Path(file_name): Path<String>) -> Result<impl IntoResponse> {
    let asset = web::assets::find(&file_name).ok_or_else(Problem::not_found)?;
    let headers =
        [(header::CONTENT_TYPE, asset.content_type), (header::CACHE_CONTROL, web::assets::CACHE_CONTROL)];
    Ok((headers, asset.bytes))
}
