//! The daemon's own HTTP server: `/metrics`, `/healthz`, `/readyz`, and pages at every other path. Only reads.

use crate::pages::{Found, Pages};
use crate::status;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use sipws::Server;
use std::sync::{Arc, PoisonError, RwLock};

/// The pages now; a reload puts others in their place.
#[derive(Clone, Default)]
pub(crate) struct SharedPages(Arc<RwLock<Arc<Pages>>>);

impl SharedPages {
    pub(crate) fn set(&self, pages: Pages) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pages);
    }

    fn get(&self) -> Arc<Pages> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Clone)]
struct Admin {
    server: Arc<Server>,
    pages: SharedPages,
}

pub(crate) fn router(server: Arc<Server>, pages: SharedPages) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(get(page))
        .layer(map_response(security_headers))
        .with_state(Admin { server, pages })
}

async fn metrics(State(admin): State<Admin>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    fresh(OPEN_METRICS, admin.server.metrics())
}

/// Is the process alive? That it answers is the answer.
async fn healthz() -> Response {
    fresh(TEXT, "ok\n")
}

/// Should clients be sent here?
async fn readyz(State(admin): State<Admin>) -> Response {
    match admin.server.ready() {
        Ok(()) => fresh(TEXT, "ready\n"),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, fresh(TEXT, format!("{why}\n"))).into_response(),
    }
}

async fn page(State(admin): State<Admin>, uri: Uri) -> Response {
    let not_found = || (StatusCode::NOT_FOUND, fresh(TEXT, "no such page\n")).into_response();
    let Ok(path) = percent_encoding::percent_decode_str(uri.path()).decode_utf8() else { return not_found() };
    match (admin.pages.get().find(&path), path.as_ref()) {
        (Some(Found::Page(page)), _) => sent("no-cache", page.content_type, page.body.clone()),
        (Some(Found::Directory), _) => Redirect::permanent(&format!("{}/", uri.path())).into_response(),
        (None, "/") => fresh("text/html; charset=utf-8", status::page(&admin.server)),
        (None, "/status.css") => sent("no-cache", "text/css; charset=utf-8", status::STYLE),
        (None, _) => not_found(),
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

/// What must not be answered from a cache.
fn fresh(content_type: &'static str, body: impl IntoResponse) -> Response {
    sent("no-store", content_type, body)
}

fn sent(caching: &'static str, content_type: &'static str, body: impl IntoResponse) -> Response {
    ([(header::CACHE_CONTROL, caching), (header::CONTENT_TYPE, content_type)], body).into_response()
}

/// A page may run its own scripts and open WebSockets anywhere (a listener has another port, so it is not `'self'`);
/// nothing else.
async fn security_headers(mut response: Response) -> Response {
    const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; media-src 'self' blob:; \
                          object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
