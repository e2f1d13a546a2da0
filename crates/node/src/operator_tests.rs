//! What operators ask for, carried out by real stores.

use super::*;
use crate::manager::ClusterState;
use membership::service::{Intent, State};

impl Cluster {
    /// How the cluster stands, once it stands so.
    async fn until(&self, what: &str, is: impl Fn(&ClusterState) -> bool) -> ClusterState {
        let began = Instant::now();
        loop {
            let state = self.nodes[0].store.cluster_state().await;
            if let Ok(state) = &state
                && is(state)
            {
                return state.clone();
            }
            assert!(began.elapsed() < DEADLINE, "not {what}: {state:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What happened to a node, and then to it.
    async fn until_event(&self, store: u64, event: &str) -> Vec<String> {
        let began = Instant::now();
        loop {
            let rows = self.nodes[0].store.events(0).await.unwrap_or_default();
            let rows = rows.into_iter().filter(|row| row.store == store);
            let events: Vec<String> = rows.map(|row| row.event).collect();
            if events.last().is_some_and(|last| last == event) {
                return events;
            }
            assert!(began.elapsed() < DEADLINE, "no {event}: {events:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn state_of(state: &ClusterState, store: u64) -> Option<State> {
    let mut nodes = state.nodes.iter();
    let node = nodes.find(|(row, _)| row.store == StoreId(store));
    node.map(|(_, state)| *state)
}

/// Replicas and leases.
fn held(state: &ClusterState, store: u64) -> (usize, usize) {
    let replicas = state.reports.get(&StoreId(store)).map(|r| &r.replicas);
    let replicas = replicas.map_or(&[][..], |replicas| replicas);
    let leases = replicas.iter().filter(|replica| replica.holds_lease);
    (replicas.len(), leases.count())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_keeps_its_replicas_and_serves_again_when_it_is_told() {
    let cluster = Cluster::start(3).await;
    cluster.until_settled().await;
    let first = Arc::clone(&cluster.nodes[0].store);
    let wish = first.intend(StoreId(1), Intent::Drain).await;
    assert!(matches!(wish, Ok(Some(_))), "{wish:?}");
    let drained = cluster
        .until("drained", |state| held(state, 1) == (1, 0))
        .await;
    assert_eq!(state_of(&drained, 1), Some(State::Draining));
    cluster.until_event(1, "drained").await;
    assert!(first.is_draining(), "it has been told");
    assert!(
        drained
            .moves
            .iter()
            .any(|row| row.reason.contains("draining"))
    );
    // Nobody would be left to serve.
    for other in [2, 3] {
        let wish = cluster.nodes[0]
            .store
            .intend(StoreId(other), Intent::Drain)
            .await;
        match other {
            2 => assert!(matches!(wish, Ok(Some(_))), "{wish:?}"),
            _ => {
                let error = wish.expect_err("no node is left");
                assert_eq!(error.state, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
            }
        }
    }
    for node in [1, 2] {
        let wish = first.intend(StoreId(node), Intent::Serve).await;
        assert!(matches!(wish, Ok(Some(_))), "{wish:?}");
    }
    cluster
        .until("live", |state| state_of(state, 1) == Some(State::Live))
        .await;
    let events = cluster.until_event(1, "live").await;
    assert_eq!(events, ["live", "draining", "drained", "live"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_leaves_once_others_have_all_that_it_held() {
    let mut cluster = Cluster::start(3).await;
    cluster.until_settled().await;
    set(&cluster.nodes[1].coordinator, "key", "kept".to_owned())
        .await
        .expect("a write");
    let first = Arc::clone(&cluster.nodes[0].store);
    let refused = first.intend(StoreId(1), Intent::Decommission).await;
    let refused = refused.expect_err("two are too few");
    assert_eq!(refused.state, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
    let detail = refused.fields.detail.as_deref().unwrap_or_default();
    assert!(detail.contains("2 copies instead of 3"), "{refused:?}");
    assert_eq!(
        first.intend(StoreId(9), Intent::Decommission).await.ok(),
        Some(None)
    );

    cluster.add().await;
    cluster
        .until("joined", |state| state_of(state, 4) == Some(State::Live))
        .await;
    let wish = first.intend(StoreId(1), Intent::Decommission).await;
    assert!(matches!(wish, Ok(Some(_))), "{wish:?}");
    let mut told = first.intent();
    let gone = tokio::time::timeout(DEADLINE, told.wait_for(|intent| *intent == Intent::Gone));
    assert!(gone.await.is_ok(), "it is told that it has left");
    let disk = cluster.kill(0).await;
    let state = cluster
        .until("gone", |state| {
            state_of(state, 1) == Some(State::Decommissioned)
        })
        .await;
    let events = cluster.until_event(1, "decommissioned").await;
    assert!(
        events.iter().any(|event| event == "decommissioning"),
        "{events:?}"
    );
    for other in [2, 3, 4] {
        assert_eq!(held(&state, other).0, 1, "node {other} has a copy");
    }
    let found = get(&cluster.nodes[2].coordinator, "key")
        .await
        .expect("a read");
    assert_eq!(found.as_deref(), Some("kept"));
    // It is not taken back, whoever asks.
    let other = &cluster.nodes[0].store;
    let back = other.intend(StoreId(1), Intent::Serve).await;
    assert!(back.is_err(), "{back:?}");
    let transport = cluster.network.transport(StoreId(1));
    let store = Store::open(Arc::new(disk), real_env(), transport, options()).expect("it opens");
    cluster.network.add(StoreId(1), "n1", store.peer());
    store
        .find_cluster(&["n2".to_owned()])
        .await
        .expect("a sound disk");
    let taken = tokio::time::timeout(DEADLINE, store.take_part(addresses("n1")));
    assert_eq!(taken.await.ok(), Some(false), "it must stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_can_be_decommissioned_and_its_replicas_are_made_good() {
    let mut cluster = Cluster::start(4).await;
    cluster
        .until("whole", |state| {
            let replicas = state.reports.values().flat_map(|report| &report.replicas);
            let mut leaders = replicas.filter(|replica| replica.leads);
            leaders.any(|leader| leader.voters.len() == 3 && !leader.changing)
        })
        .await;
    // One that holds a copy and not the lease.
    let state = cluster.nodes[0]
        .store
        .cluster_state()
        .await
        .expect("a quorum");
    let victim = (2..=4)
        .find(|node| held(&state, *node) == (1, 0))
        .expect("two are such");
    cluster.kill(victim as usize - 1).await;
    let store = Arc::clone(&cluster.nodes[0].store);
    let wish = store.intend(StoreId(victim), Intent::Decommission).await;
    assert!(matches!(wish, Ok(Some(_))), "{wish:?}");
    let gone = |state: &ClusterState| state_of(state, victim) == Some(State::Decommissioned);
    let state = cluster.until("gone", gone).await;
    let copies = (1..=4).filter(|node| held(&state, *node).0 == 1).count();
    assert_eq!(copies, 3);
}
