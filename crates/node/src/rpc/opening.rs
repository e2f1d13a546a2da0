//! What a statement begins with, carried out step by step at the lease holder.

use super::wire::{Outcome, Response};
use crate::shard_server::{Failure, Granted, OpenAnswer, OpenRequest, ShardServer};
use std::sync::Arc;
use txn::kv::{LockMode, Version, WaitPolicy};
use types::{StoreId, Timestamp};

/// The tables' locks, the snapshot, the row's lock, the row. The first step that fails ends it; locks taken until then
/// stay until the transaction ends.
pub(super) async fn open(
    shards: Arc<dyn ShardServer>,
    from: StoreId,
    request: OpenRequest,
    policy: WaitPolicy,
) -> Outcome {
    let mut answer = OpenAnswer::default();
    let (txn, mode) = (request.txn, LockMode::KeyShare);
    for (shard, key) in &request.tables {
        let granted = shards.lock(*shard, from, txn, key, mode, policy).await?;
        if !note(&mut answer, granted) {
            return Ok(Response::Opened(answer));
        }
    }
    if let Some(of) = &request.snapshot {
        answer.opened.at = shards.read_timestamp(of).await?;
    }
    let Some((shard, key, lock)) = request.point else {
        return Ok(Response::Opened(answer));
    };
    let at = match lock {
        None => answer.opened.at,
        Some(mode) => {
            let granted = shards.lock(shard, from, txn, &key, mode, policy).await?;
            if !note(&mut answer, granted) {
                return Ok(Response::Opened(answer));
            }
            Timestamp::MAX
        }
    };
    let found: Result<_, Failure> = shards.get(shard, &key, at).await;
    answer.opened.point = Some(match found? {
        Some((value, at)) => Version {
            value: Some(value),
            at: Some(at),
        },
        None => Version {
            value: None,
            at: match lock {
                // Deleted: when?
                Some(_) => shards.newest_version(shard, &key).await?,
                None => None,
            },
        },
    });
    Ok(Response::Opened(answer))
}

/// `false`: another transaction holds it, and nobody wants to wait.
fn note(answer: &mut OpenAnswer, granted: Granted) -> bool {
    if granted.granted {
        answer.leases.push(granted.lease);
    }
    granted.granted
}
