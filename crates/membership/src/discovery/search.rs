//! The state machine of a node that searches. See [`super`] for the rule.

use super::candidate::{Candidate, Heard, Retry};
use super::{
    Action, Answer, FOUNDER_SILENT_MILLIS, Found, JoinAddress, LAN_LISTEN_MILLIS, MAX_ASKED,
    MAX_CANDIDATES, Options, Question, RESOLVE_MILLIS, Sighting, host_port,
};
use std::collections::{BTreeMap, BTreeSet};

/// The longest wait that [`Discovery::next`] asks for, in milliseconds.
const MAX_WAIT_MILLIS: u64 = 1000;
/// Between two questions to a node that searches, too, in milliseconds: how soon its luck is shared.
const SEARCHING_MILLIS: u64 = 500;
/// Between two questions to a node that has refused, in milliseconds: an operator has to act first.
const REFUSED_MILLIS: u64 = 10_000;

struct Name {
    retry: Retry,
    resolving: bool,
    /// Where it led last, or why it leads nowhere.
    addresses: Result<BTreeSet<String>, String>,
}

/// A node in search of its cluster. See the module above.
pub struct Discovery {
    options: Options,
    started_millis: u64,
    /// Addresses that the list gives as they are.
    listed: BTreeSet<String>,
    names: BTreeMap<JoinAddress, Name>,
    candidates: BTreeMap<String, Candidate>,
    /// Addresses that are this node.
    own: BTreeSet<String>,
    /// Clusters of this name that the local network tells of, and a node of each.
    sighted: BTreeMap<u128, String>,
    end: Option<Action>,
}

impl Discovery {
    pub fn new(options: Options, now_millis: u64) -> Self {
        let own = options.own_addresses.iter().chain([&options.address]);
        let mut discovery = Discovery {
            own: own.cloned().collect(),
            started_millis: now_millis,
            listed: BTreeSet::new(),
            names: BTreeMap::new(),
            candidates: BTreeMap::new(),
            sighted: BTreeMap::new(),
            end: None,
            options,
        };
        for address in discovery.options.join.clone() {
            match address {
                JoinAddress::Node { host, port } => {
                    let address = host_port(&host, port);
                    discovery.consider(&address, now_millis);
                    discovery.listed.insert(address);
                }
                name @ JoinAddress::Dns { .. } => {
                    let unresolved = Name {
                        retry: Retry::at(now_millis),
                        resolving: false,
                        addresses: Err("it was not looked up yet".to_owned()),
                    };
                    discovery.names.insert(name, unresolved);
                }
            }
        }
        discovery
    }

    /// What to do now. Several names and addresses may be under way at a time: the driver calls this until
    /// it is told to wait.
    pub fn next(&mut self, now_millis: u64) -> Action {
        if self.end.is_none() {
            self.drop_silent_founders(now_millis);
            self.end = self.decide(now_millis);
        }
        if let Some(end) = &self.end {
            return end.clone();
        }
        for (address, name) in &mut self.names {
            if !name.resolving && name.retry.is_due(now_millis) {
                name.resolving = true;
                return Action::Resolve(address.clone());
            }
        }
        let under_way = self.candidates.values().filter(|other| other.asked).count();
        if under_way < MAX_ASKED && !self.is_listening(now_millis) {
            for (address, other) in &mut self.candidates {
                if !other.asked && other.retry.is_due(now_millis) {
                    other.asked = true;
                    return Action::Ask(address.clone());
                }
            }
        }
        Action::WaitUntil(self.next_due_millis(now_millis))
    }

    /// What to ask whoever listens at an address.
    pub fn question(&self) -> Question {
        self.options.question()
    }

    /// A name leads to these addresses, or nowhere, for a reason.
    pub fn resolved(
        &mut self,
        name: &JoinAddress,
        addresses: Result<Vec<String>, String>,
        now_millis: u64,
        dice: u64,
    ) {
        let addresses = addresses.and_then(|list| match list.is_empty() {
            true => Err("it leads to no address".to_owned()),
            false => Ok(list.into_iter().collect::<BTreeSet<String>>()),
        });
        for address in addresses.iter().flatten() {
            self.consider(address, now_millis);
        }
        let Some(known) = self.names.get_mut(name) else {
            return;
        };
        known.resolving = false;
        match addresses.is_ok() {
            true => known.retry.again(RESOLVE_MILLIS, now_millis, dice),
            false => known.retry.back_off(now_millis, dice),
        }
        // What it led to before counts no more, unless something else leads there.
        let before = std::mem::replace(&mut known.addresses, addresses);
        let left = before.into_iter().flatten();
        let gone: Vec<String> = left.filter(|address| !self.is_named(address)).collect();
        for address in gone {
            self.candidates.remove(&address);
        }
    }

    /// Nobody answers at `address`.
    pub fn failed(&mut self, address: &str, reason: String, now_millis: u64, dice: u64) {
        if let Some(other) = self.candidates.get_mut(address) {
            other.asked = false;
            other.retry.back_off(now_millis, dice);
            other.heard = Heard::Silent(reason);
        }
    }

    /// Somebody answered at `address`.
    pub fn answered(&mut self, address: &str, answer: Answer, now_millis: u64, dice: u64) {
        let Some(other) = self.candidates.get_mut(address) else {
            return;
        };
        other.asked = false;
        other.heard_millis = now_millis;
        other.first_hand = true;
        other.founder = None;
        match answer {
            Answer::Found {
                cluster,
                store,
                peers,
            } => {
                if self.options.cluster.is_none_or(|known| known == cluster) {
                    let address = address.to_owned();
                    self.end.get_or_insert(Action::Join(Found {
                        cluster,
                        store,
                        address,
                        peers,
                    }));
                } else {
                    other.refused("it belongs to another cluster", now_millis, dice);
                }
            }
            Answer::Searching {
                node,
                address: advertised,
                bootstrap,
                founders,
            } => {
                if node == self.options.node {
                    self.candidates.remove(address);
                    self.own.insert(address.to_owned());
                    return;
                }
                other.retry.again(SEARCHING_MILLIS, now_millis, dice);
                other.heard = Heard::Searching;
                other.founder = bootstrap.then_some(advertised);
                for founder in founders {
                    self.consider_founder(&founder, now_millis);
                }
            }
            Answer::Refused(reason) => other.refused(&reason, now_millis, dice),
        }
    }

    /// Another node asks. It is one more that may know something. `None`: this node has found its cluster, or founds
    /// one, and cannot say more yet. It does not search any more, and whoever took it for a searching node might found
    /// another cluster.
    pub fn asked(&mut self, question: &Question, now_millis: u64) -> Option<Answer> {
        if question.cluster_name != self.options.cluster_name {
            return Some(Answer::Refused(format!(
                "this node searches for the cluster `{}`, not `{}`",
                self.options.cluster_name, question.cluster_name
            )));
        }
        if self.end.is_some() {
            return None;
        }
        if question.node != self.options.node {
            match question.bootstrap {
                true => self.consider_founder(&question.address, now_millis),
                false => self.consider(&question.address, now_millis),
            }
            if let Some(other) = self.candidates.get_mut(&question.address) {
                other.heard_millis = now_millis;
                other.first_hand = true;
            }
        }
        // Only those that this node itself has heard of: else two nodes would keep a dead one alive.
        let others = self.candidates.values().filter(|other| other.first_hand);
        Some(Answer::Searching {
            node: self.options.node,
            address: self.options.address.clone(),
            bootstrap: self.question().bootstrap,
            founders: others.filter_map(|other| other.founder.clone()).collect(),
        })
    }

    /// The local network tells of a node.
    pub fn sighted(&mut self, sighting: &Sighting, now_millis: u64) {
        if sighting.cluster_name != self.options.cluster_name {
            return;
        }
        if let Some(cluster) = sighting.cluster {
            let address = sighting.address.clone();
            self.sighted.entry(cluster).or_insert(address);
        }
        self.consider(&sighting.address, now_millis);
        if let Some(other) = self.candidates.get_mut(&sighting.address) {
            other.sighted = true;
        }
    }

    /// What the node waits for and what an operator may do, as lines of text.
    pub fn waiting_for(&self) -> String {
        let mut lines = vec![match self.options.cluster {
            Some(_) => "searching for the other nodes of this cluster".to_owned(),
            None => format!(
                "searching for the cluster `{}`; none was found yet",
                self.options.cluster_name
            ),
        }];
        for (name, state) in &self.names {
            if let Err(reason) = &state.addresses {
                lines.push(format!("  {name}: {reason}"));
            }
        }
        for (address, other) in &self.candidates {
            lines.push(match &other.heard {
                Heard::Nothing => format!("  {address}: no answer yet"),
                Heard::Silent(reason) => format!("  {address}: {reason}"),
                Heard::Searching => format!("  {address}: searches, too"),
                Heard::Refused(reason) => format!("  {address}: refuses: {reason}"),
            });
        }
        if self.candidates.is_empty() && self.options.lan {
            lines.push("  no other node was seen on the local network".to_owned());
        }
        lines.push(self.advice().to_owned());
        lines.join("\n")
    }

    fn advice(&self) -> &'static str {
        if self.options.cluster.is_some() {
            "Start enough of the other nodes, or name one that runs with --join."
        } else if self.options.bootstrap {
            "This node founds a cluster once all of these have answered and have none. To found one without \
             them, start it without --join and --discover."
        } else {
            "If the cluster is new, start one node with --bootstrap, or without --join and --discover."
        }
    }

    fn decide(&self, now_millis: u64) -> Option<Action> {
        if self.sighted.len() > 1 && self.options.cluster.is_none() {
            let seen = self.sighted.iter();
            let seen: Vec<String> = seen.map(|(id, at)| format!("{id:032x} at {at}")).collect();
            return Some(Action::Stop(format!(
                "the local network has several clusters named `{}`: {}. Name a node of the right one with --join.",
                self.options.cluster_name,
                seen.join(", ")
            )));
        }
        if !self.options.bootstrap || self.options.cluster.is_some() {
            return None;
        }
        let address = &self.options.address;
        let founders = || {
            self.candidates
                .values()
                .filter_map(|other| other.founder.as_ref())
        };
        if founders().any(|founder| founder == address) {
            return Some(Action::Stop(format!(
                "another node advertises the address {address}, too; give each its own with --advertise-addr"
            )));
        }
        let first = founders().all(|founder| founder > address);
        (first && self.is_sure(now_millis)).then_some(Action::Found)
    }

    /// Nobody that this node was told of has a cluster.
    fn is_sure(&self, now_millis: u64) -> bool {
        let resolved = self.names.values().all(|name| name.addresses.is_ok());
        let has_none = |address: &String| {
            let other = self.candidates.get(address);
            self.own.contains(address) || other.is_some_and(|other| other.heard == Heard::Searching)
        };
        let named = self.listed.iter().chain(self.resolved_addresses());
        let met = self.candidates.iter();
        let mut met = met.filter(|(_, other)| other.founder.is_some() || other.sighted);
        resolved
            && !self.is_listening(now_millis)
            && named.into_iter().all(has_none)
            && met.all(|(address, _)| has_none(address))
    }

    fn resolved_addresses(&self) -> impl Iterator<Item = &String> {
        let names = self.names.values();
        names
            .filter_map(|name| name.addresses.as_ref().ok())
            .flatten()
    }

    /// The list, or a name of it, leads there.
    fn is_named(&self, address: &str) -> bool {
        self.listed.contains(address) || self.resolved_addresses().any(|known| known == address)
    }

    fn is_listening(&self, now_millis: u64) -> bool {
        self.options.lan && now_millis < self.started_millis + LAN_LISTEN_MILLIS
    }

    fn next_due_millis(&self, now_millis: u64) -> u64 {
        let names = self.names.values().filter(|name| !name.resolving);
        let others = self.candidates.values().filter(|other| !other.asked);
        let due = names
            .map(|name| name.retry.due_millis())
            .chain(others.map(|other| other.retry.due_millis()))
            .filter(|due| *due > now_millis)
            .min();
        let longest = now_millis + MAX_WAIT_MILLIS;
        due.unwrap_or(longest).min(longest)
    }

    /// An address to ask, unless it is this node's.
    fn consider(&mut self, address: &str, now_millis: u64) {
        let room = self.candidates.len() < MAX_CANDIDATES;
        if room && !address.is_empty() && !self.own.contains(address) {
            self.candidates
                .entry(address.to_owned())
                .or_insert_with(|| Candidate::new(now_millis));
        }
    }

    /// The same of a node that may found a cluster, unless it answers at another address already.
    fn consider_founder(&mut self, address: &str, now_millis: u64) {
        let is_founder = |other: &Candidate| other.founder.as_deref() == Some(address);
        let answers = |other: &Candidate| other.heard == Heard::Searching && is_founder(other);
        if self.candidates.values().any(answers) {
            return;
        }
        self.consider(address, now_millis);
        if let Some(other) = self.candidates.get_mut(address) {
            other.founder = Some(address.to_owned());
        }
    }

    /// Those that nobody named: they were heard of by chance, and may be gone for ever.
    fn drop_silent_founders(&mut self, now_millis: u64) {
        let gone: Vec<String> = self
            .candidates
            .iter()
            .filter(|(_, other)| now_millis >= other.heard_millis + FOUNDER_SILENT_MILLIS)
            .filter(|(address, _)| !self.is_named(address))
            .map(|(address, _)| address.clone())
            .collect();
        for address in gone {
            self.candidates.remove(&address);
        }
    }
}

impl Candidate {
    fn refused(&mut self, reason: &str, now_millis: u64, dice: u64) {
        self.retry.again(REFUSED_MILLIS, now_millis, dice);
        self.heard = Heard::Refused(reason.to_owned());
    }
}
