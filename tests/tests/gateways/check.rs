//! What must hold whenever nothing runs.

use super::World;
use sql::catalog::Catalog;
use sql::catalog::descriptor::{IndexKey, Table};
use sql::table_codec::{Access, TableCodec};
use std::collections::BTreeMap;
use std::sync::Arc;
use txn::kv::{Key, ReadScope, ScanRequest, Span, Value};
use types::Timestamp;

/// The gateways' catalogs are the same once they have caught up, and every index agrees with its table.
pub async fn agreement(world: &World) {
    let mut at = Timestamp::ZERO;
    for gateway in &world.gateways {
        let now = gateway.coordinator.read_timestamp(ReadScope::All).await;
        at = now.expect("the store is well");
        let caught_up = gateway.catalog.catch_up(&gateway.coordinator).await;
        caught_up.expect("the catalog is readable");
    }
    let [first, second] = world
        .gateways
        .each_ref()
        .map(|gateway| gateway.catalog.current());
    let ids = |catalog: &Catalog| {
        let mut ids: Vec<_> = catalog.object_ids().collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(&first), ids(&second));
    for oid in first.object_ids() {
        assert_eq!(first.descriptor(oid), second.descriptor(oid));
    }
    for database in first.databases() {
        for table in first.tables(database.oid) {
            let rows = scan(world, &codec(table), Access::Primary, at).await;
            for (number, index) in table.indexes.iter().enumerate() {
                let entries = scan(world, &codec(table), Access::Secondary(number), at).await;
                assert_eq!(
                    expected(table, number, &rows),
                    entries,
                    "index {} of {} rows",
                    index.name,
                    rows.len()
                );
            }
        }
    }
}

fn codec(table: &Arc<Table>) -> TableCodec {
    TableCodec::new(Arc::clone(table)).expect("a table of the catalog")
}

/// The entries that an index over plain columns must have.
fn expected(
    table: &Arc<Table>,
    number: usize,
    rows: &BTreeMap<Key, Value>,
) -> BTreeMap<Key, Value> {
    let codec = codec(table);
    let mut entries = BTreeMap::new();
    for (key, value) in rows {
        let row = codec.decode_whole_row(value).expect("a readable row");
        let values = table.indexes[number]
            .columns
            .iter()
            .map(|column| match column.key {
                IndexKey::Column(position) => row[position].clone(),
                IndexKey::Expression(..) => panic!("not made in these tests"),
            });
        let entry = codec.index_key(number, &values.collect::<Vec<_>>(), key);
        let suffix = Value::copy_from_slice(codec.row_suffix(key));
        entries.insert(Key::from(entry.key), suffix);
    }
    entries
}

async fn scan(
    world: &World,
    codec: &TableCodec,
    access: Access,
    at: Timestamp,
) -> BTreeMap<Key, Value> {
    let Span { start, end } = codec.spans(access).remove(0);
    let request = ScanRequest {
        span: Span { start, end },
        at,
        reverse: false,
        limit: usize::MAX,
        limit_bytes: usize::MAX,
    };
    let page = world.gateways[0].coordinator.shards().scan(request).await;
    let rows = page.expect("a readable table").rows.into_iter();
    rows.map(|(key, value, _)| (key, value)).collect()
}
