//! Moves that must not be made, or not as they were planned.

use super::Cluster;
use crate::inbox::Request;
use crate::mover::Mover;
use crate::testing::real_env;
use consensus::{Change, ReplicaId};
use futures::channel::oneshot;
use sharding::shard_map::FIRST_SHARD;
use std::sync::Arc;
use types::{Error, SqlState};

fn is_not_now(refused: &Error) -> bool {
    refused.state == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_planned_before_a_change_is_refused_and_a_leader_does_not_leave() {
    let cluster = Cluster::start(3).await;
    cluster.until_settled().await;
    let holder = cluster.holder().await;
    let (me, other) = (cluster.name(holder), cluster.name((holder + 1) % 3));
    let registry = Arc::clone(&cluster.nodes[holder].store.shards.registry);
    let mover = Mover::new(Arc::clone(&registry), real_env().clock, me);
    let seen = mover.inspect(FIRST_SHARD).await.expect("it leads");
    let now = seen.descriptor.generation;

    let old = mover.remove(FIRST_SHARD, now - 1, other).await;
    assert!(old.is_err_and(|refused| is_not_now(&refused)));
    let old = mover.add(FIRST_SHARD, now - 1, other, None).await;
    assert!(old.is_err_and(|refused| is_not_now(&refused)));
    let own = mover.remove(FIRST_SHARD, now, me).await;
    assert!(own.is_err_and(|refused| is_not_now(&refused)));

    // Nor does it by any other way.
    let mut descriptor = seen.descriptor.clone();
    let leader = descriptor.replica_on(me).expect("it has a replica");
    descriptor.replicas.retain(|replica| *replica != leader);
    descriptor.generation += 1;
    let (reply, answer) = oneshot::channel();
    registry.shared.inbox.request(Request::ChangeMembers {
        shard: FIRST_SHARD,
        changes: vec![Change::Remove(ReplicaId(leader.id))],
        descriptor,
        reply,
    });
    let own = answer.await.expect("an answer");
    assert!(own.is_err_and(|refused| is_not_now(&refused)));

    let after = mover.inspect(FIRST_SHARD).await.expect("it leads");
    assert_eq!(after.membership, seen.membership);
    assert_eq!(after.descriptor, seen.descriptor);
}
