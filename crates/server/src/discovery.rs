//! How a node finds its cluster: what is pure is [`membership::discovery`]; here are the names, the local
//! network, and the loop that asks.
//!
//! ```text
//! settings ─► Search::new ─► run ─► asks over the transport, looks names up, hears the local network
//!                                 ─► Outcome: join, found, stop
//! peers that ask meanwhile ─► Search::answer
//! ```

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lan::{Announcement, Lan};
use membership::discovery::{
    Action, Answer, Discovery, Found, JoinAddress, Options, Question, Sighting,
};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use types::env::{BoxFuture, CallError, Env, Transport};

pub mod address;
pub mod dns;
pub mod lan;
pub mod settings;
#[cfg(test)]
mod tests;

/// For an answer to the question which cluster a node is of: it is one look into memory and a journey there
/// and back.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two questions to the local network: multicast DNS asks more and more seldom by itself.
const LAN_ASK_EVERY: Duration = Duration::from_secs(20);
/// Between two reports of what the node waits for, if nothing has changed.
const REPORT_EVERY: Duration = Duration::from_secs(60);
/// Between two reports at least.
const REPORT_PAUSE: Duration = Duration::from_secs(5);
/// Before the first report: most nodes find their cluster sooner.
const REPORT_FIRST: Duration = Duration::from_secs(2);

/// What the search has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Join(Found),
    /// Found a new cluster.
    Found,
    /// An operator has to decide: the reason.
    Stop(String),
}

/// What a search needs of the world.
pub struct World {
    pub env: Env,
    pub transport: Arc<dyn Transport>,
    /// The first byte of a question, by which its receiver knows that it is one.
    pub kind: u8,
    /// Is told, now and then, what the node waits for.
    pub say: Box<dyn Fn(&str) + Send + Sync>,
}

/// A node in search of its cluster.
pub struct Search {
    discovery: Mutex<Discovery>,
    /// Something was heard that the loop did not ask for.
    heard: Notify,
    world: World,
    lan: Option<Arc<Lan>>,
    /// What the local network is told while the node has no cluster.
    announcement: Option<Announcement>,
}

/// What has ended of all that is under way.
enum Event {
    Resolved(JoinAddress, Result<Vec<String>, String>),
    Answered(String, Answer),
    Failed(String, String),
}

impl Search {
    /// With `lan`, the local network is listened to as well, and told of this node until it has a cluster.
    /// From then on the announcements are the caller's, and so are the answers to questions
    /// ([`membership::discovery::Member`]).
    pub fn new(options: Options, world: World, lan: Option<Arc<Lan>>) -> Arc<Search> {
        let now_millis = world.env.clock.monotonic_nanos() / 1_000_000;
        let announcement = options.cluster.is_none().then(|| Announcement {
            node: options.node,
            cluster_name: options.cluster_name.clone(),
            member: None,
            address: options.address.clone(),
        });
        Arc::new(Search {
            announcement,
            discovery: Mutex::new(Discovery::new(options, now_millis)),
            heard: Notify::new(),
            world,
            lan,
        })
    }

    /// The answer to another node's question, which is here without the byte of its kind. `None` if it is
    /// damaged, or if there is none yet.
    pub fn answer(&self, question: &bytes::Bytes) -> Option<bytes::Bytes> {
        let question = Question::decode(question)?;
        let now = self.now_millis();
        let answer = self.discovery.lock().asked(&question, now)?;
        self.heard.notify_one();
        Some(answer.encode())
    }

    /// Runs until the node knows its cluster.
    pub async fn run(&self) -> Outcome {
        let mut under_way: FuturesUnordered<BoxFuture<Event>> = FuturesUnordered::new();
        let mut reports = Reports::new(self.now_millis());
        self.announce();
        let mut sightings = None;
        let mut next_browse_millis = 0;
        loop {
            let now = self.now_millis();
            if let Some(lan) = &self.lan
                && now >= next_browse_millis
            {
                sightings = Some(lan.sightings());
                next_browse_millis = now + millis(LAN_ASK_EVERY);
            }
            let action = self.discovery.lock().next(now);
            let until = match action {
                Action::Resolve(name) => {
                    under_way.push(Box::pin(resolve(name)));
                    continue;
                }
                Action::Ask(address) => {
                    under_way.push(self.ask(address));
                    continue;
                }
                Action::Join(found) => return Outcome::Join(found),
                Action::Found => return Outcome::Found,
                Action::Stop(reason) => return Outcome::Stop(reason),
                Action::WaitUntil(until) => until,
            };
            reports.make(now, || self.discovery.lock().waiting_for(), &self.world.say);
            let pause = Duration::from_millis(until.saturating_sub(now));
            tokio::select! {
                biased;
                Some(event) = under_way.next() => self.take(event),
                Some(sighting) = next_sighting(sightings.as_ref()) => {
                    self.discovery.lock().sighted(&sighting, self.now_millis());
                }
                () = self.heard.notified() => {}
                () = self.world.env.clock.sleep(pause) => {}
            }
        }
    }

    fn announce(&self) {
        let (Some(lan), Some(announcement)) = (&self.lan, &self.announcement) else {
            return;
        };
        if let Err(error) = lan.announce(announcement) {
            tracing::warn!(%error, "the local network cannot be told of this node");
        }
    }

    fn ask(&self, address: String) -> BoxFuture<Event> {
        let question = self.discovery.lock().question().encode();
        let mut request = Vec::with_capacity(1 + question.len());
        request.push(self.world.kind);
        request.extend_from_slice(&question);
        let answer = self.world.transport.call_address(&address, request.into());
        let too_late = self.world.env.clock.sleep(ASK_TIMEOUT);
        Box::pin(async move {
            let answer = tokio::select! {
                answer = answer => answer,
                () = too_late => return Event::Failed(address, "it does not answer".to_owned()),
            };
            if answer.as_ref().is_ok_and(bytes::Bytes::is_empty) {
                return Event::Failed(address, "it is about to enter its cluster".to_owned());
            }
            match answer.map(|answer| Answer::decode(&answer)) {
                Ok(Some(answer)) => Event::Answered(address, answer),
                Ok(None) => Event::Failed(address, "its answer is not understood".to_owned()),
                Err(CallError::Unsent(reason) | CallError::Broken(reason)) => {
                    Event::Failed(address, reason)
                }
            }
        })
    }

    fn take(&self, event: Event) {
        let (now, dice) = (self.now_millis(), self.world.env.rng.next_u64());
        let mut discovery = self.discovery.lock();
        match event {
            Event::Resolved(name, addresses) => discovery.resolved(&name, addresses, now, dice),
            Event::Answered(address, answer) => discovery.answered(&address, answer, now, dice),
            Event::Failed(address, reason) => discovery.failed(&address, reason, now, dice),
        }
    }

    fn now_millis(&self) -> u64 {
        self.world.env.clock.monotonic_nanos() / 1_000_000
    }
}

async fn resolve(name: JoinAddress) -> Event {
    let addresses = dns::resolve(&name).await;
    Event::Resolved(name, addresses)
}

/// Never completes without a local network.
async fn next_sighting(sightings: Option<&lan::Sightings>) -> Option<Sighting> {
    match sightings {
        Some(sightings) => sightings.next().await,
        None => std::future::pending().await,
    }
}

/// Says what the node waits for: soon after its start, when that changes, and else once a minute.
struct Reports {
    next_millis: u64,
    repeat_millis: u64,
    last: String,
}

impl Reports {
    fn new(now_millis: u64) -> Self {
        Reports {
            next_millis: now_millis + millis(REPORT_FIRST),
            repeat_millis: 0,
            last: String::new(),
        }
    }

    fn make(&mut self, now_millis: u64, text: impl Fn() -> String, say: &dyn Fn(&str)) {
        if now_millis < self.next_millis {
            return;
        }
        let text = text();
        if text != self.last || now_millis >= self.repeat_millis {
            say(&text);
            self.last = text;
            self.repeat_millis = now_millis + millis(REPORT_EVERY);
        }
        self.next_millis = now_millis + millis(REPORT_PAUSE);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
