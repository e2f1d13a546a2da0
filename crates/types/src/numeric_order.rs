//! The order of numerics: by worth, NaN above everything.

use crate::Numeric;
use crate::numeric_arith::{align, align_big};
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

impl Ord for Numeric {
    fn cmp(&self, other: &Self) -> Ordering {
        fn rank(n: &Numeric) -> u8 {
            if n.is_finite() {
                1
            } else if n.is_nan() {
                3
            } else if n.signum() > 0 {
                2
            } else {
                0
            }
        }
        if let (Some((a, sa)), Some((b, sb))) = (self.to_i128_parts(), other.to_i128_parts())
            && let Some((a, b, _)) = align(a, sa, b, sb)
        {
            return a.cmp(&b);
        }
        match rank(self).cmp(&rank(other)) {
            Ordering::Equal if self.is_finite() => {}
            decided => return decided,
        }
        match self.signum().cmp(&other.signum()) {
            Ordering::Equal if self.is_zero() => return Ordering::Equal,
            Ordering::Equal => {}
            decided => return decided,
        }
        let by_magnitude = self.integer_digits().cmp(&other.integer_digits());
        if by_magnitude != Ordering::Equal {
            return if self.signum() < 0 {
                by_magnitude.reverse()
            } else {
                by_magnitude
            };
        }
        match (self.to_bigint_parts(), other.to_bigint_parts()) {
            (Some((a, sa)), Some((b, sb))) => {
                let (a, b, _) = align_big(a, sa, b, sb);
                a.cmp(&b)
            }
            _ => Ordering::Equal,
        }
    }
}

impl PartialOrd for Numeric {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Equality of worth: `1.5 = 1.50`, and NaN equals itself, as in PostgreSQL.
impl PartialEq for Numeric {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Numeric {}

impl Hash for Numeric {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if self.is_nan() {
            1u8.hash(state);
        } else if self.is_infinite() {
            (2 + self.signum() as i8).hash(state);
        } else {
            let trimmed = self.trim_scale();
            match trimmed.to_i128_parts() {
                Some(parts) => parts.hash(state),
                None => trimmed.to_bigint_parts().hash(state),
            }
        }
    }
}
