//! An engine in front of the simulated disk that dies, fills up, hangs or has a bad block, as planned or when
//! told to.

use crate::executor::{Machines, NodeId};
use bytes::Bytes;
use parking_lot::Mutex;
use std::ops::Range;
use storage::{Damage, Engine, Error, Keyspace, Result, SimDisk, Snapshot, TableRef, WriteBatch};

/// What is to go wrong in one life of a node. Writes and syncs are counted together from 0.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The process dies at this operation.
    pub crash_at: Option<u64>,
    /// Whether the disk still carries it out.
    pub crash_after: bool,
    /// Writes of these operations find a full disk.
    pub full: Range<u64>,
}

#[derive(Debug, Default)]
struct State {
    plan: Plan,
    operations: u64,
    crashed: bool,
    full: bool,
    /// The next write or sync takes so long.
    stall_nanos: u64,
    /// The next sync does.
    stall_sync_nanos: u64,
}

/// See the module.
pub struct FaultyEngine {
    disk: SimDisk,
    host: Option<(Machines, NodeId)>,
    state: Mutex<State>,
}

impl FaultyEngine {
    pub fn new(disk: SimDisk, plan: Plan) -> Self {
        FaultyEngine {
            disk,
            host: None,
            state: Mutex::new(State {
                plan,
                ..State::default()
            }),
        }
    }

    /// The machine that hangs when its disk does.
    pub fn on(mut self, machines: Machines, node: NodeId) -> Self {
        self.host = Some((machines, node));
        self
    }

    /// The process is dead; whatever it does from now on has no effect and must not be believed.
    pub fn crashed(&self) -> bool {
        self.state.lock().crashed
    }

    /// The process is dead from now on.
    pub fn kill(&self) {
        self.state.lock().crashed = true;
    }

    /// Nothing goes wrong any more, apart from what has happened.
    pub fn be_well(&self) {
        let mut state = self.state.lock();
        state.plan = Plan::default();
        state.full = false;
        state.stall_nanos = 0;
        state.stall_sync_nanos = 0;
        drop(state);
        self.disk.set_faults(|faults| faults.bad = None);
    }

    /// The process dies at the write or sync after so many others, before or after it was carried out.
    pub fn crash_in(&self, operations: u64, carried_out: bool) {
        let mut state = self.state.lock();
        state.plan.crash_at = Some(state.operations + operations);
        state.plan.crash_after = carried_out;
    }

    /// Whether writes find a full disk.
    pub fn set_full(&self, full: bool) {
        self.state.lock().full = full;
    }

    /// The next write or sync takes so long.
    pub fn stall(&self, nanos: u64) {
        self.state.lock().stall_nanos = nanos;
    }

    /// The next sync takes so long: what is written before it may be on its way to others already.
    pub fn stall_sync(&self, nanos: u64) {
        self.state.lock().stall_sync_nanos = nanos;
    }

    /// A byte flips in the block that holds this key: who reads it, is told that it is damaged.
    pub fn damage(&self, keyspace: Keyspace, key: Bytes) {
        self.disk
            .set_faults(|faults| faults.bad = Some((keyspace, key)));
    }

    /// Counts an operation. `Some` if the disk must not carry it out.
    fn before(&self, write: bool) -> Option<Error> {
        let mut state = self.state.lock();
        if state.crashed {
            return Some(dead());
        }
        let mut stall_nanos = std::mem::take(&mut state.stall_nanos);
        if !write {
            stall_nanos = stall_nanos.max(std::mem::take(&mut state.stall_sync_nanos));
        }
        if stall_nanos > 0
            && let Some((machines, node)) = &self.host
        {
            machines.block(*node, stall_nanos);
        }
        let operation = state.operations;
        state.operations += 1;
        if state.plan.crash_at == Some(operation) {
            state.crashed = true;
            return (!state.plan.crash_after).then(dead);
        }
        if write && (state.full || state.plan.full.contains(&operation)) {
            return Some(Error::DiskFull("simulated".to_owned()));
        }
        None
    }

    fn after(&self) -> Result<()> {
        if self.crashed() { Err(dead()) } else { Ok(()) }
    }
}

fn dead() -> Error {
    Error::Io("the simulated process is dead".to_owned())
}

impl Engine for FaultyEngine {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>> {
        self.disk.get(keyspace, key)
    }

    fn snapshot(&self) -> Box<dyn Snapshot> {
        self.disk.snapshot()
    }

    fn write(&self, batch: WriteBatch) -> Result<()> {
        if let Some(error) = self.before(true) {
            return Err(error);
        }
        self.disk.write(batch)?;
        self.after()
    }

    fn sync(&self) -> Result<()> {
        if let Some(error) = self.before(false) {
            return Err(error);
        }
        self.disk.sync()?;
        self.after()
    }

    fn disk_bytes(&self) -> u64 {
        self.disk.disk_bytes()
    }

    fn tables(&self) -> Vec<TableRef> {
        self.disk.tables()
    }

    fn check_table(&self, table: TableRef) -> Result<Option<Damage>> {
        self.disk.check_table(table)
    }

    fn discard(&self, damage: &Damage) -> Result<bool> {
        self.disk.discard(damage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dice, Executor};
    use std::ops::Bound;

    const NODE: NodeId = NodeId(1);

    fn put(key: &'static str) -> WriteBatch {
        let mut batch = WriteBatch::default();
        batch.put(Keyspace::Data, key, "1");
        batch
    }

    #[test]
    fn a_stall_blocks_the_node_and_a_full_disk_refuses() {
        let executor = Executor::new(Dice::new(1));
        let machines = executor.machines().clone();
        let engine = FaultyEngine::new(SimDisk::new(), Plan::default()).on(machines.clone(), NODE);
        engine.stall(3_000_000_000);
        engine.write(put("a")).unwrap();
        assert!(!machines.runs(NODE));
        assert_eq!(machines.moment_nanos(NODE), 3_000_000_000);
        engine.sync().unwrap();
        assert_eq!(machines.moment_nanos(NODE), 3_000_000_000);
        engine.set_full(true);
        assert!(matches!(engine.write(put("b")), Err(Error::DiskFull(_))));
        engine.set_full(false);
        engine.write(put("b")).unwrap();
        engine.kill();
        assert!(engine.write(put("c")).is_err() && engine.crashed());
    }

    #[test]
    fn a_flipped_byte_is_never_served() {
        let engine = FaultyEngine::new(SimDisk::new(), Plan::default());
        for key in ["a", "b", "c"] {
            engine.write(put(key)).unwrap();
        }
        engine.damage(Keyspace::Data, "b".into());
        let corrupt = Err(Error::Corrupt("simulated: a checksum is wrong".to_owned()));
        assert_eq!(engine.get(Keyspace::Data, b"b"), corrupt);
        assert!(engine.get(Keyspace::Data, b"a").is_ok());
        let snapshot = engine.snapshot();
        let all = (Bound::Unbounded, Bound::Unbounded);
        let rows: Vec<_> = snapshot.scan(Keyspace::Data, all, false).collect();
        let sound: Vec<bool> = rows.iter().map(|row| row.is_ok()).collect();
        assert_eq!(sound, [true, false, true]);
    }
}
