//! Shows the groups to an observer, if there is one.

use super::LogWriter;
use crate::member::Member;
use crate::observe::GroupView;
use crate::replica_record::Presence;
use std::hash::Hasher;

impl LogWriter {
    pub(super) fn show(&self) {
        if let Some(observer) = self.registry.observer.get() {
            for member in self.members.values() {
                observer.group(self.view(member));
            }
        }
    }

    fn view(&self, member: &Member) -> GroupView {
        let log = member.group.log();
        let entries = log.kept_entries().map(|(position, data)| {
            let mut hasher = rustc_hash::FxHasher::default();
            hasher.write(data);
            (position, hasher.finish())
        });
        GroupView {
            store: self.store,
            shard: member.replica.shard,
            is_whole: member.record.presence == Presence::Whole,
            term: member.group.term(),
            is_leader: member.group.is_leader(),
            before: log.truncated(),
            log: entries.collect(),
            commit: member.group.committed(),
            applied: log.applied().position.index,
        }
    }
}
