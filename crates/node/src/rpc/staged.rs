//! Large commits on their way: pieces that wait at the lease holder's store for the last one.
//!
//! ```text
//!   gateway ── Stage 0 ──► kept, under the names of the gateway and its transaction
//!           ── Stage 1 ──► kept
//!           ── Commit, 2 staged ──► all of it is handed to the store as one commit
//! ```
//! Each piece is answered before the next one is sent, so one piece of each commit is on the way, and other calls
//! pass between. A piece commits nothing: whatever fails before the last request, nothing is done. Pieces live in
//! memory only. If some are missing when the commit comes, it fails with 40001.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use txn::kv::{Key, TxnId, Value};
use types::{Error, Result, SqlState, StoreId};

/// Bytes of keys and values in one piece, about: long enough that the time a piece takes on its way hardly
/// counts, short enough for a network that carries other calls beside it.
pub(super) const PIECE_BYTES: usize = 4 << 20;

/// What all pieces that wait at one store may take, in bytes: two of the largest transactions.
const STAGED_BYTES: usize = 2 << 30;

/// What a write costs beside its key and value, in bytes: two handles and their reference counts.
const WRITE_BYTES: usize = 64;

/// Of whom no piece came for so long is dropped when there is no room for others. No gateway makes pauses.
const IDLE: Duration = Duration::from_secs(60);

type Write = (Key, Option<Value>);

fn bytes((key, value): &Write) -> usize {
    key.len() + value.as_ref().map_or(0, Bytes::len) + WRITE_BYTES
}

/// Cuts a commit's writes, in their order. Each piece has at least one write and, but for a single larger one,
/// at most [`PIECE_BYTES`].
pub(super) fn pieces(writes: Vec<Write>) -> Vec<Vec<Write>> {
    if writes.iter().map(bytes).sum::<usize>() <= PIECE_BYTES {
        return match writes.is_empty() {
            true => Vec::new(),
            false => vec![writes],
        };
    }
    let mut pieces = Vec::new();
    let mut piece = Vec::new();
    let mut filled = 0;
    for write in writes {
        let more = bytes(&write);
        if !piece.is_empty() && filled + more > PIECE_BYTES {
            pieces.push(std::mem::take(&mut piece));
            filled = 0;
        }
        filled += more;
        piece.push(write);
    }
    pieces.push(piece);
    pieces
}

/// See the module.
#[derive(Default)]
pub(super) struct Staging {
    commits: BTreeMap<(StoreId, TxnId), Staged>,
    bytes: usize,
}

#[derive(Default)]
struct Staged {
    writes: Vec<Write>,
    pieces: u64,
    bytes: usize,
    /// When the last piece came; monotonic.
    last_nanos: u64,
}

impl Staging {
    /// Keeps a piece. An error: it does not follow what is here (40001), or there is no room (53200); then
    /// nothing of the commit is kept.
    pub(super) fn add(
        &mut self,
        from: StoreId,
        txn: TxnId,
        number: u64,
        mut writes: Vec<Write>,
        now_nanos: u64,
    ) -> Result<()> {
        let mut staged = self.remove(from, txn).filter(|_| number > 0);
        let more = writes.iter().map(bytes).sum::<usize>();
        if self.bytes + more > STAGED_BYTES {
            self.drop_idle(now_nanos);
        }
        let staged = staged.get_or_insert_default();
        if staged.pieces != number {
            return Err(out_of_order());
        }
        if self.bytes + staged.bytes + more > STAGED_BYTES {
            return Err(no_room());
        }
        staged.writes.append(&mut writes);
        staged.pieces += 1;
        staged.bytes += more;
        staged.last_nanos = now_nanos;
        self.bytes += staged.bytes;
        self.commits.insert((from, txn), std::mem::take(staged));
        Ok(())
    }

    /// The writes of all pieces, if there are exactly so many.
    pub(super) fn take(&mut self, from: StoreId, txn: TxnId, pieces: u64) -> Option<Vec<Write>> {
        let staged = self.remove(from, txn)?;
        (staged.pieces == pieces).then_some(staged.writes)
    }

    pub(super) fn drop_pieces(&mut self, from: StoreId, txn: TxnId) {
        self.remove(from, txn);
    }

    pub(super) fn drop_gateway(&mut self, gateway: StoreId) {
        self.retain(|from, _| from != gateway);
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn drop_idle(&mut self, now_nanos: u64) {
        let idle = IDLE.as_nanos() as u64;
        self.retain(|_, staged| now_nanos.saturating_sub(staged.last_nanos) < idle);
    }

    fn retain(&mut self, keep: impl Fn(StoreId, &Staged) -> bool) {
        self.commits.retain(|(from, _), staged| {
            let keep = keep(*from, staged);
            if !keep {
                self.bytes -= staged.bytes;
            }
            keep
        });
    }

    fn remove(&mut self, from: StoreId, txn: TxnId) -> Option<Staged> {
        let staged = self.commits.remove(&(from, txn))?;
        self.bytes -= staged.bytes;
        Some(staged)
    }
}

/// 40001: parts of a commit have been dropped on the way.
pub(super) fn out_of_order() -> Error {
    Error::new(
        SqlState::SERIALIZATION_FAILURE,
        "could not serialize access: parts of the transaction's writes are lost",
    )
    .detail("The connection between two nodes broke while they were sent.")
    .hint("The transaction might succeed if retried.")
}

fn no_room() -> Error {
    Error::new(
        SqlState::OUT_OF_MEMORY,
        "too many large transactions are being committed at the same time",
    )
    .detail(format!(
        "The node that holds the shard's lease keeps at most {STAGED_BYTES} bytes of them."
    ))
    .hint("Try again when others have ended.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FROM: StoreId = StoreId(2);
    const TXN: TxnId = TxnId(7);

    fn write(key: usize, value: usize) -> Write {
        let key = (key as u64).to_be_bytes();
        (Key::copy_from_slice(&key), Some(vec![7; value].into()))
    }

    fn second(seconds: u64) -> u64 {
        seconds * 1_000_000_000
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn pieces_are_the_whole_in_its_order_and_none_is_too_long(
            lengths in proptest::collection::vec(
                prop_oneof![9 => 0..2000usize, 1 => 0..2 * PIECE_BYTES],
                0..40,
            ),
        ) {
            let writes: Vec<Write> = lengths.into_iter().enumerate().map(|(n, l)| write(n, l)).collect();
            let pieces = pieces(writes.clone());
            let is_sound = |piece: &Vec<Write>| match piece.len() {
                0 => false,
                1 => true,
                _ => piece.iter().map(bytes).sum::<usize>() <= PIECE_BYTES,
            };
            prop_assert!(pieces.iter().all(is_sound));
            // And none could go with the one before it.
            let fits = |pair: &[Vec<Write>]| {
                let before = pair[0].iter().map(bytes).sum::<usize>();
                before + bytes(&pair[1][0]) <= PIECE_BYTES
            };
            prop_assert!(!pieces.windows(2).any(fits));
            let mut staging = Staging::default();
            let count = pieces.len() as u64;
            for (number, piece) in (0..).zip(pieces) {
                prop_assert_eq!(staging.add(FROM, TXN, number, piece, 0), Ok(()));
            }
            if count > 0 {
                prop_assert_eq!(staging.take(FROM, TXN, count), Some(writes));
            }
            prop_assert_eq!(staging.bytes, 0);
        }
    }

    #[test]
    fn what_does_not_follow_is_refused_and_what_came_before_is_dropped() {
        let mut staging = Staging::default();
        let mut add = |number| staging.add(FROM, TXN, number, vec![write(1, 5)], 0);
        add(0).expect("the first");
        add(1).expect("the second");
        let state = add(3).expect_err("the third is lost").state;
        assert_eq!(state, SqlState::SERIALIZATION_FAILURE);
        add(2).expect_err("nothing is here any more");
        add(0).expect("from the start");
        add(0).expect("once more");
        assert_eq!(staging.take(FROM, TXN, 2), None, "there was one");
        assert_eq!(staging.bytes, 0);
    }

    #[test]
    fn the_room_is_bounded_and_whoever_has_gone_leaves_it() {
        let mut staging = Staging::default();
        // Cheap to make: the values share their memory.
        let value = Bytes::from(vec![0; 16 << 20]);
        let piece = || vec![(Key::from_static(b"k"), Some(value.clone()))];
        let most = STAGED_BYTES / (16 << 20) - 1;
        for number in 0..most as u64 {
            let now = second(0);
            staging.add(FROM, TXN, number, piece(), now).expect("room");
        }
        let other = StoreId(3);
        let full = staging.add(other, TXN, 0, piece(), second(1));
        assert_eq!(full.map_err(|e| e.state), Err(SqlState::OUT_OF_MEMORY));
        staging
            .add(other, TXN, 0, vec![write(1, 1)], second(2))
            .expect("little");
        staging
            .add(other, TXN, 1, piece(), second(61))
            .expect("the first one makes no move");
        assert_eq!(staging.take(FROM, TXN, most as u64), None);
        assert!(staging.bytes > 0);
        staging.drop_gateway(other);
        assert_eq!(staging.bytes, 0);
    }
}
