//! Changes that make a bad input out of a good one. All chance comes from seed and index.

use crate::TargetName;
use crate::corpus::{Corpus, FILE_MARK, Seed, words};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Longest input, in bytes: long enough for what grows with length to show.
const MAX_BYTES: usize = 256 << 10;

/// Most levels of nesting, and of repetition, in one change.
const MAX_DEPTH: usize = 20_000;

/// Distance between the streams of two seeds.
const STREAM: u64 = 0x9e37_79b9_7f4a_7c15;

/// The input number `index` of a seed.
pub fn input(target: TargetName, corpus: &Corpus, seed: u64, index: u64) -> Vec<u8> {
    let mut rng = SmallRng::seed_from_u64(seed.wrapping_mul(STREAM).wrapping_add(index));
    let mut bytes = match target {
        TargetName::Sql => sql(corpus, &mut rng, seed, index),
        TargetName::Wire => conversation(corpus, &mut rng),
        TargetName::Decode => {
            let mut bytes = pick(&mut rng, &corpus.seeds).bytes.clone();
            damage(&mut rng, &mut bytes, 3);
            bytes
        }
    };
    bytes.truncate(MAX_BYTES);
    bytes
}

fn pick<'a, T>(rng: &mut SmallRng, of: &'a [T]) -> &'a T {
    &of[rng.random_range(0..of.len())]
}

// ---- SQL --------------------------------------------------------------------------------------------

/// Inputs in a row that share a `.slt` file, since a new world takes long.
const INPUTS_PER_FILE: u64 = 300;

fn sql(corpus: &Corpus, rng: &mut SmallRng, seed: u64, index: u64) -> Vec<u8> {
    let chapter = seed
        .wrapping_mul(STREAM)
        .wrapping_add(!(index / INPUTS_PER_FILE));
    let file = &pick(&mut SmallRng::seed_from_u64(chapter), &corpus.seeds).file;
    let of_file: Vec<&Seed> = corpus
        .seeds
        .iter()
        .filter(|seed| seed.file == *file)
        .collect();
    let mut text = if rng.random_bool(0.8) {
        String::from_utf8_lossy(&pick(rng, &of_file).bytes).into_owned()
    } else {
        String::from_utf8_lossy(&pick(rng, &corpus.seeds).bytes).into_owned()
    };
    for _ in 0..rng.random_range(0..5) {
        text = change_text(corpus, rng, text);
    }
    format!("{FILE_MARK}{file}\n{text}").into_bytes()
}

fn change_text(corpus: &Corpus, rng: &mut SmallRng, text: String) -> String {
    let mut words = words(&text);
    if words.is_empty() {
        words.push(" ".to_string());
    }
    let at = rng.random_range(0..words.len());
    match rng.random_range(0..14) {
        0..4 => words[at] = format!(" {} ", pick(rng, &corpus.tokens)),
        4..6 => words.insert(at, format!(" {} ", pick(rng, &corpus.tokens))),
        6 => {
            words.remove(at);
        }
        7 => {
            let other = rng.random_range(0..words.len());
            words.swap(at, other);
        }
        // The beginning of this one, the end of another.
        8 => {
            let other = String::from_utf8_lossy(&pick(rng, &corpus.seeds).bytes).into_owned();
            let tail = crate::corpus::words(&other);
            let from = rng.random_range(0..=tail.len());
            words.truncate(at);
            words.extend_from_slice(&tail[from..]);
        }
        // A piece twice.
        9 => {
            let end = rng.random_range(at..words.len());
            let piece = words[at..=end].to_vec();
            words.splice(at..at, piece);
        }
        // An expression in the place of a word.
        10..12 => words[at] = expression(corpus, rng),
        12 if rng.random_bool(0.3) => words[at] = nested(rng, &words[at].clone()),
        _ => {
            let mut bytes = text.into_bytes();
            damage(rng, &mut bytes, 4);
            return String::from_utf8_lossy(&bytes).into_owned();
        }
    }
    words.concat()
}

/// A call, cast, case or operator over two tokens.
fn expression(corpus: &Corpus, rng: &mut SmallRng) -> String {
    let [a, b, c] = [(); 3].map(|()| {
        if rng.random_bool(0.5) {
            *pick(rng, &crate::corpus::NASTY)
        } else {
            pick(rng, &corpus.tokens).as_str()
        }
    });
    match rng.random_range(0..8) {
        0 => format!(" {a}({b}) "),
        1 => format!(" {a}({b}, {c}) "),
        2 => format!(" ({a} {b} {c}) "),
        3 => format!(" CAST({a} AS {b}) "),
        4 => format!(" CASE WHEN {a} THEN {b} ELSE {c} END "),
        5 => format!(" (ARRAY[{a}, {b}])[{c}] "),
        6 => format!(" (SELECT {a} FROM {b} WHERE {c}) "),
        _ => format!(" ({a})::{b} "),
    }
}

/// What a parser or a walk over a tree may do by recursion.
fn nested(rng: &mut SmallRng, core: &str) -> String {
    // Often few levels, at times very many.
    let depth = 1 << rng.random_range(0..=MAX_DEPTH.ilog2());
    let (open, close) = *pick(
        rng,
        &[
            ("(", ")"),
            ("NOT ", ""),
            ("- ", ""),
            ("+", ""),
            ("~", ""),
            ("ARRAY[", "]"),
            ("abs(", ")"),
            ("coalesce(1,", ")"),
            ("CASE WHEN true THEN ", " END"),
            ("CAST(", " AS text)"),
            ("(SELECT ", ")"),
            ("(SELECT * FROM ", ") s"),
            ("EXISTS (SELECT ", ")"),
            ("1 + ", ""),
            ("1 - (", ")"),
            ("true AND ", ""),
            ("true OR ", ""),
            ("'a' || ", ""),
            ("", " + 1"),
            ("", "::int"),
            ("", "::text::int"),
            ("", "[1]"),
            ("", " IS NULL"),
            ("", " UNION ALL SELECT 1"),
            ("", " JOIN t ON true"),
            ("", ", 1"),
            ("", ", (1)"),
            ("", ";SELECT 1"),
            ("WITH c AS (", ") SELECT 1"),
            ("EXPLAIN ", ""),
            ("/*", "*/"),
            ("'[", "]'::jsonb"),
            ("[", "]"),
            ("{", "}"),
            ("{\"a\":", "}"),
        ],
    );
    format!(" {}{core}{} ", open.repeat(depth), close.repeat(depth))
}

// ---- wire -------------------------------------------------------------------------------------------

/// Messages of both protocols in any order, most of them well formed, and some damage.
fn conversation(corpus: &Corpus, rng: &mut SmallRng) -> Vec<u8> {
    // Mostly after a startup packet; see `wire`.
    let mut out = vec![u8::from(rng.random_bool(0.1))];
    if out[0] == 1 && rng.random_bool(0.7) {
        out.extend_from_slice(&crate::wire::startup());
    }
    for _ in 0..rng.random_range(1..10) {
        message(corpus, rng, &mut out);
    }
    if rng.random_bool(0.5) {
        let mut rest = out.split_off(1);
        damage(rng, &mut rest, 4);
        out.append(&mut rest);
    }
    out
}

fn message(corpus: &Corpus, rng: &mut SmallRng, out: &mut Vec<u8>) {
    let name = *pick(rng, &["", "s", "p", "longer name"]);
    let mut sql = String::from_utf8_lossy(&pick(rng, &corpus.seeds).bytes).into_owned();
    if rng.random_bool(0.3) {
        sql = change_text(corpus, rng, sql);
    }
    match rng.random_range(0..12) {
        0..2 => frame(out, b'Q', &[sql.as_bytes(), b"\0"]),
        2..4 => {
            let sql = *pick(
                rng,
                &[
                    sql.as_str(),
                    "SELECT $1::int, $2::text",
                    "SELECT generate_series(1, 100)",
                    "BEGIN",
                    "INSERT INTO w VALUES ($1, $2, $3)",
                ],
            );
            frame(
                out,
                b'P',
                &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0", &oids(rng)],
            );
        }
        4..6 => frame(out, b'B', &[b"\0", name.as_bytes(), b"\0", &bound(rng)]),
        6 => frame(
            out,
            *pick(rng, b"DC"),
            &[&[*pick(rng, b"SP")], name.as_bytes(), b"\0"],
        ),
        7..9 => {
            let rows: u32 = *pick(rng, &[0, 1, 7, u32::MAX]);
            frame(out, b'E', &[b"\0", &rows.to_be_bytes()]);
        }
        9 => frame(out, *pick(rng, b"SHScX"), &[]),
        10 => {
            let copy = *pick(
                rng,
                &[
                    "COPY w FROM STDIN",
                    "COPY w FROM STDIN (FORMAT csv, HEADER)",
                    "COPY w FROM STDIN (FORMAT binary)",
                    "COPY w TO STDOUT (FORMAT binary)",
                ],
            );
            let table = "CREATE TABLE IF NOT EXISTS w (a int, b text, c numeric)";
            frame(out, b'Q', &[table.as_bytes(), b"\0"]);
            frame(out, b'Q', &[copy.as_bytes(), b"\0"]);
            copied(rng, out);
            frame(out, b'c', &[]);
        }
        _ => frame(out, b'f', &[sql.as_bytes(), b"\0"]),
    }
    if rng.random_bool(0.3) {
        frame(out, b'S', &[]);
    }
}

fn copied(rng: &mut SmallRng, out: &mut Vec<u8>) {
    let mut binary = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for field in [&b"\0\0\0\x01"[..], b"abc", b"\0\x01\0\0\0\0\0\0\0\x05"] {
        binary.extend_from_slice(&(field.len() as u32).to_be_bytes());
        binary.extend_from_slice(field);
    }
    binary.splice(19..19, [0, 3]);
    binary.extend_from_slice(&[0xff, 0xff]);
    let forms = [
        b"1\ta\t2.5\n".to_vec(),
        b"1,\"a\"\"b\",2.5\r\n\\.\n".to_vec(),
        b"\\N\t\\x41\\007\\\t\\N\n".to_vec(),
        binary,
    ];
    let mut data = pick(rng, &forms).clone();
    damage(rng, &mut data, 2);
    // In two messages, so that a row may be torn.
    let cut = rng.random_range(0..=data.len());
    frame(out, b'd', &[&data[..cut]]);
    frame(out, b'd', &[&data[cut..]]);
}

fn oids(rng: &mut SmallRng) -> Vec<u8> {
    let count: u16 = rng.random_range(0..4);
    let mut out = count.to_be_bytes().to_vec();
    for _ in 0..count {
        let oid: u32 = *pick(
            rng,
            &[
                0, 16, 20, 23, 25, 17, 700, 1114, 1184, 1186, 1700, 2950, 3802, 1007, 705, 7,
            ],
        );
        out.extend_from_slice(&oid.to_be_bytes());
    }
    out
}

/// What follows the names in a Bind.
fn bound(rng: &mut SmallRng) -> Vec<u8> {
    let format: i16 = *pick(rng, &[0, 1, 1, 2]);
    let mut out = 1i16.to_be_bytes().to_vec();
    out.extend_from_slice(&format.to_be_bytes());
    let count: u16 = rng.random_range(0..4);
    out.extend_from_slice(&count.to_be_bytes());
    for _ in 0..count {
        let len = *pick(rng, &[0, 1, 2, 4, 8, 12, 16, 20]);
        if rng.random_bool(0.1) {
            out.extend_from_slice(&(-1i32).to_be_bytes());
            continue;
        }
        out.extend_from_slice(&(len as u32).to_be_bytes());
        let small = rng.random_bool(0.5);
        out.extend((0..len).map(|_| {
            if small {
                rng.random_range(0..3)
            } else {
                rng.random()
            }
        }));
    }
    out.extend_from_slice(&1i16.to_be_bytes());
    out.extend_from_slice(&pick(rng, &[0i16, 1]).to_be_bytes());
    out
}

fn frame(out: &mut Vec<u8>, tag: u8, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    out.push(tag);
    out.extend_from_slice(&(len as u32 + 4).to_be_bytes());
    out.extend(parts.iter().copied().flatten());
}

// ---- bytes ------------------------------------------------------------------------------------------

/// Up to `most` changes that know nothing of what the bytes mean.
fn damage(rng: &mut SmallRng, bytes: &mut Vec<u8>, most: u32) {
    for _ in 0..rng.random_range(1..=most) {
        if bytes.is_empty() {
            bytes.push(rng.random());
        }
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..9) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => {
                bytes[at] = *pick(
                    rng,
                    &[0, 1, 0x7f, 0x80, 0xff, b'\'', b'\\', b'"', b'(', b'{'],
                )
            }
            2 => bytes[at] = rng.random(),
            3 => bytes.insert(at, rng.random()),
            4 => {
                bytes.remove(at);
            }
            5 => bytes.truncate(at),
            6 => {
                let end = (at + rng.random_range(1..40)).min(bytes.len());
                bytes.drain(at..end);
            }
            7 => {
                let end = (at + rng.random_range(1..40)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let times = 1 << rng.random_range(0..10);
                bytes.splice(at..at, piece.repeat(times));
            }
            // A length or a number at its edge.
            _ => {
                let value = *pick(
                    rng,
                    &[0u32, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX, 0x00ff_ffff],
                );
                let end = (at + 4).min(bytes.len());
                bytes.splice(at..end, value.to_be_bytes());
            }
        }
    }
}
