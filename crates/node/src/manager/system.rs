//! What the cluster remembers of itself: rows in the system shard, versioned and replicated as all others.
//!
//! | key: table 0, index, then          | row                                              |
//! | ---------------------------------- | ------------------------------------------------ |
//! | 1 · store (8)                      | a node: [`NodeRow`]                              |
//! | 2                                  | the name of the next store                       |
//! | 3 · number (8)                     | a move that was decided: [`MoveRow`]             |
//! | 4                                  | the replication factor that has been reached     |
//! | 5 · shard (8)                      | a shard: its descriptor                          |
//! | 6                                  | the name of the next shard                       |
//! | 7 · number (8)                     | something that happened: [`EventRow`]            |

use bytes::Bytes;
use membership::service::Intent;
use sharding::TableRules;
use sharding::shard_map::FIRST_SHARD;
use sharding::table_rule::rules_span;
use sharding::{ShardDescriptor, ShardId};
use storage::{Engine, mvcc};
use txn::kv::{Isolation, LockMode, ReadScope, Span, WaitPolicy};
use txn::{Coordinator, LockedRow, Transaction};
use types::codec::{Reader, put_bytes, put_varint};
use types::key::table_prefix;
use types::{Error, Result, StoreId, Timestamp};

const SYSTEM_TABLE: u32 = 0;
const NODES: u16 = 1;
const NEXT_STORE: u16 = 2;
const MOVES: u16 = 3;
const FACTOR: u16 = 4;
const SHARDS: u16 = 5;
const NEXT_SHARD: u16 = 6;
const EVENTS: u16 = 7;

/// These rows lie in the catalog's shard, which every scope holds.
const SYSTEM: ReadScope<'static> = ReadScope::Spans(&[]);

const VERSION: u8 = 1;
/// How often a transaction on these rows is tried again that was refused for others' sake.
const ATTEMPTS: usize = 20;
/// Rows read at once.
const PAGE_ROWS: usize = 1000;
const PAGE_BYTES: usize = 1 << 20;
/// Moves that are remembered; older ones go.
pub(crate) const MOVES_KEPT: u64 = 1000;
/// Events that are remembered; older ones go.
pub(crate) const EVENTS_KEPT: u64 = 1000;

const WAIT: WaitPolicy = WaitPolicy::Wait {
    deadline_nanos: None,
};

/// What a node says of itself when it joins and when it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// `host:port` for other nodes.
    pub rpc: String,
    /// `host:port` for PostgreSQL clients.
    pub sql: String,
    /// `host:port` of metrics and health; empty: none.
    pub http: String,
    /// Such as `region=eu,zone=eu-1`.
    pub locality: String,
    /// Of the program.
    pub version: String,
}

/// A node as the cluster remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    pub store: StoreId,
    pub intent: Intent,
    pub addresses: Addresses,
}

impl Addresses {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        for text in [
            &self.rpc,
            &self.sql,
            &self.http,
            &self.locality,
            &self.version,
        ] {
            put_bytes(out, text.as_bytes());
        }
    }

    pub(crate) fn read(reader: &mut Reader) -> Option<Self> {
        let mut text = || String::from_utf8(reader.bytes()?.to_vec()).ok();
        Some(Addresses {
            rpc: text()?,
            sql: text()?,
            http: text()?,
            locality: text()?,
            version: text()?,
        })
    }
}

pub(crate) fn intent_number(intent: Intent) -> u8 {
    match intent {
        Intent::Serve => 0,
        Intent::Drain => 1,
        Intent::Decommission => 2,
        Intent::Gone => 3,
    }
}

pub(crate) fn intent_of(number: u8) -> Option<Intent> {
    let all = [
        Intent::Serve,
        Intent::Drain,
        Intent::Decommission,
        Intent::Gone,
    ];
    all.get(usize::from(number)).copied()
}

impl NodeRow {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.store.0);
        out.push(intent_number(self.intent));
        self.addresses.put(out);
    }

    pub(crate) fn read(reader: &mut Reader) -> Option<Self> {
        Some(NodeRow {
            store: StoreId(reader.varint()?),
            intent: intent_of(reader.u8()?)?,
            addresses: Addresses::read(reader)?,
        })
    }
}

/// A move that the manager has decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveRow {
    pub number: u64,
    pub shard: u64,
    /// Such as `add replica on 3`.
    pub what: String,
    pub reason: String,
    /// `running`, `done`, or why it failed.
    pub state: String,
    pub begun: Timestamp,
    pub ended: Option<Timestamp>,
}

impl MoveRow {
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.number);
        put_varint(out, self.shard);
        for text in [&self.what, &self.reason, &self.state] {
            put_bytes(out, text.as_bytes());
        }
        put_varint(out, self.begun.0);
        put_varint(out, self.ended.unwrap_or_default().0);
    }

    fn read(reader: &mut Reader) -> Option<Self> {
        let number = reader.varint()?;
        let shard = reader.varint()?;
        let mut text = || String::from_utf8(reader.bytes()?.to_vec()).ok();
        let (what, reason, state) = (text()?, text()?, text()?);
        Some(MoveRow {
            number,
            shard,
            what,
            reason,
            state,
            begun: Timestamp(reader.varint()?),
            ended: Some(Timestamp(reader.varint()?)).filter(|at| *at > Timestamp::ZERO),
        })
    }
}

/// Something that happened to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    pub number: u64,
    pub at: Timestamp,
    pub store: u64,
    /// The name of the state that the node is in now, or what else happened.
    pub event: String,
    pub detail: String,
}

impl EventRow {
    fn put(&self, out: &mut Vec<u8>) {
        for number in [self.number, self.at.0, self.store] {
            put_varint(out, number);
        }
        for text in [&self.event, &self.detail] {
            put_bytes(out, text.as_bytes());
        }
    }

    fn read(reader: &mut Reader) -> Option<Self> {
        let (number, at, store) = (reader.varint()?, reader.varint()?, reader.varint()?);
        let mut text = || String::from_utf8(reader.bytes()?.to_vec()).ok();
        Some(EventRow {
            number,
            at: Timestamp(at),
            store,
            event: text()?,
            detail: text()?,
        })
    }
}

/// The rows, through any node's gateway.
#[derive(Clone)]
pub(crate) struct SystemRows {
    coordinator: Coordinator,
}

impl SystemRows {
    pub(crate) fn new(coordinator: Coordinator) -> Self {
        SystemRows { coordinator }
    }

    pub(crate) async fn nodes(&self) -> Result<Vec<NodeRow>> {
        self.all(NODES, NodeRow::read).await
    }

    pub(crate) async fn moves(&self) -> Result<Vec<MoveRow>> {
        self.all(MOVES, MoveRow::read).await
    }

    /// Events with a higher number than `after`, the oldest first.
    pub(crate) async fn events(&self, after: u64) -> Result<Vec<EventRow>> {
        let start = key(EVENTS, Some(after.saturating_add(1)));
        self.from(start, EVENTS, EventRow::read).await
    }

    /// Admits a node: gives it a name that no other had or will have.
    pub(crate) async fn admit(&self, addresses: &Addresses) -> Result<StoreId> {
        self.change(NEXT_STORE, None, |before| {
            let next = match before {
                Some(bytes) => Reader::new(bytes).varint().ok_or_else(damaged)?,
                None => 2,
            };
            let mut after = Vec::new();
            put_varint(&mut after, next + 1);
            let store = StoreId(next);
            let row = NodeRow {
                store,
                intent: Intent::Serve,
                addresses: addresses.clone(),
            };
            Ok((store, Some(after), Some(row)))
        })
        .await
    }

    /// A node has started: its addresses are these now. Its intent stays. `None`: it was removed for good.
    pub(crate) async fn register(
        &self,
        store: StoreId,
        addresses: &Addresses,
    ) -> Result<Option<NodeRow>> {
        self.change(NODES, Some(store.0), |before| {
            let known = before.map(row(NodeRow::read)).transpose()?;
            let intent = known.as_ref().map_or(Intent::Serve, |row| row.intent);
            if intent == Intent::Gone {
                return Ok((None, None, None));
            }
            let now = NodeRow {
                store,
                // Whoever starts a node that was drained wants it to serve.
                intent: match intent {
                    Intent::Drain => Intent::Serve,
                    other => other,
                },
                addresses: addresses.clone(),
            };
            let changed = known.as_ref() != Some(&now);
            let after = changed.then(|| encode(|out| now.put(out)));
            Ok((Some(now), after, None))
        })
        .await
    }

    /// What the cluster wants of a node. `None`: there is no such node.
    pub(crate) async fn intend(&self, store: StoreId, intent: Intent) -> Result<Option<NodeRow>> {
        self.change(NODES, Some(store.0), |before| {
            let Some(mut node) = before.map(row(NodeRow::read)).transpose()? else {
                return Ok((None, None, None));
            };
            if node.intent == Intent::Gone {
                return Ok((Some(node), None, None));
            }
            node.intent = intent;
            let after = encode(|out| node.put(out));
            Ok((Some(node), Some(after), None))
        })
        .await
    }

    /// How many copies each shard has had at least, so how many it shall have. Never lowered by itself.
    pub(crate) async fn replication_factor(&self) -> Result<usize> {
        let mut txn = self.coordinator.begin(Isolation::ReadCommitted, true);
        txn.begin_statement(SYSTEM).await?;
        match txn.get(&key(FACTOR, None)).await? {
            Some(bytes) => {
                let factor = Reader::new(bytes).varint().ok_or_else(damaged)?;
                Ok(usize::try_from(factor).unwrap_or(1))
            }
            None => Ok(1),
        }
    }

    pub(crate) async fn set_replication_factor(&self, factor: usize) -> Result<()> {
        self.change(FACTOR, None, |_| {
            let mut after = Vec::new();
            put_varint(&mut after, factor as u64);
            Ok(((), Some(after), None))
        })
        .await
    }

    /// The shards as their rows say, which may be behind. In the order of their names.
    pub(crate) async fn shards(&self) -> Result<Vec<ShardDescriptor>> {
        self.all(SHARDS, ShardDescriptor::read).await
    }

    /// A name for a shard that no other had or will have.
    pub(crate) async fn next_shard(&self) -> Result<ShardId> {
        self.change(NEXT_SHARD, None, |before| {
            let next = match before {
                Some(bytes) => Reader::new(bytes).varint().ok_or_else(damaged)?,
                None => FIRST_SHARD.0 + 1,
            };
            let mut after = Vec::new();
            put_varint(&mut after, next + 1);
            Ok((ShardId(next), Some(after), None))
        })
        .await
    }

    /// Writes the rows of these shards, but for those that are newer already.
    pub(crate) async fn put_shards(&self, shards: &[ShardDescriptor]) -> Result<()> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut txn = self.coordinator.begin(Isolation::ReadCommitted, false);
            match try_put_shards(&mut txn, shards).await {
                Err(error) if error.is_retryable() && attempt < ATTEMPTS => {}
                result => return result,
            }
        }
    }

    pub(crate) async fn put_move(&self, planned: &MoveRow) -> Result<()> {
        let forget = planned.number.checked_sub(MOVES_KEPT);
        self.change(MOVES, Some(planned.number), |_| {
            Ok(((), Some(encode(|out| planned.put(out))), None))
        })
        .await?;
        match forget {
            Some(old) => self.delete(MOVES, old).await,
            None => Ok(()),
        }
    }

    pub(crate) async fn put_event(&self, event: &EventRow) -> Result<()> {
        self.change(EVENTS, Some(event.number), |_| {
            Ok(((), Some(encode(|out| event.put(out))), None))
        })
        .await?;
        match event.number.checked_sub(EVENTS_KEPT) {
            Some(old) => self.delete(EVENTS, old).await,
            None => Ok(()),
        }
    }

    async fn delete(&self, index: u16, number: u64) -> Result<()> {
        let key = key(index, Some(number));
        let mut txn = self.coordinator.begin(Isolation::ReadCommitted, false);
        txn.begin_statement(SYSTEM).await?;
        txn.lock(&key, LockMode::Update, WAIT).await?;
        txn.delete(key)?;
        txn.commit().await.map(drop)
    }

    /// What tables ask of their shards.
    pub(crate) async fn rules(&self) -> Result<TableRules> {
        let mut txn = self.coordinator.begin(Isolation::ReadCommitted, true);
        txn.begin_statement(SYSTEM).await?;
        let (start, end) = rules_span();
        let mut span = Span { start, end };
        let mut rules = TableRules::default();
        loop {
            let page = txn.scan(span.clone(), false, PAGE_ROWS, PAGE_BYTES).await?;
            for (key, bytes, _) in page.rows {
                rules.add(&key, bytes).ok_or_else(damaged)?;
            }
            match page.resume {
                Some(resume) => span.start = resume,
                None => return Ok(rules),
            }
        }
    }

    async fn all<T>(&self, index: u16, read: fn(&mut Reader) -> Option<T>) -> Result<Vec<T>> {
        self.from(key(index, None), index, read).await
    }

    /// The rows of an index from a key on.
    async fn from<T>(
        &self,
        start: Bytes,
        index: u16,
        read: fn(&mut Reader) -> Option<T>,
    ) -> Result<Vec<T>> {
        let mut txn = self.coordinator.begin(Isolation::ReadCommitted, true);
        txn.begin_statement(SYSTEM).await?;
        let mut span = Span {
            start,
            end: key(index + 1, None),
        };
        let mut found = Vec::new();
        loop {
            let page = txn.scan(span.clone(), false, PAGE_ROWS, PAGE_BYTES).await?;
            for (_, bytes, _) in page.rows {
                found.push(row(read)(bytes)?);
            }
            match page.resume {
                Some(resume) => span.start = resume,
                None => return Ok(found),
            }
        }
    }

    /// Reads a row under its lock and writes what `decide` says: the row anew, and perhaps a node's row beside
    /// it. Tried again when others come between.
    async fn change<T>(
        &self,
        index: u16,
        number: Option<u64>,
        decide: impl Fn(Option<Bytes>) -> Result<(T, Option<Vec<u8>>, Option<NodeRow>)>,
    ) -> Result<T> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut txn = self.coordinator.begin(Isolation::ReadCommitted, false);
            match self.try_change(&mut txn, index, number, &decide).await {
                Err(error) if error.is_retryable() && attempt < ATTEMPTS => {}
                result => return result,
            }
        }
    }

    async fn try_change<T>(
        &self,
        txn: &mut Transaction,
        index: u16,
        number: Option<u64>,
        decide: &impl Fn(Option<Bytes>) -> Result<(T, Option<Vec<u8>>, Option<NodeRow>)>,
    ) -> Result<T> {
        txn.begin_statement(SYSTEM).await?;
        let key = key(index, number);
        let before = txn.lock_and_get(&key, LockMode::Update, WAIT).await?;
        let before = match before {
            LockedRow::Unchanged(value) | LockedRow::Changed(value) => value,
            LockedRow::Skipped => None,
        };
        let (value, after, node) = decide(before)?;
        if let Some(after) = after {
            txn.put(key, after)?;
        }
        if let Some(node) = node {
            txn.put(
                self::key(NODES, Some(node.store.0)),
                encode(|out| node.put(out)),
            )?;
        }
        txn.commit().await?;
        Ok(value)
    }
}

async fn try_put_shards(txn: &mut Transaction, shards: &[ShardDescriptor]) -> Result<()> {
    txn.begin_statement(SYSTEM).await?;
    for shard in shards {
        let key = key(SHARDS, Some(shard.id.0));
        let before = match txn.lock_and_get(&key, LockMode::Update, WAIT).await? {
            LockedRow::Unchanged(value) | LockedRow::Changed(value) => value,
            LockedRow::Skipped => None,
        };
        let known = before.map(row(ShardDescriptor::read)).transpose()?;
        if known.is_none_or(|known| known.generation < shard.generation) {
            txn.put(key, encode(|out| shard.put(out)))?;
        }
    }
    if txn.has_writes() {
        txn.commit().await?;
    } else {
        txn.rollback();
    }
    Ok(())
}

fn key(index: u16, number: Option<u64>) -> Bytes {
    let mut key = table_prefix(SYSTEM_TABLE).to_vec();
    key.extend_from_slice(&index.to_be_bytes());
    if let Some(number) = number {
        key.extend_from_slice(&number.to_be_bytes());
    }
    key.into()
}

/// The nodes as this store's own copy of the system shard has them, however old that is.
pub(super) fn nodes_here(engine: &dyn Engine) -> Result<Vec<NodeRow>> {
    let (start, end) = (key(NODES, None), key(NODES + 1, None));
    let snapshot = engine.snapshot();
    let newest = Timestamp::MAX;
    let page = mvcc::scan(
        &*snapshot, &start, &end, newest, false, PAGE_ROWS, PAGE_BYTES,
    )?;
    let rows = page.rows.into_iter();
    rows.map(|(_, bytes, _)| row(NodeRow::read)(bytes))
        .collect()
}

fn encode(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![VERSION];
    put(&mut out);
    out
}

fn row<T>(read: fn(&mut Reader) -> Option<T>) -> impl Fn(Bytes) -> Result<T> {
    move |bytes| {
        let mut reader = Reader::new(bytes);
        let version = reader.u8();
        let row = (version == Some(VERSION))
            .then(|| read(&mut reader))
            .flatten();
        row.filter(|_| reader.left() == 0).ok_or_else(damaged)
    }
}

fn damaged() -> Error {
    Error::corrupt("a row of the system shard cannot be read")
}
