//! How faults strike, and what ends them.

use super::faults::{Fault, Way};
use super::{MILLI, World, operator};
use crate::executor::NodeId;
use std::sync::Arc;

/// For how long a store promises support: whoever is silent for longer loses its leases.
const LEASE_NANOS: u64 = 1000 * MILLI;

/// What ends a fault, or follows it.
#[derive(Clone, Debug)]
pub(super) enum After {
    Start(NodeId),
    Continue(NodeId),
    Heal(Vec<(NodeId, NodeId)>),
    Space(NodeId),
    Order(NodeId, NodeId),
}

impl World {
    pub(super) fn strike(&mut self, fault: Fault) {
        let machines = self.executor.machines().clone();
        let now = machines.now_nanos();
        match fault {
            Fault::Crash {
                node,
                machine,
                away_nanos,
                moves,
            } => {
                let how = match machine {
                    true => "machine crashes",
                    false => "process crashes",
                };
                if self.crash(node, machine, away_nanos, moves) {
                    self.count(how);
                    self.count_if(moves, "moves to another address");
                }
            }
            Fault::CrashAtWrite {
                node,
                write,
                carried_out,
                away_nanos,
            } => {
                let host = self.host(node);
                host.away_nanos = away_nanos;
                if let Some(running) = &host.running {
                    running.engine.crash_in(write, carried_out);
                    self.count("crashes planned at a write");
                }
            }
            Fault::Restart { node } => {
                let begins = self.begin_shutdown(node);
                self.count_if(begins, "clean restarts");
            }
            Fault::Stop { node, nanos } => {
                if self.host(node).running.is_some() {
                    machines.stop(node, true);
                    self.later(now + nanos, After::Continue(node));
                    self.count("stops");
                    self.count_if(nanos > LEASE_NANOS, "stops longer than a lease");
                }
            }
            Fault::Stall { node, sync, nanos } => {
                if let Some(running) = &self.host(node).running {
                    match sync {
                        true => running.engine.stall_sync(nanos),
                        false => running.engine.stall(nanos),
                    }
                    self.count("disk stalls");
                    self.count_if(nanos > LEASE_NANOS, "disk stalls longer than a lease");
                }
            }
            Fault::Partition { left, nanos } => {
                let right: Vec<NodeId> = self.nodes().filter(|node| !left.contains(node)).collect();
                let cuts_off = !left.is_empty() && !right.is_empty();
                self.count_if(cuts_off, "partitions");
                let pairs = left.iter().flat_map(|a| right.iter().map(|b| (*a, *b)));
                let cuts: Vec<_> = pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect();
                self.network.cut_groups(&left, &right);
                self.later(now + nanos, After::Heal(cuts));
            }
            Fault::Cut { from, to, nanos } => {
                self.network.cut(from, to);
                self.later(now + nanos, After::Heal(vec![(from, to)]));
                self.count_if(from != to, "cuts of one direction");
            }
            Fault::Break { a, b } => {
                self.network.break_between(a, b);
                self.count_if(a != b, "breaks of a connection");
            }
            Fault::Slow {
                from,
                to,
                latency_nanos,
                nanos,
            } => {
                let range = latency_nanos / 2..latency_nanos;
                self.network.slow_down(from, to, range);
                self.count_if(from != to, "slow directions");
                self.later(now + nanos, After::Heal(vec![(from, to)]));
            }
            Fault::Clock {
                node,
                error_micros,
                drift_ppm,
            } => {
                machines.set_clock(node, |clock, now| {
                    clock.set_wall_error(now, error_micros);
                    clock.set_drift(now, drift_ppm);
                });
                self.count("clocks set wrong");
            }
            Fault::Full { node, nanos } => {
                if let Some(running) = &self.host(node).running {
                    running.engine.set_full(true);
                    self.later(now + nanos, After::Space(node));
                    self.count("full disks");
                }
            }
            Fault::LoseDisk { node, away_nanos } => {
                let lost = self.nodes().count() >= 3 && self.is_formed();
                if lost {
                    self.lose_disk(node, away_nanos);
                }
                self.count_if(lost, "disks lost");
            }
            Fault::IsolateHolder { way, nanos } => {
                let Some(holder) = self.holder() else {
                    return;
                };
                let others = self.nodes().filter(|node| *node != holder);
                let cuts = others.flat_map(|other| match way {
                    Way::Both => vec![(holder, other), (other, holder)],
                    Way::Out => vec![(holder, other)],
                    Way::In => vec![(other, holder)],
                });
                let cuts: Vec<_> = cuts.collect();
                for (from, to) in &cuts {
                    self.network.cut(*from, *to);
                }
                let cuts_off = !cuts.is_empty();
                self.later(now + nanos, After::Heal(cuts));
                self.count_if(cuts_off && way == Way::Both, "lease holders cut off");
                self.count_if(
                    cuts_off && way != Way::Both,
                    "lease holders cut off one way",
                );
            }
            Fault::Split { node, at } => {
                let gateway = self.board.lock().gateways.get(&node).cloned();
                self.count_if(gateway.is_some(), "splits asked for");
                if let Some(gateway) = gateway {
                    operator::split(gateway, at, Arc::clone(&self.board));
                }
            }
            Fault::Unruly { from, to, nanos } => {
                self.network.set_unruly(from, to, true);
                self.later(now + nanos, After::Order(from, to));
                self.count_if(from != to, "unruly directions");
            }
        }
    }

    pub(super) fn follow(&mut self, after: After) {
        match after {
            After::Start(node) => self.start(node),
            After::Continue(node) => self.executor.machines().stop(node, false),
            After::Heal(cuts) => {
                for (from, to) in cuts {
                    self.network.heal(from, to);
                    self.network.speed_up(from, to);
                }
            }
            After::Order(from, to) => self.network.set_unruly(from, to, false),
            After::Space(node) => {
                if let Some(running) = &self.host(node).running {
                    running.engine.set_full(false);
                }
            }
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.effects.entry(what).or_default() += 1;
    }

    fn count_if(&mut self, happens: bool, what: &'static str) {
        // Also those that do not happen are named, so that a kind that never does is seen.
        *self.effects.entry(what).or_default() += u64::from(happens);
    }
}
