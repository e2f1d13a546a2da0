//! DECLARE, FETCH, MOVE, CLOSE.

use super::Session;
use super::prepared::Prepared;
use super::scroll::Cursor;
use super::transaction::BlockState;
use crate::response::{Response, RowsTag};
use crate::statement::{FetchStatement, Statement};
use sqlparser::ast;
use std::sync::Arc;
use types::{Error, Result, SqlState};

impl Session {
    pub(super) async fn run_declare(
        &mut self,
        name: &str,
        hold: bool,
        scroll: Option<bool>,
        query: &ast::Query,
    ) -> Result<&'static str> {
        let in_block = self
            .active
            .as_ref()
            .is_some_and(|a| a.state != BlockState::Implicit);
        if !hold && !in_block {
            return Err(Error::new(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "DECLARE CURSOR can only be used in transaction blocks",
            ));
        }
        if self.cursors.contains_key(name) {
            return Err(Error::new(
                SqlState::DUPLICATE_CURSOR,
                format!("cursor \"{name}\" already exists"),
            ));
        }
        let text: Arc<str> = query.to_string().into();
        let statement = Statement::Query(Box::new(query.clone()));
        let prepared: Arc<Prepared> = Arc::new(self.plan(text, statement, Vec::new())?);
        let response = Box::pin(self.run_query(prepared, &[])).await?;
        let Response::Rows { set, .. } = response else {
            return Err(Error::internal("a query gave no rows"));
        };
        self.cursors
            .insert(name.to_string(), Cursor::new(set, hold, scroll));
        Ok("DECLARE CURSOR")
    }

    pub(super) async fn run_fetch(&mut self, fetch: &FetchStatement) -> Result<Response> {
        let cursor = self
            .cursors
            .get_mut(&fetch.cursor)
            .ok_or_else(|| no_cursor(&fetch.cursor))?;
        let rows = cursor.fetch(fetch.count).await?;
        if fetch.moves_only {
            return Ok(Response::Complete(format!("MOVE {}", rows.len())));
        }
        let columns = Arc::clone(cursor.columns());
        Ok(super::utility::rows(
            columns,
            rows,
            RowsTag::Counted("FETCH"),
        ))
    }

    pub(super) fn run_close(&mut self, name: Option<&str>) -> Result<&'static str> {
        match name {
            None => {
                self.cursors.clear();
                Ok("CLOSE CURSOR ALL")
            }
            Some(name) => match self.cursors.remove(name) {
                Some(_) => Ok("CLOSE CURSOR"),
                None => Err(no_cursor(name)),
            },
        }
    }
}

fn no_cursor(name: &str) -> Error {
    Error::new(
        SqlState::INVALID_CURSOR_NAME,
        format!("cursor \"{name}\" does not exist"),
    )
}
