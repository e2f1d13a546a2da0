//! HTTP for operators: `/health`, `/ready`, `/metrics`.

use crate::metrics::ProcessMetrics;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Why the node should not get requests now, or nothing.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

struct Http {
    prometheus: PrometheusHandle,
    process: ProcessMetrics,
    ready: Readiness,
}

/// Answers until `stop` turns true.
pub async fn serve(
    listener: TcpListener,
    prometheus: PrometheusHandle,
    process: ProcessMetrics,
    ready: Readiness,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let state = Arc::new(Http {
        prometheus,
        process,
        ready,
    });
    let router = Router::new()
        .route("/health", get(health))
        .route("/ready", get(is_ready))
        .route("/metrics", get(metrics))
        .with_state(state);
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            let _ = stop.wait_for(|stop| *stop).await;
        })
        .await
}

/// The process is up and its runtime answers.
async fn health() -> &'static str {
    "ok\n"
}

async fn is_ready(State(http): State<Arc<Http>>) -> impl IntoResponse {
    match (http.ready)() {
        Ok(()) => (StatusCode::OK, "ready\n".to_string()),
        Err(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {why}\n"),
        ),
    }
}

async fn metrics(State(http): State<Arc<Http>>) -> impl IntoResponse {
    http.process.update();
    http.prometheus.run_upkeep();
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    (
        [(header::CONTENT_TYPE, content_type)],
        http.prometheus.render(),
    )
}
