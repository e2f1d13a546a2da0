//! HTTP for operators: `/health`, `/ready`, `/metrics`; of a cluster's node `/nodes` and `/events`, of a proxy `/stats`.

use crate::event_feed::EventFeed;
use crate::metrics::ProcessMetrics;
use crate::node_list::NodeList;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Why the node should not get requests now, or nothing.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Brings metrics up to date that are not counted as things happen.
pub type Refresh = Arc<dyn Fn() + Send + Sync>;

/// A page of plain text.
pub type Text = Arc<dyn Fn() -> String + Send + Sync>;

/// What the pages are made of.
pub struct Pages {
    pub prometheus: PrometheusHandle,
    pub process: ProcessMetrics,
    pub ready: Readiness,
    /// Called before metrics are shown.
    pub refresh: Option<Refresh>,
    /// `/nodes`: the nodes of the cluster, as JSON ([`crate::node_list`]).
    pub nodes: Option<NodeList>,
    /// `/events`: what happens to the nodes of the cluster ([`crate::event_feed`]).
    pub events: Option<EventFeed>,
    /// `/stats`: a table for people.
    pub stats: Option<Text>,
}

/// Answers until `stop` turns true.
pub async fn serve(
    listener: TcpListener,
    pages: Pages,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut router = Router::new()
        .route("/health", get(health))
        .route("/ready", get(is_ready))
        .route("/metrics", get(metrics));
    if let Some(list) = pages.nodes.clone() {
        router = router.route("/nodes", get(move || async move { nodes(&list) }));
    }
    if let Some(events) = pages.events.clone() {
        let answer = async move |RawQuery(query): RawQuery| events.answer(query.as_deref());
        router = router.route("/events", get(answer));
    }
    if let Some(stats) = pages.stats.clone() {
        router = router.route("/stats", get(move || async move { stats() }));
    }
    axum::serve(listener, router.with_state(Arc::new(pages)))
        .with_graceful_shutdown(async move {
            let _ = stop.wait_for(|stop| *stop).await;
        })
        .await
}

/// The process is up and its runtime answers.
async fn health() -> &'static str {
    "ok\n"
}

async fn is_ready(State(pages): State<Arc<Pages>>) -> impl IntoResponse {
    match (pages.ready)() {
        Ok(()) => (StatusCode::OK, "ready\n".to_string()),
        Err(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {why}\n"),
        ),
    }
}

async fn metrics(State(pages): State<Arc<Pages>>) -> impl IntoResponse {
    pages.process.update();
    if let Some(refresh) = &pages.refresh {
        refresh();
    }
    pages.prometheus.run_upkeep();
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    (
        [(header::CONTENT_TYPE, content_type)],
        pages.prometheus.render(),
    )
}

fn nodes(list: &NodeList) -> impl IntoResponse + use<> {
    match serde_json::to_string(&list()) {
        Ok(json) => (
            StatusCode::OK,
            [(header::CONTENT_TYPE, "application/json")],
            json,
        ),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain")],
            error.to_string(),
        ),
    }
}
