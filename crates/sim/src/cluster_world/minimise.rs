//! Leaves out of a failing run every fault that it fails without.

use super::{Options, Violation, run};

/// Runs that this may take.
const ATTEMPTS: usize = 200;

/// A violation of the same seed with as few faults as can be found; it need not be the same violation, as
/// another one is as good a reason to look.
pub fn minimise(violation: Violation, options: &Options) -> Violation {
    let mut fewest = violation;
    let mut attempts = 0;
    // Halves first, then quarters, at last one by one (Zeller, Hildebrandt: "Simplifying and Isolating
    // Failure-Inducing Input", 2002).
    let mut chunk = fewest.faults.len().div_ceil(2);
    while chunk > 0 {
        let mut place = 0;
        while place < fewest.faults.len() && attempts < ATTEMPTS {
            attempts += 1;
            let mut faults = fewest.faults.clone();
            let end = (place + chunk).min(faults.len());
            faults.drain(place..end);
            let options = Options {
                faults: Some(faults),
                ..options.clone()
            };
            match run(fewest.seed, &options) {
                Err(violation) => fewest = violation,
                Ok(_) => place += chunk,
            }
        }
        chunk /= 2;
    }
    fewest
}
