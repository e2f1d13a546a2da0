//! A client: runs one operation after the other, each in a session on some gateway, and notes what it was told.
//!
//! A session is a task of the gateway's node, as in the real server: it dies with the node and stands still
//! with it. The client only waits for its answer, and not for ever.

use super::history::{Answer, History};
use super::session::Session;
use crate::dice::Dice;
use crate::executor::{Machines, NodeId};
use crate::network::OUTSIDE;
use futures::channel::oneshot;
use futures::future::{Either, select};
use node::Store;
use parking_lot::Mutex;
use sharding::ShardDescriptor;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use txn::Coordinator;
use types::env::{BoxFuture, Clock, Env};

/// A running node, as clients reach it.
#[derive(Clone)]
pub(super) struct Gateway {
    pub(super) coordinator: Coordinator,
    pub(super) env: Env,
    pub(super) store: Arc<Store>,
}

/// What the clients and the world share.
#[derive(Default)]
pub(super) struct Board {
    pub(super) gateways: BTreeMap<NodeId, Gateway>,
    pub(super) history: History,
    /// The accounts are open.
    pub(super) opened: bool,
    /// Members that somebody removes, or has removed.
    pub(super) removing: BTreeSet<u64>,
    /// Operations acknowledged to each client.
    pub(super) progress: BTreeMap<u64, u64>,
    /// Shards that were split.
    pub(super) splits: u64,
    /// Of all replicas, once the world is at rest.
    pub(super) descriptors: Vec<ShardDescriptor>,
    /// As nodes have read it then.
    pub(super) maps: Vec<types::Result<Vec<ShardDescriptor>>>,
    /// Clients end after the operation in hand.
    pub(super) stopped: bool,
    /// Clients that have ended.
    pub(super) ended: u64,
    next_id: u64,
}

impl Board {
    /// A number that nobody has had: a register's value, a member of the set.
    pub(super) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// How clients behave in a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manners {
    /// Longest pause between two operations, in nanoseconds.
    pub(super) pause_nanos: u64,
    /// How many of their operations are reads, beside those among the others.
    pub(super) reads_percent: u64,
    /// How long they wait for an answer, in nanoseconds.
    pub(super) patience_nanos: u64,
}

pub(super) struct Client {
    pub(super) id: u64,
    pub(super) board: Arc<Mutex<Board>>,
    pub(super) machines: Machines,
    pub(super) dice: Dice,
    pub(super) manners: Manners,
    clock: Arc<dyn Clock>,
    /// The only gateway it asks; else any.
    gateway: Option<NodeId>,
}

impl Client {
    pub(super) fn start(
        id: u64,
        board: Arc<Mutex<Board>>,
        machines: &Machines,
        dice: Dice,
        manners: Manners,
    ) {
        let env = machines.env(OUTSIDE);
        board.lock().progress.insert(id, 0);
        let client = Client {
            id,
            board,
            machines: machines.clone(),
            dice,
            manners,
            clock: env.clock,
            gateway: None,
        };
        env.spawn.spawn("client", Box::pin(client.run()));
    }

    /// One that reads everything once on each gateway, and ends.
    pub(super) fn start_reader(
        id: u64,
        board: Arc<Mutex<Board>>,
        machines: &Machines,
        dice: Dice,
        manners: Manners,
    ) {
        let env = machines.env(OUTSIDE);
        let mut client = Client {
            id,
            board,
            machines: machines.clone(),
            dice,
            manners,
            clock: env.clock,
            gateway: None,
        };
        let read = async move {
            let gateways: Vec<NodeId> = client.board.lock().gateways.keys().copied().collect();
            for gateway in gateways {
                client.gateway = Some(gateway);
                client.read_everything().await;
            }
            client.board.lock().ended += 1;
        };
        env.spawn.spawn("reader", Box::pin(read));
    }

    async fn run(mut self) {
        while !self.board.lock().stopped {
            self.operate().await;
            let pause = self.dice.below(self.manners.pause_nanos);
            self.clock.sleep(Duration::from_nanos(pause)).await;
        }
        self.board.lock().ended += 1;
    }

    pub(super) fn now(&self) -> u64 {
        self.machines.now_nanos()
    }

    /// Runs `body` in a session on a gateway of its choice. Returns when it began, too.
    pub(super) async fn session<T: Send + 'static>(
        &mut self,
        body: impl FnOnce(Session) -> BoxFuture<types::Result<T>>,
    ) -> (u64, Answer<T>) {
        let gateway = loop {
            let found = {
                let board = self.board.lock();
                match self.gateway {
                    Some(node) => board.gateways.get(&node).cloned(),
                    None => {
                        let place = self.dice.below(board.gateways.len() as u64) as usize;
                        board.gateways.values().nth(place).cloned()
                    }
                }
            };
            match found {
                Some(gateway) => break gateway,
                None => self.clock.sleep(Duration::from_millis(50)).await,
            }
        };
        let begin = self.now();
        let running = body(Session {
            coordinator: gateway.coordinator,
            clock: Arc::clone(&gateway.env.clock),
            dice: self.dice.fork(),
        });
        let (tell, told) = oneshot::channel();
        gateway.env.spawn.spawn(
            "session",
            Box::pin(async move {
                // The client may have gone away.
                let _ = tell.send(running.await);
            }),
        );
        drop((gateway.env, gateway.store));
        let patience = Duration::from_nanos(self.manners.patience_nanos);
        let answer = match select(told, self.clock.sleep(patience)).await {
            Either::Left((answer, _)) => answer.ok(),
            Either::Right(_) => None,
        };
        (begin, answer)
    }

    pub(super) fn progress(&self) -> u64 {
        self.board
            .lock()
            .progress
            .get(&self.id)
            .copied()
            .unwrap_or(0)
    }

    /// Notes that an operation was acknowledged: the client goes on.
    pub(super) fn progressed(&self) {
        *self.board.lock().progress.entry(self.id).or_default() += 1;
    }
}
