//! COPY conversations.

use super::Session;
use super::prepared::Prepared;
use crate::arrow_bridge::datum_at;
use crate::catalog::Relation;
use crate::catalog::descriptor::{ObjectId, Table};
use crate::context::StatementContext;
use crate::copy::decode::{Decoder, Fields};
use crate::copy::encode::Encoder;
use crate::dml::TableWriter;
use crate::response::{CopyFormat, CopyPiece, Response, RowChunk, RowSet, RowSource};
use crate::statement::{CopyDirection, CopyKind, CopySource, CopyStatement, Statement};
use crate::table_codec::table_lock_key;
use bytes::Bytes;
use futures::StreamExt;
use sqlparser::ast;
use std::sync::Arc;
use txn::kv::LockMode;
use types::text::FormatContext;
use types::{Datum, Error, Result, Row, SqlState, SqlType};

/// Bytes of one CopyData message out; big enough that framing costs nothing.
const COPY_OUT_BYTES: usize = 64 << 10;

/// Rows that are written in one go: enough that the set-up of a batch costs nothing.
const COPY_BATCH_ROWS: usize = 1024;

/// COPY … FROM STDIN between its messages.
pub(super) struct CopyIn {
    table: Arc<Table>,
    decoder: Decoder,
    fields: Fields,
    kind: CopyKind,
    format: Arc<FormatContext>,
    /// Position and type of each column that the data has, in its order.
    columns: Vec<usize>,
    types: Vec<SqlType>,
    /// Rows read and not yet written.
    pending: Vec<Row>,
    force_null: Vec<bool>,
    force_not_null: Vec<bool>,
    writer: TableWriter,
    ctx: StatementContext,
    rows: u64,
    failed: Option<Error>,
}

impl Session {
    pub(super) async fn run_copy(&mut self, copy: &CopyStatement) -> Result<Response> {
        self.ensure_active();
        match copy.direction {
            CopyDirection::In => self.start_copy_in(copy).await,
            CopyDirection::Out => self.copy_out(copy).await,
        }
    }

    async fn start_copy_in(&mut self, copy: &CopyStatement) -> Result<Response> {
        self.refuse_if_read_only("COPY FROM")?;
        let CopySource::Table {
            schema,
            table,
            columns,
        } = &copy.source
        else {
            return Err(Error::syntax("a query cannot be copied into"));
        };
        let table = self.copy_table(schema.as_deref(), table)?;
        let policy = self.wait_policy();
        let active = self.active_mut()?;
        active
            .txn
            .lock(&table_lock_key(table.oid), LockMode::KeyShare, policy)
            .await?;
        self.begin_statement().await?;
        let catalog = self.catalog();
        let table = catalog
            .table(table.oid)
            .cloned()
            .ok_or_else(|| vanished(&table.name))?;
        let places = copy_columns(&table, columns)?;
        let forced = |names: &[String]| -> Vec<bool> {
            places
                .iter()
                .map(|place| names.contains(&table.columns[*place].name))
                .collect()
        };
        let (force_null, force_not_null) = (
            forced(&copy.options.force_null),
            forced(&copy.options.force_not_null),
        );
        let ctx = self.statement_context(false)?;
        let writer = self.table_writer(&table)?;
        let format = CopyFormat {
            binary: copy.options.kind == CopyKind::Binary,
            columns: places.len() as u16,
        };
        self.copy = Some(CopyIn {
            decoder: Decoder::new(copy.options.clone()),
            fields: Fields::default(),
            kind: copy.options.kind,
            format: Arc::clone(self.format_context()),
            types: places
                .iter()
                .map(|place| table.columns[*place].sql_type.clone())
                .collect(),
            columns: places,
            pending: Vec::new(),
            force_null,
            force_not_null,
            writer,
            ctx,
            rows: 0,
            failed: None,
            table,
        });
        Ok(Response::CopyIn(format))
    }

    fn table_writer(&self, table: &Arc<Table>) -> Result<TableWriter> {
        let catalog = self.catalog();
        let planner = crate::query::Planner {
            catalog: &catalog,
            database: self.database_oid,
            settings: &self.expr_settings,
            registry: &self.instance.registry,
            virtual_tables: &self.instance.virtual_tables,
            surrounding: Default::default(),
        };
        TableWriter::new(&planner, table)
    }

    fn copy_table(&self, schema: Option<&str>, name: &str) -> Result<Arc<Table>> {
        match self.relation(schema, name)? {
            Relation::Table(table) => Ok(table),
            Relation::View(_) => Err(Error::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("cannot copy view \"{name}\""),
            )
            .hint("Try the COPY (SELECT ...) TO variant.")),
            _ => Err(Error::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("cannot copy relation \"{name}\""),
            )),
        }
    }

    /// CopyData. After an error the rest of the data is ignored, and the error comes with the end.
    pub async fn copy_in_data(&mut self, data: Bytes) {
        let Some(mut copy) = self.copy.take() else {
            return;
        };
        if copy.failed.is_none() {
            copy.decoder.feed(&data);
            copy.failed = self.write_records(&mut copy).await.err();
        }
        self.copy = Some(copy);
    }

    /// CopyDone: the tag.
    pub async fn copy_in_done(&mut self) -> Result<String> {
        let Some(mut copy) = self.copy.take() else {
            return Err(Error::new(
                SqlState::PROTOCOL_VIOLATION,
                "no COPY is in progress",
            ));
        };
        let mut result = match copy.failed.take() {
            Some(error) => Err(error),
            None => {
                copy.decoder.end();
                self.write_records(&mut copy).await
            }
        };
        if result.is_ok() {
            result = self.write_pending(&mut copy).await;
        }
        match result {
            Ok(()) => Ok(format!("COPY {}", copy.rows)),
            Err(error) => {
                self.fail();
                Err(error)
            }
        }
    }

    /// CopyFail.
    pub fn copy_in_fail(&mut self, message: &str) -> Error {
        self.copy = None;
        self.fail();
        Error::new(
            SqlState::QUERY_CANCELED,
            format!("COPY from stdin failed: {message}"),
        )
    }

    async fn write_records(&mut self, copy: &mut CopyIn) -> Result<()> {
        while copy.decoder.next_record(&mut copy.fields)? {
            let line = copy.decoder.line();
            let row = copy
                .row()
                .map_err(|error| at_line(error, &copy.table.name, line))?;
            copy.pending.push(row);
            if copy.pending.len() >= COPY_BATCH_ROWS {
                self.write_pending(copy).await?;
            }
        }
        Ok(())
    }

    async fn write_pending(&mut self, copy: &mut CopyIn) -> Result<()> {
        self.shared.cancel.check()?;
        let rows = std::mem::take(&mut copy.pending);
        copy.rows += rows.len() as u64;
        let active = self.active_mut()?;
        let txn = &mut active.txn;
        let result = copy
            .writer
            .insert(txn, &copy.ctx, &copy.columns, rows)
            .await;
        let result =
            result.map_err(|error| at_line(error, &copy.table.name, copy.decoder.line()))?;
        active.deferred.append(result.deferred);
        Ok(())
    }

    /// Inserts all rows of a set, whose columns are the table's.
    pub(super) async fn insert_rows(&mut self, table: ObjectId, set: RowSet) -> Result<u64> {
        let catalog = self.catalog();
        let table = catalog.table(table).cloned().ok_or_else(|| vanished("?"))?;
        let writer = self.table_writer(&table)?;
        let places: Vec<usize> = table.live_columns().map(|(place, _)| place).collect();
        self.begin_statement().await?;
        let ctx = self.statement_context(false)?;
        let mut rows = crate::response::RowCursor::new(set);
        let mut count = 0;
        loop {
            let some = rows.take(COPY_BATCH_ROWS).await?;
            if some.is_empty() {
                return Ok(count);
            }
            let active = self.active_mut()?;
            count += writer
                .insert(&mut active.txn, &ctx, &places, some)
                .await?
                .affected;
        }
    }

    async fn copy_out(&mut self, copy: &CopyStatement) -> Result<Response> {
        let query = match &copy.source {
            CopySource::Query(query) => query.clone(),
            CopySource::Table {
                schema,
                table,
                columns,
            } => {
                let table = self.copy_table(schema.as_deref(), table)?;
                let places = copy_columns(&table, columns)?;
                let names: Vec<String> = places
                    .iter()
                    .map(|place| quote(&table.columns[*place].name))
                    .collect();
                let from = match schema {
                    Some(schema) => format!("{}.{}", quote(schema), quote(&table.name)),
                    None => quote(&table.name),
                };
                crate::statement::parse_query(&format!("SELECT {} FROM {from}", names.join(", ")))?
            }
        };
        let set = self.run_plain_query(&query).await?;
        let names = set
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect();
        let types: Vec<SqlType> = set.columns.iter().map(|c| c.sql_type.clone()).collect();
        let encoder = Encoder::new(copy.options.clone(), names, types.clone());
        let format = CopyFormat {
            binary: copy.options.kind == CopyKind::Binary,
            columns: types.len() as u16,
        };
        let data = copy_stream(set, encoder, types, Arc::clone(self.format_context()));
        Ok(Response::CopyOut {
            format,
            data: data.boxed(),
        })
    }

    async fn run_plain_query(&mut self, query: &ast::Query) -> Result<RowSet> {
        let text: Arc<str> = query.to_string().into();
        let statement = Statement::Query(Box::new(query.clone()));
        let prepared: Arc<Prepared> = Arc::new(self.plan(text, statement, Vec::new())?);
        match Box::pin(self.run_query(prepared, &[])).await? {
            Response::Rows { set, .. } => Ok(set),
            _ => Err(Error::internal("a query gave no rows")),
        }
    }
}

impl CopyIn {
    /// The record's values, in the order of the data's columns.
    fn row(&mut self) -> Result<Row> {
        let fields = &self.fields;
        if self.columns.is_empty() && fields.len() == 1 {
            return Ok(Vec::new());
        }
        if fields.len() > self.columns.len() {
            return Err(bad_format("extra data after last expected column"));
        }
        if let Some(place) = self.columns.get(fields.len()) {
            let column = &self.table.columns[*place].name;
            return Err(bad_format(format!("missing data for column \"{column}\"")));
        }
        let mut row = Vec::with_capacity(self.columns.len());
        for (index, sql_type) in self.types.iter().enumerate() {
            row.push(match self.kind {
                CopyKind::Binary => match fields.get(index) {
                    None => Datum::Null,
                    Some(bytes) => Datum::parse_binary(bytes, sql_type)?,
                },
                _ => match fields.text(index)? {
                    None if self.force_not_null[index] => {
                        Datum::parse_text("", sql_type, &self.format)?
                    }
                    None => Datum::Null,
                    Some("") if self.force_null[index] => Datum::Null,
                    Some(text) => Datum::parse_text(text, sql_type, &self.format)?,
                },
            });
        }
        Ok(row)
    }
}

/// Positions of the columns that the data has.
fn copy_columns(table: &Table, names: &[String]) -> Result<Vec<usize>> {
    if names.is_empty() {
        let plain = table
            .live_columns()
            .filter(|(_, column)| column.generated.is_none());
        return Ok(plain.map(|(place, _)| place).collect());
    }
    let mut places = Vec::with_capacity(names.len());
    for name in names {
        let place = table.column_position(name).ok_or_else(|| {
            Error::new(
                SqlState::UNDEFINED_COLUMN,
                format!(
                    "column \"{name}\" of relation \"{}\" does not exist",
                    table.name
                ),
            )
        })?;
        if places.contains(&place) {
            return Err(Error::new(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{name}\" specified more than once"),
            ));
        }
        if table.columns[place].generated.is_some() {
            return Err(Error::new(
                SqlState::INVALID_COLUMN_REFERENCE,
                format!("column \"{name}\" is a generated column"),
            )
            .detail("Generated columns cannot be used in COPY."));
        }
        places.push(place);
    }
    Ok(places)
}

fn copy_stream(
    set: RowSet,
    encoder: Encoder,
    types: Vec<SqlType>,
    format: Arc<FormatContext>,
) -> impl futures::Stream<Item = Result<CopyPiece>> + Send + 'static {
    let chunks = match set.rows {
        RowSource::Ready(rows) => {
            futures::stream::once(async move { Ok(RowChunk::Rows(rows)) }).boxed()
        }
        RowSource::Stream(stream) => stream,
    };
    let mut start = CopyPiece::default();
    let mut encoder = encoder;
    // A line of names is a message; a binary header goes with the first row, as PostgreSQL's does.
    encoder.start(&mut start.data);
    if start.data.ends_with(b"\n") && !encoder.is_binary() {
        start.ends.push(start.data.len());
    }
    let state = (chunks, encoder, start, false);
    futures::stream::try_unfold(state, move |(mut chunks, mut encoder, mut out, ended)| {
        let types = types.clone();
        let format = format.clone();
        async move {
            if ended {
                return Ok(None);
            }
            let mut ended = false;
            while !ended && out.data.len() < COPY_OUT_BYTES {
                match chunks.next().await {
                    Some(chunk) => encode_chunk(chunk?, &mut encoder, &types, &format, &mut out)?,
                    None => {
                        encoder.end(&mut out.data);
                        if out.ends.last().copied().unwrap_or(0) < out.data.len() {
                            out.ends.push(out.data.len());
                        }
                        ended = true;
                    }
                }
            }
            Ok(Some((out, (chunks, encoder, CopyPiece::default(), ended))))
        }
    })
}

fn encode_chunk(
    chunk: RowChunk,
    encoder: &mut Encoder,
    types: &[SqlType],
    format: &FormatContext,
    out: &mut CopyPiece,
) -> Result<()> {
    let mut encode = |row: &[Datum]| {
        encoder.row(row, format, &mut out.data)?;
        out.ends.push(out.data.len());
        out.rows += 1;
        Ok(())
    };
    match chunk {
        RowChunk::Rows(rows) => rows.iter().try_for_each(|row| encode(row)),
        RowChunk::Batch(batch) => {
            let mut row: Row = Vec::with_capacity(types.len());
            for index in 0..batch.num_rows() {
                row.clear();
                for (column, sql_type) in types.iter().enumerate() {
                    row.push(datum_at(batch.column(column).as_ref(), index, sql_type)?);
                }
                encode(&row)?;
            }
            Ok(())
        }
    }
}

fn at_line(error: Error, table: &str, line: u64) -> Error {
    match error.fields.detail {
        Some(_) => error,
        None => error.detail(format!("COPY {table}, line {line}")),
    }
}

fn bad_format(message: impl Into<String>) -> Error {
    Error::new(SqlState::BAD_COPY_FILE_FORMAT, message)
}

fn vanished(name: &str) -> Error {
    Error::new(
        SqlState::UNDEFINED_TABLE,
        format!("relation \"{name}\" does not exist"),
    )
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
