//! Where a node stands.

use std::fmt;
use std::str::FromStr;

/// Tiers of a place: a continent down to a rack is five or six.
pub const MAX_TIERS: usize = 16;
/// Of a tier's name, and of its value, in bytes.
pub const MAX_TIER_BYTES: usize = 64;

/// Where a store stands, from the widest place to the narrowest: `region=eu,zone=eu-1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Locality(pub Vec<(String, String)>);

impl Locality {
    /// How far apart two places are: 0 the same, 1 nothing in common. Tiers count until the first that
    /// differs, because two zones of one name in two regions are not near.
    pub fn distance(&self, other: &Locality) -> f64 {
        let tiers = self.0.len().max(other.0.len());
        if tiers == 0 {
            return 0.0;
        }
        let common = self.0.iter().zip(&other.0).take_while(|(a, b)| a == b);
        1.0 - common.count() as f64 / tiers as f64
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tiers: Vec<String> = self.0.iter().map(|(k, v)| format!("{k}={v}")).collect();
        f.write_str(&tiers.join(","))
    }
}

impl FromStr for Locality {
    type Err = String;

    /// Of `region=eu,zone=eu-1`. Empty text is no tiers.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut tiers: Vec<(String, String)> = Vec::new();
        for tier in text.split(',').filter(|_| !text.is_empty()) {
            let (key, value) = tier
                .split_once('=')
                .ok_or_else(|| format!("`{tier}` is not a tier like region=eu"))?;
            check_word(key)?;
            check_word(value)?;
            if tiers.iter().any(|(known, _)| known == key) {
                return Err(format!("the tier `{key}` is there twice"));
            }
            tiers.push((key.to_owned(), value.to_owned()));
        }
        if tiers.len() > MAX_TIERS {
            return Err(format!("a locality has at most {MAX_TIERS} tiers"));
        }
        Ok(Locality(tiers))
    }
}

fn check_word(word: &str) -> Result<(), String> {
    let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    if word.is_empty() || word.len() > MAX_TIER_BYTES || !word.chars().all(plain) {
        return Err(format!(
            "`{word}` is not a word of a locality: letters, digits, `-`, `_` and `.`, at most {MAX_TIER_BYTES} bytes"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Locality {
        text.parse().expect("a locality")
    }

    #[test]
    fn is_read_as_it_is_written() {
        for text in ["", "zone=a", "region=eu,zone=eu-1,rack=r_7.2"] {
            assert_eq!(at(text).to_string(), text);
        }
    }

    #[test]
    fn bad_ones_say_what_is_wrong() {
        for (text, complaint) in [
            ("eu", "`eu` is not a tier like region=eu"),
            ("region=eu,", "`` is not a tier like region=eu"),
            ("zone=a,zone=b", "the tier `zone` is there twice"),
        ] {
            assert_eq!(text.parse::<Locality>(), Err(complaint.to_owned()));
        }
        for text in ["region=", "=eu", "region=e u", "region=eu=1"] {
            assert!(text.parse::<Locality>().is_err(), "{text}");
        }
        let many: Vec<String> = (0..=MAX_TIERS).map(|tier| format!("t{tier}=x")).collect();
        assert!(many.join(",").parse::<Locality>().is_err());
    }

    #[test]
    fn tiers_count_until_the_first_that_differs() {
        for (a, b, distance) in [
            ("", "", 0.0),
            ("zone=a", "", 1.0),
            ("region=eu,zone=a", "region=eu,zone=b", 0.5),
            ("region=eu,zone=a", "region=us,zone=a", 1.0),
            ("region=eu,zone=a", "region=eu,zone=a", 0.0),
        ] {
            assert_eq!(at(a).distance(&at(b)), distance, "{a} and {b}");
            assert_eq!(at(b).distance(&at(a)), distance, "{b} and {a}");
        }
    }
}
