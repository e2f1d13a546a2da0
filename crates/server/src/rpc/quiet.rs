//! Complaints that come again and again are logged now and then.

use crate::rpc::limits::REPEATED_LOG;
use parking_lot::Mutex;
use std::time::Instant;

/// Remembers the last complaint.
#[derive(Default)]
pub struct Quiet(Mutex<Option<(String, Instant)>>);

impl Quiet {
    /// Whether to log this one: it is another than the last, or that was long ago.
    pub fn breaks(&self, complaint: &str) -> bool {
        let mut last = self.0.lock();
        if let Some((text, at)) = &*last
            && text == complaint
            && at.elapsed() < REPEATED_LOG
        {
            return false;
        }
        *last = Some((complaint.to_string(), Instant::now()));
        true
    }

    /// All is well: the next complaint is news.
    pub fn forget(&self) {
        *self.0.lock() = None;
    }
}
