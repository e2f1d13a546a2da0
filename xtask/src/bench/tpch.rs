//! The analytic set: TPC-H's tables and 22 queries at a small scale, PostgreSQL's answers as the truth.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use comfy_table::Table;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::copy_in::copy;
use super::result::{Side, median, number};
use crate::peer::{Server, cache_folder, connect, describe, quietly};
use crate::report;

const SCALE: &str = "0.1";
const TABLES: [&str; 8] = [
    "region", "nation", "supplier", "part", "partsupp", "customer", "orders", "lineitem",
];
const GENERATOR: &str = "tpchgen-cli==4.0.0";
/// A query that takes longer counts as failed.
const QUERY_TIMEOUT: Duration = Duration::from_secs(120);
/// How far two computed numbers may lie apart, relative to the larger: averages differ in their last digits.
const TOLERANCE: f64 = 1e-6;

/// Makes, fills and analyses the tables.
pub async fn load(tools: &Path, server: &Server) -> Result<()> {
    let data = generate()?;
    let session = connect(&server.dsn()).await?;
    let run = async |sql: &str| {
        session
            .batch_execute(sql)
            .await
            .map_err(|error| anyhow!("{}: {sql}", describe(&error)))
    };
    for table in TABLES {
        run(&format!("DROP TABLE IF EXISTS {table}")).await?;
    }
    let (tables, indexes): (Vec<_>, Vec<_>) = statements(include_str!("tpch/schema.sql"))
        .into_iter()
        .partition(|sql| sql.contains("CREATE TABLE"));
    for sql in tables {
        run(&sql).await?;
    }
    for table in TABLES {
        copy(
            tools,
            server,
            table,
            &data.join(format!("{table}.psv")),
            "with (delimiter '|')",
        )
        .with_context(|| format!("loading {table}"))?;
    }
    for sql in indexes {
        run(&sql).await?;
    }
    for table in TABLES {
        run(&format!("ANALYZE {table}")).await?;
    }
    Ok(())
}

/// Splits a file of statements; comments are whole lines.
fn statements(text: &str) -> Vec<String> {
    let code: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("--"))
        .collect();
    code.join("\n")
        .split(';')
        .map(str::trim)
        .filter(|sql| !sql.is_empty())
        .map(str::to_owned)
        .collect()
}

/// (name, SQL) of the queries.
fn queries() -> Vec<(String, String)> {
    let text = include_str!("tpch/queries.sql");
    let parts = text.split("\n-- q").skip(1);
    parts
        .filter_map(|part| {
            let (title, sql) = part.split_once('\n')?;
            let number = title.split_whitespace().next()?;
            Some((
                format!("q{number}"),
                sql.trim().trim_end_matches(';').to_owned(),
            ))
        })
        .collect()
}

/// Generates the data into the cache, without the bar at the end of each line.
fn generate() -> Result<PathBuf> {
    let cache = cache_folder()?;
    let folder = cache.join(format!("tpch-{SCALE}"));
    let done = folder.join("done");
    if done.exists() {
        return Ok(folder);
    }
    let environment = cache.join("tpchgen");
    let generator = environment.join("bin/tpchgen-cli");
    if !generator.exists() {
        eprintln!("installing {GENERATOR} from PyPI");
        quietly(
            Command::new("python3")
                .args(["-m", "venv"])
                .arg(&environment),
        )?;
        quietly(Command::new(environment.join("bin/python")).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            GENERATOR,
        ]))?;
    }
    fs::create_dir_all(&folder)?;
    quietly(
        Command::new(&generator)
            .args(["-s", SCALE])
            .arg(format!("--output-dir={}", folder.display())),
    )?;
    for table in TABLES {
        let raw = folder.join(format!("{table}.tbl"));
        let mut out = BufWriter::new(File::create(folder.join(format!("{table}.psv")))?);
        for line in BufReader::new(File::open(&raw)?).lines() {
            let line = line?;
            writeln!(out, "{}", line.strip_suffix('|').unwrap_or(&line))?;
        }
        out.flush()?;
        fs::remove_file(raw)?;
    }
    fs::write(done, "")?;
    Ok(folder)
}

type Rows = Vec<Vec<Option<String>>>;

/// What one query showed on both sides.
#[derive(Default)]
struct Query {
    seconds: [Vec<f64>; 2],
    rows: [Option<Rows>; 2],
    failures: [Option<String>; 2],
}

impl Query {
    fn median(&self, side: Side) -> Option<f64> {
        self.failures[place(side)]
            .is_none()
            .then(|| median(&self.seconds[place(side)]))
            .flatten()
    }

    /// Why PhantomDB's answer is not PostgreSQL's, if it is not.
    fn difference(&self) -> Option<String> {
        let [Some(expected), Some(found)] = &self.rows else {
            return None;
        };
        difference(expected, found)
    }
}

/// Of a side in what is kept of both.
fn place(side: Side) -> usize {
    usize::from(side == Side::Phantom)
}

/// The times and answers of all queries.
#[derive(Default)]
pub struct Results {
    queries: BTreeMap<String, Query>,
}

impl Results {
    /// Runs all queries once and returns their total time; one that fails makes the total a failure.
    pub async fn run_all(&mut self, side: Side, server: &Server) -> Result<f64> {
        let mut total = 0.0;
        let mut failed = Vec::new();
        for (name, sql) in queries() {
            let query = self.queries.entry(name.clone()).or_default();
            match answer(server, &sql).await {
                Ok((seconds, rows)) => {
                    total += seconds;
                    query.seconds[place(side)].push(seconds);
                    query.rows[place(side)].get_or_insert(rows);
                }
                Err(error) => {
                    query.failures[place(side)].get_or_insert(format!("{error:#}"));
                    failed.push(name);
                }
            }
        }
        if !failed.is_empty() {
            bail!(
                "{} of {} queries failed: {}",
                failed.len(),
                self.queries.len(),
                failed.join(" ")
            );
        }
        Ok(total)
    }

    /// Names of the queries whose answers differ.
    pub fn differing(&self) -> Vec<&str> {
        self.queries
            .iter()
            .filter(|(_, q)| q.difference().is_some())
            .map(|(name, _)| name.as_str())
            .collect()
    }

    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for (name, query) in &self.queries {
            for side in Side::BOTH {
                if let Some(error) = &query.failures[place(side)] {
                    failures.push(format!("{name} on {}: {error}", side.name()));
                }
            }
            if let Some(difference) = query.difference() {
                failures.push(format!("{name}: the answers differ: {difference}"));
            }
        }
        failures
    }

    /// One row per query, and the total over those that both answered. Nothing if no query ran.
    pub fn table(&self) -> Option<Table> {
        if self.queries.is_empty() {
            return None;
        }
        let mut table = report::table(&["query", "PostgreSQL", "PhantomDB", "ratio", "answer"]);
        let (mut totals, mut both) = ([0.0, 0.0], 0);
        for (name, query) in &self.queries {
            let medians = (query.median(Side::Postgres), query.median(Side::Phantom));
            let shown = |value: Option<f64>| value.map_or("failed".to_owned(), number);
            let ratio = medians.0.zip(medians.1).map(|(postgres, phantom)| {
                totals[0] += postgres;
                totals[1] += phantom;
                both += 1;
                postgres / phantom
            });
            let answer = match (&query.rows, query.difference()) {
                (_, Some(_)) => "DIFFERS".to_owned(),
                ([Some(rows), Some(_)], None) => format!("same {} rows", rows.len()),
                _ => "-".to_owned(),
            };
            let ratio = ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
            table.add_row([
                name.clone(),
                shown(medians.0),
                shown(medians.1),
                ratio,
                answer,
            ]);
        }
        table.add_row([
            format!("sum of {both}"),
            number(totals[0]),
            number(totals[1]),
            format!("{:.2}", totals[0] / totals[1]),
            format!("{} failed", self.queries.len() - both),
        ]);
        Some(table)
    }
}

/// Runs a query on a connection of its own, so that one that breaks it does not fail the next.
async fn answer(server: &Server, sql: &str) -> Result<(f64, Rows)> {
    let session = connect(&server.dsn()).await?;
    let began = Instant::now();
    let messages = match tokio::time::timeout(QUERY_TIMEOUT, session.simple_query(sql)).await {
        Ok(answered) => answered.map_err(|error| anyhow!(describe(&error)))?,
        Err(_) => {
            let _ = session.cancel_token().cancel_query(NoTls).await;
            bail!("no answer within {QUERY_TIMEOUT:?}");
        }
    };
    let seconds = began.elapsed().as_secs_f64();
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(
            (0..row.len())
                .map(|column| row.get(column).map(str::to_owned))
                .collect(),
        ),
        _ => None,
    });
    Ok((seconds, rows.collect()))
}

fn difference(expected: &Rows, found: &Rows) -> Option<String> {
    if expected.len() != found.len() {
        return Some(format!(
            "{} rows expected, {} found",
            expected.len(),
            found.len()
        ));
    }
    let pairs = expected.iter().zip(found).enumerate();
    pairs.into_iter().find_map(|(at, (expected, found))| {
        let same = expected.len() == found.len()
            && expected.iter().zip(found).all(|(a, b)| same_value(a, b));
        (!same).then(|| format!("row {}: expected {expected:?}, found {found:?}", at + 1))
    })
}

/// Equal as text, or as numbers within the tolerance.
fn same_value(expected: &Option<String>, found: &Option<String>) -> bool {
    if expected == found {
        return true;
    }
    let number =
        |value: &Option<String>| value.as_deref().and_then(|text| text.parse::<f64>().ok());
    match (number(expected), number(found)) {
        (Some(a), Some(b)) => (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1.0),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_22_queries_and_8_tables() {
        let queries = queries();
        assert_eq!(queries.len(), 22);
        assert!(
            queries
                .iter()
                .all(|(_, sql)| !sql.contains("-- ") && !sql.contains(';'))
        );
        let tables = statements(include_str!("tpch/schema.sql"));
        assert_eq!(
            tables
                .iter()
                .filter(|sql| sql.starts_with("CREATE TABLE"))
                .count(),
            8
        );
    }

    #[test]
    fn answers_are_compared_with_a_tolerance() {
        let rows = |text: &str| vec![vec![Some(text.to_owned()), None]];
        assert_eq!(difference(&rows("1.00000001"), &rows("1")), None);
        assert!(difference(&rows("1.01"), &rows("1")).is_some());
        assert!(difference(&rows("a"), &rows("b")).is_some());
        assert!(difference(&rows("a"), &vec![]).is_some());
    }
}
