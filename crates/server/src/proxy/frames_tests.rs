//! The watcher told as conversations, and that it does not matter where the stream is cut.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn ready(status: u8) -> Vec<u8> {
    frame(b'Z', &[status])
}

/// A session that is past its startup and idle.
fn started() -> Watch {
    let mut watch = Watch::default();
    watch.node_sent(&frame(b'R', &[0; 4]));
    watch.node_sent(&frame(b'K', b"\0\0\0\x07secret"));
    watch.node_sent(&ready(b'I'));
    watch
}

#[test]
fn a_session_begins() {
    let mut watch = started();
    assert!(watch.is_idle());
    assert_eq!(watch.take_key().as_deref(), Some(&b"\0\0\0\x07secret"[..]));
    assert_eq!(watch.take_key(), None, "it is told once");
}

#[test]
fn a_query_sent_with_the_startup_is_not_answered_by_its_end() {
    let mut watch = Watch::default();
    watch.client_sent(&frame(b'Q', b"SELECT 1\0"));
    watch.node_sent(&ready(b'I'));
    assert!(!watch.is_idle());
    watch.node_sent(&ready(b'I'));
    assert!(watch.is_idle());
}

#[test]
fn a_transaction_is_not_idle() {
    let mut watch = started();
    for (sql, status, idle) in [
        ("BEGIN\0", b'T', false),
        ("broken\0", b'E', false),
        ("COMMIT\0", b'I', true),
    ] {
        watch.client_sent(&frame(b'Q', sql.as_bytes()));
        assert!(!watch.is_idle());
        watch.node_sent(&ready(status));
        assert_eq!(watch.is_idle(), idle, "{sql}");
    }
}

#[test]
fn all_that_is_asked_ahead_must_be_answered() {
    let mut watch = started();
    let asked = [
        frame(b'P', b"\0\0\0\0"),
        frame(b'S', b""),
        frame(b'Q', b"\0"),
    ]
    .concat();
    watch.client_sent(&asked);
    watch.node_sent(&ready(b'I'));
    assert!(!watch.is_idle(), "the Query is still open");
    watch.node_sent(&ready(b'I'));
    assert!(watch.is_idle());
    // Half a header is a message under way.
    watch.client_sent(b"Q");
    assert!(!watch.is_idle());
}

#[test]
fn copying_in_swallows_syncs() {
    let mut watch = started();
    // As libpq does it: the Sync after Execute comes while the node already copies, and is ignored.
    watch.client_sent(&[frame(b'E', b"\0\0\0\0\0"), frame(b'S', b"")].concat());
    watch.node_sent(&frame(b'G', b"\0\0\0"));
    watch.client_sent(&[frame(b'd', b"1\n"), frame(b'c', b""), frame(b'S', b"")].concat());
    assert!(!watch.is_idle());
    watch.node_sent(&[frame(b'C', b"COPY 1\0"), ready(b'I')].concat());
    assert!(watch.is_idle());
}

#[test]
fn an_unfinished_message_is_known_by_its_length() {
    let mut watch = started();
    assert_eq!(watch.unfinished(), Some(0));
    let row = frame(b'D', b"\0\x01\0\0\0\x01x");
    for sent in 1..row.len() {
        watch.node_sent(&row[sent - 1..sent]);
        assert_eq!(watch.unfinished(), Some(sent));
        assert!(!watch.is_idle());
    }
    watch.node_sent(&row[row.len() - 1..]);
    assert_eq!(watch.unfinished(), Some(0));
    assert!(!watch.ended_in_error());
    watch.node_sent(&frame(b'E', b"SFATAL\0\0"));
    assert!(watch.ended_in_error());
}

#[test]
fn what_cannot_be_read_is_never_idle() {
    let mut opaque = Watch::opaque();
    opaque.node_sent(&ready(b'I'));
    assert_eq!((opaque.is_idle(), opaque.unfinished()), (false, None));

    let mut broken = started();
    broken.node_sent(b"Z\0\0\0\x03");
    broken.node_sent(&ready(b'I'));
    assert_eq!((broken.is_idle(), broken.unfinished()), (false, None));
}

#[test]
fn a_key_that_is_too_long_is_no_key() {
    let mut watch = Watch::default();
    watch.node_sent(&frame(b'K', &[1; MAX_CANCEL_KEY_BYTES + 1]));
    assert_eq!(watch.take_key(), None);
    watch.node_sent(&frame(b'K', &[1; MAX_CANCEL_KEY_BYTES]));
    assert_eq!(
        watch.take_key().map(|key| key.len()),
        Some(MAX_CANCEL_KEY_BYTES)
    );
}

/// What one side says, in the order in which the proxy sees it.
#[derive(Clone, Debug)]
enum Said {
    Client(Vec<u8>),
    Node(Vec<u8>),
}

fn client_message() -> impl Strategy<Value = Vec<u8>> {
    let tag = prop::sample::select(b"QPBESHFdcX".to_vec());
    (tag, vec(any::<u8>(), 0..40)).prop_map(|(tag, body)| frame(tag, &body))
}

fn node_message() -> impl Strategy<Value = Vec<u8>> {
    let status = prop::sample::select(b"ITE".to_vec()).prop_map(ready);
    let tag = prop::sample::select(b"DCTEGK123nNSA".to_vec());
    let other = (tag, vec(any::<u8>(), 0..40)).prop_map(|(tag, body)| frame(tag, &body));
    prop_oneof![status, other]
}

fn conversation() -> impl Strategy<Value = Vec<Said>> {
    let turn = prop_oneof![
        vec(client_message(), 1..5).prop_map(|m| Said::Client(m.concat())),
        vec(node_message(), 1..5).prop_map(|m| Said::Node(m.concat())),
    ];
    vec(turn, 0..12)
}

/// All that can be asked of a watch.
fn state(watch: &mut Watch) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        watch.is_idle(),
        watch.unfinished(),
        watch.ended_in_error(),
        watch.is_terminated(),
        watch.take_key(),
    )
}

proptest! {
    /// At the end of every turn the watch knows the same, however the turn's bytes were cut.
    #[test]
    fn cuts_do_not_matter(turns in conversation(), cuts in vec(1usize..9, 1..50)) {
        let (mut whole, mut cut) = (Watch::default(), Watch::default());
        let mut cuts = cuts.iter().cycle();
        for turn in turns {
            let (Said::Client(bytes) | Said::Node(bytes)) = &turn;
            let tell = |watch: &mut Watch, part: &[u8]| match &turn {
                Said::Client(_) => watch.client_sent(part),
                Said::Node(_) => watch.node_sent(part),
            };
            tell(&mut whole, bytes);
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let size = cuts.next().map_or(1, |size| *size).min(rest.len());
                tell(&mut cut, &rest[..size]);
                rest = &rest[size..];
            }
            prop_assert_eq!(state(&mut whole), state(&mut cut));
        }
    }

    /// The pieces of a stream, put together, are its messages.
    #[test]
    fn pieces_are_the_messages(messages in vec((any::<u8>(), vec(any::<u8>(), 0..30)), 0..9), cut in 1usize..12) {
        let stream: Vec<u8> = messages.iter().flat_map(|(tag, body)| frame(*tag, body)).collect();
        let mut frames = Frames::default();
        let mut found: Vec<(u8, Vec<u8>)> = Vec::new();
        let mut ends = 0;
        for mut part in stream.chunks(cut) {
            while let Some(piece) = frames.next(&mut part) {
                if piece.first {
                    found.push((piece.tag, Vec::new()));
                }
                found.last_mut().expect("a message has begun").1.extend_from_slice(piece.body);
                ends += usize::from(piece.last);
            }
        }
        prop_assert_eq!(ends, messages.len());
        prop_assert_eq!(found, messages);
        prop_assert_eq!(frames.unfinished(), Some(0));
    }

    /// No bytes of either side cause a panic.
    #[test]
    fn any_bytes_are_survived(parts in vec((any::<bool>(), vec(any::<u8>(), 0..50)), 0..20)) {
        let mut watch = Watch::default();
        for (from_client, bytes) in parts {
            if from_client { watch.client_sent(&bytes) } else { watch.node_sent(&bytes) }
            state(&mut watch);
        }
    }
}
