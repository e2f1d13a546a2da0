//! DECLARE, FETCH, MOVE, CLOSE.

use super::prepared::Prepared;
use super::transaction::BlockState;
use super::{Cursor, Session};
use crate::response::{Response, RowCursor, RowsTag};
use crate::statement::{FetchCount, FetchStatement, Statement};
use datafusion::sql::sqlparser::ast;
use std::sync::Arc;
use types::{Error, Result, SqlState};

impl Session {
    pub(super) async fn run_declare(
        &mut self,
        name: &str,
        hold: bool,
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
        self.cursors.insert(
            name.to_string(),
            Cursor {
                rows: RowCursor::new(set),
                hold,
            },
        );
        Ok("DECLARE CURSOR")
    }

    pub(super) async fn run_fetch(&mut self, fetch: &FetchStatement) -> Result<Response> {
        let cursor = self
            .cursors
            .get_mut(&fetch.cursor)
            .ok_or_else(|| no_cursor(&fetch.cursor))?;
        let limit = match fetch.count {
            FetchCount::All => usize::MAX,
            FetchCount::Rows(count) => usize::try_from(count).unwrap_or(usize::MAX),
        };
        let rows = cursor.rows.take(limit).await?;
        if fetch.moves_only {
            return Ok(Response::Complete(format!("MOVE {}", rows.len())));
        }
        let columns = Arc::clone(&cursor.rows.columns);
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
