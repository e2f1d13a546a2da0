//! Drives the loop until the store closes or fails.

use super::{LogWriter, Outcome};
use crate::inbox::Work;
use crate::registry::Registry;
use futures::future::{Either, select};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// How long the loop waits before it tries again to apply on a full disk.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(200);

pub(crate) async fn run(mut writer: LogWriter, registry: Arc<Registry>) {
    let end = End(Arc::clone(&registry));
    writer.recovering = false;
    while let Some(work) = next_work(&writer, &registry).await {
        let mut turned = turn(&mut writer, work, &registry).await;
        while turned == Turned::Blocked && !registry.shared.inbox.is_closing() {
            writer.env.clock.sleep(FULL_DISK_PAUSE).await;
            let work = registry.shared.inbox.take_work();
            turned = turn(&mut writer, work, &registry).await;
        }
        if turned == Turned::Failed {
            break;
        }
    }
    // Nothing new was acknowledged since the last sync, but a clean stop saves the replay.
    if let Err(error) = writer.engine.sync() {
        tracing::warn!(%error, "the last sync of the store failed");
    }
    // The engine first: who waits for the end may want to open it again.
    drop(writer);
    drop(end);
}

/// Work, or nothing when it is time to look at the clock. `None`: the store closes and all is done.
async fn next_work(writer: &LogWriter, registry: &Registry) -> Option<Work> {
    let inbox = &registry.shared.inbox;
    if writer.is_busy() {
        return Some(inbox.take_work());
    }
    let Some(pause) = writer.pause() else {
        return poll_fn(|context| inbox.poll_work(context)).await;
    };
    let work = pin!(poll_fn(|context| inbox.poll_work(context)));
    match select(work, writer.env.clock.sleep(pause)).await {
        Either::Left((work, _)) => work,
        Either::Right(((), _)) => Some(inbox.take_work()),
    }
}

/// Says that the loop is gone, also if a broken assertion ends it: nobody may wait for ever.
struct End(Arc<Registry>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.loop_ended();
    }
}

/// What a turn came to.
#[derive(PartialEq)]
enum Turned {
    Done,
    /// See [`Outcome::blocked`].
    Blocked,
    /// There must not be another one: what is on the disk of what was in hand is unknown.
    Failed,
}

async fn turn(writer: &mut LogWriter, work: Work, registry: &Registry) -> Turned {
    let mut outcome = Outcome::default();
    writer.write(work, &mut outcome);
    writer.show();
    breathe().await;
    writer.apply(&mut outcome);
    writer.show();
    breathe().await;
    match (outcome.failure, outcome.blocked) {
        (Some(error), _) => {
            registry.fail(&error);
            Turned::Failed
        }
        (None, true) => Turned::Blocked,
        (None, false) => Turned::Done,
    }
}

/// Lets others run between the parts of a turn, where there is one thread for all; on a thread of its
/// own it costs some nanoseconds. The sessions of a real node run there, too, so the simulator must.
async fn breathe() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
