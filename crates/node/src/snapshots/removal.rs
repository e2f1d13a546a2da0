//! Removing the rows of a replica that has left, in the background.

use super::Snapshots;
use crate::replica_record::{Presence, ReplicaRecord};
use sharding::{ShardDescriptor, ShardId};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;
use storage::mvcc::span_ranges;
use storage::{Engine, WriteBatch};
use types::env::Env;

/// Rows removed in one batch: some milliseconds of work.
const BATCH_ROWS: usize = 2000;
/// Between two batches, so that statements go on beside it.
const BATCH_PAUSE: Duration = Duration::from_millis(5);
/// When the disk would not take a batch.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

impl Snapshots {
    /// Removes the rows of a replica whose record says that it is leaving; then it is gone.
    pub(crate) fn remove_rows(self: &Arc<Self>, record: ReplicaRecord) {
        let shard = record.descriptor.id;
        self.removing
            .lock()
            .insert(shard, record.descriptor.clone());
        let snapshots = Arc::clone(self);
        let task = async move {
            let (engine, env) = (&*snapshots.engine, &snapshots.env);
            loop {
                let before = snapshots.undisturbed();
                match remove_rows(engine, env, &record.descriptor).await {
                    Ok(()) if before.is_some() && before == snapshots.undisturbed() => break,
                    Ok(()) => {}
                    Err(error) => {
                        tracing::warn!(%error, shard = shard.0, "cannot remove a replica's rows yet");
                        snapshots.note_damage(&error);
                    }
                }
                env.clock.sleep(RETRY_PAUSE).await;
                if !snapshots.is_open() {
                    return;
                }
            }
            let mut batch = WriteBatch::default();
            ReplicaRecord {
                presence: Presence::Gone,
                ..record
            }
            .put(&mut batch);
            match snapshots.engine.write(batch) {
                Ok(()) => {
                    snapshots.removing.lock().remove(&shard);
                }
                // The next start does it again.
                Err(error) => tracing::warn!(%error, shard = shard.0, "a removal is not noted"),
            }
        };
        self.env.spawn.spawn("replica-removal", Box::pin(task));
    }

    pub(crate) fn is_removing(&self, shard: ShardId) -> bool {
        self.removing.lock().contains_key(&shard)
    }

    pub(super) fn overlaps_removal(&self, descriptor: &ShardDescriptor) -> bool {
        let removing = self.removing.lock();
        removing.values().any(|other| other.overlaps(descriptor))
    }
}

/// Removes all versions of a shard's keys, a batch at a time.
pub(super) async fn remove_rows(
    engine: &dyn Engine,
    env: &Env,
    descriptor: &ShardDescriptor,
) -> storage::Result<()> {
    for (keyspace, mut range) in span_ranges(&descriptor.start, descriptor.end.as_deref()) {
        loop {
            let mut batch = WriteBatch::default();
            {
                let snapshot = engine.snapshot();
                for pair in snapshot
                    .scan(keyspace, range.clone(), false)
                    .take(BATCH_ROWS)
                {
                    batch.delete(keyspace, pair?.0);
                }
            }
            let Some((_, last, _)) = batch.ops.last() else {
                break;
            };
            // Not from the start again: that would walk over all that is deleted.
            range.0 = Bound::Excluded(last.clone());
            engine.write(batch)?;
            env.clock.sleep(BATCH_PAUSE).await;
        }
    }
    Ok(())
}
