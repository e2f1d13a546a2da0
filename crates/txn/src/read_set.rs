//! What a SERIALIZABLE transaction has read, as spans of keys, for validation at commit.

use crate::kv::{Key, Span};
use bytes::{BufMut, Bytes, BytesMut};

/// Spans kept before they are merged. A point read costs two keys of memory.
const MOST_SPANS: usize = 16_384;

/// A set of keys that may grow beyond what was read, never below it.
#[derive(Debug, Default)]
pub(crate) struct ReadSet {
    spans: Vec<Span>,
}

impl ReadSet {
    pub(crate) fn add_key(&mut self, key: &[u8]) {
        let mut end = BytesMut::with_capacity(key.len() + 1);
        end.put_slice(key);
        end.put_u8(0);
        let end = end.freeze();
        let start = end.slice(..key.len());
        self.add(Span { start, end });
    }

    pub(crate) fn add(&mut self, span: Span) {
        if span.start >= span.end {
            return;
        }
        // Pages of one scan follow each other.
        if let Some(last) = self.spans.last_mut() {
            if last.end == span.start {
                last.end = span.end;
                return;
            }
            if span.end == last.start {
                last.start = span.start;
                return;
            }
        }
        self.spans.push(span);
        if self.spans.len() >= MOST_SPANS {
            self.shrink();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.spans.clear();
    }

    /// Sorted by start, disjoint.
    pub(crate) fn into_spans(mut self) -> Vec<Span> {
        self.merge();
        self.spans
    }

    fn merge(&mut self) {
        self.spans.sort_unstable();
        self.spans.dedup_by(|next, kept| {
            let touches = next.start <= kept.end;
            if touches && next.end > kept.end {
                kept.end = next.end.clone();
            }
            touches
        });
    }

    /// Merges; if that is not enough, joins neighbours together with the gap between them. That can
    /// cost a needless 40001, never a missed one.
    fn shrink(&mut self) {
        self.merge();
        if self.spans.len() < MOST_SPANS / 2 {
            return;
        }
        let joined: Vec<Span> = self
            .spans
            .chunks(2)
            .map(|pair| Span {
                start: pair[0].start.clone(),
                end: pair[pair.len() - 1].end.clone(),
            })
            .collect();
        self.spans = joined;
    }
}

/// The smallest key above `key`.
pub(crate) fn successor(key: &Key) -> Key {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    Bytes::from(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: &'static str, end: &'static str) -> Span {
        Span {
            start: Key::from_static(start.as_bytes()),
            end: Key::from_static(end.as_bytes()),
        }
    }

    #[test]
    fn merges_into_sorted_disjoint_spans() {
        let mut set = ReadSet::default();
        set.add(span("m", "p"));
        set.add(span("a", "c"));
        set.add(span("b", "d"));
        set.add(span("d", "e"));
        set.add(span("x", "x"));
        set.add_key(b"o");
        assert_eq!(set.into_spans(), vec![span("a", "e"), span("m", "p")]);
    }

    #[test]
    fn stays_bounded_and_covers_all_that_was_read() {
        let mut set = ReadSet::default();
        let keys: Vec<[u8; 4]> = (0..100_000u32).map(|n| (n * 2).to_be_bytes()).collect();
        for key in &keys {
            set.add_key(key);
        }
        assert!(set.spans.len() < MOST_SPANS);
        let spans = set.into_spans();
        for key in &keys {
            let after = spans.partition_point(|span| span.start <= key[..]);
            assert!(after > 0 && key[..] < spans[after - 1].end);
        }
    }
}
