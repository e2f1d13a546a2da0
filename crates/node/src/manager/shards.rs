//! The cluster's shards: their names, their rows in the system shard, and how one becomes two.
//!
//! A split is ordered at the manager, so that a name is given to one shard only:
//!
//! ```text
//!   any node ──► manager: a name for the right shard, durable ──► lease holder: its log splits the shard
//!                   ▲                                                 │ both descriptors
//!                   └── rows of both ◄────────────────────────────────┘
//! ```
//! If the manager is lost on the way, the name is lost with it or the shards are split: then the next one hears of them
//! from the stores, and writes their rows. The rows are what nodes read that know no better; stores do not need them.

use super::Manager;
use super::rounds::Leaders;
use super::system::MoveRow;
use super::wire::{Call, Reply};
use crate::replica::not_split;
use crate::shard_server::{Failure, Refusal};
use bytes::Bytes;
use futures::future::{Either, join_all, select};
use sharding::{ShardDescriptor, ShardId};
use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;
use types::key::{FIRST_USER_TABLE_ID, table_prefix};
use types::{Error, Result, SqlState, StoreId};

/// How long a split is tried while leases move and members change.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a store may take to tell its map.
const MAP_PATIENCE: Duration = Duration::from_secs(1);
/// Rows written in one transaction.
const ROWS_AT_ONCE: usize = 500;

/// A shard that begins where it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    pub shard: ShardId,
    /// It was split off just now; `false`: there was a border already.
    pub is_new: bool,
}

impl Manager {
    /// Splits whichever shard holds `at`, so that one begins there. From any node. `why` is shown in the list of moves.
    ///
    /// A key of the system's tables is 22023: the system shard is one. 55000 and 57P03: not now.
    pub(crate) async fn split_at(&self, at: Bytes, why: &str) -> Result<Split> {
        if at[..] < table_prefix(FIRST_USER_TABLE_ID)[..] {
            return Err(system_span());
        }
        let mut last = no_manager();
        let mut waited = Duration::ZERO;
        while waited < PATIENCE {
            match self.ask_manager(&at, why).await {
                Ok(split) => return Ok(split),
                Err(Failure::Failed(error)) if !is_passing(&error) => return Err(error),
                Err(Failure::Failed(error)) => last = error,
                Err(_) => {}
            }
            self.env.clock.sleep(PAUSE).await;
            waited += PAUSE;
        }
        Err(last)
    }

    async fn ask_manager(&self, at: &Bytes, why: &str) -> std::result::Result<Split, Failure> {
        if self.is_in_charge() {
            return self.order_split(at, why).await.map_err(Failure::Failed);
        }
        let router = self.gateway.router();
        let system = router.route(&[]);
        let replica = self.registry.get(system.shard.id);
        let hint = replica.and_then(|replica| replica.leader());
        let manager = hint.or(system.holder).ok_or(Failure::Unreachable(false))?;
        if manager == self.identity.store {
            return Err(Failure::Unreachable(false));
        }
        let call = Call::Split {
            at: at.clone(),
            why: why.to_owned(),
        };
        match self.ask_store(manager, &call).await? {
            Reply::Split { shard, is_new } => Ok(Split { shard, is_new }),
            _ => Err(Failure::Unreachable(false)),
        }
    }

    pub(super) async fn ask_store(
        &self,
        store: StoreId,
        call: &Call,
    ) -> std::result::Result<Reply, Failure> {
        let answer = self.transport.call(store, call.encode()).await;
        match answer.ok().and_then(Reply::decode) {
            Some(Reply::Failed(failure)) => Err(failure),
            Some(reply) => Ok(reply),
            None => Err(Failure::Unreachable(true)),
        }
    }

    /// The shards as their rows say.
    pub(crate) async fn rows_of_shards(&self) -> Result<Vec<ShardDescriptor>> {
        self.rows.shards().await
    }

    /// The shards as all stores that answer know them: for a gateway whose own map leads nowhere. Whoever has a replica
    /// knows its shard best, also while the system shard cannot be read.
    pub(crate) async fn ask_for_map(&self) -> Vec<ShardDescriptor> {
        let others: Vec<StoreId> = self.met.lock().keys().copied().collect();
        let asked = others.into_iter().map(|store| async move {
            let answer = pin!(self.ask_store(store, &Call::Map));
            match select(answer, self.env.clock.sleep(MAP_PATIENCE)).await {
                Either::Left((Ok(Reply::Shards(shards)), _)) => shards,
                _ => Vec::new(),
            }
        });
        let mut shards = self.known_shards();
        shards.extend(join_all(asked).await.into_iter().flatten());
        shards
    }

    /// The shards as this node knows them.
    pub(super) fn known_shards(&self) -> Vec<ShardDescriptor> {
        let own = self.registry.all().into_iter();
        let own = own.map(|replica| (*replica.descriptor()).clone());
        let own = own.filter(|shard| !shard.replicas.is_empty());
        let mut shards = self.gateway.router().map().shards().to_vec();
        shards.extend(own);
        shards
    }

    /// The manager's part.
    pub(super) async fn order_split(&self, at: &Bytes, why: &str) -> Result<Split> {
        if !self.is_in_charge() {
            return Err(no_manager());
        }
        let border = |router: &sharding::Router| {
            let shard = router.route(at).shard;
            (shard.start == *at).then_some(shard.id)
        };
        if let Some(shard) = border(&self.gateway.router()) {
            let is_new = false;
            return Ok(Split { shard, is_new });
        }
        let right = self.rows.next_shard().await?;
        let mut row = MoveRow {
            number: self.next_move().await?,
            shard: self.gateway.router().route(at).shard.id.0,
            what: format!("split off shard {}", right.0),
            reason: why.to_owned(),
            state: "running".to_owned(),
            begun: self.time.now(),
            ended: None,
        };
        self.rows.put_move(&row).await?;
        let result = self.split_somewhere(at, right).await;
        row.state = match &result {
            Ok(_) => "done".to_owned(),
            Err(error) => error.to_string(),
        };
        row.ended = Some(self.time.now());
        if let Err(error) = self.rows.put_move(&row).await {
            tracing::warn!(%error, "the end of a split cannot be noted");
        }
        let both = result?;
        self.gateway.learn(&both);
        if let Err(error) = self.put_rows(&both).await {
            // It is in the next round.
            tracing::warn!(%error, "the rows of a split cannot be written yet");
        }
        self.wake.notify_one();
        let shard = border(&self.gateway.router()).unwrap_or(right);
        let is_new = shard == right;
        Ok(Split { shard, is_new })
    }

    /// Asks the lease holder of the shard that holds `at`, wherever it is. The two shards; none if somebody else has
    /// split it there.
    async fn split_somewhere(&self, at: &Bytes, right: ShardId) -> Result<Vec<ShardDescriptor>> {
        let mut waited = Duration::ZERO;
        let mut last = not_split(right, "nobody leads it");
        loop {
            let router = self.gateway.router();
            let route = router.route(at);
            if route.shard.start == *at {
                return Ok(Vec::new());
            }
            let shard = route.shard.id;
            let store = route.holder.unwrap_or(self.identity.store);
            let call = Call::SplitShard {
                shard,
                at: at.clone(),
                right,
            };
            let asked = match store == self.identity.store {
                true => self.split_here(shard, at.clone(), right).await,
                false => match self.ask_store(store, &call).await {
                    Ok(Reply::Shards(both)) => Ok(both),
                    Ok(_) => Err(Failure::Unreachable(true)),
                    Err(failure) => Err(failure),
                },
            };
            match asked {
                Ok(both) => return Ok(both),
                Err(Failure::Refused(Refusal::Mismatch { newer }))
                    if self.gateway.learn(&newer) =>
                {
                    continue;
                }
                Err(Failure::Refused(Refusal::Mismatch { .. })) => {
                    self.gateway.learn(&self.ask_for_map().await);
                }
                Err(Failure::Refused(Refusal::NotLeaseHolder { hint })) => match hint {
                    Some(hint) if hint != store => router.believe(shard, hint),
                    _ => router.doubt(shard, store),
                },
                Err(Failure::Unreachable(_)) => router.doubt(shard, store),
                Err(Failure::Failed(error)) if is_passing(&error) => last = error,
                Err(Failure::Failed(error)) => return Err(error),
            }
            if waited >= PATIENCE {
                return Err(last);
            }
            self.env.clock.sleep(PAUSE).await;
            waited += PAUSE;
        }
    }

    /// The lease holder's part. The two shards.
    pub(crate) async fn split_here(
        &self,
        shard: ShardId,
        at: Bytes,
        right: ShardId,
    ) -> std::result::Result<Vec<ShardDescriptor>, Failure> {
        self.shards.split(shard, at, right).await?;
        let both = [shard, right].into_iter();
        let both = both.filter_map(|shard| self.registry.get(shard));
        Ok(both
            .map(|replica| (*replica.descriptor()).clone())
            .collect())
    }

    /// Writes the rows of shards that are not as their rows say.
    pub(super) async fn note_shards(&self, leaders: &Leaders<'_>) -> Result<()> {
        if self.noted.lock().is_none() {
            let rows = self.rows.shards().await?;
            // This store may have just begun to be the manager, and what is written is no news later.
            self.gateway.learn(&rows);
            let noted = rows.iter().map(|shard| (shard.id, shard.generation));
            *self.noted.lock() = Some(noted.collect::<BTreeMap<_, _>>());
        }
        let news: Vec<ShardDescriptor> = {
            let noted = self.noted.lock();
            let is_news = |shard: &&ShardDescriptor| {
                let known = noted.as_ref().and_then(|noted| noted.get(&shard.id));
                known.is_none_or(|generation| *generation < shard.generation)
            };
            let shards = leaders.values().map(|(_, leader)| &leader.descriptor);
            shards.filter(is_news).cloned().collect()
        };
        if !news.is_empty() {
            self.gateway.learn(&news);
        }
        self.put_rows(&news).await
    }

    async fn put_rows(&self, shards: &[ShardDescriptor]) -> Result<()> {
        for some in shards.chunks(ROWS_AT_ONCE) {
            self.rows.put_shards(some).await?;
            if let Some(noted) = &mut *self.noted.lock() {
                for shard in some {
                    let known = noted.entry(shard.id).or_default();
                    *known = shard.generation.max(*known);
                }
            }
        }
        Ok(())
    }
}

/// Whether what is in the way may be gone in a moment.
fn is_passing(error: &Error) -> bool {
    error.is_retryable()
        || [
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            SqlState::CANNOT_CONNECT_NOW,
        ]
        .contains(&error.state)
}

fn system_span() -> Error {
    Error::new(
        SqlState::INVALID_PARAMETER_VALUE,
        "the system's tables cannot be split",
    )
    .hint("All keys that nodes must agree on lie in the first shard.")
}

fn no_manager() -> Error {
    Error::new(
        SqlState::CANNOT_CONNECT_NOW,
        "the cluster has no manager at the moment",
    )
    .hint(
        "The store that holds the lease of the system shard is the manager. Try again in a moment.",
    )
}
