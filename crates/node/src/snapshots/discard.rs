//! Taking damaged tables out of use.
//!
//! What the engine says of a table's keys once the table is gone may be anything: older versions, rows that were
//! removed long ago. So first every replica with keys in it is marked, durably. And what is being removed or
//! copied meanwhile begins anew, since a part of that work may go with the table.

use super::Snapshots;
use crate::inbox::Request;
use futures::channel::oneshot;
use std::sync::atomic::Ordering;
use storage::Damage;

/// The state of all discards at one moment. Work under an equal one, begun and ended, was not disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Undisturbed(u64);

impl Snapshots {
    /// `None`: a discard is going on.
    pub(super) fn undisturbed(&self) -> Option<Undisturbed> {
        let count = self.discards.load(Ordering::SeqCst);
        count.is_multiple_of(2).then_some(Undisturbed(count))
    }

    /// `false`: not possible now. One at a time.
    pub(crate) async fn discard(&self, damage: &Damage) -> storage::Result<bool> {
        self.discards.fetch_add(1, Ordering::SeqCst);
        let discarded = match self.mark(damage).await {
            true => self.engine.discard(damage),
            false => Ok(false),
        };
        self.discards.fetch_add(1, Ordering::SeqCst);
        discarded
    }

    async fn mark(&self, damage: &Damage) -> bool {
        let (reply, answer) = oneshot::channel();
        let damage = damage.clone();
        self.with_inbox(|inbox| inbox.request(Request::DamagedTable { damage, reply }));
        // A loop that has ended marks nothing.
        answer.await.unwrap_or(false)
    }

    /// Work on a span has met damage: it is to be looked for now.
    pub(super) fn note_damage(&self, error: &storage::Error) {
        if let storage::Error::Corrupt(_) = error
            && let Some(registry) = self.registry.upgrade()
        {
            registry.damage_seen.notify_one();
        }
    }
}
