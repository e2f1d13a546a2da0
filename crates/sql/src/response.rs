//! What a statement answers: a command tag, rows, or a COPY conversation.

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
        data: BoxStream<'static, Result<CopyPiece>>,
    },
}

/// Some of the data of COPY TO. Clients take one message for one row, so the ends are told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CopyPiece {
    pub data: Vec<u8>,
    /// Where each message ends in `data`: one per row, and those of header and trailer.
    pub ends: Vec<usize>,
    /// Rows among the messages.
    pub rows: u64,
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

/// Room for nearly every tag.
const TAG_BYTES: usize = 32;

impl RowsTag {
    pub fn with_count(&self, rows: u64) -> String {
        let (command, counts) = match self {
            RowsTag::Counted(command) => (*command, true),
            RowsTag::Insert => ("INSERT 0", true),
            RowsTag::Fixed(tag) => (*tag, false),
        };
        let mut tag = String::with_capacity(TAG_BYTES);
        tag.push_str(command);
        if counts {
            tag.push(' ');
            tag.push_str(itoa::Buffer::new().format(rows));
        }
        tag
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

/// Rows taken from a [`RowSource`] a few at a time: a portal's or a cursor's state.
pub struct RowCursor {
    pub columns: Arc<[ResultColumn]>,
    source: RowSource,
    /// Rows fetched from a stream and not yet taken.
    ready: std::vec::IntoIter<Row>,
}

impl RowCursor {
    pub fn new(set: RowSet) -> Self {
        let (ready, source) = match set.rows {
            RowSource::Ready(rows) => (rows.into_iter(), RowSource::Ready(Vec::new())),
            stream => (Vec::new().into_iter(), stream),
        };
        RowCursor {
            columns: set.columns,
            source,
            ready,
        }
    }

    /// Up to `limit` rows; fewer only at the end.
    pub async fn take(&mut self, limit: usize) -> Result<Vec<Row>> {
        let mut taken: Vec<Row> = self.ready.by_ref().take(limit).collect();
        while taken.len() < limit && self.fetch().await? {
            taken.extend(self.ready.by_ref().take(limit - taken.len()));
        }
        Ok(taken)
    }

    /// Whether no row is left.
    pub async fn is_exhausted(&mut self) -> Result<bool> {
        while self.ready.len() == 0 {
            if !self.fetch().await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All that is left, as a set of its own.
    pub fn into_rest(self) -> RowSet {
        let rows = match self.source {
            RowSource::Ready(_) => RowSource::Ready(self.ready.collect()),
            RowSource::Stream(stream) if self.ready.len() == 0 => RowSource::Stream(stream),
            RowSource::Stream(stream) => {
                let ready = RowChunk::Rows(self.ready.collect());
                let first = futures::stream::once(async move { Ok(ready) });
                RowSource::Stream(Box::pin(futures::StreamExt::chain(first, stream)))
            }
        };
        RowSet {
            columns: self.columns,
            rows,
        }
    }

    async fn fetch(&mut self) -> Result<bool> {
        let RowSource::Stream(stream) = &mut self.source else {
            return Ok(false);
        };
        match futures::StreamExt::next(stream).await {
            Some(chunk) => {
                self.ready = chunk?.into_rows(&self.columns)?.into_iter();
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

impl RowChunk {
    pub fn into_rows(self, columns: &[ResultColumn]) -> Result<Vec<Row>> {
        let batch = match self {
            RowChunk::Rows(rows) => return Ok(rows),
            RowChunk::Batch(batch) => batch,
        };
        let datum = |row: usize, column: usize| {
            let array = batch.column(column).as_ref();
            crate::arrow_bridge::datum_at(array, row, &columns[column].sql_type)
        };
        (0..batch.num_rows())
            .map(|row| {
                (0..batch.num_columns())
                    .map(|column| datum(row, column))
                    .collect()
            })
            .collect()
    }
}

impl RowSet {
    pub async fn collect(self) -> Result<Vec<Row>> {
        RowCursor::new(self).take(usize::MAX).await
    }
}
