//! What inputs did wrong, as the process saw it: panics on any thread, and answers that only a bug gives.

use parking_lot::Mutex;
use std::panic::PanicHookInfo;

/// Complaints of one input; more say nothing new.
const MAX_PENDING: usize = 32;

static PENDING: Mutex<Vec<Complaint>> = Mutex::new(Vec::new());

#[derive(Clone, Debug, PartialEq)]
pub struct Complaint {
    /// The same for all inputs that meet the same bug, as far as one can tell.
    pub key: String,
    pub what: String,
}

/// From here on every panic is a complaint, also one that the product catches.
pub fn record_panics() {
    std::panic::set_hook(Box::new(|panic| add(of_panic(panic))));
}

fn of_panic(panic: &PanicHookInfo<'_>) -> Complaint {
    let key = panic
        .location()
        .map_or("nowhere".to_string(), ToString::to_string);
    let text = panic.payload_as_str().unwrap_or("no text");
    Complaint {
        what: format!("panic at {key}: {text}"),
        key,
    }
}

/// An answer of SQLSTATE XX000: the product's own word for a bug.
pub fn internal_error(message: &str) {
    // Without what differs from input to input: numbers and what is quoted.
    let mut key = String::from("XX000 ");
    let mut quoted = false;
    for c in message.chars() {
        match c {
            '"' | '\'' | '`' => quoted = !quoted,
            '0'..='9' => {}
            c if !quoted => key.push(c),
            _ => {}
        }
    }
    key.truncate(key.floor_char_boundary(120));
    add(Complaint {
        key,
        what: format!("XX000: {message}"),
    });
}

pub fn add(complaint: Complaint) {
    let mut pending = PENDING.lock();
    if pending.len() < MAX_PENDING {
        pending.push(complaint);
    }
}

/// What the last input did wrong.
pub fn take() -> Vec<Complaint> {
    std::mem::take(&mut *PENDING.lock())
}
