//! `GET /events`: what happens to the nodes of a cluster, one JSON object a line, for as long as the client listens.
//!
//! ```json
//! {"id": 17, "millis": 1795909816444, "node": 2, "event": "suspect", "detail": "it does not answer"}
//! ```
//!
//! `?after=17` leaves out what the client has; without, all that is kept comes first. Any node tells the events of
//! all: it looks at the system shard.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use node::Store;
use node::manager::EventRow;
use serde::Serialize;
use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Between two looks at the system shard.
const POLL: Duration = Duration::from_secs(1);
/// Clients that listen at a time: each reads the system shard every second.
const MOST_LISTENERS: usize = 32;

#[derive(Serialize)]
struct Line<'a> {
    id: u64,
    /// Since the Unix epoch.
    millis: u64,
    node: u64,
    event: &'a str,
    detail: &'a str,
}

/// See the module.
#[derive(Clone)]
pub struct EventFeed {
    store: Weak<Store>,
    listeners: Arc<Semaphore>,
}

impl EventFeed {
    pub fn new(store: &Arc<Store>) -> Self {
        EventFeed {
            store: Arc::downgrade(store),
            listeners: Arc::new(Semaphore::new(MOST_LISTENERS)),
        }
    }

    /// The answer to a request with this query.
    pub fn answer(&self, query: Option<&str>) -> Response {
        let after = query.map_or(Some(0), |query| query.strip_prefix("after=")?.parse().ok());
        let Some(after) = after else {
            let why = "the query is ?after=NUMBER\n";
            return (StatusCode::BAD_REQUEST, why).into_response();
        };
        let Ok(seat) = Arc::clone(&self.listeners).try_acquire_owned() else {
            let why = "too many clients listen already\n";
            return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
        };
        let begin = (self.store.clone(), seat, after);
        let pieces = stream::unfold(begin, |(store, seat, after)| next(store, seat, after));
        let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
        (kind, Body::from_stream(pieces)).into_response()
    }
}

type Place = (Weak<Store>, OwnedSemaphorePermit, u64);

/// Waits for events after a number. `None`: the node stops.
async fn next(
    store: Weak<Store>,
    seat: OwnedSemaphorePermit,
    after: u64,
) -> Option<(Result<String, Infallible>, Place)> {
    loop {
        // Without a quorum they cannot be read; that passes.
        let rows = store.upgrade()?.events(after).await.unwrap_or_default();
        if let Some(last) = rows.last() {
            let last = last.number;
            return Some((Ok(lines(&rows)), (store, seat, last)));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn lines(rows: &[EventRow]) -> String {
    let lines = rows.iter().filter_map(|row| {
        let line = Line {
            id: row.number,
            millis: row.at.millis(),
            node: row.store,
            event: &row.event,
            detail: &row.detail,
        };
        serde_json::to_string(&line).ok()
    });
    lines.map(|line| line + "\n").collect()
}
