//! What the proxy makes of all that it hears about one node.
//!
//! Three voices: the list of nodes (what the cluster thinks), the probes (whether it answers here and now),
//! and the clients' connections (whether they come through).
//!
//! | heard                                          | new sessions       | sessions it has                     |
//! | ---------------------------------------------- | ------------------ | ----------------------------------- |
//! | all is well                                    | yes                | go on                               |
//! | suspect; not ready; one connection failed      | if nobody else     | go on                               |
//! | draining, decommissioning                      | no                 | moved when outside of a transaction |
//! | no answer to [`PROBES_UNTIL_DEAD`] probes      | if nobody else     | ended                               |
//! | the list says dead, and a probe had no answer  | if nobody else     | ended                               |
//!
//! The list alone does not end sessions: it may come from a node that is cut off and thinks all others dead.
//!
//! Pure.

use crate::node_list::NodeState;
use crate::proxy::limits::PROBES_UNTIL_DEAD;

/// What sessions of a node have to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Serving,
    /// Sessions leave once they are outside of a transaction.
    Draining,
    /// Sessions end now.
    Dead,
    /// It is not of the cluster any more, or has another address now. Sessions leave as from a draining one.
    Removed,
}

impl Condition {
    pub fn is_leaving(self) -> bool {
        matches!(self, Condition::Draining | Condition::Removed)
    }
}

/// What came of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    Ready,
    /// It answers, but does not want clients now.
    NotReady,
    Silent,
}

/// See the module.
#[derive(Debug)]
pub struct Health {
    state: NodeState,
    draining: bool,
    ready: bool,
    /// Probes in a row without an answer.
    silent: u32,
}

impl Health {
    /// Of a node that has only been heard of. It is taken for well, so that the first clients need not wait.
    pub fn new(state: NodeState, draining: bool) -> Self {
        Health {
            state,
            draining,
            ready: true,
            silent: 0,
        }
    }

    /// The list has it. Whether it says worse than before, so that a look is due.
    pub fn told(&mut self, state: NodeState, draining: bool) -> bool {
        let worse = state != self.state && matches!(state, NodeState::Suspect | NodeState::Dead);
        (self.state, self.draining) = (state, draining);
        worse
    }

    pub fn probed(&mut self, probe: Probe) {
        self.ready = probe == Probe::Ready;
        self.silent = match probe {
            Probe::Silent => self.silent.saturating_add(1),
            Probe::Ready | Probe::NotReady => 0,
        };
    }

    /// A client's connection did not come through.
    pub fn refused(&mut self) {
        self.ready = false;
    }

    /// A client's connection came through.
    pub fn answered(&mut self) {
        self.silent = 0;
    }

    /// Whether it is a good choice.
    pub fn takes_sessions(&self) -> bool {
        self.ready && self.state == NodeState::Live
    }

    /// Whether it must not get sessions.
    pub fn drains(&self) -> bool {
        self.draining || matches!(self.state, NodeState::Draining | NodeState::Decommissioning)
    }

    pub fn condition(&self) -> Condition {
        let believed = self.state == NodeState::Dead && self.silent > 0;
        if believed || self.silent >= PROBES_UNTIL_DEAD {
            Condition::Dead
        } else if self.drains() {
            Condition::Draining
        } else {
            Condition::Serving
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Health {
        Health::new(NodeState::Live, false)
    }

    #[test]
    fn silence_takes_a_node_out_at_once_and_ends_its_sessions_later() {
        let mut health = well();
        for probe in 1..=PROBES_UNTIL_DEAD {
            assert_eq!(
                health.condition(),
                Condition::Serving,
                "before probe {probe}"
            );
            health.probed(Probe::Silent);
            assert!(!health.takes_sessions());
        }
        assert_eq!(health.condition(), Condition::Dead);
        health.probed(Probe::Ready);
        assert_eq!(
            (health.takes_sessions(), health.condition()),
            (true, Condition::Serving)
        );
    }

    #[test]
    fn the_list_alone_ends_no_session() {
        let mut health = well();
        assert!(health.told(NodeState::Dead, false), "a look is due");
        assert!(!health.told(NodeState::Dead, false), "it is no news");
        health.probed(Probe::Ready);
        assert_eq!(
            (health.takes_sessions(), health.condition()),
            (false, Condition::Serving)
        );
        health.probed(Probe::Silent);
        assert_eq!(health.condition(), Condition::Dead);
        // A client came through all the same.
        health.answered();
        assert_eq!(health.condition(), Condition::Serving);
    }

    #[test]
    fn failed_connections_never_add_up_to_death() {
        let mut health = well();
        (0..100).for_each(|_| health.refused());
        assert_eq!(
            (health.takes_sessions(), health.condition()),
            (false, Condition::Serving)
        );
    }

    #[test]
    fn who_drains_lets_sessions_go_and_who_is_not_ready_keeps_them() {
        let mut health = well();
        health.probed(Probe::NotReady);
        assert_eq!(
            (health.takes_sessions(), health.condition()),
            (false, Condition::Serving)
        );
        health.told(NodeState::Live, true);
        assert_eq!(
            (health.drains(), health.condition()),
            (true, Condition::Draining)
        );
        health.told(NodeState::Decommissioning, false);
        assert_eq!(
            (health.drains(), health.condition()),
            (true, Condition::Draining)
        );
        health.told(NodeState::Live, false);
        assert!(!health.drains());
    }
}
