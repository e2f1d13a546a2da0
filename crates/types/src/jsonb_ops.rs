//! The operators and functions of `jsonb`. Results are NULL where a function gives `None`.

use crate::jsonb::compare_keys;
use crate::{Error, Jsonb, Result, SqlState};
use std::cmp::Ordering;
use std::sync::Arc;

fn invalid(message: impl Into<String>) -> Error {
    Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

/// Where a subscript points: negative ones count from the end.
fn place(index: i64, len: usize) -> Option<usize> {
    let at = if index < 0 { index + len as i64 } else { index };
    usize::try_from(at).ok().filter(|i| *i < len)
}

type Pairs = Vec<(Arc<str>, Jsonb)>;

impl Jsonb {
    /// `jsonb -> text`.
    pub fn get(&self, key: &str) -> Option<&Jsonb> {
        match self {
            Jsonb::Object(pairs) => pairs
                .binary_search_by(|(k, _)| compare_keys(k, key))
                .ok()
                .map(|i| &pairs[i].1),
            _ => None,
        }
    }

    /// `jsonb -> integer`.
    pub fn get_index(&self, index: i64) -> Option<&Jsonb> {
        match self {
            Jsonb::Array(items) => place(index, items.len()).map(|i| &items[i]),
            _ => None,
        }
    }

    /// `jsonb #> text[]`.
    pub fn get_path<S: AsRef<str>>(&self, path: &[S]) -> Option<&Jsonb> {
        path.iter().try_fold(self, |value, step| {
            let step = step.as_ref();
            match value {
                Jsonb::Object(_) => value.get(step),
                Jsonb::Array(_) => value.get_index(step.trim().parse().ok()?),
                _ => None,
            }
        })
    }

    /// What `->>` and `#>>` give: strings without quotes, NULL for JSON null, else the text form.
    pub fn as_text(&self) -> Option<String> {
        match self {
            Jsonb::Null => None,
            Jsonb::String(s) => Some(s.to_string()),
            other => Some(other.to_string()),
        }
    }

    /// `self @> other`.
    pub fn contains(&self, other: &Jsonb) -> bool {
        // An array may contain a bare scalar, at the top only.
        if let (Jsonb::Array(items), scalar) = (self, other)
            && scalar.is_scalar()
        {
            return items.iter().any(|i| i == scalar);
        }
        self.contains_nested(other)
    }

    fn contains_nested(&self, other: &Jsonb) -> bool {
        match (self, other) {
            (Jsonb::Object(_), Jsonb::Object(wanted)) => wanted
                .iter()
                .all(|(k, v)| self.get(k).is_some_and(|mine| mine.contains_nested(v))),
            (Jsonb::Array(mine), Jsonb::Array(wanted)) => wanted
                .iter()
                .all(|w| mine.iter().any(|m| m.contains_nested(w))),
            (a, b) if a.is_scalar() && b.is_scalar() => a == b,
            _ => false,
        }
    }

    /// `jsonb ? text`: a key of an object, a string of an array, or the string itself.
    pub fn exists(&self, key: &str) -> bool {
        match self {
            Jsonb::Object(_) => self.get(key).is_some(),
            Jsonb::Array(items) => items
                .iter()
                .any(|i| matches!(i, Jsonb::String(s) if **s == *key)),
            Jsonb::String(s) => **s == *key,
            _ => false,
        }
    }

    /// `?|`
    pub fn exists_any<S: AsRef<str>>(&self, keys: &[S]) -> bool {
        keys.iter().any(|k| self.exists(k.as_ref()))
    }

    /// `?&`
    pub fn exists_all<S: AsRef<str>>(&self, keys: &[S]) -> bool {
        keys.iter().all(|k| self.exists(k.as_ref()))
    }

    /// `||`
    pub fn concat(&self, other: &Jsonb) -> Result<Jsonb> {
        match (self, other) {
            (Jsonb::Object(a), Jsonb::Object(b)) => {
                Ok(Jsonb::object(a.iter().chain(b.iter()).cloned().collect()))
            }
            (Jsonb::Array(a), Jsonb::Array(b)) => {
                Ok(Jsonb::array(a.iter().chain(b.iter()).cloned().collect()))
            }
            (Jsonb::Array(a), b) => {
                Ok(Jsonb::array(a.iter().cloned().chain([b.clone()]).collect()))
            }
            (a, Jsonb::Array(b)) => Ok(Jsonb::array(
                [a.clone()].into_iter().chain(b.iter().cloned()).collect(),
            )),
            (a, b) if a.is_scalar() && b.is_scalar() => {
                Ok(Jsonb::array(vec![a.clone(), b.clone()]))
            }
            _ => Err(invalid("invalid concatenation of jsonb objects")),
        }
    }

    /// `jsonb - text`.
    pub fn delete_key(&self, key: &str) -> Result<Jsonb> {
        self.delete_keys(&[key])
    }

    /// `jsonb - text[]`.
    pub fn delete_keys<S: AsRef<str>>(&self, keys: &[S]) -> Result<Jsonb> {
        let hit = |s: &str| keys.iter().any(|k| k.as_ref() == s);
        match self {
            Jsonb::Object(pairs) => Ok(Jsonb::object(
                pairs.iter().filter(|(k, _)| !hit(k)).cloned().collect(),
            )),
            Jsonb::Array(items) => Ok(Jsonb::array(
                items
                    .iter()
                    .filter(|i| !matches!(i, Jsonb::String(s) if hit(s)))
                    .cloned()
                    .collect(),
            )),
            _ => Err(invalid("cannot delete from scalar")),
        }
    }

    /// `jsonb - integer`.
    pub fn delete_index(&self, index: i64) -> Result<Jsonb> {
        match self {
            Jsonb::Array(items) => {
                let mut items = items.to_vec();
                if let Some(at) = place(index, items.len()) {
                    items.remove(at);
                }
                Ok(Jsonb::array(items))
            }
            Jsonb::Object(_) => Err(invalid("cannot delete from object using integer index")),
            _ => Err(invalid("cannot delete from scalar")),
        }
    }

    /// `jsonb #- text[]`.
    pub fn delete_path<S: AsRef<str>>(&self, path: &[S]) -> Result<Jsonb> {
        if self.is_scalar() {
            return Err(invalid("cannot delete path in scalar"));
        }
        self.edit(path, 0, &Edit::Delete)
    }

    /// `jsonb_set(target, path, value, create_if_missing)`.
    pub fn set<S: AsRef<str>>(&self, path: &[S], value: &Jsonb, create: bool) -> Result<Jsonb> {
        if self.is_scalar() {
            return Err(invalid("cannot set path in scalar"));
        }
        self.edit(path, 0, &Edit::Set { value, create })
    }

    /// `jsonb_insert(target, path, value, insert_after)`.
    pub fn insert<S: AsRef<str>>(&self, path: &[S], value: &Jsonb, after: bool) -> Result<Jsonb> {
        if self.is_scalar() {
            return Err(invalid("cannot set path in scalar"));
        }
        self.edit(path, 0, &Edit::Insert { value, after })
    }

    fn edit<S: AsRef<str>>(&self, path: &[S], depth: usize, edit: &Edit<'_>) -> Result<Jsonb> {
        let Some((step, rest)) = path.split_first() else {
            return Ok(self.clone());
        };
        let step = step.as_ref();
        match self {
            Jsonb::Object(pairs) => edit_object(pairs, step, rest, depth, edit),
            Jsonb::Array(items) => edit_array(items, step, rest, depth, edit),
            scalar => Ok(scalar.clone()),
        }
    }

    /// `jsonb_strip_nulls`: drops members of objects that are null, at any depth.
    pub fn strip_nulls(&self) -> Jsonb {
        match self {
            Jsonb::Object(pairs) => Jsonb::object(
                pairs
                    .iter()
                    .filter(|(_, v)| !matches!(v, Jsonb::Null))
                    .map(|(k, v)| (k.clone(), v.strip_nulls()))
                    .collect(),
            ),
            Jsonb::Array(items) => Jsonb::array(items.iter().map(Jsonb::strip_nulls).collect()),
            scalar => scalar.clone(),
        }
    }

    /// `jsonb_typeof`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Jsonb::Null => "null",
            Jsonb::Bool(_) => "boolean",
            Jsonb::Number(_) => "number",
            Jsonb::String(_) => "string",
            Jsonb::Array(_) => "array",
            Jsonb::Object(_) => "object",
        }
    }

    /// `jsonb_array_length`.
    pub fn array_length(&self) -> Result<i32> {
        match self {
            Jsonb::Array(items) => Ok(items.len() as i32),
            Jsonb::Object(_) => Err(invalid("cannot get array length of a non-array")),
            _ => Err(invalid("cannot get array length of a scalar")),
        }
    }

    /// `jsonb_array_elements`.
    pub fn elements(&self) -> Result<&[Jsonb]> {
        match self {
            Jsonb::Array(items) => Ok(items),
            Jsonb::Object(_) => Err(invalid("cannot extract elements from an object")),
            _ => Err(invalid("cannot extract elements from a scalar")),
        }
    }

    /// `jsonb_each`.
    pub fn each(&self) -> Result<&[(Arc<str>, Jsonb)]> {
        match self {
            Jsonb::Object(pairs) => Ok(pairs),
            _ => Err(invalid("cannot call jsonb_each on a non-object")),
        }
    }

    /// `jsonb_object_keys`.
    pub fn object_keys(&self) -> Result<Vec<Arc<str>>> {
        match self {
            Jsonb::Object(pairs) => Ok(pairs.iter().map(|(k, _)| k.clone()).collect()),
            Jsonb::Array(_) => Err(invalid("cannot call jsonb_object_keys on an array")),
            _ => Err(invalid("cannot call jsonb_object_keys on a scalar")),
        }
    }

    /// A SQL value as JSON, as `to_jsonb` and `jsonb_build_object` make it.
    pub fn from_datum(
        datum: &crate::Datum,
        sql_type: &crate::SqlType,
        ctx: &crate::FormatContext,
    ) -> Result<Jsonb> {
        use crate::{Datum, Numeric};
        let number = |text: String| match Numeric::parse(&text) {
            Some(n) if n.is_finite() => Jsonb::Number(n),
            // Not numbers in JSON.
            _ => Jsonb::string(&text),
        };
        Ok(match datum {
            Datum::Null => Jsonb::Null,
            Datum::Bool(v) => Jsonb::Bool(*v),
            Datum::Int2(_)
            | Datum::Int4(_)
            | Datum::Int8(_)
            | Datum::Float4(_)
            | Datum::Float8(_)
            | Datum::Numeric(_) => number(datum.to_text(sql_type, ctx)),
            Datum::Json(text) => crate::json::parse(text)?,
            Datum::Jsonb(value) => value.clone(),
            Datum::Array(array) => {
                array_to_json(&array.dims, &mut array.elements.iter(), array, ctx)?
            }
            Datum::Timestamp(_) | Datum::TimestampTz(_) => {
                // JSON has them with a T and minutes in the offset.
                let mut text = datum.to_text(sql_type, ctx).replacen(' ', "T", 1);
                if let Datum::TimestampTz(_) = datum
                    && let Some(sign) = text.rfind(['+', '-'])
                    && sign > 10
                    && text.len() - sign == 3
                {
                    text.push_str(":00");
                }
                Jsonb::string(&text)
            }
            other => Jsonb::string(&other.to_text(sql_type, ctx)),
        })
    }

    /// `jsonb_build_object(k, v, …)` over keys in text form.
    pub fn build_object(pairs: Pairs) -> Jsonb {
        Jsonb::object(pairs)
    }
}

fn array_to_json<'a>(
    dims: &[crate::array::ArrayDim],
    elements: &mut impl Iterator<Item = &'a crate::Datum>,
    array: &crate::Array,
    ctx: &crate::FormatContext,
) -> Result<Jsonb> {
    let Some((dim, inner)) = dims.split_first() else {
        return Ok(Jsonb::array(Vec::new()));
    };
    let mut items = Vec::with_capacity(dim.len.max(0) as usize);
    for _ in 0..dim.len {
        if !inner.is_empty() {
            items.push(array_to_json(inner, elements, array, ctx)?);
        } else if let Some(element) = elements.next() {
            items.push(Jsonb::from_datum(element, &array.element_type, ctx)?);
        }
    }
    Ok(Jsonb::array(items))
}

/// What happens at the end of a path.
enum Edit<'a> {
    Delete,
    Set { value: &'a Jsonb, create: bool },
    Insert { value: &'a Jsonb, after: bool },
}

fn edit_object<S: AsRef<str>>(
    pairs: &[(Arc<str>, Jsonb)],
    step: &str,
    rest: &[S],
    depth: usize,
    edit: &Edit<'_>,
) -> Result<Jsonb> {
    let mut pairs: Pairs = pairs.to_vec();
    let found = pairs.binary_search_by(|(k, _)| compare_keys(k, step)).ok();
    match (found, rest.is_empty(), edit) {
        (Some(at), false, _) => pairs[at].1 = pairs[at].1.edit(rest, depth + 1, edit)?,
        (Some(at), true, Edit::Delete) => {
            pairs.remove(at);
        }
        (Some(at), true, Edit::Set { value, .. }) => pairs[at].1 = (*value).clone(),
        (Some(_), true, Edit::Insert { .. }) => {
            return Err(invalid("cannot replace existing key")
                .hint("Try using the function jsonb_set to replace key value."));
        }
        (
            None,
            true,
            Edit::Set {
                value,
                create: true,
            }
            | Edit::Insert { value, .. },
        ) => {
            pairs.push((step.into(), (*value).clone()));
        }
        (None, _, _) => {}
    }
    Ok(Jsonb::object(pairs))
}

fn edit_array<S: AsRef<str>>(
    items: &[Jsonb],
    step: &str,
    rest: &[S],
    depth: usize,
    edit: &Edit<'_>,
) -> Result<Jsonb> {
    let index: i64 = step.trim().parse::<i32>().map(i64::from).map_err(|_| {
        Error::new(
            SqlState::INVALID_TEXT_REPRESENTATION,
            format!(
                "path element at position {} is not an integer: \"{step}\"",
                depth + 1
            ),
        )
    })?;
    let mut items = items.to_vec();
    let found = place(index, items.len());
    match (found, rest.is_empty(), edit) {
        (Some(at), false, _) => items[at] = items[at].edit(rest, depth + 1, edit)?,
        (Some(at), true, Edit::Delete) => {
            items.remove(at);
        }
        (Some(at), true, Edit::Set { value, .. }) => items[at] = (*value).clone(),
        (Some(at), true, Edit::Insert { value, after }) => {
            items.insert(at + usize::from(*after), (*value).clone());
        }
        // Outside the array: at the near end.
        (
            None,
            true,
            Edit::Set {
                value,
                create: true,
            }
            | Edit::Insert { value, .. },
        ) => {
            let at = match index.cmp(&0) {
                Ordering::Less => 0,
                _ => items.len(),
            };
            items.insert(at, (*value).clone());
        }
        (None, _, _) => {}
    }
    Ok(Jsonb::array(items))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    fn j(text: &str) -> Jsonb {
        parse(text).unwrap()
    }

    #[test]
    fn getting() {
        let v = j(r#"{"a": {"b": [10, "x", null]}, "c": 1.50}"#);
        assert_eq!(v.get("c").and_then(Jsonb::as_text).as_deref(), Some("1.50"));
        assert_eq!(v.get("zz"), None);
        assert_eq!(
            v.get_path(&["a", "b", "1"])
                .and_then(Jsonb::as_text)
                .as_deref(),
            Some("x")
        );
        assert_eq!(v.get_path(&["a", "b", "-3"]), Some(&j("10")));
        assert_eq!(v.get_path(&["a", "b", "2"]).and_then(Jsonb::as_text), None);
        assert_eq!(j("[1,2,3]").get_index(-1), Some(&j("3")));
        assert_eq!(j("[1,2,3]").get_index(3), None);
    }

    #[test]
    fn containment_and_existence() {
        assert!(j(r#"{"a":1,"b":[1,2,{"c":3}]}"#).contains(&j(r#"{"b":[{"c":3},1]}"#)));
        assert!(!j(r#"{"a":{"b":1}}"#).contains(&j(r#"{"b":1}"#)));
        assert!(j(r#"["foo","bar"]"#).contains(&j(r#""bar""#)));
        assert!(!j(r#"[["foo"]]"#).contains(&j(r#"["foo"]"#)));
        assert!(j("[1,2,2]").contains(&j("[2,1]")));
        assert!(j(r#"{"a":1}"#).exists("a") && j(r#"["a"]"#).exists("a"));
        assert!(j(r#"{"a":1,"b":2}"#).exists_all(&["a", "b"]));
        assert!(!j(r#"{"a":1}"#).exists_any(&["x", "y"]));
    }

    #[test]
    fn editing() {
        let shown = |r: Result<Jsonb>| r.map(|v| v.to_string());
        let is = |r: Result<Jsonb>, expected: &str| assert_eq!(shown(r).as_deref(), Ok(expected));
        is(
            j(r#"{"a":1}"#).concat(&j(r#"{"b":2,"a":3}"#)),
            r#"{"a": 3, "b": 2}"#,
        );
        is(j("[1]").concat(&j("2")), "[1, 2]");
        is(j("1").concat(&j("2")), "[1, 2]");
        is(j(r#"{"a":1,"b":2}"#).delete_key("a"), r#"{"b": 2}"#);
        is(j(r#"["a","b"]"#).delete_key("a"), r#"["b"]"#);
        is(j("[1,2,3]").delete_index(-1), "[1, 2]");
        is(
            j(r#"{"a":{"b":[1,2]}}"#).delete_path(&["a", "b", "0"]),
            r#"{"a": {"b": [2]}}"#,
        );
        let t = j(r#"[{"f1":1,"f2":null},2,null,3]"#);
        is(
            t.set(&["0", "f1"], &j("[2,3,4]"), false),
            r#"[{"f1": [2, 3, 4], "f2": null}, 2, null, 3]"#,
        );
        is(
            t.set(&["0", "f3"], &j("9"), true),
            r#"[{"f1": 1, "f2": null, "f3": 9}, 2, null, 3]"#,
        );
        is(
            t.set(&["0", "f3"], &j("9"), false),
            r#"[{"f1": 1, "f2": null}, 2, null, 3]"#,
        );
        is(
            j(r#"{"a":[0,1,2]}"#).insert(&["a", "1"], &j("\"n\""), false),
            r#"{"a": [0, "n", 1, 2]}"#,
        );
        is(
            j(r#"{"a":[0,1,2]}"#).insert(&["a", "1"], &j("\"n\""), true),
            r#"{"a": [0, 1, "n", 2]}"#,
        );
        assert!(j(r#"{"a":1}"#).insert(&["a"], &j("2"), false).is_err());
        assert!(j("1").delete_key("a").is_err());
        assert_eq!(t.strip_nulls().to_string(), r#"[{"f1": 1}, 2, null, 3]"#);
    }

    #[test]
    fn btree_order() {
        let order = [
            "[]",
            "null",
            "\"a\"",
            "\"b\"",
            "1",
            "1.5",
            "false",
            "true",
            "[1]",
            "[0, 0]",
            "{}",
            "{\"a\": 1}",
        ];
        for w in order.windows(2) {
            assert!(j(w[0]) < j(w[1]), "{} < {}", w[0], w[1]);
        }
        assert_eq!(j("1.0"), j("1.00"));
    }
}
