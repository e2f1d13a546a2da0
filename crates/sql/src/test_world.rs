//! A store in memory with tables made by hand: what tests of the two roads run on.

use crate::catalog::Catalog;
use crate::catalog::descriptor::*;
use crate::catalog::ids::RowIds;
use crate::context::{
    CancelToken, ExprSettings, ReadView, SessionContext, SessionEffects, StatementContext,
};
use crate::direct::compile_query;
use crate::dml::{self, DmlResult};
use crate::functions::{Registry, operators};
use crate::pg_catalog::{VirtualTables, virtual_tables};
use crate::query::planner::{AnalyzedQuery, Planner};
use crate::query::{Runtime, casts::format_context};
use crate::response::{RowChunk, RowSource};
use futures::{FutureExt, StreamExt};
use sqlparser::ast;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use std::sync::Arc;
use txn::kv::{Isolation, ReadScope};
use txn::{Coordinator, Limits, Transaction};
use types::env::Env;
use types::{Datum, Error, MaybeReady, Result, Row, SqlType};

const DATABASE: ObjectId = 5;
const SCHEMA: ObjectId = 2200;

pub struct World {
    _store: Arc<node::Store>,
    pub coordinator: Coordinator,
    pub catalog: Arc<Catalog>,
    registry: Arc<Registry>,
    virtual_tables: Arc<VirtualTables>,
    pub runtime: Runtime,
    settings: Arc<ExprSettings>,
    env: Env,
    row_ids: Arc<RowIds>,
    next_oid: ObjectId,
}

struct NoEffects;

fn none() -> Error {
    Error::unsupported("session effects in this test")
}

impl SessionEffects for NoEffects {
    fn nextval(&self, _: ObjectId) -> MaybeReady<Result<i64>> {
        MaybeReady::ready(Err(none()))
    }
    fn currval(&self, _: ObjectId) -> Result<i64> {
        Err(none())
    }
    fn lastval(&self) -> Result<i64> {
        Err(none())
    }
    fn setval(&self, _: ObjectId, _: i64, _: bool) -> MaybeReady<Result<i64>> {
        MaybeReady::ready(Err(none()))
    }
    fn setting(&self, _: &str) -> Option<String> {
        None
    }
    fn set_setting(&self, _: &str, _: &str, _: bool) -> Result<String> {
        Err(none())
    }
}

impl World {
    pub fn new() -> World {
        let store = node::testing::memory_store().unwrap();
        let coordinator = store.coordinator(Limits::default());
        let mut catalog = Catalog::default();
        catalog.put(Descriptor::Schema(Schema {
            oid: SCHEMA,
            database: DATABASE,
            name: "public".into(),
            owner: 10,
            comment: None,
        }));
        let mut registry = Registry::default();
        operators::register(&mut registry);
        World {
            _store: store,
            coordinator,
            catalog: Arc::new(catalog),
            registry: Arc::new(registry),
            virtual_tables: virtual_tables(),
            runtime: Runtime::new(256 << 20, 64 << 20, 1).unwrap(),
            settings: Arc::new(ExprSettings {
                time_zone: "UTC".into(),
                user: "phantom".into(),
                session_user: "phantom".into(),
                database: "phantom".into(),
                search_path: vec!["public".to_string()].into(),
                application_name: "test".into(),
                backend_pid: 1,
                transaction_micros: 1_700_000_000_000_000,
                statement_micros: 1_700_000_000_000_000,
            }),
            env: node::testing::real_env(),
            row_ids: Arc::default(),
            next_oid: FIRST_USER_OBJECT_ID,
        }
    }

    pub fn oid(&mut self) -> ObjectId {
        self.next_oid += 1;
        self.next_oid
    }

    /// Adds a table of these columns, whose first `key` columns are the primary key.
    pub fn table(&mut self, name: &str, columns: &[(&str, SqlType)], key: usize) -> ObjectId {
        self.table_with(name, columns, key, |_| {})
    }

    pub fn table_with(
        &mut self,
        name: &str,
        columns: &[(&str, SqlType)],
        key: usize,
        change: impl FnOnce(&mut Table),
    ) -> ObjectId {
        let oid = self.oid();
        let (key_oid, constraint_oid) = (self.oid(), self.oid());
        let mut columns: Vec<Column> = columns
            .iter()
            .map(|(name, sql_type)| Column::new(*name, sql_type.clone()))
            .collect();
        columns[..key]
            .iter_mut()
            .for_each(|column| column.not_null = true);
        let mut table = Table {
            oid,
            database: DATABASE,
            schema: SCHEMA,
            name: name.into(),
            owner: 10,
            version: 1,
            data_id: oid,
            columns,
            primary_key: (key > 0).then(|| PrimaryKey {
                oid: key_oid,
                constraint_oid,
                name: format!("{name}_pkey"),
                columns: (0..key).collect(),
            }),
            indexes: Vec::new(),
            checks: Vec::new(),
            foreign_keys: Vec::new(),
            next_index_id: 100,
            comment: None,
            options: Vec::new(),
            sharding: Default::default(),
            replication_factor: None,
            unlogged: false,
        };
        change(&mut table);
        Arc::make_mut(&mut self.catalog).put(Descriptor::Table(table));
        oid
    }

    pub fn table_named(&self, name: &str) -> Arc<Table> {
        let mut tables = self.catalog.tables(DATABASE);
        tables.find(|table| table.name == name).unwrap().clone()
    }

    pub fn planner(&self) -> Planner<'_> {
        Planner {
            catalog: &self.catalog,
            database: DATABASE,
            settings: &self.settings,
            registry: &self.registry,
            virtual_tables: &self.virtual_tables,
            surrounding: Default::default(),
        }
    }

    pub fn begin(&self, isolation: Isolation) -> Transaction {
        self.coordinator.begin(isolation, false)
    }

    /// The surroundings of a statement at the transaction's snapshot. Its own writes are not in the
    /// view: only statements that read through the transaction see them.
    pub fn context(&self, txn: &mut Transaction) -> StatementContext {
        let begun = txn.read_timestamp().or_else(|_| {
            let beginning = txn.begin_statement(ReadScope::All);
            beginning.now_or_never().expect("a local store is ready")
        });
        StatementContext {
            view: ReadView {
                shards: self.coordinator.shards().clone(),
                at: begun.expect("a snapshot"),
                overlay: None,
                reads: None,
                guard: None,
            },
            settings: self.settings.clone(),
            session: Arc::new(SessionContext {
                catalog: self.catalog.clone(),
                cancel: CancelToken::default(),
                env: self.env.clone(),
                effects: Arc::new(NoEffects),
                lock_timeout_nanos: None,
                row_ids: self.row_ids.clone(),
            }),
            read_only: false,
            parts: None,
        }
    }

    /// Runs a change inside a transaction.
    pub async fn change(
        &self,
        txn: &mut Transaction,
        sql: &str,
        params: &[Datum],
    ) -> Result<DmlResult> {
        txn.begin_statement(ReadScope::All).await?;
        let plan = dml::plan(&self.planner(), &parse(sql), &[])?;
        let ctx = self.context(txn);
        plan.execute(txn, &ctx, &self.runtime, params).await
    }

    /// Runs a change by itself: how many rows, and what it returned as text.
    pub async fn exec(&self, sql: &str) -> Result<(u64, Vec<String>)> {
        let mut txn = self.begin(Isolation::ReadCommitted);
        let mut result = self.change(&mut txn, sql, &[]).await?;
        let ctx = self.context(&mut txn);
        let deferred = std::mem::take(&mut result.deferred);
        dml::run_deferred_checks(deferred, &mut txn, &ctx).await?;
        txn.commit().await?;
        let plan = dml::plan(&self.planner(), &parse(sql), &[])?;
        let types = plan.returning.iter().flat_map(|columns| columns.iter());
        let types: Vec<SqlType> = types.map(|column| column.sql_type.clone()).collect();
        Ok((result.affected, self.text(&result.rows, &types)))
    }

    pub fn analyse(&self, sql: &str) -> Result<AnalyzedQuery> {
        match parse(sql) {
            ast::Statement::Query(query) => self.planner().query(&query, &[]),
            other => Err(Error::internal(format!("not a query: {other}"))),
        }
    }

    /// A query on the direct road; `None` if it has no direct form.
    pub async fn direct(&self, sql: &str, params: &[Datum]) -> Result<Option<Vec<Row>>> {
        let query = self.analyse(sql)?;
        let Some(direct) = compile_query(&query) else {
            return Ok(None);
        };
        let mut txn = self.begin(Isolation::ReadCommitted);
        let ctx = self.context(&mut txn);
        direct.execute(&ctx.view, &ctx, params).await
    }

    /// A direct query inside a transaction, as text.
    pub async fn select_in(&self, txn: &mut Transaction, sql: &str) -> Result<Vec<String>> {
        txn.begin_statement(ReadScope::All).await?;
        let query = self.analyse(sql)?;
        let types: Vec<SqlType> = query.columns.iter().map(|c| c.sql_type.clone()).collect();
        let direct = compile_query(&query).ok_or_else(|| Error::internal("no direct form"))?;
        let ctx = self.context(txn);
        let rows = direct.execute_in(txn, &ctx, &[]).await?;
        Ok(self.text(&rows.unwrap_or_default(), &types))
    }

    /// A query by DataFusion.
    pub async fn planned(&self, sql: &str, params: &[Datum]) -> Result<Vec<Row>> {
        let query = self.analyse(sql)?;
        let mut txn = self.begin(Isolation::ReadCommitted);
        let ctx = self.context(&mut txn);
        let set = self.runtime.execute(&query, params, ctx).await?;
        let types: Vec<SqlType> = query.columns.iter().map(|c| c.sql_type.clone()).collect();
        let mut rows = Vec::new();
        match set.rows {
            RowSource::Ready(ready) => rows = ready,
            RowSource::Stream(mut stream) => {
                while let Some(chunk) = stream.next().await {
                    match chunk? {
                        RowChunk::Rows(more) => rows.extend(more),
                        RowChunk::Batch(batch) => {
                            for index in 0..batch.num_rows() {
                                let mut row = Vec::new();
                                for (array, sql_type) in batch.columns().iter().zip(&types) {
                                    row.push(crate::arrow_bridge::datum_at(
                                        array, index, sql_type,
                                    )?);
                                }
                                rows.push(row);
                            }
                        }
                    }
                }
            }
        }
        Ok(rows)
    }

    pub fn text(&self, rows: &[Row], types: &[SqlType]) -> Vec<String> {
        let format = format_context(&self.settings);
        let cell = |datum: &Datum, sql_type: &SqlType| match datum {
            Datum::Null => "null".to_string(),
            other => other.to_text(sql_type, &format),
        };
        rows.iter()
            .map(|row| {
                let cells = row.iter().zip(types).map(|(datum, t)| cell(datum, t));
                cells.collect::<Vec<_>>().join("|")
            })
            .collect()
    }

    /// A query's rows as text; it must have a direct form.
    pub async fn rows(&self, sql: &str) -> Vec<String> {
        let query = self.analyse(sql).unwrap();
        let types: Vec<SqlType> = query.columns.iter().map(|c| c.sql_type.clone()).collect();
        let rows = self.direct(sql, &[]).await.unwrap();
        let rows = rows
            .unwrap_or_else(|| panic!("no direct form: {sql}\n{}", query.plan.display_indent()));
        self.text(&rows, &types)
    }
}

pub fn parse(sql: &str) -> ast::Statement {
    let dialect = PostgreSqlDialect {};
    Parser::parse_sql(&dialect, sql).unwrap().remove(0)
}
