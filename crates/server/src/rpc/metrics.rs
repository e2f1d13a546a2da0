//! Metrics of the network between nodes. Handles are taken once for each peer and connection.

use crate::rpc::frame::Kind;
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use types::StoreId;

/// What passes between this node and one peer. Nodes that have no name yet share one.
pub struct Meter {
    pub sent_bytes: Counter,
    pub received_bytes: Counter,
    /// Handed over by this node, and lost: not reachable, too much waits.
    pub lost_messages: Counter,
    pub calls_in_flight: Gauge,
    /// Connections that this node made.
    pub connections: Counter,
    sent_messages: Counter,
    received_messages: Counter,
    sent_requests: Counter,
    received_requests: Counter,
}

impl Meter {
    pub fn new(peer: Option<StoreId>) -> Self {
        let peer = peer.map_or_else(|| "joining".to_string(), |peer| peer.to_string());
        let counter = |name: &'static str| counter!(name, "peer" => peer.clone());
        Meter {
            sent_bytes: counter("phantomdb_rpc_sent_bytes_total"),
            received_bytes: counter("phantomdb_rpc_received_bytes_total"),
            lost_messages: counter("phantomdb_rpc_lost_messages_total"),
            calls_in_flight: gauge!("phantomdb_rpc_calls_in_flight", "peer" => peer.clone()),
            connections: counter("phantomdb_rpc_connections_total"),
            sent_messages: counter("phantomdb_rpc_sent_messages_total"),
            received_messages: counter("phantomdb_rpc_received_messages_total"),
            sent_requests: counter("phantomdb_rpc_sent_requests_total"),
            received_requests: counter("phantomdb_rpc_received_requests_total"),
        }
    }

    /// Counts the last piece of a body.
    pub fn sent(&self, kind: Kind) {
        match kind {
            Kind::Message => self.sent_messages.increment(1),
            Kind::Request => self.sent_requests.increment(1),
            _ => {}
        }
    }

    pub fn received(&self, kind: Kind) {
        match kind {
            Kind::Message => self.received_messages.increment(1),
            Kind::Request => self.received_requests.increment(1),
            _ => {}
        }
    }
}

/// Connections that did not come about because one side refused. Counted by both.
pub fn refused() {
    counter!("phantomdb_rpc_refused_connections_total").increment(1);
}

/// Tells the recorder what the names mean.
pub fn describe() {
    let counters = [
        (
            "phantomdb_rpc_sent_bytes_total",
            "Bytes to a peer, before TLS",
        ),
        (
            "phantomdb_rpc_received_bytes_total",
            "Bytes from a peer, after TLS",
        ),
        (
            "phantomdb_rpc_sent_messages_total",
            "Messages written to a peer's connection",
        ),
        (
            "phantomdb_rpc_received_messages_total",
            "Messages from a peer",
        ),
        (
            "phantomdb_rpc_lost_messages_total",
            "Messages dropped because a peer was not reachable or too much waited",
        ),
        (
            "phantomdb_rpc_sent_requests_total",
            "Calls written to a peer's connection",
        ),
        ("phantomdb_rpc_received_requests_total", "Calls from a peer"),
        (
            "phantomdb_rpc_connections_total",
            "Connections made to a peer: the first one, and each after a break",
        ),
        (
            "phantomdb_rpc_refused_connections_total",
            "Connections that this node or the other side refused",
        ),
    ];
    for (name, text) in counters {
        describe_counter!(name, text);
    }
    describe_gauge!(
        "phantomdb_rpc_calls_in_flight",
        "Calls to a peer that wait for their answer"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics_exporter_prometheus::PrometheusBuilder;

    #[test]
    fn each_peer_is_counted_for_itself() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let text = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            describe();
            let meter = Meter::new(Some(StoreId(3)));
            meter.sent(Kind::Message);
            meter.sent(Kind::Pong);
            // A second connection of the same peer.
            Meter::new(Some(StoreId(3))).sent(Kind::Message);
            Meter::new(None).received(Kind::Request);
            refused();
        });
        let text = text.render();
        for line in [
            "phantomdb_rpc_sent_messages_total{peer=\"3\"} 2",
            "phantomdb_rpc_received_requests_total{peer=\"joining\"} 1",
            "phantomdb_rpc_refused_connections_total 1",
            "# HELP phantomdb_rpc_sent_messages_total Messages written",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
