//! Which peers answer first, and so on whom commits wait.

use types::StoreId;

/// The connected peers, those first whose answers decide: with such an answer something is committed. Who is sent
/// entries later than others decides nothing unless one of those is slower than that, and then takes its place.
#[derive(Debug, Default)]
pub(crate) struct Prompt(Vec<StoreId>);

impl Prompt {
    pub(crate) fn connected(&mut self, peer: StoreId, connected: bool) {
        self.0.retain(|known| *known != peer);
        if connected {
            self.0.push(peer);
        }
    }

    pub(crate) fn decided(&mut self, peer: StoreId) {
        if let Some(at) = self.0.iter().position(|known| *known == peer) {
            self.0[..=at].rotate_right(1);
        }
    }

    /// Whether so many of these stores come before this peer.
    pub(crate) fn come_before(&self, peer: StoreId, stores: &[StoreId], count: usize) -> bool {
        let before = self.0.iter().take_while(|known| **known != peer);
        before.filter(|known| stores.contains(known)).count() >= count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_decides_is_waited_for() {
        let stores = [1, 2, 3, 4, 5].map(StoreId);
        let [_, two, three, four, five] = stores;
        let mut prompt = Prompt::default();
        for peer in [two, three, four, five] {
            prompt.connected(peer, true);
        }
        let waited = |prompt: &Prompt, of: &[StoreId]| -> Vec<StoreId> {
            let peers = of[1..].iter().copied();
            let waited = peers.filter(|peer| !prompt.come_before(*peer, of, of.len() / 2));
            waited.collect()
        };
        assert_eq!(waited(&prompt, &stores), [two, three]);
        prompt.decided(five);
        assert_eq!(waited(&prompt, &stores), [two, five]);
        prompt.connected(two, false);
        assert_eq!(waited(&prompt, &stores), [three, five]);
        // A shard of which only some have replicas.
        assert_eq!(waited(&prompt, &[StoreId(1), three, four]), [three]);
        // It comes back, and is one of the last.
        prompt.connected(two, true);
        assert_eq!(waited(&prompt, &stores), [three, five]);
    }
}
