//! DBSnap's pages: view models in, markup out.
//!
//! This crate knows neither the HTTP server nor the engine. Every page is a module of [`pages`] with
//! a view model (`sample()` makes one with believable content) and `page(&view)`; pages that change
//! while they are open also have `fragment(&view)`, which the page contains and live updates resend.
//! Nothing here needs scripts: [`assets::SCRIPT`] only saves reloading and typing.
//!
//! ```
//! let view = web::pages::restores::Restores::sample();
//! let html = web::pages::restores::page(&view).into_string();
//! assert!(html.starts_with("<!DOCTYPE html>"));
//! ```

pub mod assets;
pub mod components;
pub mod format;
pub mod json;
pub mod layout;
pub mod pages;
pub mod samples;
pub mod urls;

/// The `Content-Security-Policy` every page is written for: no inline script, no inline style.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
     img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
