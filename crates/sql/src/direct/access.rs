//! Which keys a statement has to look at, and reading them.
//!
//! [`AccessPath::choose`] turns the conditions of a WHERE clause into bounds on one key order of the
//! table. The bounds are expressions still: [`AccessPath::open`] evaluates them for one execution and
//! gives a [`Cursor`] over the rows. Every condition that is not wholly expressed by the bounds stays
//! in [`AccessPath::residual`].

use super::scalar::{Scalar, Truth};
use crate::context::{ReadView, StatementContext};
use crate::functions::comparison::Comparison;
use crate::table_codec::{Access, KeyColumn, TableCodec};
use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;
use txn::Transaction;
use txn::kv::{Key, Span, Value};
use types::{Datum, Result, SqlType};

/// Rows in the first page of a scan; each further page is twice as long.
const FIRST_PAGE_ROWS: usize = 64;
/// Most rows in a page.
const MAX_PAGE_ROWS: usize = 1024;
/// Most bytes in a page.
const PAGE_BYTES: usize = 1 << 20;
/// Longest IN list that is looked up key by key.
const MAX_POINTS: usize = 1000;

/// A value to compare a key column with.
#[derive(Clone)]
pub struct KeyBound {
    pub value: Scalar,
    pub inclusive: bool,
}

/// The values of an IN list, or the array of `= ANY (array)`.
#[derive(Clone)]
pub enum List {
    Values(Vec<Scalar>),
    Array(Scalar),
}

impl List {
    fn eval(&self, params: &[Datum], ctx: &StatementContext) -> Result<Vec<Datum>> {
        match self {
            List::Values(values) => values
                .iter()
                .map(|value| value.eval(&[], params, ctx))
                .collect(),
            List::Array(array) => Ok(match array.eval(&[], params, ctx)? {
                Datum::Array(array) => array.elements.clone(),
                _ => Vec::new(),
            }),
        }
    }
}

/// Which part of a key order is read.
#[derive(Clone)]
pub enum Locator {
    /// Equal first columns, then any one of a list for the next column.
    Points { equal: Vec<Scalar>, list: List },
    /// Equal first columns, then bounds on the next one.
    Range {
        equal: Vec<Scalar>,
        lower: Vec<KeyBound>,
        upper: Vec<KeyBound>,
    },
}

#[derive(Clone)]
pub struct AccessPath {
    pub codec: Arc<TableCodec>,
    pub access: Access,
    pub locator: Locator,
    pub reverse: bool,
    /// What a row must meet besides being within the bounds.
    pub residual: Option<Scalar>,
    /// The whole condition, for a row whose newest version must be judged again.
    pub condition: Option<Scalar>,
}

/// A wish for an order of rows: column position, ascending, NULLs first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderColumn {
    pub column: usize,
    pub ascending: bool,
    pub nulls_first: bool,
}

/// How well a path suits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Merit {
    /// At most one row for each key.
    unique: bool,
    equal: usize,
    both_bounds: bool,
    some_bound: bool,
    ordered: bool,
    primary: bool,
}

/// The conditions that a path uses.
struct Match {
    locator: Locator,
    used: Vec<usize>,
    merit: Merit,
    reverse: bool,
}

pub fn conjuncts(condition: &Scalar) -> &[Scalar] {
    match condition {
        Scalar::And(list) => list,
        other => std::slice::from_ref(other),
    }
}

impl AccessPath {
    /// The whole table in key order.
    pub fn whole(codec: Arc<TableCodec>, condition: Option<Scalar>) -> AccessPath {
        AccessPath {
            codec,
            access: Access::Primary,
            locator: Locator::Range {
                equal: Vec::new(),
                lower: Vec::new(),
                upper: Vec::new(),
            },
            reverse: false,
            residual: condition.clone(),
            condition,
        }
    }

    /// The best path for a condition whose columns are positions of the table.
    pub fn choose(
        codec: Arc<TableCodec>,
        condition: Option<Scalar>,
        order: &[OrderColumn],
    ) -> AccessPath {
        let terms = condition.as_ref().map_or(&[][..], conjuncts);
        let primary = codec.has_primary_key().then_some(Access::Primary);
        let secondary = codec
            .table()
            .indexes
            .iter()
            .enumerate()
            .filter(|(_, index)| index.predicate.is_none())
            .map(|(number, _)| Access::Secondary(number));
        let best = primary
            .into_iter()
            .chain(secondary)
            .filter_map(|access| Some((access, matching(&codec, access, terms, order)?)))
            .max_by_key(|(_, found)| found.merit);
        let Some((access, found)) = best else {
            return AccessPath::whole(codec, condition);
        };
        let left: Vec<Scalar> = terms
            .iter()
            .enumerate()
            .filter(|(number, _)| !found.used.contains(number))
            .map(|(_, term)| term.clone())
            .collect();
        AccessPath {
            codec,
            access,
            locator: found.locator,
            reverse: found.reverse,
            residual: match left.len() {
                0 => None,
                1 => left.into_iter().next(),
                _ => Some(Scalar::And(left)),
            },
            condition,
        }
    }

    /// At most one row for each key looked up.
    pub fn is_point(&self) -> bool {
        let columns = self.codec.key_columns(self.access).len();
        let unique = match self.access {
            Access::Primary => true,
            Access::Secondary(index) => self.codec.index_descriptor(index).unique,
        };
        let named = match &self.locator {
            Locator::Points { equal, .. } => equal.len() + 1,
            Locator::Range { equal, .. } => equal.len(),
        };
        unique && columns > 0 && named == columns
    }

    /// The bounds keep the number of rows down: a key, or both ends of a range.
    pub fn is_narrow(&self) -> bool {
        match &self.locator {
            Locator::Points { .. } => true,
            Locator::Range {
                equal,
                lower,
                upper,
            } => !equal.is_empty() || (!lower.is_empty() && !upper.is_empty()),
        }
    }

    pub fn is_bounded(&self) -> bool {
        match &self.locator {
            Locator::Points { .. } => true,
            Locator::Range {
                equal,
                lower,
                upper,
            } => !(equal.is_empty() && lower.is_empty() && upper.is_empty()),
        }
    }

    /// Whether rows come in this order, `reverse` being as it is.
    pub fn gives_order(&self, order: &[OrderColumn]) -> bool {
        let Locator::Range { equal, .. } = &self.locator else {
            return order.is_empty();
        };
        order_of(&self.codec, self.access, equal.len(), order) == Some(self.reverse)
            || order.is_empty()
    }

    /// The one key to read for this execution, if the path names a row of the primary key by equality.
    /// `Ok(None)`: no row can match.
    pub fn primary_point(
        &self,
        params: &[Datum],
        ctx: &StatementContext,
    ) -> Option<Result<Option<Vec<u8>>>> {
        let Locator::Range { equal, .. } = &self.locator else {
            return None;
        };
        if self.access != Access::Primary || !self.is_point() {
            return None;
        }
        let values = match evaluate_equal(self.codec.key_columns(self.access), equal, params, ctx) {
            Ok(Some(values)) => values,
            Ok(None) => return Some(Ok(None)),
            Err(error) => return Some(Err(error)),
        };
        Some(Ok(Some(self.codec.row_key_of(&values))))
    }

    /// Evaluates the bounds for one execution. `rows` is how many rows will be asked for, if known.
    pub fn open(
        &self,
        params: &[Datum],
        ctx: &StatementContext,
        rows: Option<usize>,
    ) -> Result<Cursor> {
        let mut cursor = Cursor {
            codec: self.codec.clone(),
            access: self.access,
            reverse: self.reverse,
            points: VecDeque::new(),
            span: None,
            page: Vec::new().into_iter(),
            page_rows: rows.map_or(FIRST_PAGE_ROWS, |rows| rows.clamp(1, MAX_PAGE_ROWS)),
            read: 0,
        };
        let columns = self.codec.key_columns(self.access);
        match &self.locator {
            Locator::Points { equal, list } => {
                let Some(mut values) = evaluate_equal(columns, equal, params, ctx)? else {
                    return Ok(cursor);
                };
                let column = &columns[equal.len()];
                let list = list.eval(params, ctx)?;
                let mut wanted = Vec::with_capacity(list.len());
                for value in list {
                    if let Converted::Exact(value) = to_key_type(value, &column.sql_type) {
                        wanted.push(value);
                    }
                }
                wanted.sort_by(|a, b| a.compare_typed(b, &column.sql_type));
                wanted.dedup_by(|a, b| {
                    a.compare_typed(b, &column.sql_type) == std::cmp::Ordering::Equal
                });
                if self.reverse {
                    wanted.reverse();
                }
                for value in wanted {
                    values.push(value);
                    cursor
                        .points
                        .push_back(match self.codec.point(self.access, &values) {
                            Some(key) => Target::Key(key),
                            None => Target::Span(self.codec.range(
                                self.access,
                                &values,
                                Bound::Unbounded,
                                Bound::Unbounded,
                            )),
                        });
                    values.pop();
                }
            }
            Locator::Range {
                equal,
                lower,
                upper,
            } => {
                let Some(values) = evaluate_equal(columns, equal, params, ctx)? else {
                    return Ok(cursor);
                };
                if lower.is_empty()
                    && upper.is_empty()
                    && let Some(key) = self.codec.point(self.access, &values)
                {
                    cursor.points.push_back(Target::Key(key));
                    return Ok(cursor);
                }
                let mut low = Bound::Unbounded;
                let mut high = Bound::Unbounded;
                if let Some(column) = columns.get(equal.len()) {
                    for bound in lower {
                        match evaluate_bound(bound, column, true, params, ctx)? {
                            Some(next) => low = tighter(low, next, column, true),
                            None => return Ok(cursor),
                        }
                    }
                    for bound in upper {
                        match evaluate_bound(bound, column, false, params, ctx)? {
                            Some(next) => high = tighter(high, next, column, false),
                            None => return Ok(cursor),
                        }
                    }
                    // A bound that every value meets still keeps NULLs out.
                    if let (Bound::Unbounded, Bound::Unbounded) = (&low, &high)
                        && !(lower.is_empty() && upper.is_empty())
                        && let Some(least) = least_value(&column.sql_type)
                    {
                        low = Bound::Included(least);
                    }
                }
                let span = self
                    .codec
                    .range(self.access, &values, low.as_ref(), high.as_ref());
                if span.start < span.end {
                    cursor.points.push_back(Target::Span(span));
                }
            }
        }
        Ok(cursor)
    }
}

/// A bound value brought to the key column's type.
enum Converted {
    Exact(Datum),
    /// Below or above all values of the column's type.
    Below,
    Above,
    Null,
}

fn to_key_type(value: Datum, sql_type: &SqlType) -> Converted {
    let wide = match (&value, sql_type) {
        (Datum::Null, _) => return Converted::Null,
        (Datum::Int2(v), SqlType::Int4 | SqlType::Int8) => i64::from(*v),
        (Datum::Int4(v), SqlType::Int2 | SqlType::Int8) => i64::from(*v),
        (Datum::Int8(v), SqlType::Int2 | SqlType::Int4) => *v,
        _ => return Converted::Exact(value),
    };
    match sql_type {
        SqlType::Int8 => Converted::Exact(Datum::Int8(wide)),
        SqlType::Int4 => match i32::try_from(wide) {
            Ok(v) => Converted::Exact(Datum::Int4(v)),
            Err(_) if wide < 0 => Converted::Below,
            Err(_) => Converted::Above,
        },
        _ => match i16::try_from(wide) {
            Ok(v) => Converted::Exact(Datum::Int2(v)),
            Err(_) if wide < 0 => Converted::Below,
            Err(_) => Converted::Above,
        },
    }
}

/// The least value of the types whose bounds can be out of range.
fn least_value(sql_type: &SqlType) -> Option<Datum> {
    match sql_type {
        SqlType::Int2 => Some(Datum::Int2(i16::MIN)),
        SqlType::Int4 => Some(Datum::Int4(i32::MIN)),
        SqlType::Int8 => Some(Datum::Int8(i64::MIN)),
        _ => None,
    }
}

/// `None`: no row can match.
fn evaluate_equal(
    columns: &[KeyColumn],
    equal: &[Scalar],
    params: &[Datum],
    ctx: &StatementContext,
) -> Result<Option<Vec<Datum>>> {
    let mut values = Vec::with_capacity(equal.len() + 1);
    for (column, scalar) in columns.iter().zip(equal) {
        // IS NULL stands here as the constant NULL inside `Is`.
        if let Scalar::Is { .. } = scalar {
            values.push(Datum::Null);
            continue;
        }
        let value = scalar.eval(&[], params, ctx)?;
        match to_key_type(value, &column.sql_type) {
            Converted::Exact(value) => values.push(value),
            _ => return Ok(None),
        }
    }
    Ok(Some(values))
}

/// `None`: no row can match. `Unbounded`: every value does.
fn evaluate_bound(
    bound: &KeyBound,
    column: &KeyColumn,
    is_lower: bool,
    params: &[Datum],
    ctx: &StatementContext,
) -> Result<Option<Bound<Datum>>> {
    let value = bound.value.eval(&[], params, ctx)?;
    Ok(match to_key_type(value, &column.sql_type) {
        Converted::Exact(value) if bound.inclusive => Some(Bound::Included(value)),
        Converted::Exact(value) => Some(Bound::Excluded(value)),
        Converted::Below if is_lower => Some(Bound::Unbounded),
        Converted::Above if !is_lower => Some(Bound::Unbounded),
        _ => None,
    })
}

/// The narrower of two bounds on the same side.
fn tighter(a: Bound<Datum>, b: Bound<Datum>, column: &KeyColumn, is_lower: bool) -> Bound<Datum> {
    let value = |bound: &Bound<Datum>| match bound {
        Bound::Included(value) => Some((value.clone(), true)),
        Bound::Excluded(value) => Some((value.clone(), false)),
        Bound::Unbounded => None,
    };
    let (Some((left, left_included)), Some((right, right_included))) = (value(&a), value(&b))
    else {
        return if matches!(a, Bound::Unbounded) { b } else { a };
    };
    let ordering = left.compare_typed(&right, &column.sql_type);
    let ordering = if is_lower {
        ordering
    } else {
        ordering.reverse()
    };
    match ordering {
        std::cmp::Ordering::Greater => a,
        std::cmp::Ordering::Less => b,
        std::cmp::Ordering::Equal if left_included && !right_included => b,
        std::cmp::Ordering::Equal => a,
    }
}

// ---- matching conditions to key columns ------------------------------------------------------------

/// The key column inside casts that keep its values' identity and order.
fn plain_column(scalar: &Scalar) -> Option<usize> {
    match scalar {
        Scalar::Column(column) => Some(*column),
        Scalar::Cast { operand, cast } => {
            let widens = match (&cast.from, &cast.to) {
                (SqlType::Int2, SqlType::Int4 | SqlType::Int8) => true,
                (SqlType::Int4, SqlType::Int8) => true,
                (SqlType::Char(short), SqlType::Char(long)) => long >= short,
                (SqlType::Numeric(_), SqlType::Numeric(None)) => true,
                (SqlType::Numeric(Some((p, s))), SqlType::Numeric(Some((wide_p, wide_s)))) => {
                    wide_s >= s
                        && i32::from(*wide_p) - i32::from(*wide_s) >= i32::from(*p) - i32::from(*s)
                }
                (from, SqlType::Text | SqlType::Varchar(None)) => {
                    matches!(from, SqlType::Varchar(_) | SqlType::Text)
                }
                _ => false,
            };
            if widens { plain_column(operand) } else { None }
        }
        _ => None,
    }
}

/// A value that can be known before any row is read.
fn is_bound_value(scalar: &Scalar) -> bool {
    scalar.is_row_independent() && !scalar.is_volatile()
}

/// `column comparison value`, whichever way round it was written.
fn comparison_on(term: &Scalar) -> Option<(usize, Comparison, &Scalar)> {
    let Scalar::Compare {
        comparison,
        left,
        right,
        ..
    } = term
    else {
        return None;
    };
    if let Some(column) = plain_column(left)
        && is_bound_value(right)
    {
        return Some((column, *comparison, right));
    }
    if let Some(column) = plain_column(right)
        && is_bound_value(left)
    {
        return Some((column, comparison.flipped(), left));
    }
    None
}

fn equality_on(term: &Scalar, column: usize) -> Option<&Scalar> {
    match term {
        Scalar::Is {
            truth: Truth::Null,
            negated: false,
            operand,
        } if plain_column(operand) == Some(column) => Some(term),
        _ => match comparison_on(term)? {
            (on, Comparison::Eq, value) if on == column => Some(value),
            _ => None,
        },
    }
}

fn list_on(term: &Scalar, column: usize) -> Option<List> {
    match term {
        Scalar::InList {
            negated: false,
            operand,
            list,
            ..
        } if plain_column(operand) == Some(column)
            && list.len() <= MAX_POINTS
            && list.iter().all(is_bound_value) =>
        {
            Some(List::Values(list.clone()))
        }
        Scalar::Call {
            function,
            arguments,
        } if function.name == "op = any" => match arguments.as_slice() {
            [value, array] if plain_column(value) == Some(column) && is_bound_value(array) => {
                Some(List::Array(array.clone()))
            }
            _ => None,
        },
        _ => None,
    }
}

fn matching(
    codec: &TableCodec,
    access: Access,
    terms: &[Scalar],
    order: &[OrderColumn],
) -> Option<Match> {
    let columns = codec.key_columns(access);
    let unique_key = match access {
        Access::Primary => true,
        Access::Secondary(index) => codec.index_descriptor(index).unique,
    };
    let mut used = Vec::new();
    let mut equal = Vec::new();
    let mut merit = Merit {
        unique: false,
        equal: 0,
        both_bounds: false,
        some_bound: false,
        ordered: false,
        primary: access == Access::Primary,
    };
    for key in columns {
        let Some(column) = key.column else { break };
        let found = terms
            .iter()
            .enumerate()
            .find_map(|(number, term)| Some((number, equality_on(term, column)?)));
        if let Some((number, value)) = found {
            used.push(number);
            equal.push(value.clone());
            continue;
        }
        let found = terms
            .iter()
            .enumerate()
            .find_map(|(number, term)| Some((number, list_on(term, column)?)));
        if let Some((number, list)) = found {
            used.push(number);
            merit.equal = equal.len() + 1;
            merit.unique = unique_key && merit.equal == columns.len();
            merit.ordered = order.is_empty();
            return Some(Match {
                locator: Locator::Points { equal, list },
                used,
                merit,
                reverse: false,
            });
        }
        break;
    }
    let (mut lower, mut upper) = (Vec::new(), Vec::new());
    if let Some(column) = columns.get(equal.len()).and_then(|key| key.column) {
        for (number, term) in terms.iter().enumerate() {
            if let Scalar::Between {
                negated: false,
                operand,
                low,
                high,
                ..
            } = term
                && plain_column(operand) == Some(column)
                && is_bound_value(low)
                && is_bound_value(high)
            {
                used.push(number);
                lower.push(KeyBound {
                    value: (**low).clone(),
                    inclusive: true,
                });
                upper.push(KeyBound {
                    value: (**high).clone(),
                    inclusive: true,
                });
                continue;
            }
            let Some((on, comparison, value)) = comparison_on(term) else {
                continue;
            };
            if on != column {
                continue;
            }
            let (side, inclusive) = match comparison {
                Comparison::Gt => (&mut lower, false),
                Comparison::GtEq => (&mut lower, true),
                Comparison::Lt => (&mut upper, false),
                Comparison::LtEq => (&mut upper, true),
                Comparison::Eq | Comparison::NotEq => continue,
            };
            used.push(number);
            side.push(KeyBound {
                value: value.clone(),
                inclusive,
            });
        }
    }
    merit.equal = equal.len();
    merit.unique = unique_key && !columns.is_empty() && equal.len() == columns.len();
    merit.both_bounds = !lower.is_empty() && !upper.is_empty();
    merit.some_bound = !lower.is_empty() || !upper.is_empty();
    let direction = order_of(codec, access, equal.len(), order);
    merit.ordered = direction.is_some();
    if used.is_empty() && (order.is_empty() || direction.is_none()) {
        return None;
    }
    Some(Match {
        locator: Locator::Range {
            equal,
            lower,
            upper,
        },
        used,
        merit,
        reverse: direction.unwrap_or(false),
    })
}

/// Whether the keys behind `equal` fixed columns give this order: forwards `Some(false)`, backwards
/// `Some(true)`.
fn order_of(
    codec: &TableCodec,
    access: Access,
    equal: usize,
    order: &[OrderColumn],
) -> Option<bool> {
    let keys = codec.key_columns(access);
    let fixed = &keys[..equal.min(keys.len())];
    let mut rest = keys[fixed.len()..].iter();
    let mut direction = None;
    for wanted in order {
        if fixed.iter().any(|key| key.column == Some(wanted.column)) {
            continue;
        }
        let Some(key) = rest.next() else {
            // The whole primary key is one row: what follows decides nothing.
            return match access {
                Access::Primary => Some(direction.unwrap_or(false)),
                Access::Secondary(_) => None,
            };
        };
        if key.column != Some(wanted.column) {
            return None;
        }
        let backwards = wanted.ascending == key.descending;
        let not_null = codec
            .table()
            .columns
            .get(wanted.column)
            .is_some_and(|column| column.not_null);
        if !not_null && (wanted.nulls_first == key.nulls_first) == backwards {
            return None;
        }
        if *direction.get_or_insert(backwards) != backwards {
            return None;
        }
    }
    Some(direction.unwrap_or(false))
}

// ---- reading ---------------------------------------------------------------------------------------

/// Where rows are read: a snapshot, or a transaction with its own writes.
pub enum Reader<'a> {
    View(&'a ReadView),
    Transaction(&'a mut Transaction),
}

impl Reader<'_> {
    pub async fn get(&mut self, key: &[u8]) -> Result<Option<Value>> {
        match self {
            Reader::View(view) => view.get(key).await,
            Reader::Transaction(transaction) => transaction.get(key).await,
        }
    }

    async fn scan(&mut self, span: Span, reverse: bool, rows: usize) -> Result<txn::kv::ScanPage> {
        match self {
            Reader::View(view) => view.scan(span, reverse, rows, PAGE_BYTES).await,
            Reader::Transaction(transaction) => {
                transaction.scan(span, reverse, rows, PAGE_BYTES).await
            }
        }
    }
}

enum Target {
    Key(Vec<u8>),
    Span(Span),
}

/// Rows of an access path, one after the other.
pub struct Cursor {
    codec: Arc<TableCodec>,
    access: Access,
    reverse: bool,
    points: VecDeque<Target>,
    /// The part of the current span that is not read yet.
    span: Option<Span>,
    page: std::vec::IntoIter<(Key, Value, types::Timestamp)>,
    page_rows: usize,
    read: usize,
}

impl Cursor {
    /// Key and value of the next row.
    pub async fn next(&mut self, reader: &mut Reader<'_>) -> Result<Option<(Key, Value)>> {
        loop {
            if let Some((key, value, _)) = self.page.next() {
                self.read += 1;
                match self.access {
                    Access::Primary => return Ok(Some((key, value))),
                    Access::Secondary(_) => match self.row_of(&value, reader).await? {
                        Some(found) => return Ok(Some(found)),
                        None => continue,
                    },
                }
            }
            if let Some(span) = self.span.take() {
                let mut page = reader
                    .scan(span.clone(), self.reverse, self.page_rows)
                    .await?;
                self.page_rows = (self.page_rows * 2).clamp(FIRST_PAGE_ROWS, MAX_PAGE_ROWS);
                self.span = page.resume.take().map(|resume| {
                    if self.reverse {
                        Span {
                            start: span.start,
                            end: resume,
                        }
                    } else {
                        Span {
                            start: resume,
                            end: span.end,
                        }
                    }
                });
                self.page = page.rows.into_iter();
                continue;
            }
            match self.points.pop_front() {
                None => return Ok(None),
                Some(Target::Span(span)) => self.span = Some(span),
                Some(Target::Key(key)) => {
                    let Some(value) = reader.get(&key).await? else {
                        continue;
                    };
                    self.read += 1;
                    match self.access {
                        Access::Primary => return Ok(Some((key.into(), value))),
                        Access::Secondary(_) => {
                            if let Some(found) = self.row_of(&value, reader).await? {
                                return Ok(Some(found));
                            }
                        }
                    }
                }
            }
        }
    }

    /// The spans that are not read yet, keys included.
    pub fn into_spans(self) -> impl Iterator<Item = Span> {
        self.points.into_iter().map(|target| match target {
            Target::Span(span) => span,
            Target::Key(key) => {
                let mut end = key.clone();
                end.push(0);
                Span {
                    start: key.into(),
                    end: end.into(),
                }
            }
        })
    }

    /// Rows and index entries read so far.
    pub fn rows_read(&self) -> usize {
        self.read
    }

    async fn row_of(
        &self,
        suffix: &Value,
        reader: &mut Reader<'_>,
    ) -> Result<Option<(Key, Value)>> {
        let key = self.codec.row_key_of_suffix(suffix);
        Ok(reader.get(&key).await?.map(|row| (key.into(), row)))
    }
}
