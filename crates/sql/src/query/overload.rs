//! Choosing one overload for a call, as PostgreSQL does (manual, sections 10.2 and 10.3).

use super::coerce::{CastContext, can_cast};
use crate::functions::{ArgType, ReturnType, ScalarFunction};
use types::{Error, Result, SqlState, SqlType};

/// An overload with the types that the call's arguments must be brought to.
pub struct Chosen<'a> {
    pub function: &'a ScalarFunction,
    pub arguments: Vec<SqlType>,
    pub returns: SqlType,
}

/// Parameter type at `index` of a call, if the overload has one there.
fn parameter(function: &ScalarFunction, index: usize) -> Option<&ArgType> {
    let declared = &function.arguments;
    if function.variadic && index + 1 >= declared.len() {
        declared.last()
    } else {
        declared.get(index)
    }
}

fn takes(function: &ScalarFunction, count: usize) -> bool {
    let declared = function.arguments.len();
    if function.variadic {
        count + 1 >= declared
    } else {
        count == declared
    }
}

fn matches_exactly(parameter: &ArgType, argument: &SqlType) -> bool {
    match parameter {
        ArgType::Exact(wanted) => wanted.same_base(argument),
        _ => false,
    }
}

fn accepts(parameter: &ArgType, argument: &SqlType) -> bool {
    match parameter {
        ArgType::Exact(wanted) => can_cast(argument, wanted, CastContext::Implicit),
        ArgType::Any | ArgType::AnyElement => true,
        ArgType::AnyArray => {
            matches!(argument, SqlType::Unknown) || argument.element_type().is_some()
        }
    }
}

/// The element type that a call's polymorphic arguments agree on.
fn element_type(function: &ScalarFunction, arguments: &[SqlType]) -> Option<SqlType> {
    let mut found: Option<SqlType> = None;
    let mut seen = false;
    for (index, argument) in arguments.iter().enumerate() {
        let candidate = match parameter(function, index)? {
            ArgType::AnyElement => argument.clone(),
            ArgType::AnyArray => argument.element_type().unwrap_or(SqlType::Unknown),
            _ => continue,
        };
        seen = true;
        if matches!(candidate, SqlType::Unknown) {
            continue;
        }
        found = Some(match found {
            None => candidate,
            Some(current) if current.same_base(&candidate) => {
                super::coerce::common_type([&current, &candidate], "argument").ok()?
            }
            Some(current) => super::coerce::common_type([&current, &candidate], "argument").ok()?,
        });
    }
    if seen {
        Some(found.unwrap_or(SqlType::Text))
    } else {
        None
    }
}

fn resolve<'a>(function: &'a ScalarFunction, arguments: &[SqlType]) -> Option<Chosen<'a>> {
    let polymorphic = (0..arguments.len()).any(|i| {
        matches!(
            parameter(function, i),
            Some(ArgType::AnyElement | ArgType::AnyArray)
        )
    });
    let element = if polymorphic {
        Some(element_type(function, arguments)?)
    } else {
        None
    };
    let mut bound = Vec::with_capacity(arguments.len());
    for (index, argument) in arguments.iter().enumerate() {
        bound.push(match parameter(function, index)? {
            ArgType::Exact(wanted) if wanted.same_base(argument) => argument.clone(),
            ArgType::Exact(SqlType::Numeric(None)) => {
                match super::coerce::numeric_shape(argument) {
                    // Integers keep their bounds, so that sums and products stay narrow.
                    Some((precision, scale)) => super::coerce::numeric_of(precision, scale),
                    None => SqlType::Numeric(None),
                }
            }
            ArgType::Exact(wanted) => wanted.clone(),
            ArgType::Any if matches!(argument, SqlType::Unknown) => SqlType::Text,
            ArgType::Any => argument.clone(),
            ArgType::AnyElement => element.clone()?,
            ArgType::AnyArray => SqlType::Array(Box::new(element.clone()?)),
        });
    }
    let returns = match &function.returns {
        ReturnType::Exact(sql_type) => sql_type.clone(),
        ReturnType::Element => element?,
        ReturnType::ArrayOfElement => SqlType::Array(Box::new(element?)),
        ReturnType::SameAs(index) => bound.get(*index)?.clone(),
    };
    Some(Chosen {
        function,
        arguments: bound,
        returns,
    })
}

/// Picks the overload. `Ok(None)`: none fits (42883 is the caller's to word).
pub fn choose<'a>(
    overloads: &'a [ScalarFunction],
    arguments: &[SqlType],
    is_operator: bool,
) -> Result<Option<Chosen<'a>>> {
    let unknown = |t: &SqlType| matches!(t, SqlType::Unknown);
    // An exact match wins; for an operator an unknown literal first tries its partner's type.
    let mut tried = arguments.to_vec();
    if is_operator
        && let [left, right] = tried.as_mut_slice()
        && unknown(left) != unknown(right)
    {
        if unknown(left) {
            *left = right.clone();
        } else {
            *right = left.clone();
        }
    }
    if !tried.iter().any(unknown) {
        let exact = overloads.iter().find(|f| {
            takes(f, tried.len())
                && (0..tried.len())
                    .all(|i| parameter(f, i).is_some_and(|p| matches_exactly(p, &tried[i])))
        });
        if let Some(function) = exact {
            return Ok(resolve(function, &tried));
        }
    }
    let mut candidates: Vec<&ScalarFunction> = overloads
        .iter()
        .filter(|f| {
            takes(f, arguments.len())
                && (0..arguments.len())
                    .all(|i| parameter(f, i).is_some_and(|p| accepts(p, &arguments[i])))
                && resolve(f, arguments).is_some()
        })
        .collect();
    keep_best(&mut candidates, |f| count(f, arguments, matches_exactly));
    keep_best(&mut candidates, |f| {
        count(f, arguments, |p, a| {
            matches_exactly(p, a)
                || (!unknown(a)
                    && matches!(p, ArgType::Exact(t)
                        if t.is_preferred() && t.category() == a.category()))
        })
    });
    if candidates.len() > 1 && arguments.iter().any(unknown) {
        keep_by_category(&mut candidates, arguments);
    }
    if candidates.len() > 1 {
        // If all known arguments share a type, assume that the unknown ones have it too.
        let mut known = arguments.iter().filter(|t| !unknown(t));
        if let Some(first) = known.next()
            && known.all(|t| t.same_base(first))
        {
            let assumed = vec![first.clone(); arguments.len()];
            let fitting: Vec<_> = candidates
                .iter()
                .copied()
                .filter(|f| {
                    (0..assumed.len())
                        .all(|i| parameter(f, i).is_some_and(|p| accepts(p, &assumed[i])))
                })
                .collect();
            if fitting.len() == 1 {
                candidates = fitting;
            }
        }
    }
    // Polymorphic overloads give way to concrete ones.
    if candidates.len() > 1 {
        keep_best(&mut candidates, |f| {
            f.arguments
                .iter()
                .filter(|a| matches!(a, ArgType::Exact(_)))
                .count()
        });
    }
    match candidates.as_slice() {
        [] => Ok(None),
        [one] => Ok(resolve(one, arguments)),
        [first, ..] => Err(Error::new(
            SqlState::AMBIGUOUS_FUNCTION,
            match first.name.strip_prefix("op ") {
                Some(symbol) => format!(
                    "operator is not unique: {} {symbol} {}",
                    arguments.first().map(shown).unwrap_or_default(),
                    arguments.last().map(shown).unwrap_or_default()
                ),
                None => format!("function {} is not unique", call_text(first.name, arguments)),
            },
        )
        .hint("Could not choose a best candidate function. You might need to add explicit type casts.")),
    }
}

fn count(
    function: &ScalarFunction,
    arguments: &[SqlType],
    test: impl Fn(&ArgType, &SqlType) -> bool,
) -> usize {
    (0..arguments.len())
        .filter(|i| parameter(function, *i).is_some_and(|p| test(p, &arguments[*i])))
        .count()
}

fn keep_best(candidates: &mut Vec<&ScalarFunction>, score: impl Fn(&ScalarFunction) -> usize) {
    if candidates.len() < 2 {
        return;
    }
    let best = candidates.iter().map(|f| score(f)).max().unwrap_or(0);
    candidates.retain(|f| score(f) == best);
}

/// For each unknown argument: strings if any candidate takes one, else the one shared category;
/// within it, the preferred type.
fn keep_by_category(candidates: &mut Vec<&ScalarFunction>, arguments: &[SqlType]) {
    for (index, argument) in arguments.iter().enumerate() {
        if !matches!(argument, SqlType::Unknown) {
            continue;
        }
        let wanted: Vec<&SqlType> = candidates
            .iter()
            .filter_map(|f| match parameter(f, index) {
                Some(ArgType::Exact(t)) => Some(t),
                _ => None,
            })
            .collect();
        let Some(first) = wanted.first() else {
            continue;
        };
        let category = if wanted.iter().any(|t| t.category() == 'S') {
            'S'
        } else if wanted.iter().all(|t| t.category() == first.category()) {
            first.category()
        } else {
            continue;
        };
        let preferred = wanted
            .iter()
            .any(|t| t.category() == category && t.is_preferred());
        candidates.retain(|f| match parameter(f, index) {
            Some(ArgType::Exact(t)) => t.category() == category && (!preferred || t.is_preferred()),
            _ => false,
        });
    }
}

fn shown(sql_type: &SqlType) -> String {
    sql_type.bare_name()
}

/// `name(integer, unknown)`, as PostgreSQL's errors show a call.
pub fn call_text(name: &str, arguments: &[SqlType]) -> String {
    let shown: Vec<String> = arguments.iter().map(shown).collect();
    format!("{name}({})", shown.join(", "))
}

pub fn undefined_function(name: &str, arguments: &[SqlType]) -> Error {
    Error::new(
        SqlState::UNDEFINED_FUNCTION,
        format!("function {} does not exist", call_text(name, arguments)),
    )
    .hint("No function matches the given name and argument types. You might need to add explicit type casts.")
}

pub fn undefined_operator(symbol: &str, left: Option<&SqlType>, right: &SqlType) -> Error {
    let left = left.map(|t| format!("{} ", shown(t))).unwrap_or_default();
    Error::new(
        SqlState::UNDEFINED_FUNCTION,
        format!("operator does not exist: {left}{symbol} {}", shown(right)),
    )
    .hint("No operator matches the given name and argument types. You might need to add explicit type casts.")
}
