//! Statements that are carried out from their syntax: transaction control, settings, definitions,
//! prepared statements, maintenance.

use super::Session;
use super::prepared::Prepared;
use super::settings::isolation_name;
use super::transaction::{BlockState, Working};
use crate::catalog::Relation;
use crate::ddl::{self, DdlContext};
use crate::response::{Notice, Response, ResultColumn, RowSet, RowSource, RowsTag};
use crate::statement::{Discard, SetValue, Statement, TransactionModes};
use crate::table_codec::table_lock_key;
use sqlparser::ast;
use std::sync::Arc;
use txn::kv::{LockMode, WaitPolicy};
use types::{Datum, Error, Result, Row, SqlState, SqlType};

impl Session {
    /// The result columns of a statement that is neither query nor change.
    pub(super) fn columns_of(
        &mut self,
        statement: &Statement,
    ) -> Result<Option<Arc<[ResultColumn]>>> {
        Ok(match statement {
            Statement::Show(name) => Some(text_columns(&[&name.to_lowercase()])),
            Statement::ShowAll => Some(text_columns(&["name", "setting", "description"])),
            Statement::Explain { json: false, .. } => Some(text_columns(&["QUERY PLAN"])),
            Statement::Explain { json: true, .. } => Some(Arc::new([ResultColumn {
                sql_type: SqlType::Json,
                ..text_column("QUERY PLAN")
            }])),
            Statement::Fetch(fetch) if !fetch.moves_only => {
                let cursor = self.cursors.get(&fetch.cursor);
                cursor.map(|cursor| Arc::clone(cursor.columns()))
            }
            Statement::Execute { name, .. } => self.statement(name)?.columns.clone(),
            _ => None,
        })
    }

    pub(super) async fn run_other(&mut self, prepared: &Prepared) -> Result<Response> {
        if let Some(what) = prepared.statement.prevents_block()
            && self
                .active
                .as_ref()
                .is_some_and(|active| active.state == BlockState::Block)
        {
            return Err(Error::new(
                SqlState::ACTIVE_SQL_TRANSACTION,
                format!("{what} cannot run inside a transaction block"),
            ));
        }
        if prepared.statement.looks_names_up() {
            self.see_definitions().await?;
        }
        let tag = match &prepared.statement {
            Statement::Empty => return Ok(Response::Empty),
            Statement::Begin(modes) => self.run_begin(*modes)?,
            Statement::Commit { chain } => self.run_commit(*chain).await?,
            Statement::Rollback { chain } => self.run_rollback(*chain)?,
            Statement::Savepoint(name) => {
                let settings = self.shared.settings.lock().mark();
                self.block("SAVEPOINT")?
                    .set_savepoint(name.clone(), settings);
                "SAVEPOINT"
            }
            Statement::Release(name) => {
                self.block("RELEASE SAVEPOINT")?.release_savepoint(name)?;
                "RELEASE"
            }
            Statement::RollbackTo(name) => {
                let settings = self
                    .block("ROLLBACK TO SAVEPOINT")?
                    .rollback_to_savepoint(name)?;
                self.shared
                    .with_settings(|current| current.undo_to(&settings));
                "ROLLBACK"
            }
            Statement::Set { name, value, local } => self.run_set(name, value, *local)?,
            Statement::SetTransaction { modes, session } => {
                self.run_set_transaction(*modes, *session)?
            }
            Statement::SetConstraints { .. } => "SET CONSTRAINTS",
            Statement::Show(name) => return self.run_show(name),
            Statement::ShowAll => return Ok(self.run_show_all()),
            Statement::Reset(name) => {
                self.shared.with_settings(|settings| settings.reset(name))?;
                "RESET"
            }
            Statement::ResetAll => {
                self.shared.with_settings(|settings| settings.reset_all());
                "RESET"
            }
            Statement::Discard(what) => self.run_discard(*what),
            Statement::Prepare {
                name,
                types,
                statement,
            } => self.run_prepare(name, types, statement).await?,
            Statement::Execute { name, arguments } => {
                return self.run_execute(name, arguments).await;
            }
            Statement::Deallocate(Some(name)) => {
                self.statement(name)?;
                self.close_statement(name);
                "DEALLOCATE"
            }
            Statement::Deallocate(None) => {
                self.statements.clear();
                "DEALLOCATE ALL"
            }
            Statement::Declare {
                name,
                hold,
                scroll,
                query,
            } => self.run_declare(name, *hold, *scroll, query).await?,
            Statement::Fetch(fetch) => return self.run_fetch(fetch).await,
            Statement::CloseCursor(name) => self.run_close(name.as_deref())?,
            Statement::Copy(copy) => return self.run_copy(copy).await,
            Statement::Explain {
                analyze,
                verbose,
                json,
                statement,
            } => {
                return self.run_explain(*analyze, *verbose, *json, statement).await;
            }
            Statement::Maintenance { tag, relations } => {
                for (schema, name) in relations {
                    self.relation(schema.as_deref(), name)?;
                }
                tag
            }
            Statement::LockTable {
                relations,
                exclusive,
                no_wait,
            } => self.run_lock(relations, *exclusive, *no_wait).await?,
            Statement::Define(definition) => {
                return self
                    .run_definition(definition)
                    .await
                    .map(Response::Complete);
            }
            Statement::DefineExtra(definition) => {
                return self
                    .run_extra_definition(definition)
                    .await
                    .map(Response::Complete);
            }
            Statement::CreateTableAs {
                table,
                query,
                with_data,
            } => {
                return self
                    .run_create_table_as(table, query, *with_data)
                    .await
                    .map(Response::Complete);
            }
            Statement::Query(_) | Statement::Change(_) | Statement::ChangeWith(_) => {
                return Err(Error::internal(
                    "a planned statement was run from its syntax",
                ));
            }
        };
        Ok(Response::Complete(tag.to_string()))
    }

    fn run_begin(&mut self, modes: TransactionModes) -> Result<&'static str> {
        match &mut self.active {
            Some(active) if active.state == BlockState::Block => {
                self.warn(
                    SqlState::ACTIVE_SQL_TRANSACTION,
                    "there is already a transaction in progress",
                );
            }
            Some(active) => active.become_state(BlockState::Block),
            None => self.begin(BlockState::Block),
        }
        self.apply_modes(modes)?;
        Ok("BEGIN")
    }

    fn apply_modes(&mut self, modes: TransactionModes) -> Result<()> {
        let active = self.active_mut()?;
        if let Some(isolation) = modes.isolation {
            active.txn.set_isolation(isolation)?;
        }
        if let Some(read_only) = modes.read_only {
            active.txn.set_read_only(read_only);
        }
        Ok(())
    }

    async fn run_commit(&mut self, chain: bool) -> Result<&'static str> {
        let modes = self.modes_to_chain(chain);
        match self.active.as_ref().map(|active| active.state) {
            Some(BlockState::Block) => self.commit_active().await?,
            Some(BlockState::Failed) => {
                self.abort();
                self.chain(modes)?;
                return Ok("ROLLBACK");
            }
            _ => {
                self.warn(
                    SqlState::NO_ACTIVE_SQL_TRANSACTION,
                    "there is no transaction in progress",
                );
                self.end_implicit().await?;
            }
        }
        self.chain(modes)?;
        Ok("COMMIT")
    }

    fn run_rollback(&mut self, chain: bool) -> Result<&'static str> {
        let modes = self.modes_to_chain(chain);
        if self
            .active
            .as_ref()
            .is_none_or(|active| active.state == BlockState::Implicit)
        {
            self.warn(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "there is no transaction in progress",
            );
        }
        self.abort();
        self.chain(modes)?;
        Ok("ROLLBACK")
    }

    fn modes_to_chain(&self, chain: bool) -> Option<TransactionModes> {
        let active = self.active.as_ref().filter(|_| chain)?;
        Some(TransactionModes {
            isolation: Some(active.txn.isolation()),
            read_only: Some(active.txn.is_read_only()),
            deferrable: None,
        })
    }

    fn chain(&mut self, modes: Option<TransactionModes>) -> Result<()> {
        let Some(modes) = modes else { return Ok(()) };
        self.begin(BlockState::Block);
        self.apply_modes(modes)
    }

    /// The open block, for a statement that makes no sense without one.
    fn block(&mut self, what: &str) -> Result<&mut super::transaction::Active> {
        match &mut self.active {
            Some(active) if active.state != BlockState::Implicit => Ok(active),
            _ => Err(Error::new(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                format!("{what} can only be used in transaction blocks"),
            )),
        }
    }

    pub(super) fn warn(&mut self, state: SqlState, message: &str) {
        self.notices.push(Notice {
            severity: "WARNING",
            body: Error::new(state, message),
        });
    }

    fn run_set(&mut self, name: &str, value: &SetValue, local: bool) -> Result<&'static str> {
        if matches!(name, "session_authorization" | "role") {
            return self.run_set_role(value);
        }
        if let (Some(active), SetValue::Text(text)) = (&mut self.active, value) {
            match name {
                "transaction_isolation" => {
                    let isolation = super::settings::isolation(&text.to_lowercase());
                    if let Some(isolation) = isolation {
                        active.txn.set_isolation(isolation)?;
                    }
                }
                "transaction_read_only" => {
                    active
                        .txn
                        .set_read_only(matches!(text.as_str(), "on" | "true" | "1"));
                }
                _ => {}
            }
        }
        self.shared.with_settings(|settings| match value {
            SetValue::Default => settings.reset(name),
            SetValue::Text(text) => settings.assign(name, text, local),
        })?;
        if local
            && self
                .active
                .as_ref()
                .is_none_or(|a| a.state == BlockState::Implicit)
        {
            self.warn(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "SET LOCAL can only be used in transaction blocks",
            );
        }
        self.ensure_active();
        Ok("SET")
    }

    /// Only to what the session already is.
    fn run_set_role(&mut self, value: &SetValue) -> Result<&'static str> {
        match value {
            SetValue::Default => Ok("SET"),
            SetValue::Text(name) if **name == *self.user || name == "none" => Ok("SET"),
            SetValue::Text(_) => Err(Error::unsupported("SET ROLE to another role")),
        }
    }

    fn run_set_transaction(
        &mut self,
        modes: TransactionModes,
        session: bool,
    ) -> Result<&'static str> {
        if session {
            self.shared.with_settings(|settings| {
                if let Some(isolation) = modes.isolation {
                    let level = isolation_name(isolation);
                    settings.assign("default_transaction_isolation", level, false)?;
                }
                if let Some(read_only) = modes.read_only {
                    let flag = if read_only { "on" } else { "off" };
                    settings.assign("default_transaction_read_only", flag, false)?;
                }
                Ok::<_, Error>(())
            })?;
            return Ok("SET");
        }
        if self
            .active
            .as_ref()
            .is_none_or(|active| active.state == BlockState::Implicit)
        {
            self.warn(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "SET TRANSACTION can only be used in transaction blocks",
            );
            return Ok("SET");
        }
        self.apply_modes(modes)?;
        Ok("SET")
    }

    fn run_show(&mut self, name: &str) -> Result<Response> {
        let value = match (name, &self.active) {
            ("transaction_isolation", Some(active)) => {
                isolation_name(active.txn.isolation()).to_string()
            }
            ("transaction_isolation", None) => {
                isolation_name(self.shared.settings.lock().default_isolation()).to_string()
            }
            ("transaction_read_only", Some(active)) => if active.txn.is_read_only() {
                "on"
            } else {
                "off"
            }
            .to_string(),
            ("session_authorization" | "role", _) => self.user.to_string(),
            _ => self.shared.settings.lock().show(name)?,
        };
        let columns = text_columns(&[&name.to_lowercase()]);
        Ok(rows(
            columns,
            vec![vec![Datum::Text(value.into())]],
            RowsTag::Fixed("SHOW"),
        ))
    }

    fn run_show_all(&mut self) -> Response {
        let all = self.shared.settings.lock().all();
        let row = |(name, value): (&str, String)| -> Row {
            vec![
                Datum::Text(name.into()),
                Datum::Text(value.into()),
                Datum::Text("".into()),
            ]
        };
        let all = all.into_iter().map(row).collect();
        rows(
            text_columns(&["name", "setting", "description"]),
            all,
            RowsTag::Fixed("SHOW"),
        )
    }

    fn run_discard(&mut self, what: Discard) -> &'static str {
        match what {
            Discard::All => {
                self.cursors.clear();
                self.statements.clear();
                self.shared.forget_sequences();
                self.shared.with_settings(|settings| settings.reset_all());
                "DISCARD ALL"
            }
            Discard::Plans => "DISCARD PLANS",
            Discard::Sequences => {
                self.shared.forget_sequences();
                "DISCARD SEQUENCES"
            }
            Discard::Temporary => "DISCARD TEMP",
        }
    }

    async fn run_prepare(
        &mut self,
        name: &str,
        types: &[String],
        statement: &str,
    ) -> Result<&'static str> {
        let mut declared = Vec::with_capacity(types.len());
        for name in types {
            declared.push(match name.as_str() {
                "unknown" => None,
                name => Some(SqlType::parse(name)?),
            });
        }
        let parsed = Statement::parse(statement)?;
        if matches!(
            parsed,
            Statement::Prepare { .. } | Statement::Execute { .. }
        ) {
            return Err(Error::syntax("only queries and changes can be prepared"));
        }
        let prepared = self.plan_newest(statement.into(), parsed, declared).await?;
        self.keep_statement(name.to_string(), Arc::new(prepared))?;
        Ok("PREPARE")
    }

    async fn run_execute(&mut self, name: &str, arguments: &[ast::Expr]) -> Result<Response> {
        let prepared = self.current_statement(name).await?;
        if arguments.len() != prepared.parameter_types.len() {
            return Err(Error::syntax(format!(
                "wrong number of parameters for prepared statement \"{name}\""
            ))
            .detail(format!(
                "Expected {} parameters but got {}.",
                prepared.parameter_types.len(),
                arguments.len()
            )));
        }
        self.ensure_active();
        let mut params = Vec::with_capacity(arguments.len());
        for (argument, sql_type) in arguments.iter().zip(&prepared.parameter_types) {
            params.push(self.evaluate(argument, sql_type).await?);
        }
        match &prepared.plan {
            super::prepared::Plan::Other => Box::pin(self.run_other(&prepared)).await,
            super::prepared::Plan::Query { .. } => {
                Box::pin(self.run_query(prepared, &params)).await
            }
            super::prepared::Plan::Change(_) | super::prepared::Plan::With(_) => {
                Box::pin(self.run_change(prepared, &params)).await
            }
        }
    }

    /// A constant expression's value as a parameter of the type.
    async fn evaluate(&mut self, expr: &ast::Expr, sql_type: &SqlType) -> Result<Datum> {
        use crate::ddl::analysis::Analyser as _;
        let catalog = self.catalog();
        self.begin_statement().await?;
        let ctx = self.statement_context(false)?;
        let analysed = self
            .analyser()
            .expression(&catalog, None, expr, Some(sql_type))?;
        analysed.expression.evaluate(&[], &ctx)
    }

    pub(super) fn relation(&self, schema: Option<&str>, name: &str) -> Result<Relation> {
        let path = &self.expr_settings.search_path;
        self.catalog()
            .require(self.database_oid, path, schema, name)
    }

    async fn run_lock(
        &mut self,
        relations: &[(Option<String>, String)],
        exclusive: bool,
        no_wait: bool,
    ) -> Result<&'static str> {
        self.block("LOCK TABLE")?;
        let mode = if exclusive {
            LockMode::Update
        } else {
            LockMode::KeyShare
        };
        for (schema, name) in relations {
            let oid = match self.relation(schema.as_deref(), name)? {
                Relation::Table(table) => table.oid,
                _ => {
                    return Err(Error::new(
                        SqlState::WRONG_OBJECT_TYPE,
                        format!("\"{name}\" is not a table"),
                    ));
                }
            };
            let policy = if no_wait {
                WaitPolicy::NoWait
            } else {
                self.wait_policy()
            };
            self.active_mut()?
                .txn
                .lock(&table_lock_key(oid), mode, policy)
                .await?;
        }
        Ok("LOCK TABLE")
    }

    async fn run_definition(&mut self, definition: &ast::Statement) -> Result<String> {
        self.ensure_active();
        self.refuse_if_read_only("a definition")?;
        self.with_ddl(async |d: &mut DdlContext<'_>| ddl::execute(definition, d).await)
            .await
    }

    async fn run_extra_definition(
        &mut self,
        definition: &ddl::extra::ExtraStatement,
    ) -> Result<String> {
        self.ensure_active();
        self.refuse_if_read_only("a definition")?;
        self.with_ddl(async |d: &mut DdlContext<'_>| ddl::extra::execute(definition, d).await)
            .await
    }

    /// Runs a definition on the transaction's copy of the catalog, undone if it fails.
    async fn with_ddl<T>(
        &mut self,
        run: impl AsyncFnOnce(&mut DdlContext<'_>) -> Result<T>,
    ) -> Result<T> {
        self.begin_statement().await?;
        let statement = self.statement_context(false)?;
        let wait = self.wait_policy();
        let analyser = self.analyser();
        let instance = Arc::clone(&self.instance);
        let database = self.database_oid;
        let mut notices = std::mem::take(&mut self.notices);
        let active = self.active_mut()?;
        let mark = active.mark();
        let working = active.working.take();
        let mut working = working.unwrap_or_else(|| Working::new(&instance.catalog));
        let result = run(&mut DdlContext {
            txn: &mut active.txn,
            catalog: &mut working.catalog,
            changes: &mut working.changes,
            database,
            statement: &statement,
            notices: &mut notices,
            ids: &instance.ids,
            analyser: &analyser,
            wait,
        })
        .await;
        match &result {
            Ok(_) => {
                active.working = (!working.changes.is_empty()).then_some(working);
                active.keep(mark)?;
            }
            Err(_) => active.undo_to(mark)?,
        }
        self.notices = notices;
        result
    }

    async fn run_create_table_as(
        &mut self,
        table: &ast::CreateTable,
        query: &ast::Query,
        with_data: bool,
    ) -> Result<String> {
        self.ensure_active();
        self.refuse_if_read_only("CREATE TABLE AS")?;
        let text: Arc<str> = query.to_string().into();
        let source = self.plan(text, Statement::Query(Box::new(query.clone())), Vec::new())?;
        let columns = source.columns.clone().unwrap_or_else(|| Arc::new([]));
        let made = self
            .with_ddl(async |d: &mut DdlContext<'_>| ddl::create_table_as(table, &columns, d).await)
            .await?;
        let Some(oid) = made.filter(|_| with_data) else {
            return Ok("CREATE TABLE AS".to_string());
        };
        let response = Box::pin(self.run_query(Arc::new(source), &[])).await?;
        let Response::Rows { set, .. } = response else {
            return Err(Error::internal("a query gave no rows"));
        };
        let count = self.insert_rows(oid, set).await?;
        Ok(format!("SELECT {count}"))
    }
}

pub(super) fn text_column(name: &str) -> ResultColumn {
    ResultColumn {
        name: name.to_string(),
        sql_type: SqlType::Text,
        table: 0,
        attribute: 0,
    }
}

pub(super) fn text_columns(names: &[&str]) -> Arc<[ResultColumn]> {
    names.iter().map(|name| text_column(name)).collect()
}

pub(super) fn rows(columns: Arc<[ResultColumn]>, rows: Vec<Row>, tag: RowsTag) -> Response {
    Response::Rows {
        set: RowSet {
            columns,
            rows: RowSource::Ready(rows),
        },
        tag,
    }
}
