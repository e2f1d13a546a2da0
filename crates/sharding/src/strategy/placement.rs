//! Where a bucket's replicas should lie.

use types::StoreId;

/// How stores are chosen for a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Where there is room, and so that stores have about as many replicas each.
    #[default]
    Balanced,
    /// On the first stores of the shard's own [`ranking`], as far as they may lie together.
    Ranked,
}

/// The stores in the order in which a shard prefers them: by weights that are hashes of both names (rendezvous
/// hashing: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998).
///
/// The order of two stores does not depend on the others. So a store that joins takes the places that it ranks
/// first for and changes no other, and the first n stores of a shard change by one at most.
pub fn ranking(shard_start: &[u8], stores: impl IntoIterator<Item = StoreId>) -> Vec<StoreId> {
    let weight = |store: StoreId| {
        let mut names = Vec::with_capacity(shard_start.len() + 8);
        names.extend_from_slice(shard_start);
        names.extend_from_slice(&store.0.to_be_bytes());
        super::hash_of(&names)
    };
    let mut ranked: Vec<(u64, StoreId)> = stores.into_iter().map(|s| (weight(s), s)).collect();
    ranked.sort_unstable_by(|a, b| b.cmp(a));
    ranked.into_iter().map(|(_, store)| store).collect()
}
