//! FOR UPDATE and FOR SHARE.

use super::binder::Binder;
use super::names::object_name;
use super::planner::{LockStrength, LockWait, Locking};
use super::scope::Scope;
use crate::functions::Volatility;
use sqlparser::ast;
use types::{Error, Result, SqlState};

impl Binder<'_> {
    pub(super) fn lock_clauses(
        &mut self,
        locks: &[ast::LockClause],
        scope: &Scope<'_>,
        select: &ast::Select,
    ) -> Result<()> {
        if locks.is_empty() {
            return Ok(());
        }
        let grouped = !matches!(&select.group_by,
            ast::GroupByExpr::Expressions(e, _) if e.is_empty())
            || select.having.is_some();
        if grouped || select.distinct.is_some() {
            let what = if grouped { "GROUP BY" } else { "DISTINCT" };
            return Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("FOR UPDATE is not allowed with {what} clause"),
            ));
        }
        for lock in locks {
            let strength = match lock.lock_type {
                ast::LockType::Share => LockStrength::Share,
                ast::LockType::Update => LockStrength::Update,
            };
            let wait = match lock.nonblock {
                None => LockWait::Block,
                Some(ast::NonBlock::Nowait) => LockWait::NoWait,
                Some(ast::NonBlock::SkipLocked) => LockWait::SkipLocked,
            };
            let tables = match &lock.of {
                None => scope
                    .relations
                    .iter()
                    .filter_map(|r| r.source.as_ref().map(|t| t.oid))
                    .collect(),
                Some(of) => {
                    let name = object_name(of).pop().unwrap_or_default();
                    let relation = scope.find_relation(None, &name).ok_or_else(|| {
                        Error::new(
                            SqlState::UNDEFINED_TABLE,
                            format!(
                                "relation \"{name}\" in FOR UPDATE clause not found in FROM clause"
                            ),
                        )
                    })?;
                    let table = relation.source.as_ref().ok_or_else(|| {
                        Error::unsupported("FOR UPDATE of something that is not a table")
                    })?;
                    vec![table.oid]
                }
            };
            self.saw_volatility(Volatility::Volatile);
            self.locking.push(Locking {
                strength,
                wait,
                tables,
            });
        }
        Ok(())
    }
}
