//! Write gaps: how long nobody got an acknowledgement.

use std::collections::BTreeMap;
use std::ops::Range;

/// An acknowledged write, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Since the load began, in microseconds.
    pub at_micros: u64,
    pub client: u32,
}

/// The longest time without an acknowledgement that reaches into the window, in microseconds. A gap begins at the
/// last acknowledgement before the window, and one that never ends lasts until the window's end.
pub fn longest(times: impl IntoIterator<Item = u64>, window: Range<u64>) -> u64 {
    let mut before = None;
    let mut inside = Vec::new();
    for time in times {
        if time <= window.start {
            before = before.max(Some(time));
        } else if time < window.end {
            inside.push(time);
        }
    }
    let mut before = before.unwrap_or(window.start);
    inside.sort_unstable();
    inside.push(window.end);
    let mut longest = 0;
    for time in inside {
        longest = longest.max(time - before);
        before = time;
    }
    longest
}

/// Over all clients together: how long the database took no write.
pub fn of_all(acks: &[Ack], window: Range<u64>) -> u64 {
    longest(acks.iter().map(|ack| ack.at_micros), window)
}

/// The longest that one client waited, over all clients.
pub fn of_worst_client(acks: &[Ack], clients: u32, window: Range<u64>) -> u64 {
    let mut by_client: BTreeMap<u32, Vec<u64>> = (0..clients).map(|c| (c, Vec::new())).collect();
    for ack in acks {
        by_client.entry(ack.client).or_default().push(ack.at_micros);
    }
    by_client
        .into_values()
        .map(|times| longest(times, window.clone()))
        .max()
        .unwrap_or(0)
}

/// Acknowledgements in each whole second since the load began.
pub fn per_second(acks: &[Ack]) -> Vec<u64> {
    let mut seconds = Vec::new();
    for ack in acks {
        let second = (ack.at_micros / 1_000_000) as usize;
        if seconds.len() <= second {
            seconds.resize(second + 1, 0);
        }
        seconds[second] += 1;
    }
    seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(at_micros: u64, client: u32) -> Ack {
        Ack { at_micros, client }
    }

    #[test]
    fn a_gap_begins_before_the_kill_and_ends_with_the_next_answer() {
        // Killed at 100; the last answer came at 90, the next at 700.
        let acks = [ack(10, 0), ack(90, 1), ack(700, 0), ack(720, 1)];
        assert_eq!(of_all(&acks, 100..800), 610);
        // Client 0 was answered at 10 and at 700.
        assert_eq!(of_worst_client(&acks, 2, 100..800), 690);
    }

    #[test]
    fn a_gap_that_never_ends_lasts_until_the_end() {
        assert_eq!(longest([90], 100..800), 710);
        assert_eq!(longest([], 100..800), 700);
        let acks = [ack(110, 0), ack(790, 0)];
        assert_eq!(
            of_worst_client(&acks, 2, 100..800),
            700,
            "client 1 got nothing"
        );
    }

    #[test]
    fn the_order_of_the_acknowledgements_does_not_matter() {
        assert_eq!(longest([700, 90, 20], 100..750), 610);
    }

    #[test]
    fn seconds_without_an_answer_count_as_none() {
        let acks = [ack(5, 0), ack(2_500_000, 0), ack(2_600_000, 1)];
        assert_eq!(per_second(&acks), [1, 0, 2]);
    }
}
