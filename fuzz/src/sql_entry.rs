//! The SQL entry: text through the simple protocol's road, and through Parse, Bind and Execute.
//!
//! An input is text; a first line `--file NAME` names a `.slt` file whose first statements make the
//! world it runs in. Statements run in a block that is rolled back; what they commit all the same
//! stays until the world is made anew, so an input is judged again on a fresh one.

use crate::Target;
use crate::complaints;
use crate::corpus::{self, FILE_MARK};
use crate::world::{World, on_worker, runtime};
use bytes::Bytes;
use sql::instance::StartupParams;
use sql::response::{Response, ResultColumn, RowChunk, RowSet, RowSource};
use sql::session::Session;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use types::{Error, FormatContext, SqlState};

/// Inputs on one world.
const INPUTS_PER_WORLD: u32 = 300;

/// Time to make a world's tables: beginnings of `.slt` files are enough.
const PRELUDE_TIME: Duration = Duration::from_secs(2);

/// Statements of one input that are run.
const MAX_STATEMENTS: usize = 20;

/// Rows of one answer that are read and shown.
const MAX_ROWS: usize = 1_000;

/// Sleeping is no hang.
const SLEEPERS: [&str; 1] = ["pg_sleep"];

/// A statement that takes longer is told to stop; that it does stop is the worker's watchdog's matter.
const STATEMENT_TIMEOUT: &str = "2s";

pub struct SqlTarget {
    runtime: Runtime,
    world: Option<World>,
    /// What the world was made from, and how many inputs it has had.
    file: String,
    inputs: u32,
}

impl SqlTarget {
    pub fn new() -> io::Result<Self> {
        Ok(SqlTarget {
            runtime: runtime()?,
            world: None,
            file: String::new(),
            inputs: 0,
        })
    }

    fn instance(&mut self, file: &str) -> Option<Arc<sql::instance::Instance>> {
        if self.inputs >= INPUTS_PER_WORLD || self.file != file || self.world.is_none() {
            let old = self.world.take();
            let prelude = corpus::statements_of(file).unwrap_or_default();
            self.world = on_worker(&self.runtime, async move {
                if let Some(old) = old {
                    old.end().await;
                }
                new_world(prelude).await
            })
            .and_then(|made| {
                made.map_err(|error| complaints::internal_error(&error.message))
                    .ok()
            });
            self.file = file.to_string();
            self.inputs = 0;
        }
        self.inputs += 1;
        self.world.as_ref().map(|world| Arc::clone(&world.instance))
    }
}

impl Target for SqlTarget {
    fn run(&mut self, input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        let (file, text) = match text
            .strip_prefix(FILE_MARK)
            .and_then(|t| t.split_once('\n'))
        {
            Some((file, text)) => (file.to_string(), text.to_string()),
            None => (String::new(), text.into_owned()),
        };
        if SLEEPERS
            .iter()
            .any(|name| text.to_ascii_lowercase().contains(name))
        {
            return;
        }
        if let Some(instance) = self.instance(&file) {
            on_worker(&self.runtime, async move {
                let Ok(mut session) = connect(&instance).await else {
                    return;
                };
                simple(&mut session, &text).await;
                extended(&mut session, &text).await;
            });
        }
    }
}

async fn new_world(prelude: Vec<String>) -> types::Result<World> {
    let world = World::new().await?;
    let mut session = connect(&world.instance).await?;
    let began = Instant::now();
    for statement in prelude {
        if began.elapsed() > PRELUDE_TIME {
            break;
        }
        say(&mut session, &statement).await;
    }
    // What was left open would hold locks.
    say(&mut session, "ROLLBACK").await;
    Ok(world)
}

async fn connect(instance: &Arc<sql::instance::Instance>) -> types::Result<Session> {
    let parameters = StartupParams {
        user: "phantom".to_string(),
        options: vec![
            (
                "statement_timeout".to_string(),
                STATEMENT_TIMEOUT.to_string(),
            ),
            ("lock_timeout".to_string(), STATEMENT_TIMEOUT.to_string()),
        ],
        ..StartupParams::default()
    };
    instance.connect(parameters).await
}

async fn simple(session: &mut Session, text: &str) {
    say(session, "BEGIN").await;
    say(session, text).await;
    say(session, "ROLLBACK").await;
}

/// One query string, all answers read.
async fn say(session: &mut Session, text: &str) {
    let mut query = session.simple(text);
    for _ in 0..MAX_STATEMENTS {
        let Some(response) = session.next_simple(&mut query).await else {
            break;
        };
        match response {
            Ok(response) => {
                if let Err(error) = read(session, response).await {
                    judge(&error);
                    session.fail();
                    break;
                }
            }
            Err(error) => judge(&error),
        }
    }
}

/// The same text as a prepared statement, its parameters' types left open, each given as text.
async fn extended(session: &mut Session, text: &str) {
    say(session, "BEGIN").await;
    if let Err(error) = prepared(session, text).await {
        judge(&error);
        session.fail();
    }
    if let Err(error) = session.sync().await {
        judge(&error);
    }
    say(session, "ROLLBACK").await;
}

async fn prepared(session: &mut Session, text: &str) -> types::Result<()> {
    session.parse("", text, &[]).await?;
    let (parameters, _) = session.describe_statement("").await?;
    let values = vec![Some(Bytes::from_static(b"1")); parameters.len()];
    session.bind("", "", &[], &values, &[]).await?;
    session.describe_portal("")?;
    let executed = session.execute("", 3, false).await?;
    read(session, executed.response).await
}

async fn read(session: &mut Session, response: Response) -> types::Result<()> {
    match response {
        Response::Rows { set, .. } => rows(set, session.format_context()).await,
        Response::CopyIn(_) => {
            session.copy_in_data(Bytes::from_static(b"1\t2\n")).await;
            session.copy_in_done().await.map(drop)
        }
        Response::CopyOut { mut data, .. } => {
            while let Some(piece) = futures::StreamExt::next(&mut data).await {
                piece?;
            }
            Ok(())
        }
        Response::Complete(_) | Response::Empty => Ok(()),
    }
}

async fn rows(set: RowSet, context: &FormatContext) -> types::Result<()> {
    let columns = Arc::clone(&set.columns);
    match set.rows {
        RowSource::Ready(rows) => show(context, &columns, &rows),
        RowSource::Stream(mut chunks) => {
            let mut seen = 0;
            while seen < MAX_ROWS
                && let Some(chunk) = futures::StreamExt::next(&mut chunks).await
            {
                match chunk? {
                    RowChunk::Rows(rows) => {
                        seen += rows.len();
                        show(context, &columns, &rows);
                    }
                    RowChunk::Batch(batch) => {
                        seen += batch.num_rows();
                        let stream = futures::stream::iter([Ok(RowChunk::Batch(batch))]);
                        let set = RowSet {
                            columns: Arc::clone(&columns),
                            rows: RowSource::Stream(Box::pin(stream)),
                        };
                        show(context, &columns, &set.collect().await?);
                    }
                }
            }
        }
    }
    Ok(())
}

/// As a client gets them, in both formats.
fn show(context: &FormatContext, columns: &[ResultColumn], rows: &[types::Row]) {
    for row in rows.iter().take(MAX_ROWS) {
        for (datum, column) in row.iter().zip(columns) {
            if !datum.is_null() {
                let mut out = Vec::new();
                datum.write_text(&column.sql_type, context, &mut out);
                datum.write_binary(&column.sql_type, &mut out);
            }
        }
    }
}

fn judge(error: &Error) {
    if error.state == SqlState::INTERNAL_ERROR {
        complaints::internal_error(&error.message);
    }
}
