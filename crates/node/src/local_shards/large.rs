//! Commits that are cut into parts: see [`crate::parts`].
//!
//! Parts go into the log first, a few at a time, so that others' commits pass between them. Only when all are
//! applied is the commit validated, given its timestamp and finished, in one step as any other.

use super::LocalShards;
use super::committing::{Submitted, check_writes};
use crate::replica::{Body, InParts, Replica, Request, lease_moved, unknown_outcome};
use crate::shard_server::{Answer, Failure, LeaseId};
use consensus::{CommitName, Part};
use futures::channel::oneshot;
use std::collections::VecDeque;
use std::sync::Arc;
use txn::Footprint;
use txn::kv::{CommitRequest, Committed, Key, Value, writes_catalog};
use types::key::split_index_prefix;
use types::{Error, MaybeReady};

/// Parts of one commit on their way into the log: with more of them, other commits would wait longer, with fewer, the
/// disk and the network would.
const PARTS_IN_FLIGHT: usize = 4;

impl LocalShards {
    /// The commit goes on to its end if nobody waits for it any more.
    pub(super) fn commit_in_parts(
        &self,
        replica: Arc<Replica>,
        request: CommitRequest,
        locked_under: Option<LeaseId>,
    ) -> Answer<Committed> {
        let (sender, outcome) = oneshot::channel();
        let shards = self.clone();
        let task = async move {
            let txn = request.txn;
            let name = CommitName(txn.0);
            if shards.is_late(&replica) {
                let again = shards.clone().until_lease_goes_on(Arc::clone(&replica));
                again.await;
            }
            let submitted = shards.put_parts(&replica, request, locked_under).await;
            if submitted.is_err() {
                replica.abandon_parts(name);
            }
            let (shard, kept) = (replica.shard, locked_under);
            let _ = sender.send(shards.outcome(shard, txn, kept, submitted).await);
        };
        self.spawn.spawn("large-commit", Box::pin(task));
        MaybeReady::pending(async move {
            outcome.await.unwrap_or_else(|_| {
                let stopped = Error::internal("the store was closed while a commit was made");
                Err(unknown_outcome(&stopped).into())
            })
        })
    }

    async fn put_parts(
        &self,
        replica: &Replica,
        request: CommitRequest,
        locked_under: Option<LeaseId>,
    ) -> Result<Submitted, Failure> {
        check_writes(&request.writes)?;
        let Some(lease) = replica.lease() else {
            return Err(replica.not_holder());
        };
        if locked_under.is_some_and(|under| !lease.keeps_locks_of(under)) {
            return Err(lease_moved().into());
        }
        let ends = request.writes.first().zip(request.writes.last());
        let ends = ends.map(|((first, _), (last, _))| (first.clone(), last.clone()));
        let held = ends
            .iter()
            .all(|(first, last)| replica.holds_key(first) && replica.holds_key(last));
        if !held {
            return Err(self.mismatch(replica));
        }
        let mut body = InParts {
            name: CommitName(request.txn.0),
            term: 0,
            parts: 0,
            ends,
            footprint: Footprint::of(&request.writes),
            tables: tables(&request.writes),
            writes_catalog: writes_catalog(&request.writes),
        };
        let mut writes = request.writes.into_iter();
        let mut waiting = VecDeque::new();
        loop {
            let part = self.parts.next(&mut writes);
            let more = !part.is_empty();
            if more {
                let part = Part {
                    name: body.name,
                    number: body.parts,
                    writes: part,
                };
                waiting.push_back(replica.stage(part, lease)?);
                body.parts += 1;
            }
            let room = if more { PARTS_IN_FLIGHT } else { 1 };
            while waiting.len() >= room
                && let Some(applied) = waiting.pop_front()
            {
                let term = applied.await.map_err(|_| Failure::from(lease_moved()))?;
                if body.term > 0 && body.term != term {
                    return Err(lease_moved().into());
                }
                body.term = term;
            }
            if !more {
                break;
            }
        }
        let request = Request {
            txn: request.txn,
            read_at: request.read_at,
            read_spans: request.read_spans,
            body: Body::Parts(Box::new(body)),
        };
        // What was put into the log in another term is void.
        self.submit_to_heir(replica.shard, request, Some(lease))
    }
}

/// The tables that are written. `writes` are sorted.
fn tables(writes: &[(Key, Option<Value>)]) -> Vec<u32> {
    let tables = writes.iter().filter_map(|(key, _)| {
        let (table, ..) = split_index_prefix(key)?;
        Some(table)
    });
    let mut tables: Vec<u32> = tables.collect();
    tables.dedup();
    tables
}
