//! Keys and values of a table's rows and index entries.
//!
//! | entry | key | value |
//! | --- | --- | --- |
//! | row | data id · 1 · primary key columns, or the hidden row id | the whole row, every column by position |
//! | unique index | data id · index id · columns | the row key's part behind its prefix |
//! | other index | data id · index id · columns · the row key's part | the same |
//!
//! A unique index entry with a NULL in it is keyed like one of a non-unique index (NULLs are
//! distinct), unless the index is `NULLS NOT DISTINCT`. A row's own value always holds its key
//! columns too, so keys are never decoded.
//!
//! In a table whose rows are put in buckets (see [`sharding::strategy`]) all of them begin with data id · 0 ·
//! bucket instead of data id, and "the row key's part" is bucket · 1 · primary key columns. An index entry has
//! the bucket of its row. A scan without the columns that decide the bucket reads one span for each.
//!
//! `char(n)` goes into keys without its trailing blanks, because it compares without them.

mod buckets;

use crate::catalog::descriptor::{Index, IndexColumn, IndexKey, ObjectId, PRIMARY_INDEX_ID, Table};
use buckets::{Buckets, Prefix};
use bytes::Bytes;
use smallvec::{SmallVec, smallvec};
use std::ops::Bound;
use std::sync::Arc;
use txn::kv::{Key, Span};
use types::row::{RowLayout, RowView};
use types::{Datum, Error, FormatContext, Result, Row, SqlType, key};

/// Keys of table locks: in the system shard, so that a granted lock tells of newer definitions, apart from
/// system rows.
const TABLE_LOCK_DATA_ID: u32 = key::FIRST_USER_TABLE_ID - 1;

/// Room for a key of a few columns, in bytes.
const KEY_CAPACITY: usize = 32;
/// Room for an encoded row, in bytes.
const ROW_CAPACITY: usize = 128;

/// First byte of an encoded column that is a value: see [`types::key`].
const VALUE_TAG: u8 = 0x01;

/// The key whose lock stands for the whole table: `KeyShare` to write rows, `Update` for DDL.
pub fn table_lock_key(table: ObjectId) -> Vec<u8> {
    let mut out = Vec::with_capacity(key::INDEX_PREFIX_LEN + 4);
    out.extend_from_slice(&key::index_prefix(TABLE_LOCK_DATA_ID, 0));
    out.extend_from_slice(&table.to_be_bytes());
    out
}

/// The spans of one question: one, or one for each bucket that may have an answer.
pub type Spans = SmallVec<[Span; 1]>;

/// Which order of keys a scan follows: the primary key's, or an index's by its place in
/// [`Table::indexes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Primary,
    Secondary(usize),
}

/// One column of a key as the codec needs it.
#[derive(Clone, Debug)]
pub struct KeyColumn {
    /// Column position; `None` for an expression.
    pub column: Option<usize>,
    pub sql_type: SqlType,
    pub descending: bool,
    pub nulls_first: bool,
}

impl KeyColumn {
    fn encode(&self, out: &mut Vec<u8>, datum: &Datum) {
        if let (SqlType::Char(_), Datum::Text(text)) = (&self.sql_type, datum) {
            let bare = text.trim_end_matches(' ');
            if bare.len() != text.len() {
                let bare = Datum::Text(bare.into());
                key::encode(out, &bare, self.descending, self.nulls_first);
                return;
            }
        }
        key::encode(out, datum, self.descending, self.nulls_first);
    }
}

/// What a table's keys and rows look like, prepared once for each version of its descriptor.
#[derive(Debug)]
pub struct TableCodec {
    table: Arc<Table>,
    layout: RowLayout,
    /// Values of columns that older rows lack.
    missing: Vec<Datum>,
    /// What a row's key has before the part that index entries remember.
    row_prefix: [u8; key::INDEX_PREFIX_LEN],
    buckets: Option<Buckets>,
    /// Empty for a table without primary key.
    primary: Vec<KeyColumn>,
    /// In the order of [`Table::indexes`].
    secondary: Vec<Vec<KeyColumn>>,
}

impl TableCodec {
    pub fn new(table: Arc<Table>) -> Result<TableCodec> {
        let types: Vec<SqlType> = table.columns.iter().map(|c| c.sql_type.clone()).collect();
        let mut missing = Vec::with_capacity(types.len());
        for column in &table.columns {
            missing.push(match &column.missing {
                Some(text) if !column.dropped => {
                    Datum::parse_text(text, &column.sql_type, &FormatContext::default())?
                }
                _ => Datum::Null,
            });
        }
        let primary = match &table.primary_key {
            Some(primary) => primary
                .columns
                .iter()
                .map(|position| key_column(&table, *position))
                .collect::<Result<_>>()?,
            None => Vec::new(),
        };
        let index_column = |column: &IndexColumn| -> Result<KeyColumn> {
            let base = match &column.key {
                IndexKey::Column(position) => key_column(&table, *position)?,
                IndexKey::Expression(_, sql_type) => KeyColumn {
                    column: None,
                    sql_type: sql_type.clone(),
                    descending: false,
                    nulls_first: false,
                },
            };
            Ok(KeyColumn {
                descending: column.descending,
                nulls_first: column.nulls_first,
                ..base
            })
        };
        let secondary = table
            .indexes
            .iter()
            .map(|index| index.columns.iter().map(index_column).collect())
            .collect::<Result<_>>()?;
        let buckets = Buckets::of(&table)?;
        let row_index = match buckets {
            Some(_) => key::BUCKETS_INDEX_ID,
            None => PRIMARY_INDEX_ID,
        };
        Ok(TableCodec {
            layout: RowLayout::new(&types),
            missing,
            row_prefix: key::index_prefix(table.data_id, row_index),
            buckets,
            primary,
            secondary,
            table,
        })
    }

    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    pub fn has_primary_key(&self) -> bool {
        !self.primary.is_empty()
    }

    /// The key columns of an access path. A table without primary key has none for its rows.
    pub fn key_columns(&self, access: Access) -> &[KeyColumn] {
        match access {
            Access::Primary => &self.primary,
            Access::Secondary(index) => self.secondary.get(index).map_or(&[], Vec::as_slice),
        }
    }

    /// How many buckets the table has; 0: its keys have none in them.
    pub fn buckets(&self) -> u16 {
        self.buckets.as_ref().map_or(0, Buckets::count)
    }

    /// How many buckets may have rows if the first `equal` columns of an access path are known.
    pub fn buckets_read(&self, access: Access, equal: usize) -> u16 {
        let Some(buckets) = &self.buckets else {
            return 0;
        };
        let columns = self.key_columns(access);
        let known = &columns[..equal.min(columns.len())];
        match buckets.decided_by(|position| known.iter().any(|c| c.column == Some(position))) {
            true => 1,
            false => buckets.count(),
        }
    }

    /// A key behind what all keys of its access path in one bucket begin with: what buckets are merged by.
    pub fn behind_prefix<'k>(&self, key: &'k [u8]) -> &'k [u8] {
        let prefix = match self.buckets {
            Some(_) => key::BUCKET_INDEX_PREFIX_LEN,
            None => key::INDEX_PREFIX_LEN,
        };
        &key[prefix.min(key.len())..]
    }

    fn index_id(&self, access: Access) -> u16 {
        match access {
            Access::Primary => PRIMARY_INDEX_ID,
            Access::Secondary(index) => self.table.indexes.get(index).map_or(0, |index| index.id),
        }
    }

    /// What an access path's keys begin with, in each bucket that may have the values of these columns.
    fn prefixes<'d>(
        &self,
        access: Access,
        value: impl Fn(usize) -> Option<&'d Datum>,
    ) -> SmallVec<[Prefix; 1]> {
        let (table, index) = (self.table.data_id, self.index_id(access));
        match &self.buckets {
            None => smallvec![Prefix::from_slice(&key::index_prefix(table, index))],
            Some(buckets) => {
                let prefix = |bucket| key::bucket_index_prefix(table, bucket, index);
                let routed = buckets.route(value);
                routed.map(|bucket| Prefix::from(prefix(bucket))).collect()
            }
        }
    }

    /// What the key of a row with these values begins with.
    fn put_row_prefix<'d>(&self, out: &mut Vec<u8>, value: impl Fn(usize) -> Option<&'d Datum>) {
        match &self.buckets {
            None => out.extend_from_slice(&self.row_prefix),
            Some(_) => {
                if let Some(prefix) = self.prefixes(Access::Primary, value).first() {
                    out.extend_from_slice(prefix);
                }
            }
        }
    }

    /// The value of the column at `position`, if it is one of an access path's first.
    fn value_in<'d>(
        &self,
        access: Access,
        values: &'d [Datum],
        position: usize,
    ) -> Option<&'d Datum> {
        let mut columns = self.key_columns(access).iter().zip(values);
        let found = columns.find(|(column, _)| column.column == Some(position));
        found.map(|(_, value)| value)
    }

    // ---- rows ----------------------------------------------------------------------------------

    /// The key of a whole row of a table with a primary key.
    pub fn row_key(&self, row: &[Datum]) -> Vec<u8> {
        let mut out = Vec::with_capacity(KEY_CAPACITY);
        self.put_row_key(row, &mut out);
        out
    }

    /// Appends [`TableCodec::row_key`].
    pub fn put_row_key(&self, row: &[Datum], out: &mut Vec<u8>) {
        self.put_row_prefix(out, |position| row.get(position));
        for column in &self.primary {
            if let Some(position) = column.column {
                column.encode(out, &row[position]);
            }
        }
    }

    /// The key of the row with these primary key values, in key order.
    pub fn row_key_of(&self, values: &[Datum]) -> Vec<u8> {
        let mut out = Vec::with_capacity(KEY_CAPACITY);
        self.put_row_prefix(&mut out, |position| {
            self.value_in(Access::Primary, values, position)
        });
        for (column, value) in self.primary.iter().zip(values) {
            column.encode(&mut out, value);
        }
        out
    }

    /// The key of a row of a table without primary key.
    pub fn row_id_key(&self, row_id: i64) -> Vec<u8> {
        let mut out = Vec::with_capacity(KEY_CAPACITY);
        out.extend_from_slice(&self.row_prefix);
        key::encode(&mut out, &Datum::Int8(row_id), false, false);
        out
    }

    /// What an index entry's value says: the row key behind its prefix.
    pub fn row_suffix<'k>(&self, row_key: &'k [u8]) -> &'k [u8] {
        &row_key[key::INDEX_PREFIX_LEN.min(row_key.len())..]
    }

    /// The row that an index entry's value points to.
    pub fn row_key_of_suffix(&self, suffix: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(key::INDEX_PREFIX_LEN + suffix.len());
        out.extend_from_slice(&self.row_prefix);
        out.extend_from_slice(suffix);
        out
    }

    pub fn encode_row(&self, row: &[Datum]) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(ROW_CAPACITY);
        self.layout.encode(row, &mut out)?;
        Ok(out)
    }

    pub fn layout(&self) -> &RowLayout {
        &self.layout
    }

    pub fn view<'a>(&'a self, bytes: &'a [u8]) -> Result<RowView<'a>> {
        RowView::new(bytes, &self.layout)
    }

    /// One column of a stored row, absent ones filled in.
    pub fn column(&self, view: &RowView<'_>, position: usize) -> Result<Datum> {
        if view.is_absent(position) {
            return Ok(self.missing.get(position).cloned().unwrap_or(Datum::Null));
        }
        view.datum(position)
    }

    /// The value that older rows have in this column.
    pub fn missing(&self, position: usize) -> &Datum {
        self.missing.get(position).unwrap_or(&Datum::Null)
    }

    /// The columns at `projection`, in its order.
    pub fn decode_row(&self, bytes: &[u8], projection: &[usize]) -> Result<Row> {
        let view = self.view(bytes)?;
        let mut row = Vec::with_capacity(projection.len());
        for position in projection {
            row.push(self.column(&view, *position)?);
        }
        Ok(row)
    }

    /// All columns by position, dropped ones as NULL.
    pub fn decode_whole_row(&self, bytes: &[u8]) -> Result<Row> {
        let view = self.view(bytes)?;
        let mut row = Vec::with_capacity(self.table.columns.len());
        for (position, column) in self.table.columns.iter().enumerate() {
            row.push(if column.dropped {
                Datum::Null
            } else {
                self.column(&view, position)?
            });
        }
        Ok(row)
    }

    // ---- index entries --------------------------------------------------------------------------

    pub fn index_descriptor(&self, index: usize) -> &Index {
        &self.table.indexes[index]
    }

    /// The key under which an index holds these values (one for each of its columns), for the row
    /// with this key. `unique_part` is the length of the part that must be unique; an entry whose
    /// key is longer cannot clash.
    pub fn index_key(&self, index: usize, values: &[Datum], row_key: &[u8]) -> IndexEntryKey {
        let mut out = Vec::with_capacity(KEY_CAPACITY);
        self.put_entry_prefix(&mut out, index, values, row_key);
        let mut has_null = false;
        for (column, value) in self.secondary[index].iter().zip(values) {
            has_null |= value.is_null();
            column.encode(&mut out, value);
        }
        let descriptor = self.index_descriptor(index);
        let unique = descriptor.unique && (!has_null || descriptor.nulls_not_distinct);
        if !unique {
            out.extend_from_slice(self.row_suffix(row_key));
        }
        IndexEntryKey { key: out, unique }
    }

    /// The entry lies where its row does; if the row is not known, the values say where that is.
    fn put_entry_prefix(&self, out: &mut Vec<u8>, index: usize, values: &[Datum], row_key: &[u8]) {
        let access = Access::Secondary(index);
        let bucket = row_key.get(..key::BUCKET_PREFIX_LEN);
        if let Some(bucket) = bucket.filter(|_| self.buckets.is_some()) {
            out.extend_from_slice(bucket);
            out.extend_from_slice(&self.index_id(access).to_be_bytes());
            return;
        }
        let prefixes = self.prefixes(access, |position| self.value_in(access, values, position));
        if let Some(prefix) = prefixes.first() {
            out.extend_from_slice(prefix);
        }
    }

    // ---- spans ----------------------------------------------------------------------------------

    /// All of a table's keys: rows and index entries.
    pub fn whole_span(&self) -> Span {
        prefix_span(&key::table_prefix(self.table.data_id))
    }

    /// All keys of an access path, bucket after bucket.
    pub fn spans(&self, access: Access) -> Spans {
        let prefixes = self.prefixes(access, |_| None);
        prefixes.iter().map(|prefix| prefix_span(prefix)).collect()
    }

    /// The keys of an access path that have `equal` as their first columns (NULL stands for IS
    /// NULL) and the next column within the bounds. Bounds are in the column's SQL order, whatever
    /// the key's direction; with any bound the column's NULLs are outside. A column with no bounds at
    /// all is not restricted, NULLs included. One span for each bucket that may have some.
    pub fn ranges(
        &self,
        access: Access,
        equal: &[Datum],
        lower: Bound<&Datum>,
        upper: Bound<&Datum>,
    ) -> Spans {
        let prefixes = self.prefixes(access, |position| self.value_in(access, equal, position));
        let range = |prefix: &Prefix| self.range_behind(prefix, access, equal, lower, upper);
        prefixes.iter().map(range).collect()
    }

    fn range_behind(
        &self,
        start: &[u8],
        access: Access,
        equal: &[Datum],
        lower: Bound<&Datum>,
        upper: Bound<&Datum>,
    ) -> Span {
        let columns = self.key_columns(access);
        let mut prefix = Vec::with_capacity(KEY_CAPACITY);
        prefix.extend_from_slice(start);
        for (column, value) in columns.iter().zip(equal) {
            column.encode(&mut prefix, value);
        }
        let unbounded = matches!((&lower, &upper), (Bound::Unbounded, Bound::Unbounded));
        let next = columns.get(equal.len()).filter(|_| !unbounded);
        let Some(column) = next else {
            return prefix_span(&prefix);
        };
        let encoded = |value: &Datum| {
            let mut out = prefix.clone();
            column.encode(&mut out, value);
            out
        };
        // In key order: a descending column's upper bound comes first.
        let (first, last) = if column.descending {
            (upper, lower)
        } else {
            (lower, upper)
        };
        let start = match first {
            Bound::Included(value) => encoded(value),
            Bound::Excluded(value) => after_prefix(encoded(value)),
            Bound::Unbounded => {
                let mut out = prefix.clone();
                out.push(VALUE_TAG);
                out
            }
        };
        let end = match last {
            Bound::Included(value) => after_prefix(encoded(value)),
            Bound::Excluded(value) => encoded(value),
            Bound::Unbounded => {
                let mut out = prefix.clone();
                out.push(VALUE_TAG + 1);
                out
            }
        };
        Span {
            start: start.into(),
            end: end.into(),
        }
    }

    /// The one key of full equality: a row's, or a unique index entry's. `None` if the values do not
    /// name one entry.
    pub fn point(&self, access: Access, values: &[Datum]) -> Option<Vec<u8>> {
        match access {
            Access::Primary => {
                let full = !self.primary.is_empty() && values.len() == self.primary.len();
                full.then(|| self.row_key_of(values))
            }
            Access::Secondary(index) => {
                let descriptor = self.table.indexes.get(index)?;
                if !descriptor.unique || values.len() != descriptor.columns.len() {
                    return None;
                }
                let entry = self.index_key(index, values, &[]);
                entry.unique.then_some(entry.key)
            }
        }
    }
}

fn key_column(table: &Table, position: usize) -> Result<KeyColumn> {
    let column = table.columns.get(position).ok_or_else(|| {
        Error::internal(format!(
            "key column {position} of table {} is not there",
            table.oid
        ))
    })?;
    Ok(KeyColumn {
        column: Some(position),
        sql_type: column.sql_type.clone(),
        descending: false,
        nulls_first: false,
    })
}

/// An index entry's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntryKey {
    pub key: Vec<u8>,
    /// No other row may have this key.
    pub unique: bool,
}

fn after_prefix(prefix: Vec<u8>) -> Vec<u8> {
    key::prefix_end(&prefix).unwrap_or_else(|| vec![0xff; prefix.len() + 1])
}

/// All keys that start with `prefix`.
pub fn prefix_span(prefix: &[u8]) -> Span {
    let end = after_prefix(prefix.to_vec());
    Span {
        start: Bytes::copy_from_slice(prefix),
        end: Key::from(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::descriptor::{Column, PrimaryKey};
    use crate::catalog::sharding::Sharding;

    fn table() -> Table {
        Table {
            oid: 20000,
            database: 1,
            schema: 1,
            name: "t".into(),
            owner: 1,
            version: 1,
            data_id: 500,
            columns: vec![
                Column::new("a", SqlType::Int4),
                Column::new("b", SqlType::Char(3)),
            ],
            primary_key: Some(PrimaryKey {
                oid: 20001,
                constraint_oid: 20002,
                name: "t_pkey".into(),
                columns: vec![0],
            }),
            indexes: vec![Index {
                oid: 20003,
                id: 2,
                name: "t_b".into(),
                columns: vec![IndexColumn {
                    key: IndexKey::Column(1),
                    descending: true,
                    nulls_first: true,
                }],
                unique: true,
                nulls_not_distinct: false,
                constraint_oid: None,
                predicate: None,
                method: "btree".into(),
                include: Vec::new(),
                comment: None,
            }],
            checks: Vec::new(),
            foreign_keys: Vec::new(),
            next_index_id: 3,
            comment: None,
            options: Vec::new(),
            sharding: Default::default(),
            replication_factor: None,
            unlogged: false,
        }
    }

    fn contains(span: &Span, key: &[u8]) -> bool {
        span.start.as_ref() <= key && key < span.end.as_ref()
    }

    #[test]
    fn ranges_hold_what_sql_says() {
        let codec = TableCodec::new(Arc::new(table())).unwrap();
        let key = |n: i32| codec.row_key_of(&[Datum::Int4(n)]);
        let five = Datum::Int4(5);
        let span = codec
            .ranges(
                Access::Primary,
                &[],
                Bound::Excluded(&five),
                Bound::Unbounded,
            )
            .remove(0);
        assert!(
            !contains(&span, &key(5)) && contains(&span, &key(6)) && !contains(&span, &key(-1))
        );
        let span = codec
            .ranges(
                Access::Primary,
                &[],
                Bound::Unbounded,
                Bound::Included(&five),
            )
            .remove(0);
        assert!(
            contains(&span, &key(5))
                && contains(&span, &key(i32::MIN))
                && !contains(&span, &key(6))
        );
    }

    #[test]
    fn descending_index_with_nulls() {
        let codec = TableCodec::new(Arc::new(table())).unwrap();
        let access = Access::Secondary(0);
        let row = codec.row_key_of(&[Datum::Int4(1)]);
        let entry = |b: &str| codec.index_key(0, &[Datum::Text(b.into())], &row);
        assert!(entry("x  ").unique);
        assert_eq!(
            entry("x  "),
            entry("x"),
            "char(n) is keyed without trailing blanks"
        );
        let null = codec.index_key(0, &[Datum::Null], &row);
        assert!(!null.unique);
        let b = Datum::Text("b".into());
        let span = codec
            .ranges(access, &[], Bound::Included(&b), Bound::Unbounded)
            .remove(0);
        assert!(contains(&span, &entry("b").key) && contains(&span, &entry("c").key));
        assert!(!contains(&span, &entry("a").key) && !contains(&span, &null.key));
        let span = codec
            .ranges(access, &[], Bound::Unbounded, Bound::Excluded(&b))
            .remove(0);
        assert!(contains(&span, &entry("a").key) && !contains(&span, &entry("b").key));
        assert!(!contains(&span, &null.key));
        let span = codec
            .ranges(access, &[Datum::Null], Bound::Unbounded, Bound::Unbounded)
            .remove(0);
        assert!(contains(&span, &null.key) && !contains(&span, &entry("a").key));
        assert!(contains(&codec.spans(access)[0], &null.key));
        assert_eq!(codec.point(access, &[Datum::Null]), None);
        assert_eq!(codec.point(access, &[b]), Some(entry("b").key));
    }

    #[test]
    fn rows_come_back() {
        let mut old = table();
        let codec = TableCodec::new(Arc::new(old.clone())).unwrap();
        let row = vec![Datum::Int4(7), Datum::Text("q  ".into())];
        let bytes = codec.encode_row(&row).unwrap();
        assert_eq!(codec.decode_whole_row(&bytes).unwrap(), row);
        assert_eq!(
            codec.decode_row(&bytes, &[1]).unwrap(),
            vec![row[1].clone()]
        );
        let mut added = Column::new("c", SqlType::Int8);
        added.missing = Some("42".into());
        old.columns.push(added);
        let codec = TableCodec::new(Arc::new(old)).unwrap();
        assert_eq!(
            codec.decode_row(&bytes, &[2, 0]).unwrap(),
            vec![Datum::Int8(42), Datum::Int4(7)]
        );
    }

    fn bucketed() -> TableCodec {
        let mut table = table();
        table.sharding = Sharding::Hash {
            columns: vec![0],
            buckets: 4,
        };
        table.indexes[0].unique = false;
        TableCodec::new(Arc::new(table)).unwrap()
    }

    #[test]
    fn a_row_and_its_index_entries_lie_in_one_bucket() {
        let codec = bucketed();
        let access = Access::Secondary(0);
        for n in 0..100 {
            let row = vec![Datum::Int4(n), Datum::Text("x".into())];
            let key = codec.row_key(&row);
            assert_eq!(codec.row_key_of(&row[..1]), key);
            assert_eq!(codec.row_key_of_suffix(codec.row_suffix(&key)), key);
            let entry = codec.index_key(0, &row[1..], &key).key;
            let bucket = key::BUCKET_PREFIX_LEN;
            assert_eq!(entry[..bucket], key[..bucket]);
            let holding = |spans: Spans, key: &[u8]| {
                let holding = spans.iter().filter(|span| contains(span, key));
                (spans.len(), holding.count())
            };
            assert_eq!(holding(codec.spans(Access::Primary), &key), (4, 1));
            assert_eq!(holding(codec.spans(access), &entry), (4, 1));
            let (all, any) = (Bound::Unbounded, Bound::Included(&row[0]));
            let known = codec.ranges(Access::Primary, &row[..1], all, all);
            assert_eq!(holding(known, &key), (1, 1));
            let range = codec.ranges(Access::Primary, &[], any, all);
            assert_eq!(holding(range, &key), (4, 1));
            assert!(contains(&codec.whole_span(), &entry));
        }
    }

    /// What merging relies on.
    #[test]
    fn behind_the_bucket_keys_are_in_the_order_of_the_primary_key() {
        let codec = bucketed();
        let key = |n: i32| codec.row_key_of(&[Datum::Int4(n)]);
        let behind = (-50..50).map(key);
        let behind: Vec<Vec<u8>> = behind.map(|k| codec.behind_prefix(&k).to_vec()).collect();
        assert!(behind.is_sorted());
    }
}
