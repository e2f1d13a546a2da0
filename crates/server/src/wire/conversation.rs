//! The messages of an authenticated connection: simple and extended queries, COPY.
//!
//! One frame is answered after the other, in order. Answers gather in the output buffer and leave
//! when the next frame is not here yet, or when 64 KiB wait; so a pipeline of a hundred statements
//! costs one read and one write. An answer the client waits for (up to its last Sync or Flush) also
//! leaves while a later statement of the pipeline has to wait.
//!
//! After an error in the extended protocol everything up to the next Sync is skipped. Every error,
//! the session's own or one made here, fails the transaction ([`Session::fail`]).

use crate::phase::Phase;
use crate::wire::WireServer;
use crate::wire::backend::Severity;
use crate::wire::frontend::{self, Bind, Frame, FrontendMessage, Target};
use crate::wire::io::{Gone, Io};
use crate::wire::limits::FLUSH_BYTES;
use crate::wire::rows::{BatchView, RowEncoder, expand_formats};
use crate::wire::stream::Transport;
use futures::StreamExt;
use futures::future::BoxFuture;
use sql::context::CancelToken;
use sql::response::{Response, RowChunk, RowSet, RowSource, TransactionStatus};
use sql::session::Session;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use types::{Error, SqlState};

/// Why a conversation is over.
#[derive(Debug)]
pub enum End {
    /// The client said goodbye.
    Closed,
    /// The client is not there any more.
    Gone,
    /// This side ends it and says why.
    Fatal(Error),
}

/// What stops the handling of one message.
pub(super) enum Failure {
    /// The statement failed; the conversation goes on.
    Statement(Error),
    End(End),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Statement(error)
    }
}

impl From<Gone> for Failure {
    fn from(_: Gone) -> Self {
        Failure::End(End::Gone)
    }
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        End::Gone
    }
}

pub struct Conversation<'a, S> {
    pub(super) io: &'a mut Io<S>,
    pub(super) session: Session,
    /// Stops the statement that runs.
    pub(super) cancel: CancelToken,
    server: &'a WireServer,
    /// Completes when the node's phase changes. One future for all waits: it need not enter and leave the
    /// queue that all connections share each time.
    phase_changed: BoxFuture<'static, ()>,
    /// As the session found it: any change since is worth a look.
    phase: watch::Receiver<Phase>,
    /// An extended message failed: nothing is done until Sync.
    skipping: bool,
    /// The last thing said was ReadyForQuery.
    at_rest: bool,
}

impl<'a, S: Transport> Conversation<'a, S> {
    pub fn new(
        io: &'a mut Io<S>,
        session: Session,
        server: &'a WireServer,
        mut phase: watch::Receiver<Phase>,
    ) -> Self {
        // A node that began to drain while the session was opened is noticed at once.
        if *phase.borrow_and_update() != Phase::Serving {
            phase.mark_changed();
        }
        Conversation {
            io,
            cancel: session.cancel_token(),
            session,
            server,
            phase_changed: change_of(&phase),
            phase,
            skipping: false,
            at_rest: true,
        }
    }

    /// Answers messages until one side ends the conversation.
    pub async fn run(mut self) -> End {
        loop {
            let frame = match self.next_frame().await {
                Ok(frame) => frame,
                Err(end) => return end,
            };
            if let Err(end) = self.handle(&frame).await {
                return end;
            }
        }
    }

    /// The next message, waited for if need be.
    async fn next_frame(&mut self) -> Result<Frame, End> {
        if self.at_rest && self.phase.has_changed().unwrap_or(true) && self.must_end() {
            return Err(End::Fatal(shutting_down()));
        }
        loop {
            // A frame that can't be told from the next one leaves nothing to go on with.
            if let Some(frame) = self.io.input.next_frame().map_err(End::Fatal)? {
                return Ok(frame);
            }
            self.wait_for_input().await?;
        }
    }

    /// Whether the node's phase ends this session now: a node that drains waits for the end of a transaction.
    fn must_end(&self) -> bool {
        let phase = *self.phase.borrow();
        match phase {
            // Whoever told the phase is gone: the node is.
            _ if self.phase.has_changed().is_err() => true,
            Phase::Serving => false,
            Phase::Leaving => self.session.status() == TransactionStatus::Idle,
            Phase::Stopping => true,
        }
    }

    pub(super) async fn wait_for_input(&mut self) -> Result<(), End> {
        if self.io.input.at_end() {
            return Err(End::Gone);
        }
        self.io.flush().await?;
        let limit = self.idle_limit();
        let idle = idle_too_long(limit);
        tokio::pin!(idle);
        loop {
            tokio::select! {
                biased;
                filled = self.io.fill() => return match filled {
                    Ok(true) => Ok(()),
                    Ok(false) | Err(Gone) => Err(End::Gone),
                },
                () = &mut self.phase_changed => {
                    self.phase_changed = change_of(&self.phase);
                    if self.must_end() {
                        return Err(End::Fatal(shutting_down()));
                    }
                }
                error = &mut idle => return Err(End::Fatal(error)),
            }
        }
    }

    /// How long the client may be silent, and what it is told then.
    fn idle_limit(&mut self) -> Option<(Duration, Error)> {
        let in_transaction = self.session.status() != TransactionStatus::Idle;
        let limit = self.session.idle_timeout()?;
        let error = if in_transaction {
            Error::new(
                SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                "terminating connection due to idle-in-transaction timeout",
            )
        } else {
            Error::new(
                SqlState(*b"57P05"),
                "terminating connection due to idle-session timeout",
            )
        };
        Some((limit, error))
    }

    async fn handle(&mut self, frame: &Frame) -> Result<(), End> {
        if self.skipping && !matches!(frame.tag, b'S' | b'X') {
            return Ok(());
        }
        self.at_rest = false;
        let result = match frontend::decode(frame) {
            Ok(message) => self.answer(message).await,
            Err(error) => Err(Failure::Statement(error)),
        };
        let error = match result {
            Ok(()) => return Ok(()),
            Err(Failure::End(end)) => return Err(end),
            Err(Failure::Statement(error)) => error,
        };
        self.session.fail();
        self.report(&error);
        if frontend::is_extended(frame.tag) {
            self.skipping = true;
        } else {
            self.ready();
        }
        Ok(())
    }

    pub(super) fn report(&mut self, error: &Error) {
        self.io.output.discard_open();
        self.say_notices();
        self.io.output.error(Severity::Error, error);
    }

    async fn answer(&mut self, message: FrontendMessage<'_>) -> Result<(), Failure> {
        match message {
            FrontendMessage::Query(sql) => self.simple_query(sql).await,
            FrontendMessage::Parse {
                name,
                sql,
                parameter_oids,
            } => {
                let parse = self.session.parse(name, sql, &parameter_oids);
                parse.await?;
                self.io.output.parse_complete();
                Ok(())
            }
            FrontendMessage::Bind(bind) => self.bind(bind).await,
            FrontendMessage::Describe(target) => self.describe(target).await,
            FrontendMessage::Execute { portal, max_rows } => self.execute(portal, max_rows).await,
            FrontendMessage::Close(target) => {
                match target {
                    Target::Statement(name) => self.session.close_statement(name),
                    Target::Portal(name) => self.session.close_portal(name),
                }
                self.io.output.close_complete();
                Ok(())
            }
            FrontendMessage::Flush => {
                self.io.output.mark_awaited();
                Ok(self.io.flush().await?)
            }
            FrontendMessage::Sync => {
                self.skipping = false;
                self.sync().await
            }
            // What is left of a COPY that failed.
            FrontendMessage::CopyData(_)
            | FrontendMessage::CopyDone
            | FrontendMessage::CopyFail(_) => Ok(()),
            FrontendMessage::FunctionCall => {
                Err(Error::unsupported("the function call protocol").into())
            }
            FrontendMessage::Terminate => Err(Failure::End(End::Closed)),
        }
    }

    // ---- simple protocol --------------------------------------------------------------------

    async fn simple_query(&mut self, sql: &str) -> Result<(), Failure> {
        self.server.metrics.statement();
        let mut query = self.session.simple(sql);
        // COPY FROM is complete once the next step has shown that it is committed.
        let mut copied: Option<String> = None;
        loop {
            let cancel = &self.cancel;
            let next = self.session.next_simple(&mut query);
            let Some(response) = self.io.run(|| cancel.cancel(false), next).await else {
                break;
            };
            let response = response?;
            if let Some(tag) = copied.take() {
                self.complete(&tag);
            }
            let is_copy_in = matches!(response, Response::CopyIn(_));
            match self.respond(response, None).await? {
                tag if is_copy_in => copied = tag,
                Some(tag) => self.complete(&tag),
                None => {}
            }
        }
        if let Some(tag) = copied {
            self.complete(&tag);
        }
        self.ready();
        Ok(())
    }

    /// Tells that the next query may come.
    fn ready(&mut self) {
        self.say_notices();
        for (name, value) in self.session.take_parameter_changes() {
            self.io.output.parameter_status(&name, &value);
        }
        self.io.output.ready_for_query(self.session.status());
        self.io.output.mark_awaited();
        self.at_rest = true;
    }

    pub(super) fn say_notices(&mut self) {
        for notice in self.session.take_notices() {
            self.io.output.notice(&notice);
        }
    }

    // ---- extended protocol ------------------------------------------------------------------

    async fn bind(&mut self, bind: Bind<'_>) -> Result<(), Failure> {
        let bound = self.session.bind(
            bind.portal,
            bind.statement,
            &bind.parameter_formats,
            &bind.parameters,
            &bind.result_formats,
        );
        bound.await?;
        self.io.output.bind_complete();
        Ok(())
    }

    async fn describe(&mut self, target: Target<'_>) -> Result<(), Failure> {
        let output = &mut self.io.output;
        match target {
            Target::Statement(name) => {
                let (parameters, columns) = self.session.describe_statement(name).await?;
                output.parameter_description(&parameters);
                match columns {
                    Some(columns) => output.row_description(&columns, &[]),
                    None => output.no_data(),
                }
            }
            Target::Portal(name) => match self.session.describe_portal(name)? {
                // No formats: all text, as row_description has it too.
                (Some(columns), []) => output.row_description(columns, &[]),
                (Some(columns), formats) => {
                    let formats = expand_formats(formats, columns.len())?;
                    output.row_description(columns, &formats);
                }
                (None, _) => output.no_data(),
            },
        }
        Ok(())
    }

    async fn execute(&mut self, portal: &str, max_rows: u32) -> Result<(), Failure> {
        self.server.metrics.statement();
        let cancel = &self.cancel;
        // Now, since a statement that ends its transaction takes the portal with it.
        let formats = self.session.portal_formats(portal)?;
        let last = self.io.input.sync_is_next();
        let execute = self.session.execute(portal, max_rows, last);
        let executed = self.io.run(|| cancel.cancel(false), execute).await?;
        let completion = self.respond(executed.response, Some(&formats)).await?;
        match completion {
            // The rest of the rows waits for the next Execute.
            Some(_) if executed.suspended => self.io.output.portal_suspended(),
            Some(tag) => self.complete(&tag),
            None => {}
        }
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), Failure> {
        let cancel = &self.cancel;
        let sync = self.session.sync();
        self.io.run(|| cancel.cancel(false), sync).await?;
        self.ready();
        Ok(())
    }

    // ---- responses --------------------------------------------------------------------------

    /// Sends a statement's answer but for its completion: the command tag, if there is one.
    /// `formats` as Bind gave them; `None` in the simple protocol, which describes its rows.
    async fn respond(
        &mut self,
        response: Response,
        formats: Option<&[i16]>,
    ) -> Result<Option<String>, Failure> {
        self.say_notices();
        Ok(Some(match response {
            Response::Complete(tag) => tag,
            Response::Empty => {
                self.io.output.empty_query();
                return Ok(None);
            }
            Response::Rows { set, tag } => {
                if formats.is_none() {
                    self.io.output.row_description(&set.columns, &[]);
                }
                let formats = match formats.unwrap_or_default() {
                    [] => Vec::new(),
                    codes => expand_formats(codes, set.columns.len())?,
                };
                let sent = self.send_rows(set, &formats).await?;
                tag.with_count(sent)
            }
            Response::CopyIn(format) => self.copy_in(format).await?,
            Response::CopyOut { format, data } => self.copy_out(format, data).await?,
        }))
    }

    fn complete(&mut self, tag: &str) {
        self.say_notices();
        self.io.output.command_complete(tag);
    }

    /// Sends rows as they come and as the client takes them. Returns their number.
    async fn send_rows(&mut self, set: RowSet, formats: &[i16]) -> Result<u64, Failure> {
        let context = Arc::clone(self.session.format_context());
        let encoder = RowEncoder::new(&set.columns, formats, &context);
        let mut sent = 0;
        match set.rows {
            RowSource::Ready(rows) => {
                for row in &rows {
                    encoder.row(row, &mut self.io.output)?;
                    self.push_full_buffer().await?;
                }
                sent += rows.len() as u64;
            }
            RowSource::Stream(mut chunks) => loop {
                let cancel = &self.cancel;
                match self
                    .io
                    .run(|| cancel.cancel(false), chunks.next())
                    .await
                    .transpose()?
                {
                    None => break,
                    Some(RowChunk::Rows(rows)) => {
                        for row in &rows {
                            encoder.row(row, &mut self.io.output)?;
                            self.push_full_buffer().await?;
                        }
                        sent += rows.len() as u64;
                    }
                    Some(RowChunk::Batch(batch)) => {
                        let view = BatchView::new(&batch, &set.columns)?;
                        for row in 0..batch.num_rows() {
                            encoder.batch_row(&view, row, &mut self.io.output)?;
                            self.push_full_buffer().await?;
                        }
                        sent += batch.num_rows() as u64;
                    }
                }
            },
        }
        Ok(sent)
    }

    pub(super) async fn push_full_buffer(&mut self) -> Result<(), Gone> {
        if self.io.output.len() >= FLUSH_BYTES {
            self.io.flush().await?;
        }
        Ok(())
    }
}

/// Completes at the next change of the phase.
fn change_of(phase: &watch::Receiver<Phase>) -> BoxFuture<'static, ()> {
    let mut phase = phase.clone();
    phase.mark_unchanged();
    Box::pin(async move {
        let _ = phase.changed().await;
    })
}

fn shutting_down() -> Error {
    Error::new(
        SqlState::ADMIN_SHUTDOWN,
        "terminating connection due to administrator command",
    )
}

async fn idle_too_long(limit: Option<(Duration, Error)>) -> Error {
    match limit {
        Some((limit, error)) => {
            tokio::time::sleep(limit).await;
            error
        }
        None => std::future::pending().await,
    }
}
