//! What a locked row is now, and whether that is still what the statement saw.

use crate::kv::{Key, Shards, Version};
use crate::transaction::LockedRow;
use std::sync::Arc;
use types::{Error, MaybeReady, Result, SqlState, Timestamp};

/// The newest committed version of a locked row.
pub(crate) fn newest(
    shards: &Arc<dyn Shards>,
    key: &[u8],
    at: Timestamp,
    fixed_snapshot: bool,
) -> MaybeReady<Result<LockedRow>> {
    match shards.get(key, Timestamp::MAX) {
        MaybeReady::Ready(Some(Ok(Some((value, version))))) => {
            let found = Version {
                value: Some(value),
                at: Some(version),
            };
            MaybeReady::ready(judge(found, at, fixed_snapshot))
        }
        // Never there, or deleted: when?
        MaybeReady::Ready(Some(Ok(None))) => shards
            .newest_version(key)
            .map(move |deleted| judge(gone(deleted?), at, fixed_snapshot)),
        MaybeReady::Ready(Some(Err(error))) => MaybeReady::ready(Err(error)),
        MaybeReady::Ready(None) => MaybeReady::Ready(None),
        MaybeReady::Pending(found) => {
            let shards = Arc::clone(shards);
            let key = Key::copy_from_slice(key);
            MaybeReady::pending(async move {
                let found = match found.await? {
                    Some((value, version)) => Version {
                        value: Some(value),
                        at: Some(version),
                    },
                    None => gone(shards.newest_version(&key).await?),
                };
                judge(found, at, fixed_snapshot)
            })
        }
    }
}

fn gone(at: Option<Timestamp>) -> Version {
    Version { value: None, at }
}

pub(crate) fn judge(newest: Version, at: Timestamp, fixed_snapshot: bool) -> Result<LockedRow> {
    let Version {
        value,
        at: committed,
    } = newest;
    if committed.is_none_or(|committed| committed <= at) {
        return Ok(LockedRow::Unchanged(value));
    }
    if fixed_snapshot {
        let what = if value.is_some() { "update" } else { "delete" };
        return Err(Error::new(
            SqlState::SERIALIZATION_FAILURE,
            format!("could not serialize access due to concurrent {what}"),
        ));
    }
    Ok(LockedRow::Changed(value))
}
