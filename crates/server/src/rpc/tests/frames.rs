//! The frame codec, without sockets.

use crate::rpc::frame::{Codec, Frame, FrameError, Kind, MAX_FRAME_BYTES};
use crate::rpc::limits::{MAX_BODY_BYTES, PIECE_BYTES};
use crate::rpc::pieces::Pieces;
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let kinds = vec![
        Kind::Hello,
        Kind::Message,
        Kind::Request,
        Kind::Answer,
        Kind::Failed,
        Kind::Pong,
    ];
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        Just(vec![5; PIECE_BYTES])
    ];
    let frame = (
        prop::sample::select(kinds),
        any::<bool>(),
        any::<u64>(),
        body,
    );
    let frame = frame.prop_map(|(kind, more, id, body)| Frame {
        kind,
        more,
        id,
        body: body.into(),
    });
    prop::collection::vec(frame, 0..5)
}

fn encoded(codec: Codec, frames: &[Frame]) -> BytesMut {
    let mut out = BytesMut::new();
    for frame in frames {
        codec.encode(frame.kind, frame.more, frame.id, &frame.body, &mut out);
    }
    out
}

/// All frames that are complete, and the error that ended it.
fn decoded(codec: Codec, input: &mut BytesMut) -> (Vec<Frame>, Option<FrameError>) {
    let mut frames = Vec::new();
    loop {
        match codec.decode(input, MAX_FRAME_BYTES) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
    }
}

proptest! {
    #[test]
    fn frames_survive_any_cut(frames in frames(), checksums: bool, chunk in 1..5000_usize) {
        let codec = Codec { checksums };
        let bytes = encoded(codec, &frames);
        let (mut input, mut arrived) = (BytesMut::new(), Vec::new());
        for chunk in bytes.chunks(chunk) {
            input.extend_from_slice(chunk);
            let (more, error) = decoded(codec, &mut input);
            prop_assert_eq!(error, None);
            arrived.extend(more);
        }
        prop_assert_eq!(arrived, frames);
        prop_assert!(input.is_empty());
    }

    #[test]
    fn a_damaged_frame_is_never_taken_for_a_good_one(
        frames in frames(),
        at: prop::sample::Index,
        change in 1..=255_u8,
    ) {
        let codec = Codec { checksums: true };
        let mut bytes = encoded(codec, &frames);
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        let (arrived, _) = decoded(codec, &mut bytes);
        // Those before the damage, or all but it: never one with other contents.
        prop_assert!(arrived.len() < frames.len());
        prop_assert_eq!(&arrived[..], &frames[..arrived.len()]);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, checksums: bool) {
        let mut input = BytesMut::from(&bytes[..]);
        decoded(Codec { checksums }, &mut input);
    }
}

#[test]
fn a_peer_that_speaks_tls_is_recognised() {
    let codec = Codec { checksums: true };
    let alert = [0x15, 3, 3, 0, 2, 2, 70];
    let client_hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    for record in [&alert[..], &client_hello] {
        let mut input = BytesMut::from(record);
        assert_eq!(codec.decode(&mut input, 4096), Err(FrameError::Tls));
    }
}

fn piece(id: u64, more: bool, body: &'static [u8]) -> Frame {
    Frame {
        kind: Kind::Request,
        more,
        id,
        body: Bytes::from_static(body),
    }
}

#[test]
fn bodies_are_put_together_though_their_pieces_are_mixed() {
    let mut pieces = Pieces::default();
    assert_eq!(pieces.add(piece(1, true, b"one ")), Ok(None));
    assert_eq!(pieces.add(piece(2, true, b"uno ")), Ok(None));
    assert_eq!(
        pieces.add(piece(3, false, b"small")),
        Ok(Some(piece(3, false, b"small")))
    );
    assert_eq!(pieces.add(piece(1, true, b"two ")), Ok(None));
    assert_eq!(
        pieces.add(piece(2, false, b"due")),
        Ok(Some(piece(2, false, b"uno due")))
    );
    assert_eq!(
        pieces.add(piece(1, false, b"three")),
        Ok(Some(piece(1, false, b"one two three")))
    );
}

#[test]
fn bodies_that_never_end_are_refused() {
    static PIECE: [u8; PIECE_BYTES] = [7; PIECE_BYTES];
    let mut pieces = Pieces::default();
    for _ in 0..MAX_BODY_BYTES / PIECE_BYTES {
        assert_eq!(pieces.add(piece(1, true, &PIECE)), Ok(None));
    }
    let error = pieces.add(piece(1, true, &PIECE)).expect_err("too long");
    assert_eq!(error, FrameError::BodyTooLong(MAX_BODY_BYTES));

    let mut pieces = Pieces::default();
    let refused = (0..100_000).find_map(|id| pieces.add(piece(id, true, b"")).err());
    assert!(
        matches!(refused, Some(FrameError::TooManyBodies(_))),
        "{refused:?}"
    );
}
