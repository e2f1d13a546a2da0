//! One address that may be a node, and when to try it again.

/// The first delay after a failure, in milliseconds.
const FIRST_DELAY_MILLIS: u64 = 250;
/// The longest delay, in milliseconds: a node that comes up is found within seconds.
const LONGEST_DELAY_MILLIS: u64 = 5000;

/// When to try again: after delays that double and are shifted by up to a quarter, so that nodes that were
/// started together do not ask together for ever.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    due_millis: u64,
    delay_millis: u64,
}

impl Retry {
    pub(super) fn at(now_millis: u64) -> Self {
        Retry {
            due_millis: now_millis,
            delay_millis: FIRST_DELAY_MILLIS,
        }
    }

    pub(super) fn is_due(&self, now_millis: u64) -> bool {
        self.due_millis <= now_millis
    }

    pub(super) fn due_millis(&self) -> u64 {
        self.due_millis
    }

    /// It failed: later, and later still the next time.
    pub(super) fn back_off(&mut self, now_millis: u64, dice: u64) {
        self.due_millis = now_millis + shifted(self.delay_millis, dice);
        self.delay_millis = (self.delay_millis * 2).min(LONGEST_DELAY_MILLIS);
    }

    /// It worked: again after `delay_millis`.
    pub(super) fn again(&mut self, delay_millis: u64, now_millis: u64, dice: u64) {
        self.due_millis = now_millis + shifted(delay_millis, dice);
        self.delay_millis = FIRST_DELAY_MILLIS;
    }
}

/// Between three and five quarters of `millis`.
fn shifted(millis: u64, dice: u64) -> u64 {
    millis - millis / 4 + dice % (millis / 2 + 1)
}

/// What is known of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Nothing,
    /// Nobody answers: the reason.
    Silent(String),
    /// A node without cluster.
    Searching,
    /// It wants nothing to do with this node: the reason.
    Refused(String),
}

#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub retry: Retry,
    /// A question is under way.
    pub asked: bool,
    pub heard: Heard,
    /// The address that it advertises, if it may found a cluster.
    pub founder: Option<String>,
    /// It has answered or asked itself: nobody else told of it.
    pub first_hand: bool,
    /// It was seen on the local network.
    pub sighted: bool,
    /// When it last answered or asked, or was first heard of.
    pub heard_millis: u64,
}

impl Candidate {
    pub(super) fn new(now_millis: u64) -> Self {
        Candidate {
            retry: Retry::at(now_millis),
            asked: false,
            heard: Heard::Nothing,
            founder: None,
            first_hand: false,
            sighted: false,
            heard_millis: now_millis,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_bound_and_differ_by_the_dice() {
        for dice in [0, 1, 77, u64::MAX] {
            let mut retry = Retry::at(0);
            let mut now = 0;
            let mut waits = Vec::new();
            for _ in 0..8 {
                retry.back_off(now, dice);
                waits.push(retry.due_millis() - now);
                now = retry.due_millis();
            }
            let delays = [250, 500, 1000, 2000, 4000, 5000, 5000, 5000];
            for (wait, delay) in waits.iter().zip(delays) {
                assert!((delay * 3 / 4..=delay * 5 / 4 + 1).contains(wait), "{wait}");
            }
        }
        let wait = |dice| {
            let mut retry = Retry::at(0);
            retry.back_off(0, dice);
            retry.due_millis()
        };
        assert_ne!(wait(3), wait(50));
    }

    #[test]
    fn success_makes_the_next_delay_short_again() {
        let mut retry = Retry::at(0);
        for _ in 0..8 {
            retry.back_off(0, 0);
        }
        retry.again(1000, 0, 0);
        retry.back_off(0, 0);
        assert!(retry.due_millis() < 250);
    }
}
