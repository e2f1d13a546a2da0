//! What commits replace: looked up once, by the leader that proposes them, and told to all replicas in the entry.
//!
//! A row that is written moves its old version to the history, so whoever applies the write needs that version. To look
//! it up costs a search in memtables and tables, or a read from disk where a table is larger than memory, on the
//! thread that writes the log. The leader's gateway has just read the row, most of the time; its followers have not.
//!
//! **Guarantee:** what is said is what each replica finds when it applies the entry, whenever that is. For all
//! entries before it are then applied, in the same order everywhere, and of a key that one of them writes and
//! that is not applied here yet, nothing is said. A leader proposes commits only once what earlier leaders left is
//! applied, so those are its own. Tombstones count as nothing: each store removes its own when it likes.

use crate::member::{Effect, Member};
use crate::replica_record::Presence;
use bytes::Bytes;
use consensus::{Command, Commit, Replaced};
use rustc_hash::FxHashSet;
use storage::{Engine, mvcc};
use types::Timestamp;

/// Longer values are not put into the log once more.
const VALUE_BYTES: usize = 4 << 10;

/// See the module. Commits of more than `most_writes` are left as they are: they are applied in order of
/// their keys, which needs fewer searches.
pub(super) fn say_what_is_replaced(
    member: &Member,
    commands: &mut [Command],
    engine: &dyn Engine,
    most_writes: usize,
) {
    // Alone it would write the versions twice for nobody.
    if member.is_alone() || member.record.presence != Presence::Whole {
        return;
    }
    let Some(mut written) = keys_under_way(member) else {
        return;
    };
    for command in commands {
        match command {
            Command::Commit(commit) => {
                if commit.writes.len() <= most_writes {
                    commit.replaced = replaced(commit, &written, engine);
                }
                written.extend(keys(commit));
            }
            // It writes what the parts say.
            Command::Finish(_) => return,
            _ => {}
        }
    }
}

/// The keys that entries write which are not applied yet. `None`: those are not known.
fn keys_under_way(member: &Member) -> Option<FxHashSet<Bytes>> {
    let mut under_way = FxHashSet::default();
    for (_, command) in &member.proposed {
        match command {
            Command::Commit(commit) => under_way.extend(keys(commit)),
            Command::Finish(_) => return None,
            _ => {}
        }
    }
    for (_, effect) in &member.committed {
        match effect {
            Effect::Write(commit) => under_way.extend(keys(commit)),
            Effect::Finish(_) => return None,
            _ => {}
        }
    }
    Some(under_way)
}

fn keys(commit: &Commit) -> impl Iterator<Item = Bytes> {
    commit.writes.iter().map(|(key, _)| key.clone())
}

fn replaced(commit: &Commit, under_way: &FxHashSet<Bytes>, engine: &dyn Engine) -> Vec<Replaced> {
    let one = |(key, _): &(Bytes, Option<Bytes>)| match under_way.contains(key) {
        true => Replaced::Unsaid,
        // Whoever applies it meets damage by itself.
        false => {
            mvcc::get(engine, key, Timestamp::MAX).map_or(Replaced::Unsaid, |found| match found {
                None => Replaced::Nothing,
                Some((value, at)) if at < commit.commit_ts && value.len() <= VALUE_BYTES => {
                    Replaced::Version(at, value)
                }
                Some(_) => Replaced::Unsaid,
            })
        }
    };
    commit.writes.iter().map(one).collect()
}
