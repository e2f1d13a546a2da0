//! Trying a statement again that failed through no fault of its client's.
//!
//! A statement outside of a block is a transaction of its own. When the lease of a shard moves, the locks taken
//! under it are gone, and the transaction fails with 40001: it has had no effect, and would succeed if it were
//! tried again. PostgreSQL never fails a single statement so, and its users do not expect it. So the session
//! tries again by itself, for both protocols in this one place.
//!
//! **Guarantee:** a statement is tried again only if it alone is its transaction, that had no effect (40001, and
//! never 40003), and nothing of its answer was given out. Its time (`now()`) stays that of the first try.
//!
//! # What is not tried again
//! - Statements of a block, and those that follow others in one query string or pipeline: the client has seen
//!   answers that hold for the old snapshot only.
//! - A commit at Sync. The session commits with Execute if the wire layer has seen that Sync is the next message,
//!   as it is from nearly all drivers; else Execute has answered when the transaction ends.
//! - COPY FROM once its data has begun to come.

use super::Session;
use super::prepared::Prepared;
use super::transaction::BlockState;
use crate::response::{Response, TransactionStatus};
use std::sync::Arc;
use std::time::Duration;
use types::{Datum, Error, Result, SqlState};

/// Times one statement is tried again. With their pauses they last about a second, and a lease that moves is held
/// again after some ten milliseconds.
const MAX_RETRIES: u32 = 10;
/// Before the first of them; twice as long before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// What is known of a statement beside its plan and parameters.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Nothing follows in this implicit transaction, so that it ends with the statement.
    pub last: bool,
    /// The client may have been told the plan's columns: an answer with others is an error.
    pub described: bool,
}

impl Session {
    /// Runs a statement, and ends its transaction where its place says so.
    pub(super) async fn execute_prepared(
        &mut self,
        prepared: Arc<Prepared>,
        params: &[Datum],
        place: Place,
    ) -> Result<Response> {
        self.begin_statement_clock();
        let alone = self.active.is_none();
        let notices = self.notices.len();
        let deadline = self.statement_deadline();
        let mut retries = 0;
        loop {
            let attempt = self.execute_once(Arc::clone(&prepared), params, place, deadline);
            let error = match attempt.await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            if !alone || retries == MAX_RETRIES || !self.may_start_over(&error) {
                self.fail();
                return Err(error);
            }
            self.start_over();
            self.notices.truncate(notices);
            Box::pin(self.rest_before(retries)).await?;
            retries += 1;
        }
    }

    /// Whether the failed transaction had no effect, and another one may stand in for it.
    fn may_start_over(&self, error: &Error) -> bool {
        error.state == SqlState::SERIALIZATION_FAILURE && self.status() == TransactionStatus::Idle
    }

    /// Ends the attempt's transaction. Other portals of a pipeline stay: it is as if nothing had run yet.
    fn start_over(&mut self) {
        if let Some(mut active) = self.active.take() {
            debug_assert_eq!(active.state, BlockState::Implicit);
            active.txn.rollback();
        }
        self.end_settings(false);
    }

    async fn rest_before(&mut self, retries: u32) -> Result<()> {
        let cancel = self.shared.cancel.clone();
        let pause = FIRST_PAUSE * 2_u32.pow(retries);
        let pause = self.instance.env.clock.sleep(pause);
        let canceled = cancel.canceled();
        futures::pin_mut!(canceled);
        match futures::future::select(pause, canceled).await {
            futures::future::Either::Left(_) => Ok(()),
            futures::future::Either::Right(_) => Err(cancel.error()),
        }
    }

    /// When the statement that begins now is to be stopped, on the monotonic clock.
    fn statement_deadline(&self) -> Option<u64> {
        let timeout = self.kept.statement_timeout?;
        let now = self.instance.env.clock.monotonic_nanos();
        Some(now.saturating_add(timeout.as_nanos() as u64))
    }
}
