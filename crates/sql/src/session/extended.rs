//! The extended protocol: Parse, Bind, Describe, Execute, Sync (manual, section 55.2.3).

use super::Session;
use super::portals::{Formats, Portal, PortalState};
use super::prepared::Prepared;
use super::retry::Place;
use crate::plan_cache::PlanKey;
use crate::response::{Response, ResultColumn, RowCursor, RowSet, RowSource, RowsTag};
use crate::statement::Statement;
use crate::text::split_statements;
use bytes::Bytes;
use std::sync::Arc;
use types::{Datum, Error, Result, SqlState, SqlType};

/// Prepared statements of one session; guards memory.
const MAX_STATEMENTS: usize = 10_000;

/// What Execute gives.
pub struct Execution {
    pub response: Response,
    /// PortalSuspended instead of CommandComplete.
    pub suspended: bool,
}

impl Session {
    /// Parse. Object ids of 0 leave a parameter's type open.
    pub async fn parse(&mut self, name: &str, sql: &str, types: &[u32]) -> Result<()> {
        if !name.is_empty() && self.statements.contains_key(name) {
            return Err(Error::new(
                SqlState::DUPLICATE_PREPARED_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            ));
        }
        if self.statements.len() >= MAX_STATEMENTS {
            return Err(Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!("more than {MAX_STATEMENTS} prepared statements in a session"),
            )
            .hint("Close or DEALLOCATE those that are no longer used."));
        }
        let prepared = self
            .prepare_text(sql, types)
            .await
            .map_err(|error| crate::text::located(error, sql))?;
        self.statements.insert(name.to_string(), prepared);
        Ok(())
    }

    async fn prepare_text(&mut self, sql: &str, types: &[u32]) -> Result<Arc<Prepared>> {
        self.refresh_settings();
        let shared = types.is_empty() && !self.sees_own_catalog();
        let key = PlanKey {
            space: self.plan_space,
            text: sql,
        };
        if shared && let Some(plan) = self.instance.plans.get(key) {
            // The client may ask for its columns next.
            if plan.statement.is_planned() {
                self.see_definitions().await?;
            }
            return self.cached(sql, plan).await;
        }
        let ranges = split_statements(sql)?;
        let text = match ranges.as_slice() {
            [] => "",
            [range] => &sql[range.clone()],
            _ => {
                return Err(Error::syntax(
                    "cannot insert multiple commands into a prepared statement",
                ));
            }
        };
        let statement = Statement::parse(text)?;
        self.refuse_in_failed_block(&statement)?;
        let declared = types
            .iter()
            .map(|oid| declared_type(*oid))
            .collect::<Result<Vec<_>>>()?;
        let prepared = self.plan_newest(text.into(), statement, declared).await?;
        let prepared = Arc::new(prepared);
        if shared {
            let key = PlanKey {
                space: self.plan_space,
                text: sql,
            };
            self.instance.plans.put(key, Arc::clone(&prepared));
        }
        Ok(prepared)
    }

    fn refuse_in_failed_block(&self, statement: &Statement) -> Result<()> {
        use crate::response::TransactionStatus;
        if self.status() == TransactionStatus::Failed && !statement.ends_transaction() {
            return Err(Error::new(
                SqlState::IN_FAILED_SQL_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        Ok(())
    }

    pub(super) fn statement(&self, name: &str) -> Result<&Arc<Prepared>> {
        self.statements.get(name).ok_or_else(|| {
            Error::new(
                SqlState::INVALID_SQL_STATEMENT_NAME,
                match name {
                    "" => "unnamed prepared statement does not exist".to_string(),
                    name => format!("prepared statement \"{name}\" does not exist"),
                },
            )
        })
    }

    pub(super) fn keep_statement(&mut self, name: String, prepared: Arc<Prepared>) -> Result<()> {
        if self.statements.contains_key(&name) {
            return Err(Error::new(
                SqlState::DUPLICATE_PREPARED_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            ));
        }
        self.statements.insert(name, prepared);
        Ok(())
    }

    /// A prepared statement. If the catalog has changed under its plan, it is made anew and kept.
    pub(super) async fn current_statement(&mut self, name: &str) -> Result<Arc<Prepared>> {
        let found = Arc::clone(self.statement(name)?);
        let current = self.current(Arc::clone(&found)).await?;
        if !Arc::ptr_eq(&current, &found) {
            self.statements
                .insert(name.to_string(), Arc::clone(&current));
        }
        Ok(current)
    }

    /// Parameter types and, if it returns rows, columns.
    #[allow(clippy::type_complexity)]
    pub async fn describe_statement(
        &mut self,
        name: &str,
    ) -> Result<(Vec<SqlType>, Option<Arc<[ResultColumn]>>)> {
        let prepared = Arc::clone(self.statement(name)?);
        self.refuse_in_failed_block(&prepared.statement)?;
        let prepared = self.current_statement(name).await?;
        Ok((prepared.parameter_types.clone(), prepared.columns.clone()))
    }

    /// The columns of a portal, or of a cursor of DECLARE, if it returns rows; and the result formats
    /// as Bind gave them: none, one for all, or one a column.
    pub fn describe_portal(&self, name: &str) -> Result<(Option<&[ResultColumn]>, &[i16])> {
        if let Some(portal) = self.portals.get(name) {
            return Ok((portal.prepared.columns.as_deref(), &portal.formats));
        }
        match self.cursors.get(name) {
            Some(cursor) => Ok((Some(cursor.columns().as_ref()), &[])),
            None => Err(no_portal(name)),
        }
    }

    /// Result formats of a portal.
    pub fn portal_formats(&self, name: &str) -> Result<Formats> {
        match (self.portals.get(name), self.cursors.get(name)) {
            (Some(portal), _) => Ok(portal.formats.clone()),
            (None, Some(_)) => Ok(Formats::new()),
            (None, None) => Err(no_portal(name)),
        }
    }

    /// Bind. Formats: 0 text, 1 binary; none, one for all, or one each.
    pub async fn bind(
        &mut self,
        portal: &str,
        statement: &str,
        param_formats: &[i16],
        params: &[Option<Bytes>],
        result_formats: &[i16],
    ) -> Result<()> {
        let prepared = Arc::clone(self.statement(statement)?);
        self.refuse_in_failed_block(&prepared.statement)?;
        let prepared = self.current_statement(statement).await?;
        self.portals.check_new(portal)?;
        let types = &prepared.parameter_types;
        if params.len() != types.len() {
            return Err(Error::new(
                SqlState::PROTOCOL_VIOLATION,
                format!(
                    "bind message supplies {} parameters, but prepared statement \"{statement}\" \
                     requires {}",
                    params.len(),
                    types.len()
                ),
            ));
        }
        if self.active.is_none() && types.iter().any(SqlType::is_datetime) {
            self.set_transaction_time(self.instance.env.clock.wall_micros());
        }
        let mut values = Vec::with_capacity(params.len());
        for (index, (param, sql_type)) in params.iter().zip(types).enumerate() {
            values.push(match param {
                None => Datum::Null,
                Some(bytes) => match format_of(param_formats, index)? {
                    1 => Datum::parse_binary(bytes, sql_type)?,
                    _ => self.text_parameter(bytes, sql_type)?,
                },
            });
        }
        let portal_value = Portal {
            prepared,
            params: values,
            formats: result_formats.into(),
            state: PortalState::New,
        };
        self.portals.insert(portal, portal_value);
        Ok(())
    }

    fn text_parameter(&self, bytes: &[u8], sql_type: &SqlType) -> Result<Datum> {
        let text = std::str::from_utf8(bytes).map_err(|_| {
            Error::new(
                SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                "invalid byte sequence for encoding \"UTF8\"",
            )
        })?;
        if text.contains('\0') {
            return Err(Error::new(
                SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                "invalid byte sequence for encoding \"UTF8\": 0x00",
            ));
        }
        self.read_text(text, sql_type)
    }

    /// A text as a value of the type; names of objects are looked up.
    pub(super) fn read_text(&self, text: &str, sql_type: &SqlType) -> Result<Datum> {
        if sql_type.is_oid() && *sql_type != SqlType::Oid {
            let catalog = self.catalog();
            return crate::query::object_names::parse(
                text,
                sql_type,
                &catalog,
                &self.expr_settings,
            );
        }
        Datum::parse_text(text, sql_type, self.format_context())
    }

    /// Execute: all rows when `max_rows` is 0. `last`: Sync follows, so that the implicit transaction may end
    /// before the answer is given out.
    pub async fn execute(&mut self, name: &str, max_rows: u32, last: bool) -> Result<Execution> {
        let portal = self.portals.get_mut(name).ok_or_else(|| no_portal(name))?;
        match std::mem::replace(&mut portal.state, PortalState::New) {
            PortalState::New => {}
            PortalState::Suspended(rows, tag) => {
                return self.send_rows(name, rows, tag, max_rows).await;
            }
            PortalState::Done(tag) => {
                portal.state = PortalState::Done(tag.clone());
                let columns = portal
                    .prepared
                    .columns
                    .clone()
                    .unwrap_or_else(|| Arc::new([]));
                let set = RowSet {
                    columns,
                    rows: RowSource::Ready(Vec::new()),
                };
                return Ok(Execution {
                    response: Response::Rows { set, tag },
                    suspended: false,
                });
            }
        }
        let prepared = Arc::clone(&portal.prepared);
        let params = std::mem::take(&mut portal.params);
        let place = Place {
            last,
            described: true,
        };
        let response = self.execute_prepared(prepared, &params, place).await?;
        match response {
            Response::Rows { set, tag } => {
                if max_rows == 0 {
                    if let Some(portal) = self.portals.get_mut(name) {
                        portal.state = PortalState::Done(tag.clone());
                    }
                    return Ok(Execution {
                        response: Response::Rows { set, tag },
                        suspended: false,
                    });
                }
                self.send_rows(name, RowCursor::new(set), tag, max_rows)
                    .await
            }
            other => {
                self.portals.remove(name);
                Ok(Execution {
                    response: other,
                    suspended: false,
                })
            }
        }
    }

    async fn send_rows(
        &mut self,
        name: &str,
        mut rows: RowCursor,
        tag: RowsTag,
        max_rows: u32,
    ) -> Result<Execution> {
        let limit = if max_rows == 0 {
            usize::MAX
        } else {
            max_rows as usize
        };
        let columns = Arc::clone(&rows.columns);
        let taken = match rows.take(limit).await {
            Ok(taken) => taken,
            Err(error) => {
                self.fail();
                return Err(error);
            }
        };
        // PostgreSQL suspends whenever the limit was reached, even if nothing is left.
        let suspended = taken.len() == limit;
        if let Some(portal) = self.portals.get_mut(name) {
            portal.state = match suspended {
                true => PortalState::Suspended(rows, tag.clone()),
                false => PortalState::Done(tag.clone()),
            };
        }
        let set = RowSet {
            columns,
            rows: RowSource::Ready(taken),
        };
        Ok(Execution {
            response: Response::Rows { set, tag },
            suspended,
        })
    }

    /// Sync: ends the implicit transaction of a pipeline.
    pub async fn sync(&mut self) -> Result<()> {
        self.end_implicit().await?;
        if self.active.is_none() {
            self.portals.clear();
        }
        Ok(())
    }

    pub fn close_statement(&mut self, name: &str) {
        self.statements.remove(name);
    }

    pub fn close_portal(&mut self, name: &str) {
        self.portals.remove(name);
    }
}

fn declared_type(oid: u32) -> Result<Option<SqlType>> {
    if oid == 0 || oid == SqlType::Unknown.oid() {
        return Ok(None);
    }
    match SqlType::from_oid(oid) {
        Some(sql_type) => Ok(Some(sql_type)),
        None => Err(Error::new(
            SqlState::UNDEFINED_OBJECT,
            format!("type with OID {oid} does not exist"),
        )),
    }
}

/// The format of one value: none given means text, one given means all.
fn format_of(formats: &[i16], index: usize) -> Result<i16> {
    let format = match formats {
        [] => 0,
        [all] => *all,
        each => *each
            .get(index)
            .ok_or_else(|| Error::new(SqlState::PROTOCOL_VIOLATION, "too few parameter formats"))?,
    };
    if matches!(format, 0 | 1) {
        return Ok(format);
    }
    Err(Error::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("unsupported format code: {format}"),
    ))
}

fn no_portal(name: &str) -> Error {
    Error::new(
        SqlState::INVALID_CURSOR_NAME,
        format!("portal \"{name}\" does not exist"),
    )
}
