//! What a statement answers: a command tag, rows, or a COPY conversation.

use bytes::Bytes;
use datafusion::arrow::record_batch::RecordBatch;
use futures::stream::BoxStream;
use std::sync::Arc;
use types::{Error, Result, Row, SqlType};

/// A column of a result, as RowDescription tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultColumn {
    pub name: String,
    pub sql_type: SqlType,
    /// Object id of the table and attribute number, when it is a plain table column; else 0.
    pub table: u32,
    pub attribute: i16,
}

/// Rows in the shape the road that made them has at hand.
pub enum RowChunk {
    Rows(Vec<Row>),
    Batch(RecordBatch),
}

/// Rows to send. The stream owns its snapshot and may outlive the statement's transaction.
pub struct RowSet {
    pub columns: Arc<[ResultColumn]>,
    pub rows: RowSource,
}

pub enum RowSource {
    /// All rows at once: the direct executor's answer.
    Ready(Vec<Row>),
    Stream(BoxStream<'static, Result<RowChunk>>),
}

pub enum Response {
    /// Rows, then the command tag: `SELECT n`, or `INSERT 0 n` with RETURNING.
    Rows {
        set: RowSet,
        tag: RowsTag,
    },
    /// A command that is done, with its tag.
    Complete(String),
    /// An empty query string.
    Empty,
    CopyIn(CopyFormat),
    CopyOut {
        format: CopyFormat,
        data: BoxStream<'static, Result<Bytes>>,
    },
}

/// How to make a command tag from the number of rows sent.
#[derive(Clone, Debug, PartialEq)]
pub enum RowsTag {
    /// `SELECT 5`, `FETCH 5`, `UPDATE 5` …
    Counted(&'static str),
    /// `INSERT 0 5`.
    Insert,
    /// As it stands: `EXPLAIN`, `SHOW`.
    Fixed(&'static str),
}

impl RowsTag {
    pub fn with_count(&self, rows: u64) -> String {
        match self {
            RowsTag::Counted(command) => format!("{command} {rows}"),
            RowsTag::Insert => format!("INSERT 0 {rows}"),
            RowsTag::Fixed(tag) => (*tag).to_string(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyFormat {
    /// Binary, else text or CSV.
    pub binary: bool,
    pub columns: u16,
}

/// The state ReadyForQuery tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    Idle,
    InBlock,
    Failed,
}

/// A notice or warning on its way to the client: an [`Error`] that did not stop anything.
#[derive(Clone, Debug)]
pub struct Notice {
    /// `NOTICE`, `WARNING` or `INFO`.
    pub severity: &'static str,
    pub body: Error,
}
