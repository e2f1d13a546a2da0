//! What is known to be good: the beginnings of all inputs.

use crate::TargetName;
use crate::decode::TYPES;
use bytes::Bytes;
use consensus::{Command, Commit, Replaced};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use types::{Datum, FormatContext, RowLayout, SqlType, Timestamp, key};

/// The line that names the `.slt` file whose beginning makes an input's world.
pub const FILE_MARK: &str = "--file ";

/// What an input is made from.
pub struct Corpus {
    /// Whole inputs of the target `decode`; of the other targets, statements.
    pub seeds: Vec<Seed>,
    /// Pieces to put into text: the words of all statements, and [`NASTY`] ones.
    pub tokens: Vec<String>,
}

pub struct Seed {
    /// Name of the `.slt` file, or nothing.
    pub file: String,
    pub bytes: Vec<u8>,
}

/// Values at the edges of their types, and what is costly or odd.
pub const NASTY: [&str; 40] = [
    "0",
    "-1",
    "32767",
    "2147483647",
    "-2147483648",
    "9223372036854775807",
    "-9223372036854775808",
    "99999999999999999999999999999999999999",
    "1e308",
    "1e-400",
    "0.1e131000",
    "'NaN'",
    "'Infinity'::float8",
    "'-infinity'::timestamptz",
    "'294276-12-31'::timestamp",
    "'4713-01-01 BC'::date",
    "'178000000 years'::interval",
    "NULL",
    "''",
    "'\\x'",
    "E'\\u0000'",
    "'é\u{1F600}'",
    "'{}'::int[]",
    "'{{1,2},{3,4}}'::int[]",
    "'[5:4]={}'::int[]",
    "'[2147483647:2147483647]={1}'::int[]",
    "'{\"a\":[1,{\"b\":null}]}'::jsonb",
    "$1",
    "$65535",
    "$$x$$",
    "(SELECT 1)",
    "(SELECT a FROM (SELECT 1 AS a) s)",
    "*",
    "OVER ()",
    "FILTER (WHERE true)",
    "LIMIT ALL",
    "::numeric(1000,-1000)",
    "::\"char\"",
    "ROW(1, NULL)",
    "LATERAL",
];

impl Corpus {
    pub fn load(target: TargetName) -> io::Result<Corpus> {
        let statements = statements()?;
        let mut tokens: Vec<String> = statements
            .iter()
            .flat_map(|seed| words(&String::from_utf8_lossy(&seed.bytes)))
            .collect();
        tokens.sort();
        tokens.dedup();
        tokens.extend(NASTY.iter().map(|token| (*token).to_string()));
        let seeds = match target {
            TargetName::Decode => encoded(),
            TargetName::Sql | TargetName::Wire => statements,
        };
        Ok(Corpus { seeds, tokens })
    }
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}

/// Inputs that once broke something, by path.
pub fn kept(target: TargetName) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let folder = workspace().join("fuzz/kept").join(target.as_str());
    let mut inputs = Vec::new();
    // git keeps no empty folder: none means nothing was found yet.
    let paths = if folder.exists() {
        files(&folder)?
    } else {
        Vec::new()
    };
    for path in paths {
        let bytes = fs::read(&path)?;
        inputs.push((path, bytes));
    }
    Ok(inputs)
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .filter(|path: &io::Result<PathBuf>| path.as_ref().map_or(true, |p| p.is_file()))
        .collect::<io::Result<Vec<_>>>()?;
    // The folder's order is the file system's.
    paths.sort();
    Ok(paths)
}

fn statements() -> io::Result<Vec<Seed>> {
    let mut seeds = Vec::new();
    for path in files(&workspace().join("tests/slt"))? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        seeds.extend(statements_of(&name)?.into_iter().map(|text| Seed {
            file: name.to_string(),
            bytes: text.into_bytes(),
        }));
    }
    Ok(seeds)
}

/// The statements of one `.slt` file: what stands between a record's head and its answer.
pub fn statements_of(file: &str) -> io::Result<Vec<String>> {
    let plain = file.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if file.is_empty() || !plain {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(workspace().join(format!("tests/slt/{file}.slt")))?;
    let mut statements = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("statement") || line.starts_with("query") {
            let sql: Vec<&str> = lines
                .by_ref()
                .take_while(|line| !line.is_empty() && *line != "----")
                .collect();
            statements.push(sql.join("\n"));
        }
    }
    Ok(statements)
}

/// A statement's words, numbers, strings and signs, with the blanks before them.
pub fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let mut word = String::from(c);
        let kind = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        if c == '\'' || c == '"' {
            for next in chars.by_ref() {
                word.push(next);
                if next == c {
                    break;
                }
            }
        } else if kind(c) || c.is_whitespace() {
            let same =
                |next: &char| kind(*next) == kind(c) && next.is_whitespace() == c.is_whitespace();
            while let Some(next) = chars.next_if(same) {
                word.push(next);
            }
        }
        words.push(word);
    }
    words
}

/// Texts of values, each read as every type that takes it.
const VALUES: [&str; 30] = [
    "true",
    "0",
    "-1",
    "12345",
    "9223372036854775807",
    "3.14",
    "-0.000001",
    "123456789012345678901234567890.12345",
    "NaN",
    "infinity",
    "",
    "abc",
    "a\u{1}é\u{1F600}",
    "\\x00ff00",
    "2024-02-29",
    "0044-03-15 BC",
    "23:59:59.999999",
    "2024-02-29 12:00:00",
    "2024-02-29 12:00:00+05:30",
    "1 year 2 mons -3 days 04:05:06.789",
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "{\"a\": [1, 2.5, {\"b\": null}], \"c\": \"d\"}",
    "[[[[[[[[]]]]]]]]",
    "{}",
    "{1,NULL,3}",
    "[2:3]={7,8}",
    "{{1,2},{3,4}}",
    "{\"a b\",NULL,\"\\\"\"}",
    "1 2 3",
    "pg_class",
];

/// Inputs of `decode`: every value in every form.
fn encoded() -> Vec<Seed> {
    let context = FormatContext::default();
    let mut seeds = Vec::new();
    let mut put = |decoder: u8, at: usize, bytes: &[u8]| {
        let mut input = vec![decoder, at as u8, at as u8];
        input.extend_from_slice(bytes);
        seeds.push(Seed {
            file: String::new(),
            bytes: input,
        });
    };
    for (at, sql_type) in TYPES.iter().enumerate() {
        for text in VALUES {
            put(7, at, text.as_bytes());
            let Ok(datum) = Datum::parse_text(text, sql_type, &context) else {
                continue;
            };
            let mut keys = Vec::new();
            key::encode(&mut keys, &datum, false, false);
            key::encode(&mut keys, &datum, true, false);
            put(0, at, &keys);
            put(
                1,
                at,
                &row_of(&[(sql_type, &datum), (sql_type, &Datum::Null)]),
            );
            put(1, at, &row_of(&[(sql_type, &datum), (sql_type, &datum)]));
            let mut binary = Vec::new();
            datum.write_binary(sql_type, &mut binary);
            put(6, at, &binary);
            if let Datum::Jsonb(value) = &datum {
                let mut stored = Vec::new();
                value.encode(&mut stored);
                put(5, at, &stored);
            }
            let replaced = vec![
                Replaced::Version(Timestamp(1), Bytes::from(binary.clone())),
                Replaced::Nothing,
            ];
            let command = Command::Commit(Commit {
                commit_ts: Timestamp(at as u64),
                writes: vec![
                    (Bytes::from(keys), Some(Bytes::from(binary))),
                    (Bytes::new(), None),
                ],
                // Some of both kinds.
                replaced: if at % 2 == 0 { replaced } else { Vec::new() },
            });
            let sealed = command.encode();
            put(3, at, &sealed);
            put(4, at, &sealed[..sealed.len() - 4]);
        }
    }
    let nulls: Vec<(&SqlType, &Datum)> = TYPES.iter().map(|t| (t, &Datum::Null)).collect();
    put(2, 0, &row_of(&nulls));
    seeds
}

fn row_of(columns: &[(&SqlType, &Datum)]) -> Vec<u8> {
    let types: Vec<SqlType> = columns.iter().map(|(t, _)| (*t).clone()).collect();
    let row: Vec<Datum> = columns.iter().map(|(_, d)| (*d).clone()).collect();
    let mut out = Vec::new();
    // What cannot be encoded is no seed.
    let _ = RowLayout::new(&types).encode(&row, &mut out);
    out
}
