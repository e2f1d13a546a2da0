//! What a replica can start from instead of the log before it.
//!
//! A leader whose log no longer reaches back to what a follower lacks sends a snapshot. raft-rs's
//! message carries only this head; the rows of the shard are streamed by the driver. It takes both from
//! one engine snapshot, so that they belong together:
//!
//! ```text
//!   leader                                       follower
//!   MsgSnapshot ──► driver: engine snapshot      rows arrive, checked, in a place of their own
//!                   head = Snapshot::read        then step(MsgSnapshot with that head)
//!                   rows of the span             effects(): one batch replaces log and rows
//! ```

use crate::log_store::{Applied, GroupId, Position, read_head};
use crate::membership::Membership;
use raft::eraftpb;
use types::Timestamp;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub applied: Applied,
    pub membership: Membership,
}

impl Snapshot {
    /// Of a group as an engine snapshot holds it.
    pub fn read(group: GroupId, from: &dyn storage::Snapshot) -> storage::Result<Self> {
        let (applied, membership) = read_head(group, from)?;
        Ok(Snapshot {
            applied,
            membership,
        })
    }

    /// Of a message, if it carries one.
    pub fn of_message(message: &eraftpb::Message) -> Option<Self> {
        Self::from_raft(message.get_snapshot())
    }

    /// Puts this one in the place of that of the message.
    pub fn replace_in(&self, message: &mut eraftpb::Message) {
        message.set_snapshot(self.to_raft());
    }

    pub(crate) fn from_raft(snapshot: &eraftpb::Snapshot) -> Option<Self> {
        let meta = snapshot.get_metadata();
        if meta.index == 0 {
            return None;
        }
        let commit_ts = <[u8; 8]>::try_from(&snapshot.data[..]).ok()?;
        Some(Snapshot {
            applied: Applied {
                position: Position {
                    index: meta.index,
                    term: meta.term,
                },
                commit_ts: Timestamp(u64::from_le_bytes(commit_ts)),
            },
            membership: Membership::from_raft(meta.get_conf_state()),
        })
    }

    pub(crate) fn to_raft(&self) -> eraftpb::Snapshot {
        let mut snapshot = eraftpb::Snapshot {
            data: self.applied.commit_ts.0.to_le_bytes().to_vec().into(),
            ..eraftpb::Snapshot::default()
        };
        let meta = snapshot.mut_metadata();
        meta.index = self.applied.position.index;
        meta.term = self.applied.position.term;
        meta.set_conf_state(self.membership.to_raft());
        snapshot
    }
}
