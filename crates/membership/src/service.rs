//! The membership service: which stores there are, and in what state each is.
//!
//! ```text
//!             first heard of            heard for a while
//!   (unknown) ──────────────► joining ──────────────────► live ◄────────────┐
//!                                                          │ │              │ heard again
//!                                       silent, 1 s        │ │ asked to     │
//!                    ┌─────────────────────────────────────┘ │ drain        │
//!                    ▼            heard again                ▼              │
//!                 suspect ───────────────► live           draining ─────────┤
//!                    │                                       │ asked to go  │ cancelled
//!                    │ silent, 5 min                         ▼              │
//!                    ▼            heard again          decommissioning ─────┘
//!                  dead ─────────────────► live              │ holds nothing
//!                                                            ▼
//!                                                      decommissioned   (for ever)
//! ```
//!
//! Two things make a state: what the cluster has decided about a store (its [`Intent`], kept in the system
//! shard), and whether it is heard. Silence counts for a store that drains, too: it is then suspect or
//! dead, and goes on where it was once it is heard again. A store that was asked to go and is silent is dead
//! at once: whoever asks for that of a node that is lost wants what it held to be made good now.
//!
//! A store whose place has been taken by another, which answers at the same address, is dead as soon as it is
//! suspect. If it comes back all the same, at another address, it is live again and has lost no more than time:
//! its replicas were moved by changes of members.
//!
//! Pure: facts and time are arguments; changes come out as [`Event`]s, for the caller and for whoever has
//! subscribed. What is known is lost with the process: the cluster manager writes events down, and
//! [`MembershipService::restore`]s states from them when it takes over.

use std::collections::BTreeMap;
use tokio::sync::broadcast;
use types::StoreId;

/// Events that a subscriber may be behind before it misses the oldest of them.
const SUBSCRIPTION_EVENTS: usize = 256;

/// What the cluster wants of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Intent {
    #[default]
    Serve,
    Drain,
    Decommission,
    /// It holds nothing any more and may never come back.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Joining,
    Live,
    Suspect,
    Dead,
    Draining,
    Decommissioning,
    Decommissioned,
}

impl State {
    pub const ALL: [State; 7] = [
        State::Joining,
        State::Live,
        State::Suspect,
        State::Dead,
        State::Draining,
        State::Decommissioning,
        State::Decommissioned,
    ];

    /// The state of this name.
    pub fn named(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.name() == name)
    }

    /// The name in SQL, metrics and the console.
    pub fn name(self) -> &'static str {
        match self {
            State::Joining => "joining",
            State::Live => "live",
            State::Suspect => "suspect",
            State::Dead => "dead",
            State::Draining => "draining",
            State::Decommissioning => "decommissioning",
            State::Decommissioned => "decommissioned",
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A new store must be heard for this long before it counts, in milliseconds: a process that dies
    /// while it starts shall not be given replicas.
    pub join_millis: u64,
    /// Silence after which a store is suspect, in milliseconds.
    pub suspect_millis: u64,
    /// Silence after which what it held is made good elsewhere, in milliseconds.
    pub dead_millis: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            join_millis: 500,
            suspect_millis: 1000,
            dead_millis: 5 * 60 * 1000,
        }
    }
}

/// A store has changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub store: StoreId,
    /// `None`: it is new.
    pub from: Option<State>,
    pub to: State,
    pub at_millis: u64,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    intent: Intent,
    state: State,
    first_heard_millis: u64,
    heard_millis: u64,
    /// Another store answers at its address.
    displaced: bool,
    /// How long it had been silent already at `heard_millis`: before this service began.
    silent_before_millis: u64,
}

/// See the module.
#[derive(Debug)]
pub struct MembershipService {
    options: Options,
    members: BTreeMap<StoreId, Member>,
    events: broadcast::Sender<Event>,
}

impl MembershipService {
    pub fn new(options: Options) -> Self {
        MembershipService {
            options,
            members: BTreeMap::new(),
            events: broadcast::Sender::new(SUBSCRIPTION_EVENTS),
        }
    }

    /// All changes of states from now on. Who is too slow misses the oldest.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Knows a store already, as it was when somebody wrote it down: its silence goes on from there.
    pub fn restore(&mut self, store: StoreId, intent: Intent, state: State, now_millis: u64) {
        let member = Member {
            intent,
            state,
            first_heard_millis: now_millis,
            heard_millis: now_millis,
            silent_before_millis: match state {
                State::Suspect => self.options.suspect_millis,
                State::Dead => self.options.dead_millis,
                _ => 0,
            },
            displaced: false,
        };
        self.members.insert(store, member);
    }

    /// Forgets all, and whoever subscribed stays subscribed.
    pub fn clear(&mut self) {
        self.members.clear();
    }

    pub fn state(&self, store: StoreId) -> Option<State> {
        self.members.get(&store).map(|member| member.state)
    }

    pub fn states(&self) -> impl Iterator<Item = (StoreId, State)> + '_ {
        self.members.iter().map(|(id, member)| (*id, member.state))
    }

    /// A sign of life of `store`. Times are monotonic milliseconds of this node.
    pub fn heard(&mut self, store: StoreId, now_millis: u64) -> Option<Event> {
        let Some(member) = self.members.get_mut(&store) else {
            return Some(self.admit(store, Intent::Serve, now_millis));
        };
        member.heard_millis = member.heard_millis.max(now_millis);
        member.displaced = false;
        member.silent_before_millis = 0;
        self.update(store, now_millis)
    }

    /// What the system shard says about `store`. A store that it knows is a member even if it was never
    /// heard by this node, and its silence counts from now.
    pub fn decided(&mut self, store: StoreId, intent: Intent, now_millis: u64) -> Option<Event> {
        let Some(member) = self.members.get_mut(&store) else {
            return Some(self.admit(store, intent, now_millis));
        };
        member.intent = intent;
        self.update(store, now_millis)
    }

    /// A newer store was heard at the address of `store`. Holds until `store` is heard again.
    pub fn displaced(&mut self, store: StoreId, now_millis: u64) -> Option<Event> {
        self.members.get_mut(&store)?.displaced = true;
        self.update(store, now_millis)
    }

    /// Time has passed: who is silent?
    pub fn tick(&mut self, now_millis: u64) -> Vec<Event> {
        let stores: Vec<StoreId> = self.members.keys().copied().collect();
        let events = stores.into_iter().map(|id| self.update(id, now_millis));
        events.flatten().collect()
    }

    fn admit(&mut self, store: StoreId, intent: Intent, now_millis: u64) -> Event {
        let mut member = Member {
            intent,
            state: State::Joining,
            first_heard_millis: now_millis,
            heard_millis: now_millis,
            displaced: false,
            silent_before_millis: 0,
        };
        member.state = member.state_at(now_millis, self.options);
        self.members.insert(store, member);
        self.tell(Event {
            store,
            from: None,
            to: member.state,
            at_millis: now_millis,
        })
    }

    fn tell(&self, event: Event) -> Event {
        // Nobody need have subscribed.
        let _ = self.events.send(event);
        event
    }

    fn update(&mut self, store: StoreId, now_millis: u64) -> Option<Event> {
        let member = self.members.get_mut(&store)?;
        let (from, to) = (member.state, member.state_at(now_millis, self.options));
        member.state = to;
        (from != to).then(|| {
            self.tell(Event {
                store,
                from: Some(from),
                to,
                at_millis: now_millis,
            })
        })
    }
}

impl Member {
    fn state_at(&self, now_millis: u64, options: Options) -> State {
        if self.intent == Intent::Gone {
            return State::Decommissioned;
        }
        let silent = now_millis.saturating_sub(self.heard_millis) + self.silent_before_millis;
        // Who was asked to go and says nothing is not waited for.
        let goes = self.intent == Intent::Decommission && silent >= options.suspect_millis;
        if silent >= options.dead_millis || goes {
            return State::Dead;
        }
        if silent >= options.suspect_millis {
            return match self.displaced {
                true => State::Dead,
                false => State::Suspect,
            };
        }
        match self.intent {
            Intent::Drain => State::Draining,
            Intent::Decommission => State::Decommissioning,
            Intent::Serve | Intent::Gone => {
                let known = self.heard_millis.saturating_sub(self.first_heard_millis);
                match known >= options.join_millis || self.state != State::Joining {
                    true => State::Live,
                    false => State::Joining,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: StoreId = StoreId(1);

    fn options() -> Options {
        Options {
            join_millis: 500,
            suspect_millis: 1000,
            dead_millis: 10_000,
        }
    }

    /// Hears A every 100 ms between two times, and writes down the states.
    fn hear(service: &mut MembershipService, from: u64, to: u64) -> Vec<State> {
        let heard = (from..to).step_by(100);
        let events = heard.filter_map(|now| service.heard(A, now));
        events.map(|event| event.to).collect()
    }

    #[test]
    fn a_store_joins_falls_silent_dies_and_returns() {
        let mut service = MembershipService::new(options());
        assert_eq!(hear(&mut service, 0, 2000), [State::Joining, State::Live]);
        assert!(service.tick(2800).is_empty());
        let events = service.tick(2950);
        let suspect = Event {
            store: A,
            from: Some(State::Live),
            to: State::Suspect,
            at_millis: 2950,
        };
        assert_eq!(events, [suspect]);
        assert_eq!(hear(&mut service, 3000, 4000), [State::Live]);
        let to = |events: Vec<Event>| events.first().map(|event| event.to);
        assert_eq!(to(service.tick(5000)), Some(State::Suspect));
        assert_eq!(to(service.tick(13_000)), None);
        assert_eq!(to(service.tick(13_900)), Some(State::Dead));
        assert_eq!(hear(&mut service, 14_000, 14_100), [State::Live]);
    }

    #[test]
    fn silence_counts_while_a_store_drains_and_its_intent_stays() {
        let mut service = MembershipService::new(options());
        hear(&mut service, 0, 2000);
        let drained = service.decided(A, Intent::Drain, 2000);
        assert_eq!(drained.map(|event| event.to), Some(State::Draining));
        service.tick(4000);
        assert_eq!(service.state(A), Some(State::Suspect));
        assert_eq!(hear(&mut service, 4100, 4200), [State::Draining]);
        let cancelled = service.decided(A, Intent::Serve, 4200);
        assert_eq!(cancelled.map(|event| event.to), Some(State::Live));
    }

    #[test]
    fn who_is_decommissioned_does_not_come_back() {
        let mut service = MembershipService::new(options());
        hear(&mut service, 0, 2000);
        service.decided(A, Intent::Decommission, 2000);
        assert_eq!(service.state(A), Some(State::Decommissioning));
        service.decided(A, Intent::Gone, 2100);
        assert!(hear(&mut service, 2200, 9000).is_empty());
        assert_eq!(service.state(A), Some(State::Decommissioned));
    }

    #[test]
    fn who_was_asked_to_go_and_is_silent_is_dead_at_once() {
        let mut service = MembershipService::new(options());
        hear(&mut service, 0, 2000);
        service.tick(4000);
        assert_eq!(service.state(A), Some(State::Suspect));
        let gone = service.decided(A, Intent::Decommission, 4000);
        assert_eq!(gone.map(|event| event.to), Some(State::Dead));
        assert_eq!(hear(&mut service, 4100, 4200), [State::Decommissioning]);
    }

    #[test]
    fn a_store_whose_place_is_taken_is_dead_at_once_but_may_return() {
        let mut service = MembershipService::new(options());
        hear(&mut service, 0, 2000);
        assert_eq!(service.displaced(A, 2100), None);
        let dead = service.tick(2900);
        assert_eq!(dead.first().map(|event| event.to), Some(State::Dead));
        assert_eq!(hear(&mut service, 3000, 3100), [State::Live]);
        service.tick(4500);
        assert_eq!(service.state(A), Some(State::Suspect));
    }

    #[test]
    fn a_restored_store_is_no_news_and_goes_on_being_silent() {
        let (b, c) = (StoreId(2), StoreId(3));
        let mut service = MembershipService::new(options());
        service.restore(A, Intent::Drain, State::Draining, 100);
        service.restore(b, Intent::Serve, State::Live, 100);
        service.restore(c, Intent::Serve, State::Dead, 100);
        assert_eq!(service.heard(A, 200), None);
        assert_eq!(service.heard(b, 200), None);
        assert_eq!(service.decided(c, Intent::Serve, 200), None);
        assert_eq!(service.state(c), Some(State::Dead));
        let back = service.heard(c, 300).map(|event| event.to);
        assert_eq!(back, Some(State::Live));
        let mut events = service.subscribe();
        service.tick(1250);
        let told = std::iter::from_fn(|| events.try_recv().ok());
        let told: Vec<_> = told.map(|event| (event.store, event.to)).collect();
        assert_eq!(told, [(A, State::Suspect), (b, State::Suspect)]);
    }

    #[test]
    fn a_store_that_was_never_heard_dies_all_the_same() {
        let mut service = MembershipService::new(options());
        service.decided(A, Intent::Serve, 0);
        service.tick(1000);
        assert_eq!(service.state(A), Some(State::Suspect));
        service.tick(10_000);
        assert_eq!(service.state(A), Some(State::Dead));
    }
}
