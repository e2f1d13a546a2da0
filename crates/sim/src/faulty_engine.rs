//! An engine in front of the simulated disk that dies or fills up at a chosen write or sync.

use parking_lot::Mutex;
use std::ops::Range;
use storage::{Engine, Error, Keyspace, Result, SimDisk, Snapshot, WriteBatch};

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
}

/// See the module.
pub struct FaultyEngine {
    disk: SimDisk,
    state: Mutex<State>,
}

impl FaultyEngine {
    pub fn new(disk: SimDisk, plan: Plan) -> Self {
        FaultyEngine {
            disk,
            state: Mutex::new(State {
                plan,
                ..State::default()
            }),
        }
    }

    /// The process is dead; whatever it does from now on has no effect and must not be believed.
    pub fn crashed(&self) -> bool {
        self.state.lock().crashed
    }

    /// Counts an operation. `Some` if the disk must not carry it out.
    fn before(&self, write: bool) -> Option<Error> {
        let mut state = self.state.lock();
        if state.crashed {
            return Some(dead());
        }
        let operation = state.operations;
        state.operations += 1;
        if state.plan.crash_at == Some(operation) {
            state.crashed = true;
            return (!state.plan.crash_after).then(dead);
        }
        if write && state.plan.full.contains(&operation) {
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
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<bytes::Bytes>> {
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
}
