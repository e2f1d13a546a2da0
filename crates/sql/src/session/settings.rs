//! Session settings: PostgreSQL's run-time parameters (manual, chapter 19) as `SET` and `SHOW` see
//! them. A name with a dot is a custom setting; any other unknown name is 42704.

use super::settings_table::{Definition, Kind, definition, definitions, display_name};
use std::collections::BTreeMap;
use std::time::Duration;
use txn::kv::Isolation;
use types::{Error, Result, SqlState};

/// The settings of one session: defaults, what start-up gave, and what SET changed.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Lower-case name → value; absent means default.
    values: BTreeMap<String, String>,
    /// What RESET returns to: values of the start-up packet.
    startup: BTreeMap<String, String>,
    /// Values before each SET of the current transaction, which ROLLBACK restores.
    undo: Vec<(String, Option<String>)>,
    /// Values before each SET LOCAL, which COMMIT restores too.
    local_undo: Vec<(String, Option<String>)>,
    /// Names to tell the client of.
    changed: Vec<&'static str>,
}

/// See [`Settings::mark`].
#[derive(Clone, Debug)]
pub struct SettingsMark {
    values: BTreeMap<String, String>,
    undo: usize,
    local_undo: usize,
}

impl Settings {
    /// Sets a parameter of the start-up packet.
    pub fn set_startup(&mut self, name: &str, value: &str) -> Result<()> {
        self.assign(name, value, false)?;
        self.undo.clear();
        self.changed.clear();
        let name = name.to_ascii_lowercase();
        if let Some(value) = self.values.get(&name) {
            self.startup.insert(name, value.clone());
        }
        Ok(())
    }

    pub fn get(&self, name: &str) -> Option<String> {
        let lower = name.to_ascii_lowercase();
        if let Some(value) = self.values.get(&lower) {
            return Some(value.clone());
        }
        definition(&lower).map(|d| d.default.to_string())
    }

    /// Like [`Settings::get`], with PostgreSQL's error.
    pub fn show(&self, name: &str) -> Result<String> {
        self.shown(name).ok_or_else(|| unknown(name))
    }

    /// The value as SHOW prints it: times with the largest unit that holds them whole.
    pub fn shown(&self, name: &str) -> Option<String> {
        let value = self.get(name)?;
        let kind = definition(&name.to_ascii_lowercase()).map(|d| d.kind);
        Some(match (kind, value.parse()) {
            (Some(Kind::Milliseconds), Ok(millis)) => with_unit(millis),
            _ => value,
        })
    }

    /// Name and value of all, by name.
    pub fn all(&self) -> Vec<(&'static str, String)> {
        let mut rows: Vec<_> = definitions()
            .map(|d| (display_name(d.name), self.shown(d.name).unwrap_or_default()))
            .collect();
        rows.sort_by_key(|(name, _)| name.to_ascii_lowercase());
        rows
    }

    /// `SET [LOCAL] name = value`.
    pub fn assign(&mut self, name: &str, value: &str, local: bool) -> Result<()> {
        let lower = name.to_ascii_lowercase();
        let value = match definition(&lower) {
            Some(definition) => checked(definition, value)?,
            None if lower.contains('.') => value.to_string(),
            None => return Err(unknown(name)),
        };
        self.replace(lower, Some(value), local);
        Ok(())
    }

    pub fn reset(&mut self, name: &str) -> Result<()> {
        let lower = name.to_ascii_lowercase();
        if definition(&lower).is_none() && !lower.contains('.') {
            return Err(unknown(name));
        }
        let value = self.startup.get(&lower).cloned();
        self.replace(lower, value, false);
        Ok(())
    }

    pub fn reset_all(&mut self) {
        let names: Vec<String> = self.values.keys().cloned().collect();
        for name in names {
            let value = self.startup.get(&name).cloned();
            self.replace(name, value, false);
        }
    }

    /// The end of a transaction: SET LOCAL ends, and after a rollback SET is undone too.
    /// Returns whether anything changed.
    pub fn end_transaction(&mut self, committed: bool) -> bool {
        if self.undo.is_empty() && self.local_undo.is_empty() {
            return false;
        }
        let local = std::mem::take(&mut self.local_undo);
        let plain = std::mem::take(&mut self.undo);
        for (name, before) in local.into_iter().rev() {
            self.put(name, before);
        }
        if !committed {
            for (name, before) in plain.into_iter().rev() {
                self.put(name, before);
            }
        }
        true
    }

    /// What ROLLBACK TO a savepoint set now returns to.
    pub fn mark(&self) -> SettingsMark {
        SettingsMark {
            values: self.values.clone(),
            undo: self.undo.len(),
            local_undo: self.local_undo.len(),
        }
    }

    pub fn undo_to(&mut self, mark: &SettingsMark) {
        self.undo.truncate(mark.undo);
        self.local_undo.truncate(mark.local_undo);
        let mut names: Vec<String> = self.values.keys().cloned().collect();
        names.extend(mark.values.keys().cloned());
        for name in names {
            let before = mark.values.get(&name);
            if self.values.get(&name) != before {
                self.put(name, before.cloned());
            }
        }
    }

    /// Reported settings with their values, for the end of start-up.
    pub fn reported(&self) -> Vec<(String, String)> {
        self.with_values(definitions().filter(|d| d.reported).map(|d| d.name))
    }

    /// Reported settings that changed since the last call.
    pub fn take_changed(&mut self) -> Vec<(String, String)> {
        if self.changed.is_empty() {
            return Vec::new();
        }
        let changed = std::mem::take(&mut self.changed);
        self.with_values(changed.into_iter())
    }

    pub fn timeout(&self, name: &str) -> Option<Duration> {
        let millis: u64 = self.values.get(name)?.parse().ok()?;
        (millis > 0).then(|| Duration::from_millis(millis))
    }

    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value == "on")
    }

    pub fn default_isolation(&self) -> Isolation {
        let level = self.values.get("default_transaction_isolation");
        level.and_then(|level| isolation(level)).unwrap_or_default()
    }

    /// The search path's schemas; `$user` stands for the role's name.
    pub fn search_path(&self, user: &str) -> Vec<String> {
        let path = self.get("search_path").unwrap_or_default();
        split_identifiers(&path)
            .into_iter()
            .map(|name| {
                if name == "$user" {
                    user.to_string()
                } else {
                    name
                }
            })
            .collect()
    }

    fn replace(&mut self, name: String, value: Option<String>, local: bool) {
        let before = self.put(name.clone(), value);
        let log = if local {
            &mut self.local_undo
        } else {
            &mut self.undo
        };
        log.push((name, before));
    }

    fn put(&mut self, name: String, value: Option<String>) -> Option<String> {
        if let Some(definition) = definition(&name).filter(|d| d.reported)
            && !self.changed.contains(&definition.name)
        {
            self.changed.push(definition.name);
        }
        match value {
            Some(value) => self.values.insert(name, value),
            None => self.values.remove(&name),
        }
    }

    fn with_values(&self, names: impl Iterator<Item = &'static str>) -> Vec<(String, String)> {
        names
            .map(|name| {
                (
                    display_name(name).to_string(),
                    self.get(name).unwrap_or_default(),
                )
            })
            .collect()
    }
}

/// An isolation level by its lower-case name.
pub fn isolation(level: &str) -> Option<Isolation> {
    match level {
        "read uncommitted" | "read committed" => Some(Isolation::ReadCommitted),
        "repeatable read" => Some(Isolation::RepeatableRead),
        "serializable" => Some(Isolation::Serializable),
        _ => None,
    }
}

pub fn isolation_name(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::ReadCommitted => "read committed",
        Isolation::RepeatableRead => "repeatable read",
        Isolation::Serializable => "serializable",
    }
}

fn unknown(name: &str) -> Error {
    Error::new(
        SqlState::UNDEFINED_OBJECT,
        format!("unrecognized configuration parameter \"{name}\""),
    )
}

fn invalid(definition: &Definition, value: &str) -> Error {
    let name = display_name(definition.name);
    Error::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("invalid value for parameter \"{name}\": \"{value}\""),
    )
}

/// The value as it is stored, or why it can't be.
fn checked(definition: &Definition, value: &str) -> Result<String> {
    let trimmed = value.trim();
    match definition.kind {
        Kind::DateStyle => date_style(value, definition),
        Kind::Text => Ok(value.to_string()),
        Kind::Bool => boolean(trimmed).map(on_off).ok_or_else(|| {
            Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("parameter \"{}\" requires a Boolean value", definition.name),
            )
        }),
        Kind::Integer(min, max) => match trimmed.parse::<i64>() {
            Ok(number) if definition.name == "extra_float_digits" && (min..1).contains(&number) => {
                Err(Error::unsupported("extra_float_digits below 1"))
            }
            Ok(number) if (min..=max).contains(&number) => Ok(number.to_string()),
            Ok(number) => Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!(
                    "{number} is outside the valid range for parameter \"{}\" ({min} .. {max})",
                    definition.name
                ),
            )),
            Err(_) => Err(invalid(definition, value)),
        },
        Kind::Real => match trimmed.parse::<f64>() {
            Ok(_) => Ok(trimmed.to_string()),
            Err(_) => Err(invalid(definition, value)),
        },
        Kind::Milliseconds => match milliseconds(trimmed) {
            Some(millis) => Ok(millis.to_string()),
            None => Err(invalid(definition, value).hint(
                "Valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\".",
            )),
        },
        Kind::Enum(words) => one_of(definition, words, trimmed),
        Kind::TimeZone => match types::timezone::TimeZone::parse(trimmed) {
            Ok(zone) => Ok(zone.to_string()),
            Err(_) => Err(invalid(definition, value)),
        },
        Kind::Fixed => Err(Error::new(
            SqlState::CANT_CHANGE_RUNTIME_PARAM,
            format!("parameter \"{}\" cannot be changed", definition.name),
        )),
    }
}

fn one_of(definition: &Definition, words: &[&str], value: &str) -> Result<String> {
    let lower = value.to_ascii_lowercase();
    if definition.name == "client_encoding" && words.contains(&lower.as_str()) {
        return Ok("UTF8".to_string());
    }
    if words.contains(&lower.as_str()) {
        return Ok(lower);
    }
    match boolean(&lower).map(on_off) {
        Some(flag) if words.contains(&flag.as_str()) => Ok(flag),
        _ => {
            Err(invalid(definition, value).hint(format!("Available values: {}.", words.join(", "))))
        }
    }
}

fn boolean(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" | "t" | "y" => Some(true),
        "off" | "false" | "no" | "0" | "f" | "n" => Some(false),
        _ => None,
    }
}

fn on_off(flag: bool) -> String {
    if flag { "on" } else { "off" }.to_string()
}

fn milliseconds(value: &str) -> Option<u64> {
    let digits = value
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(value.len());
    let number: f64 = value[..digits].parse().ok()?;
    let factor = match value[digits..].trim() {
        "us" => 0.001,
        "" | "ms" => 1.0,
        "s" => 1000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    let millis = number * factor;
    (millis <= f64::from(i32::MAX)).then(|| millis.round() as u64)
}

fn with_unit(millis: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "min"),
        (1000, "s"),
    ];
    if millis == 0 {
        return "0".to_string();
    }
    match UNITS.iter().find(|(size, _)| millis.is_multiple_of(*size)) {
        Some((size, unit)) => format!("{}{unit}", millis / size),
        None => format!("{millis}ms"),
    }
}

/// ISO output with month before day is the only style there is.
fn date_style(value: &str, definition: &Definition) -> Result<String> {
    for word in value.split(',') {
        match word.trim().to_ascii_lowercase().as_str() {
            "iso" | "mdy" | "us" | "noneuro" | "noneuropean" | "default" => {}
            "sql" | "postgres" | "german" | "ymd" | "dmy" | "euro" | "european" => {
                return Err(Error::unsupported("DateStyle other than ISO, MDY"));
            }
            _ => return Err(invalid(definition, value)),
        }
    }
    Ok(definition.default.to_string())
}

/// `a, "B c", $user` as names: unquoted ones folded to lower case.
fn split_identifiers(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = list.trim();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"').unwrap_or(quoted.len());
            names.push(quoted[..end].to_string());
            rest = quoted.get(end + 1..).unwrap_or("");
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            names.push(rest[..end].trim().to_ascii_lowercase());
            rest = &rest[end..];
        }
        rest = rest
            .trim_start()
            .strip_prefix(',')
            .unwrap_or("")
            .trim_start();
    }
    names.retain(|name| !name.is_empty());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_local_ends_with_the_transaction_and_set_with_a_rollback() {
        let mut settings = Settings::default();
        settings.assign("lock_timeout", "2s", false).unwrap();
        settings.end_transaction(true);
        settings.assign("lock_timeout", "5ms", true).unwrap();
        settings.assign("statement_timeout", "7", false).unwrap();
        assert_eq!(
            settings.timeout("lock_timeout"),
            Some(Duration::from_millis(5))
        );
        settings.end_transaction(false);
        assert_eq!(
            settings.timeout("lock_timeout"),
            Some(Duration::from_secs(2))
        );
        assert_eq!(settings.timeout("statement_timeout"), None);
    }

    #[test]
    fn a_mark_brings_back_what_was_set() {
        let mut settings = Settings::default();
        settings.assign("lock_timeout", "9s", false).unwrap();
        let mark = settings.mark();
        settings.assign("lock_timeout", "2min", true).unwrap();
        settings.assign("statement_timeout", "1500", false).unwrap();
        assert_eq!(settings.show("lock_timeout").unwrap(), "2min");
        assert_eq!(settings.show("statement_timeout").unwrap(), "1500ms");
        settings.undo_to(&mark);
        assert_eq!(settings.show("lock_timeout").unwrap(), "9s");
        assert_eq!(settings.show("statement_timeout").unwrap(), "0");
        settings.end_transaction(false);
        assert_eq!(settings.show("lock_timeout").unwrap(), "0");
    }

    #[test]
    fn date_style_is_iso() {
        let mut settings = Settings::default();
        settings.assign("DateStyle", "iso", false).unwrap();
        assert_eq!(settings.show("DateStyle").unwrap(), "ISO, MDY");
        let other = settings.assign("datestyle", "ISO, DMY", false);
        assert_eq!(other.unwrap_err().state, SqlState::FEATURE_NOT_SUPPORTED);
    }

    #[test]
    fn errors_carry_their_states() {
        let mut settings = Settings::default();
        let cases = [
            ("no_such", "1", SqlState::UNDEFINED_OBJECT),
            ("server_version", "16", SqlState::CANT_CHANGE_RUNTIME_PARAM),
            ("lock_timeout", "soon", SqlState::INVALID_PARAMETER_VALUE),
            ("extra_float_digits", "9", SqlState::INVALID_PARAMETER_VALUE),
        ];
        for (name, value, state) in cases {
            assert_eq!(
                settings.assign(name, value, false).unwrap_err().state,
                state,
                "{name}"
            );
        }
        settings.assign("my.custom", "x", false).unwrap();
        assert_eq!(settings.show("MY.custom").unwrap(), "x");
    }

    #[test]
    fn search_path_splits_names() {
        let mut settings = Settings::default();
        assert_eq!(settings.search_path("ann"), ["ann", "public"]);
        settings.assign("search_path", "A, \"B c\"", false).unwrap();
        assert_eq!(settings.search_path("ann"), ["a", "B c"]);
    }
}
