//! COPY in of a million rows through psql.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

use crate::peer::{Server, cache_folder, connect, describe, quietly, within};

const ROWS: i64 = 1_000_000;
/// A COPY that takes longer has failed.
const COPY_LIMIT: Duration = Duration::from_secs(600);

/// Writes the file of about 100 bytes a row, unless an earlier run did.
pub fn prepare() -> Result<()> {
    let file = file()?;
    if file.exists() {
        return Ok(());
    }
    let unfinished = file.with_extension("unfinished");
    let mut out = BufWriter::new(File::create(&unfinished)?);
    for id in 0..ROWS {
        // A multiplicative hash spreads the values; the same file comes out every time.
        let spread = (id as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let day = 1 + spread % 28;
        writeln!(
            out,
            "{id}\t{}\t{}.{:02}\t2026-{:02}-{day:02} 12:{:02}:{:02}\tnote {spread:016x} of a row that is about a hundred bytes",
            spread % 100_000,
            spread % 1_000_000,
            spread % 100,
            1 + spread % 12,
            spread % 60,
            spread % 59,
        )?;
    }
    out.flush()?;
    fs::rename(unfinished, file)?;
    Ok(())
}

/// Seconds for one COPY into a fresh table with a primary key.
pub async fn measure(tools: &Path, server: &Server) -> Result<f64> {
    let session = connect(&server.dsn()).await?;
    let failed = |error: tokio_postgres::Error| anyhow!(describe(&error));
    session
        .batch_execute("DROP TABLE IF EXISTS bench_copy")
        .await
        .map_err(failed)?;
    session
        .batch_execute(
            "CREATE TABLE bench_copy (id bigint PRIMARY KEY, account int NOT NULL,
             amount numeric(12, 2) NOT NULL, at timestamp NOT NULL, note text NOT NULL)",
        )
        .await
        .map_err(failed)?;
    let began = Instant::now();
    copy(tools, server, "bench_copy", &file()?, "")?;
    let seconds = began.elapsed().as_secs_f64();
    let count: i64 = session
        .query_one("SELECT count(*) FROM bench_copy", &[])
        .await
        .map_err(failed)?
        .get(0);
    ensure!(count == ROWS, "{count} rows are there, not {ROWS}");
    session
        .batch_execute("DROP TABLE bench_copy")
        .await
        .map_err(failed)?;
    Ok(seconds)
}

/// `\copy table from file options` by psql.
pub fn copy(tools: &Path, server: &Server, table: &str, file: &Path, options: &str) -> Result<()> {
    quietly(
        within(COPY_LIMIT, tools.join("psql"))
            .args([
                "-X",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                &server.dsn(),
                "-c",
            ])
            .arg(format!(
                "\\copy {table} from '{}' {options}",
                file.display()
            )),
    )
}

fn file() -> Result<PathBuf> {
    Ok(cache_folder()?.join("copy_1m_rows.tsv"))
}
