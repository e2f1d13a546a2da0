//! Some nodes, clients on all of them, a network, and everything that goes wrong with them.
//!
//! ```text
//!   start ──► clients work ──► faults strike ──► all faults end ──► all nodes serve, every client commits again
//!                                                                    │ within LIVENESS_NANOS
//!        check what clients were told ◄── read it all once more ◄── replicas are equal
//! ```
//!
//! The faults of a run are drawn from its seed before it begins ([`Fault`]): crashes of processes and machines,
//! stops, stalls, full and lost disks, partitions, cuts of one direction, lease holders cut off, broken, slow and unruly
//! connections, clocks that are wrong within their bound, restarts at new addresses. Shards are split all the while.
//!
//! Checked at every step: Raft's safety properties, and one lease holder per shard and moment. At the end: the
//! histories of all clients (see [`crate::checker`]), that the replicas hold the same, and that the shards cover all
//! keys, each once.

use crate::checker::{self, Checked, coverage};
use crate::dice::Dice;
use crate::executor::{Executor, NodeId, Step, mix};
use crate::network::{self, Network, OUTSIDE};
use crate::one_node::small_parts;
use client::{Board, Client, Manners};
use host::Host;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use strike::After;
use watch::Watch;

mod client;
mod faults;
mod history;
mod host;
mod minimise;
mod operator;
mod session;
mod strike;
#[cfg(test)]
mod tests;
mod watch;
mod workload;

pub use faults::{Fault, Way};
pub use minimise::minimise;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLI;

/// Once all faults have ended, every client must have committed something within this virtual time.
const LIVENESS_NANOS: u64 = 30 * SECOND;
/// And then the replicas must be equal within this.
const CONVERGENCE_NANOS: u64 = 30 * SECOND;
/// A map that is not told within this is asked for again.
const MAP_NANOS: u64 = 5 * SECOND;
/// Between two looks at whether something has come true.
const LOOK_NANOS: u64 = 50 * MILLI;

/// What a run is made of, apart from its seed.
#[derive(Clone, Debug)]
pub struct Options {
    pub nodes: u32,
    /// Faults strike for so long, in virtual nanoseconds.
    pub fault_nanos: u64,
    /// Instead of faults drawn from the seed: when, and what.
    pub faults: Option<Vec<(u64, Fault)>>,
    /// What is wrong with the program on purpose.
    pub bug: Bug,
}

/// Bugs that must be found: what this world is worth is proven by them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bug {
    #[default]
    None,
    /// Commits are acknowledged, votes are cast and support is promised before they are on disk.
    SkipSync,
    /// Leases end when support ends by the holder's own clock, as if all clocks showed the same.
    SkipOffset,
    /// Commits are acknowledged before other stores have stopped to answer what was newest before them.
    SkipReaders,
}

impl Bug {
    /// Those that are bugs.
    pub const ALL: [Bug; 3] = [Bug::SkipSync, Bug::SkipOffset, Bug::SkipReaders];
}

impl Default for Options {
    fn default() -> Self {
        Options {
            nodes: 3,
            fault_nanos: 12 * SECOND,
            faults: None,
            bug: Bug::None,
        }
    }
}

/// What happened in a run that found nothing wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub seed: u64,
    /// Equal for two runs of one seed.
    pub trace_hash: u64,
    pub steps: u64,
    pub virtual_nanos: u64,
    pub faults: u64,
    /// What the faults were, as far as they did something.
    pub effects: BTreeMap<&'static str, u64>,
    pub lives: u64,
    pub acknowledged: u64,
    pub refused: u64,
    pub unknown: u64,
    /// By SQLSTATE.
    pub errors: BTreeMap<String, u64>,
    /// From the end of all faults until every client had committed something.
    pub recovery_nanos: u64,
    pub network: network::Stats,
    /// By checker: what it has checked.
    pub checked: Vec<(&'static str, Checked)>,
}

/// What must not be, and the run to see it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub seed: u64,
    pub at_nanos: u64,
    pub what: String,
    /// The faults that had struck.
    pub faults: Vec<(u64, Fault)>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |nanos: u64| nanos as f64 / 1e6;
        write!(
            f,
            "seed {}, at {:.3} ms: {}",
            self.seed,
            millis(self.at_nanos),
            self.what
        )?;
        for (at, fault) in &self.faults {
            write!(f, "\n  {:.3} ms: {fault}", millis(*at))?;
        }
        Ok(())
    }
}

impl std::error::Error for Violation {}

/// Runs the world of this seed.
pub fn run(seed: u64, options: &Options) -> Result<Report, Violation> {
    let mut world = World::new(seed, options);
    match world.play() {
        Ok(report) => Ok(report),
        Err(what) => Err(Violation {
            seed,
            at_nanos: world.executor.machines().now_nanos(),
            what,
            faults: std::mem::take(&mut world.struck),
        }),
    }
}

/// Rounds and logs so short that much happens in little time.
fn store_options(dice: &mut Dice, nodes: u32, bug: Bug) -> node::Options {
    let mut options = node::Options {
        broken_skip_sync: bug == Bug::SkipSync,
        broken_skip_offset: bug == Bug::SkipOffset,
        broken_skip_readers: bug == Bug::SkipReaders,
        ..node::Options::default()
    };
    options.manager.round = Duration::from_millis(200);
    options.manager.membership.join_millis = 200;
    // Sometimes whoever is away for long is replaced without being asked for.
    options.manager.membership.dead_millis = [3000, 300_000][dice.below(2) as usize];
    options.manager.replication_factor = nodes as usize;
    options.log.log_entries = 8 + dice.below(100) as usize;
    options.parts = small_parts(options.log.log_entries);
    // Clients pause so long that there are moments without a commit.
    options.read_leases = node::read_leases::Options {
        reads: 1 + dice.below(3) as u32,
        quiet: Duration::from_millis(dice.below(10)),
        life: Duration::from_millis(50 + dice.below(1000)),
    };
    options
}

/// Runs one seed after the other with a bug. The first violation that it shows, and none if so many seeds do not.
pub fn prove(bug: Bug, seeds: Range<u64>, options: &Options) -> Option<Violation> {
    let options = Options {
        bug,
        ..options.clone()
    };
    seeds.into_iter().find_map(|seed| run(seed, &options).err())
}

struct World {
    seed: u64,
    dice: Dice,
    executor: Executor,
    network: Network,
    hosts: Vec<Host>,
    names: host::Names,
    board: Arc<Mutex<Board>>,
    clients: u64,
    faults: VecDeque<(u64, Fault)>,
    struck: Vec<(u64, Fault)>,
    effects: BTreeMap<&'static str, u64>,
    after: BTreeMap<(u64, u64), After>,
    /// Faults are counted from here.
    began_nanos: u64,
    fault_nanos: u64,
    options: node::Options,
    watch: Watch,
    steps: u64,
    next_id: u64,
}

impl World {
    fn new(seed: u64, options: &Options) -> World {
        let mut dice = Dice::new(seed);
        let store_options = store_options(&mut dice, options.nodes, options.bug);
        let executor = Executor::new(dice.fork());
        let machines = executor.machines().clone();
        let network = Network::new(machines, dice.fork(), network::Options::default());
        let drawn = faults::draw(&mut dice.fork(), options.nodes, options.fault_nanos);
        let faults = options.faults.clone().unwrap_or(drawn);
        let hosts: Vec<Host> = (1..=options.nodes)
            .map(|node| Host::new(NodeId(node)))
            .collect();
        let names = (1..).map(NodeId).zip(&hosts);
        let names = names.map(|(node, host)| (node, host.address.clone()));
        World {
            seed,
            executor,
            network,
            names: Arc::new(Mutex::new(names.collect())),
            hosts,
            board: Arc::default(),
            clients: 0,
            faults: faults.into(),
            struck: Vec::new(),
            effects: BTreeMap::new(),
            after: BTreeMap::new(),
            began_nanos: 0,
            fault_nanos: options.fault_nanos,
            options: store_options,
            watch: Watch::default(),
            steps: 0,
            next_id: 0,
            dice,
        }
    }

    fn play(&mut self) -> Result<Report, String> {
        self.set_clocks();
        for node in self.nodes() {
            self.start(node);
        }
        let manners = Manners {
            pause_nanos: [20, 100, 500][self.dice.below(3) as usize] * MILLI,
            reads_percent: [0, 0, 80][self.dice.below(3) as usize],
            patience_nanos: 5 * SECOND,
        };
        // Sometimes faults strike while the cluster is being made.
        if self.dice.percent(80) {
            self.await_formation()?;
        }
        for _ in 0..=self.dice.below(6) {
            self.start_client(manners);
        }
        self.began_nanos = self.now();
        for (at, _) in &mut self.faults {
            *at += self.began_nanos;
        }
        self.run_until(self.began_nanos + self.fault_nanos)?;
        self.end_faults();
        let healed = self.now();
        self.await_progress()?;
        let recovery_nanos = self.now() - healed;
        self.stop_clients(manners)?;
        self.await_equal_replicas()?;
        self.read_everything(manners)?;
        let map = self.check_map()?;
        self.report(recovery_nanos, map)
    }

    fn now(&self) -> u64 {
        self.executor.machines().now_nanos()
    }

    fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.hosts.len() as u32).map(NodeId)
    }

    fn host(&mut self, node: NodeId) -> &mut Host {
        &mut self.hosts[node.0 as usize - 1]
    }

    /// Every clock is a little wrong.
    fn set_clocks(&mut self) {
        for node in self.nodes() {
            let error = self.dice.below(20_000) as i64 - 10_000;
            let drift = self.dice.below(100) as i32 - 50;
            self.executor.machines().set_clock(node, |clock, now| {
                clock.set_wall_error(now, error);
                clock.set_drift(now, drift);
            });
        }
    }

    fn start_client(&mut self, manners: Manners) {
        self.clients += 1;
        let board = Arc::clone(&self.board);
        let machines = self.executor.machines();
        Client::start(self.clients, board, machines, self.dice.fork(), manners);
    }

    fn later(&mut self, at_nanos: u64, after: After) {
        self.next_id += 1;
        self.after.insert((at_nanos, self.next_id), after);
    }

    /// Lets the world go on, with what goes wrong in it.
    fn run_until(&mut self, until_nanos: u64) -> Result<(), String> {
        while self.now() < until_nanos {
            let fault = self.faults.front().map(|(at, _)| *at);
            let after = self.after.keys().next().map(|(at, _)| *at);
            let next = fault.into_iter().chain(after).chain([until_nanos]).min();
            let next = next.unwrap_or(until_nanos);
            while self.now() < next {
                self.step(next)?;
            }
            let now = self.now();
            while let Some((at, fault)) = self.faults.pop_front_if(|(at, _)| *at <= now) {
                self.struck.push((at - self.began_nanos, fault.clone()));
                tracing::info!(target: "sim", %fault, "a fault strikes");
                self.strike(fault);
            }
            while let Some(first) = self.after.first_entry()
                && first.key().0 <= now
            {
                let after = first.remove();
                tracing::info!(target: "sim", ?after, "follows");
                self.follow(after);
            }
        }
        Ok(())
    }

    fn step(&mut self, limit_nanos: u64) -> Result<(), String> {
        self.steps += 1;
        if let Step::Polled(node) = self.executor.step_until(limit_nanos)
            && node != OUTSIDE
        {
            self.look_after(node)?;
            let claims = self.executor.machines().observe(|| self.claims());
            self.watch.look(self.now(), &claims)?;
        }
        match self.board.lock().history.unexpected.take() {
            Some(what) => Err(what),
            None => Ok(()),
        }
    }

    /// All faults end: whoever is away comes back, and nothing else goes wrong.
    fn end_faults(&mut self) {
        tracing::info!(target: "sim", "all faults end");
        self.faults.clear();
        self.after.clear();
        self.network.heal_all();
        for node in self.nodes() {
            self.executor.machines().stop(node, false);
            if let Some(running) = &self.host(node).running {
                running.engine.be_well();
            }
            self.start(node);
        }
    }

    /// Runs until `done`, for no longer than this.
    fn run_until_done(
        &mut self,
        most_nanos: u64,
        mut done: impl FnMut(&mut World) -> bool,
    ) -> Result<bool, String> {
        let end = self.now() + most_nanos;
        while self.now() < end {
            if done(self) {
                return Ok(true);
            }
            self.run_until(self.now() + LOOK_NANOS)?;
        }
        Ok(done(self))
    }

    fn await_formation(&mut self) -> Result<(), String> {
        match self.run_until_done(LIVENESS_NANOS, |world| world.is_formed())? {
            true => Ok(()),
            false => Err("the nodes do not make a cluster".to_owned()),
        }
    }

    /// All nodes serve, and every client has committed something.
    fn await_progress(&mut self) -> Result<(), String> {
        let before = self.board.lock().progress.clone();
        let idle = |world: &World| -> Vec<u64> {
            let board = world.board.lock();
            let idle = before
                .iter()
                .filter(|(id, count)| board.progress[id] <= **count);
            idle.map(|(id, _)| *id).collect()
        };
        let silent = |world: &World| -> Vec<u32> {
            let board = world.board.lock();
            let silent = world
                .nodes()
                .filter(|node| !board.gateways.contains_key(node));
            silent.map(|node| node.0).collect()
        };
        let done = |world: &mut World| idle(world).is_empty() && silent(world).is_empty();
        if self.run_until_done(LIVENESS_NANOS, done)? {
            return Ok(());
        }
        let errors = self.board.lock().history.told.errors.clone();
        Err(format!(
            "{} s after the last fault clients {:?} of {} have not committed anything and nodes {:?} do not serve; \
             errors so far: {errors:?}\n{}\n{}",
            LIVENESS_NANOS / SECOND,
            idle(self),
            self.clients,
            silent(self),
            self.watch.describe(),
            host::troubles(&self.hosts)
        ))
    }

    fn stop_clients(&mut self, manners: Manners) -> Result<(), String> {
        self.board.lock().stopped = true;
        let longest = 2 * (manners.patience_nanos + manners.pause_nanos);
        let clients = self.clients;
        let ended = |world: &mut World| world.board.lock().ended == clients;
        match self.run_until_done(longest, ended)? {
            true => Ok(()),
            false => Err("a client does not end".to_owned()),
        }
    }

    fn await_equal_replicas(&mut self) -> Result<(), String> {
        let equal = |world: &mut World| host::contents_are_equal(&world.hosts);
        match self.run_until_done(CONVERGENCE_NANOS, equal)? {
            true => Ok(()),
            false => Err(format!(
                "{} s after the last write the replicas still differ:\n{}\n{}\n{}",
                CONVERGENCE_NANOS / SECOND,
                host::differences(&self.hosts),
                self.watch.describe(),
                host::troubles(&self.hosts)
            )),
        }
    }

    /// One more client reads all that there is, on every node.
    fn read_everything(&mut self, manners: Manners) -> Result<(), String> {
        {
            let mut board = self.board.lock();
            board.stopped = false;
            board.ended = 0;
        }
        self.clients += 1;
        let board = Arc::clone(&self.board);
        let machines = self.executor.machines();
        Client::start_reader(self.clients, board, machines, self.dice.fork(), manners);
        let ended = |world: &mut World| world.board.lock().ended == 1;
        match self.run_until_done(LIVENESS_NANOS, ended)? {
            true => Ok(()),
            false => Err("what was written cannot be read".to_owned()),
        }
    }

    /// The shards, as their replicas know them and as the rows say, cover all keys, each once. Rows follow replicas, so
    /// it is looked until that is so.
    fn check_map(&mut self) -> Result<Checked, String> {
        let end = self.now() + LIVENESS_NANOS;
        loop {
            operator::look_at_map(&self.board);
            let nodes = self.hosts.len();
            let told = |world: &mut World| world.board.lock().maps.len() >= nodes;
            let left = end.saturating_sub(self.now());
            if !self.run_until_done(left.min(MAP_NANOS), told)? {
                if self.now() < end {
                    // A node that was asked has ended since: it was about to start again when the faults ended.
                    continue;
                }
                let told = self.board.lock().maps.len();
                return Err(format!(
                    "the map is told by {told} nodes:\n{}\n{}",
                    self.watch.describe(),
                    host::troubles(&self.hosts)
                ));
            }
            match self.compare_maps() {
                Err(_) if self.now() < end => self.run_until(self.now() + LOOK_NANOS)?,
                compared => return compared,
            }
        }
    }

    fn compare_maps(&self) -> Result<Checked, String> {
        let board = self.board.lock();
        let broken = |broken: checker::Broken| broken.to_string();
        let checked = coverage::check(&board.descriptors).map_err(broken)?;
        for map in &board.maps {
            let map = map.as_ref().map_err(|error| error.to_string())?;
            let rows = coverage::check(map).map_err(broken)?;
            if rows.count("shards") != checked.count("shards") {
                return Err(format!(
                    "the rows of the map say {rows}, the replicas {checked}"
                ));
            }
        }
        Ok(checked)
    }

    fn report(&mut self, recovery_nanos: u64, map: Checked) -> Result<Report, String> {
        let board = self.board.lock();
        let mut checked = board.history.check().map_err(|broken| broken.to_string())?;
        checked.extend(self.watch.checked());
        checked.push(("map", map));
        let told = &board.history.told;
        let stats = self.network.stats();
        let mut effects = std::mem::take(&mut self.effects);
        effects.insert("messages that arrived twice", stats.messages_twice);
        effects.insert("shards that were split", board.splits);
        let stores = board.gateways.values();
        let by_read_lease = stores.map(|gateway| gateway.store.read_lease_snapshots());
        effects.insert("snapshots by read lease", by_read_lease.sum());
        effects.insert("messages that arrived out of order", stats.messages_late);
        Ok(Report {
            seed: self.seed,
            trace_hash: mix(self.executor.trace_hash(), told.hash),
            steps: self.steps,
            virtual_nanos: self.executor.machines().now_nanos(),
            faults: self.struck.len() as u64,
            effects,
            lives: self.hosts.iter().map(|host| host.lives).sum(),
            acknowledged: told.acknowledged,
            refused: told.refused,
            unknown: told.unknown,
            errors: told.errors.clone(),
            recovery_nanos,
            network: stats,
            checked,
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Nodes hold the network, and the network holds nodes.
        for node in self.nodes() {
            self.network.end(node, true);
        }
        self.board.lock().gateways.clear();
    }
}
