//! Rows, or entries of an index, under keys that nobody else can have written.
//!
//! A rewritten table has a new data id and an index under construction a new index id. Neither was ever given before, and
//! the transaction that has made them has not committed. So whether a key is taken is known from the transaction's own
//! writes: nobody is asked, and nothing is locked. That is what lets a node that does not hold the lease rewrite a table
//! as fast as one that does.

use txn::{FreshBuilder, Transaction};
use types::Result;

/// What a row takes beside its key, in bytes: a guess that is right for narrow rows and cheap for wide ones.
const ROW_BYTES: usize = 128;

/// A page of them, in the order in which they are made.
pub(super) struct NewRows {
    rows: FreshBuilder,
    unique: Vec<bool>,
}

impl NewRows {
    pub fn with_capacity(rows: usize) -> Self {
        NewRows {
            rows: FreshBuilder::with_capacity(rows, rows * ROW_BYTES),
            unique: Vec::with_capacity(rows),
        }
    }

    /// `unique`: no other may have the same key. `encode` appends the value.
    pub fn add(
        &mut self,
        key: &[u8],
        unique: bool,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        self.rows.bytes().extend_from_slice(key);
        self.rows.end_key();
        encode(self.rows.bytes())?;
        self.rows.end_value();
        self.unique.push(unique);
        Ok(())
    }

    /// Buffers them all, or says which is the first with a unique key that is taken.
    pub fn put(self, txn: &mut Transaction) -> Result<Option<usize>> {
        if let Some(rows) = self.rows.clone().finish()
            && txn.put_own(rows)?
        {
            return Ok(None);
        }
        for (number, unique) in self.unique.into_iter().enumerate() {
            let key = self.rows.key(number);
            if unique && txn.has_written(key) {
                return Ok(Some(number));
            }
            txn.put(key.to_vec(), self.rows.value(number).to_vec())?;
        }
        Ok(None)
    }
}
