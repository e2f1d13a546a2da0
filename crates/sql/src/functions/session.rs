//! Functions with effects on the session or the store, and those that read the session: sequences,
//! settings, identities, UUIDs.

use super::define::*;
use super::{Registry, Volatility};
use crate::catalog::Relation;
use crate::context::StatementContext;
use types::{Datum, Error, MaybeReady, Result, SqlState};

pub(super) fn register(registry: &mut Registry) {
    sequences(registry);
    settings(registry);
    identities(registry);
    locks(registry);
}

// ---- sequences --------------------------------------------------------------------------------

/// The object id of a sequence, 42809 for anything else.
fn sequence(context: &StatementContext, args: &[Datum]) -> Result<u32> {
    let oid = oid(args, 0)?;
    if context.catalog.sequence(oid).is_some() {
        return Ok(oid);
    }
    Err(match context.catalog.relation(oid) {
        Some(relation) => Error::new(
            SqlState::WRONG_OBJECT_TYPE,
            format!("\"{}\" is not a sequence", relation_name(&relation)),
        ),
        None => Error::new(
            SqlState::UNDEFINED_TABLE,
            format!("could not open relation with OID {oid}"),
        ),
    })
}

fn relation_name(relation: &Relation) -> &str {
    match relation {
        Relation::Table(table) => &table.name,
        Relation::View(view) => &view.name,
        Relation::Sequence(sequence) => &sequence.name,
        Relation::Index(table, oid) => crate::catalog::table_index_names(table)
            .find(|(_, index)| index == oid)
            .map_or("", |(name, _)| name),
    }
}

/// The value of an effect: usually there at once. A block of sequence values that must first be made
/// durable is waited for on this thread; it is rare, and done by threads that do not wait for this one.
fn finished(effect: MaybeReady<Result<i64>>) -> Result<Datum> {
    match effect {
        MaybeReady::Ready(Some(value)) => value,
        pending => futures::executor::block_on(pending),
    }
    .map(Datum::Int8)
}

fn sequences(registry: &mut Registry) {
    let mut d = Definitions::new(registry, Volatility::Volatile);
    d.strict("nextval(regclass) int8", |context, args| {
        finished(context.effects.nextval(sequence(context, args)?))
    });
    d.strict("currval(regclass) int8", |context, args| {
        context
            .effects
            .currval(sequence(context, args)?)
            .map(Datum::Int8)
    });
    d.strict("lastval() int8", |context, _| {
        context.effects.lastval().map(Datum::Int8)
    });
    d.strict("setval(regclass, int8) int8", |context, args| {
        let value = int8(args, 1)?;
        set_sequence(context, sequence(context, args)?, value, true)
    });
    d.strict("setval(regclass, int8, bool) int8", |context, args| {
        let (value, is_called) = (int8(args, 1)?, boolean(args, 2)?);
        set_sequence(context, sequence(context, args)?, value, is_called)
    });
    d.strict("pg_sequence_last_value(regclass) int8", |context, args| {
        let state = context.effects.sequence_state(sequence(context, args)?);
        Ok(match state {
            Some((value, true)) => Datum::Int8(value),
            _ => Datum::Null,
        })
    });
}

fn set_sequence(
    context: &StatementContext,
    sequence: u32,
    value: i64,
    is_called: bool,
) -> Result<Datum> {
    if let Some(descriptor) = context.catalog.sequence(sequence)
        && !(descriptor.min..=descriptor.max).contains(&value)
    {
        return Err(out_of_range(format!(
            "setval: value {value} is out of bounds for sequence \"{}\" ({}..{})",
            descriptor.name, descriptor.min, descriptor.max
        )));
    }
    finished(context.effects.setval(sequence, value, is_called))
}

// ---- settings ---------------------------------------------------------------------------------

fn settings(registry: &mut Registry) {
    let mut d = Definitions::new(registry, Volatility::Stable);
    d.strict("current_setting(text) text", |context, args| {
        let name = text(args, 0)?;
        match context.effects.shown_setting(name) {
            Some(value) => text_datum(value),
            None => Err(Error::new(
                SqlState::UNDEFINED_OBJECT,
                format!("unrecognized configuration parameter \"{name}\""),
            )),
        }
    });
    d.strict("current_setting(text, bool) text", |context, args| {
        let name = text(args, 0)?;
        match (context.effects.shown_setting(name), boolean(args, 1)?) {
            (Some(value), _) => text_datum(value),
            (None, true) => Ok(Datum::Null),
            (None, false) => Err(Error::new(
                SqlState::UNDEFINED_OBJECT,
                format!("unrecognized configuration parameter \"{name}\""),
            )),
        }
    });
    let mut d = Definitions::new(registry, Volatility::Volatile);
    d.nullable("set_config(text, text, bool) text", |context, args| {
        let Some(Datum::Text(name)) = args.first() else {
            return Err(Error::new(
                SqlState::NULL_VALUE_NOT_ALLOWED,
                "SET requires parameter name",
            ));
        };
        let value = args.get(1).and_then(Datum::as_str).unwrap_or("");
        let local = matches!(args.get(2), Some(Datum::Bool(true)));
        text_datum(context.effects.set_setting(name, value, local)?)
    });
}

// ---- identities -------------------------------------------------------------------------------

/// Sixteen random bytes with a version and RFC 9562's variant.
fn random_uuid(context: &StatementContext) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&context.env.rng.next_u64().to_be_bytes());
    bytes[8..].copy_from_slice(&context.env.rng.next_u64().to_be_bytes());
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

/// A UUID whose order is that of time: milliseconds since 1970, then a fraction, then chance.
fn time_uuid(context: &StatementContext) -> [u8; 16] {
    let mut bytes = random_uuid(context);
    let micros = context.env.clock.wall_micros().max(0) as u64;
    bytes[..6].copy_from_slice(&(micros / 1000).to_be_bytes()[2..]);
    // Twelve bits for the microseconds of a millisecond.
    let fraction = ((micros % 1000) * 4096 / 1000) as u16;
    bytes[6] = 0x70 | (fraction >> 8) as u8;
    bytes[7] = fraction as u8;
    bytes
}

fn identities(registry: &mut Registry) {
    let mut d = Definitions::new(registry, Volatility::Volatile);
    for name in [
        "gen_random_uuid() uuid",
        "uuid_generate_v4() uuid",
        "uuidv4() uuid",
    ] {
        d.strict(name, |context, _| Ok(Datum::Uuid(random_uuid(context))));
    }
    d.strict("uuidv7() uuid", |context, _| {
        Ok(Datum::Uuid(time_uuid(context)))
    });
    let mut d = Definitions::new(registry, Volatility::Immutable);
    d.strict("uuid_extract_version(uuid) int2", |_, args| match args {
        [Datum::Uuid(bytes)] if bytes[8] & 0xc0 == 0x80 => {
            Ok(Datum::Int2(i16::from(bytes[6] >> 4)))
        }
        _ => Ok(Datum::Null),
    });
    d.strict(
        "uuid_extract_timestamp(uuid) timestamptz",
        |_, args| match args {
            [Datum::Uuid(bytes)] if bytes[8] & 0xc0 == 0x80 && bytes[6] >> 4 == 7 => {
                let millis = bytes[..6]
                    .iter()
                    .fold(0i64, |millis, byte| millis << 8 | i64::from(*byte));
                Ok(Datum::TimestampTz(millis * 1000))
            }
            _ => Ok(Datum::Null),
        },
    );
    d.nullable("num_nulls(variadic any) int4", |_, args| {
        Ok(Datum::Int4(
            args.iter().filter(|a| a.is_null()).count() as i32
        ))
    });
    d.nullable("num_nonnulls(variadic any) int4", |_, args| {
        Ok(Datum::Int4(
            args.iter().filter(|a| !a.is_null()).count() as i32
        ))
    });
    let mut d = Definitions::new(registry, Volatility::Stable);
    // The type of a NULL is known to the binder alone, which answers before this is called.
    d.nullable("pg_typeof(any) regtype", |_, args| match args {
        [Datum::Null] | [] => Ok(Datum::Oid(types::SqlType::Unknown.oid())),
        [value, ..] => Ok(Datum::Oid(super::operators::type_of_datum(value).oid())),
    });
}

// ---- advisory locks ---------------------------------------------------------------------------

fn locks(registry: &mut Registry) {
    let mut d = Definitions::new(registry, Volatility::Volatile);
    for signature in [
        "pg_advisory_lock(int8) void",
        "pg_advisory_lock(int4, int4) void",
        "pg_advisory_lock_shared(int8) void",
        "pg_advisory_xact_lock(int8) void",
        "pg_advisory_xact_lock(int4, int4) void",
        "pg_advisory_xact_lock_shared(int8) void",
        "pg_try_advisory_lock(int8) bool",
        "pg_try_advisory_lock(int4, int4) bool",
        "pg_try_advisory_lock_shared(int8) bool",
        "pg_try_advisory_xact_lock(int8) bool",
        "pg_try_advisory_xact_lock(int4, int4) bool",
        "pg_try_advisory_xact_lock_shared(int8) bool",
        "pg_advisory_unlock(int8) bool",
        "pg_advisory_unlock(int4, int4) bool",
        "pg_advisory_unlock_shared(int8) bool",
        "pg_advisory_unlock_all() void",
    ] {
        d.strict(signature, |_, _| Err(Error::unsupported("advisory lock")));
    }
}
