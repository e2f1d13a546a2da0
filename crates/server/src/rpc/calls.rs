//! Calls that wait for their answer.

use crate::rpc::frame::Kind;
use crate::rpc::metrics::Meter;
use crate::rpc::outbox::Outbox;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;
use types::env::CallError;

type Outcome = Result<Bytes, CallError>;

/// The calls of one connection. Ids are never used twice, also not over reconnects, so an answer cannot
/// meet another call.
#[derive(Default)]
pub struct Calls(Mutex<Pending>);

#[derive(Default)]
struct Pending {
    next_id: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Outcome>>,
}

/// Forgets a call whose caller has gone or is served.
struct Waiting {
    calls: Arc<Calls>,
    meter: Arc<Meter>,
    id: u64,
}

impl Calls {
    /// Queues a request and waits for its outcome. `most` bounds the calls that wait.
    pub async fn call(
        self: Arc<Self>,
        outbox: &Outbox,
        meter: Arc<Meter>,
        most: usize,
        request: Bytes,
    ) -> Outcome {
        let (sender, outcome) = oneshot::channel();
        let id = {
            let mut pending = self.0.lock();
            let waiting = pending.waiting.len();
            if waiting >= most {
                let why = format!("{waiting} calls wait for an answer already");
                return Err(CallError::Unsent(why));
            }
            pending.next_id += 1;
            let id = pending.next_id;
            pending.waiting.insert(id, sender);
            id
        };
        meter.calls_in_flight.increment(1.0);
        let _waiting = Waiting {
            calls: self,
            meter,
            id,
        };
        outbox
            .push_request(id, request)
            .map_err(CallError::Unsent)?;
        match outcome.await {
            Ok(outcome) => outcome,
            Err(_) => Err(CallError::Broken("this node stops".to_string())),
        }
    }

    /// Hands an outcome to its caller, who may have gone.
    pub fn finish(&self, kind: Kind, id: u64, body: Bytes) {
        let Some(caller) = self.0.lock().waiting.remove(&id) else {
            return;
        };
        let reason = || String::from_utf8_lossy(&body).into_owned();
        let outcome = match kind {
            Kind::TurnedAway => Err(CallError::Unsent(reason())),
            Kind::Failed => Err(CallError::Broken(reason())),
            _ => Ok(body),
        };
        let _ = caller.send(outcome);
    }

    /// The connection is gone: all calls fail. `unsent` are those that never left.
    pub fn fail(&self, unsent: &[u64], why: &str) {
        let mut waiting = std::mem::take(&mut self.0.lock().waiting);
        for caller in unsent.iter().filter_map(|id| waiting.remove(id)) {
            let _ = caller.send(Err(CallError::Unsent(why.to_string())));
        }
        for caller in waiting.into_values() {
            let _ = caller.send(Err(CallError::Broken(why.to_string())));
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.calls.0.lock().waiting.remove(&self.id);
        self.meter.calls_in_flight.decrement(1.0);
    }
}
