//! What is encoded comes back as it was, and no bytes whatever make a panic.

use super::*;
use crate::shard_server::{Failure, Granted, LeaseId, OpenAnswer, OpenRequest, Refusal};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use sharding::{Replica, ShardDescriptor, ShardId};
use txn::kv::{
    CommitRequest, Committed, LockMode, Opened, ScanPage, ScanRequest, Span, TxnId, Version,
};
use types::error::ErrorFields;
use types::{Error, SqlState, StoreId, Timestamp};

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp)
}

fn shard() -> impl Strategy<Value = ShardId> {
    any::<u64>().prop_map(ShardId)
}

fn txn() -> impl Strategy<Value = TxnId> {
    any::<u128>().prop_map(TxnId)
}

fn span() -> impl Strategy<Value = Span> {
    (bytes(), bytes()).prop_map(|(start, end)| Span { start, end })
}

fn lease() -> impl Strategy<Value = LeaseId> {
    (any::<u64>(), any::<u64>()).prop_map(|(term, confirmed)| LeaseId { term, confirmed })
}

fn mode() -> impl Strategy<Value = LockMode> {
    proptest::sample::select(vec![
        LockMode::KeyShare,
        LockMode::Share,
        LockMode::NoKeyUpdate,
        LockMode::Update,
    ])
}

fn patience() -> impl Strategy<Value = Patience> {
    prop_oneof![
        option::of(any::<u64>()).prop_map(|left_nanos| Patience::Wait { left_nanos }),
        Just(Patience::NoWait),
        Just(Patience::SkipLocked),
    ]
}

prop_compose! {
    fn scan()(
        span in span(),
        at in timestamp(),
        reverse in any::<bool>(),
        limit in any::<usize>(),
        limit_bytes in any::<usize>(),
    ) -> ScanRequest {
        ScanRequest { span, at, reverse, limit, limit_bytes }
    }
}

fn writes() -> impl Strategy<Value = Vec<(Bytes, Option<Bytes>)>> {
    vec((bytes(), option::of(bytes())), 0..4)
}

prop_compose! {
    fn commit()(
        txn in txn(),
        read_at in timestamp(),
        read_spans in vec(span(), 0..3),
        writes in writes(),
    ) -> CommitRequest {
        CommitRequest { txn, read_at, read_spans, writes }
    }
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        vec((shard(), any::<u64>()), 0..4).prop_map(|shards| Request::ReadTimestamp { shards }),
        (shard(), bytes(), timestamp()).prop_map(|(shard, key, at)| Request::Get {
            shard,
            key,
            at
        }),
        (shard(), bytes()).prop_map(|(shard, key)| Request::NewestVersion { shard, key }),
        (shard(), scan()).prop_map(|(shard, request)| Request::Scan { shard, request }),
        (any::<u64>(), shard(), txn(), bytes(), mode(), patience()).prop_map(
            |(call, shard, txn, key, mode, patience)| Request::Lock {
                call,
                shard,
                txn,
                key,
                mode,
                patience
            }
        ),
        (shard(), txn(), vec(bytes(), 0..4)).prop_map(|(shard, txn, keys)| Request::LockFresh {
            shard,
            txn,
            keys: keys.into()
        }),
        (shard(), txn(), lease()).prop_map(|(shard, txn, lease)| Request::StillLocked {
            shard,
            txn,
            lease
        }),
        (shard(), commit(), option::of(lease()), 0..3u64).prop_map(
            |(shard, request, locked_under, staged)| Request::Commit {
                shard,
                request,
                locked_under,
                staged,
            }
        ),
        (shard(), txn(), any::<u64>(), writes()).prop_map(|(shard, txn, number, writes)| {
            Request::Stage {
                shard,
                txn,
                number,
                writes,
            }
        }),
        vec(txn(), 0..4).prop_map(|live| Request::RollCall { live }),
        (any::<u64>(), open(), patience()).prop_map(|(call, request, patience)| Request::Open {
            call,
            request,
            patience
        }),
    ]
}

prop_compose! {
    fn open()(
        txn in txn(),
        tables in vec((shard(), bytes()), 0..3),
        snapshot in option::of(vec((shard(), any::<u64>()), 0..3)),
        point in option::of((shard(), bytes(), option::of(mode()))),
    ) -> OpenRequest {
        OpenRequest { txn, tables, snapshot, point }
    }
}

prop_compose! {
    fn opened()(
        leases in vec(lease(), 0..3),
        at in timestamp(),
        point in option::of((option::of(bytes()), option::of(timestamp()))),
    ) -> OpenAnswer {
        let point = point.map(|(value, at)| Version { value, at });
        OpenAnswer { leases, opened: Opened { at, point } }
    }
}

fn notice() -> impl Strategy<Value = Notice> {
    prop_oneof![
        (shard(), txn(), vec(bytes(), 0..4)).prop_map(|(shard, txn, keys)| Notice::Unlock {
            shard,
            txn,
            keys
        }),
        txn().prop_map(|txn| Notice::UnlockAll { txn }),
        any::<u64>().prop_map(|call| Notice::Leave { call }),
    ]
}

fn text() -> impl Strategy<Value = Option<String>> {
    option::of("[a-zäß%\"]{0,8}")
}

prop_compose! {
    fn error()(
        state in proptest::array::uniform5(proptest::char::range('0', '9')),
        message in "[ -~ä]{0,12}",
        texts in proptest::array::uniform7(text()),
        position in option::of(any::<u32>()),
    ) -> Error {
        let [detail, hint, schema, table, column, data_type, constraint] = texts;
        Error {
            state: SqlState(state.map(|digit| digit as u8)),
            message,
            fields: Box::new(ErrorFields {
                detail, hint, position, schema, table, column, data_type, constraint,
            }),
        }
    }
}

prop_compose! {
    fn descriptor()(
        id in shard(),
        start in bytes(),
        end in option::of(bytes()),
        replicas in vec((any::<u64>(), any::<u64>()), 0..4),
        next_replica in any::<u64>(),
        generation in any::<u64>(),
    ) -> ShardDescriptor {
        let replicas = replicas.into_iter();
        ShardDescriptor {
            id,
            start,
            end,
            replicas: replicas.map(|(store, id)| Replica { store: StoreId(store), id }).collect(),
            next_replica,
            generation,
        }
    }
}

fn failure() -> impl Strategy<Value = Failure> {
    prop_oneof![
        option::of(any::<u64>()).prop_map(|hint| Failure::Refused(Refusal::NotLeaseHolder {
            hint: hint.map(StoreId)
        })),
        vec(descriptor(), 0..3).prop_map(|newer| Failure::Refused(Refusal::Mismatch { newer })),
        any::<bool>().prop_map(Failure::Unreachable),
        error().prop_map(Failure::Failed),
    ]
}

fn response() -> impl Strategy<Value = Response> {
    prop_oneof![
        timestamp().prop_map(Response::Timestamp),
        option::of((bytes(), timestamp())).prop_map(Response::Version),
        option::of(timestamp()).prop_map(Response::Newest),
        (
            vec((bytes(), bytes(), timestamp()), 0..4),
            option::of(bytes())
        )
            .prop_map(|(rows, resume)| Response::Page(ScanPage { rows, resume })),
        (any::<bool>(), lease())
            .prop_map(|(granted, lease)| Response::Granted(Granted { granted, lease })),
        any::<bool>().prop_map(Response::Confirmed),
        (timestamp(), timestamp())
            .prop_map(|(at, catalog_before)| Response::Committed(Committed { at, catalog_before })),
        Just(()).prop_map(|()| Response::Done),
        opened().prop_map(Response::Opened),
    ]
}

fn answer() -> impl Strategy<Value = (Stamp, Outcome)> {
    let outcome = prop_oneof![response().prop_map(Ok), failure().prop_map(Err)];
    (timestamp(), timestamp(), outcome).prop_map(|(now, catalog_changed, outcome)| {
        let stamp = Stamp {
            now,
            catalog_changed,
        };
        (stamp, outcome)
    })
}

/// What a value shows of itself: all its fields.
fn shown(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}")
}

fn cut(frame: &Bytes, by: usize) -> Bytes {
    frame.slice(..frame.len().saturating_sub(by))
}

proptest! {
    #[test]
    fn requests_come_back_as_they_were(now in timestamp(), request in request(), by in 1usize..30) {
        let frame = encode_request(now, &request);
        prop_assert!(decode_request(cut(&frame, by)).is_none());
        let mut longer = frame.to_vec();
        longer.push(0);
        prop_assert!(decode_request(longer.into()).is_none());
        prop_assert_eq!(shown(&decode_request(frame)), shown(&Some((now, request))));
    }

    #[test]
    fn notices_come_back_as_they_were(notice in notice(), by in 1usize..30) {
        let frame = encode_notice(&notice);
        prop_assert_eq!(decode_notice(cut(&frame, by)), None);
        prop_assert_eq!(decode_notice(frame), Some(notice));
    }

    #[test]
    fn answers_come_back_as_they_were((stamp, outcome) in answer(), by in 1usize..30) {
        let frame = encode_answer(stamp, &outcome);
        prop_assert!(decode_answer(cut(&frame, by)).is_none());
        prop_assert_eq!(shown(&decode_answer(frame)), shown(&Some((stamp, outcome))));
    }

    #[test]
    fn any_bytes_can_be_decoded(kind in 0x30u8..0x40, mut frame in vec(any::<u8>(), 0..120)) {
        let _ = decode_answer(frame.clone().into());
        // The outcome stands behind two timestamps.
        if let Some(outcome) = frame.get_mut(16) {
            *outcome %= 5;
        }
        let _ = decode_answer(frame.clone().into());
        if let Some(first) = frame.first_mut() {
            *first = kind;
        }
        let _ = decode_notice(frame.clone().into());
        let _ = decode_request(frame.into());
    }
}

#[test]
fn a_count_that_no_frame_can_hold_asks_for_no_memory() {
    let mut frame = encode_request(Timestamp(1), &Request::RollCall { live: Vec::new() }).to_vec();
    frame.pop();
    frame.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x7f]);
    assert!(decode_request(frame.into()).is_none());
}

#[test]
fn a_deadline_is_sent_as_the_time_that_is_left() {
    use txn::kv::WaitPolicy;
    let policy = WaitPolicy::Wait {
        deadline_nanos: Some(1_500),
    };
    let patience = Patience::of(policy, 1_000);
    assert_eq!(
        patience,
        Patience::Wait {
            left_nanos: Some(500)
        }
    );
    // The other end's clock shows something else.
    let there = WaitPolicy::Wait {
        deadline_nanos: Some(70_500),
    };
    assert_eq!(patience.policy(70_000), there);
    assert_eq!(
        Patience::of(policy, 9_000),
        Patience::Wait {
            left_nanos: Some(0)
        }
    );
}
