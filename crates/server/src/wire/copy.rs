//! COPY conversations, in either protocol.
//!
//! COPY FROM STDIN: the client sends CopyData until CopyDone or CopyFail; Flush and Sync in between
//! mean nothing. If it goes wrong here first, the rest of what the client sends is dropped by the
//! main loop. COPY TO STDOUT: CopyData as the statement makes it, under the socket's back-pressure.

use crate::wire::conversation::{Conversation, End, Failure};
use crate::wire::frontend::{self, FrontendMessage};
use crate::wire::limits::COPY_BATCH_BYTES;
use crate::wire::stream::Transport;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use sql::response::{CopyFormat, CopyPiece};
use types::{Error, Result, SqlState};

impl<S: Transport> Conversation<'_, S> {
    /// Takes the data of COPY FROM STDIN. Returns the command tag.
    pub(super) async fn copy_in(&mut self, format: CopyFormat) -> Result<String, Failure> {
        self.io.output.copy_in_response(format);
        self.io.output.mark_awaited();
        let mut batch = BytesMut::new();
        loop {
            let frame = self.io.input.next_frame();
            let Some(frame) = frame.map_err(|error| Failure::End(End::Fatal(error)))? else {
                if !batch.is_empty() {
                    self.copy_batch(batch.split().freeze()).await;
                }
                self.wait_for_input().await.map_err(Failure::End)?;
                continue;
            };
            let message = match frontend::decode(&frame) {
                Ok(message) => message,
                Err(error) => return Err(self.copy_broken(error)),
            };
            match message {
                FrontendMessage::CopyData(data) if data.len() >= COPY_BATCH_BYTES => {
                    if !batch.is_empty() {
                        self.copy_batch(batch.split().freeze()).await;
                    }
                    self.copy_batch(data).await;
                }
                FrontendMessage::CopyData(data) => {
                    batch.extend_from_slice(&data);
                    if batch.len() >= COPY_BATCH_BYTES {
                        self.copy_batch(batch.split().freeze()).await;
                    }
                }
                FrontendMessage::CopyDone => {
                    if !batch.is_empty() {
                        self.copy_batch(batch.freeze()).await;
                    }
                    let cancel = &self.cancel;
                    let done = self.session.copy_in_done();
                    return Ok(self.io.run(|| cancel.cancel(false), done).await?);
                }
                FrontendMessage::CopyFail(reason) => {
                    return Err(Failure::Statement(self.session.copy_in_fail(reason)));
                }
                FrontendMessage::Flush | FrontendMessage::Sync => {}
                FrontendMessage::Terminate => return Err(Failure::End(End::Closed)),
                _ => {
                    let error = Error::new(
                        SqlState::PROTOCOL_VIOLATION,
                        format!(
                            "unexpected message type 0x{:02X} during COPY from stdin",
                            frame.tag
                        ),
                    );
                    return Err(self.copy_broken(error));
                }
            }
        }
    }

    /// An error in the data shows at CopyDone: the session drops what follows it.
    async fn copy_batch(&mut self, data: Bytes) {
        let cancel = &self.cancel;
        let take = self.session.copy_in_data(data);
        self.io.run(|| cancel.cancel(false), take).await;
    }

    /// The conversation went wrong, not the data.
    fn copy_broken(&mut self, error: Error) -> Failure {
        self.session.copy_in_fail(&error.message);
        Failure::Statement(error)
    }

    /// Sends the data of COPY TO STDOUT. Returns the command tag.
    pub(super) async fn copy_out(
        &mut self,
        format: CopyFormat,
        mut data: BoxStream<'static, Result<CopyPiece>>,
    ) -> Result<String, Failure> {
        self.io.output.copy_out_response(format);
        let mut rows = 0u64;
        loop {
            let cancel = &self.cancel;
            let next = self.io.run(|| cancel.cancel(false), data.next()).await;
            let Some(piece) = next.transpose()? else {
                break;
            };
            rows += piece.rows;
            let mut start = 0;
            for end in piece.ends {
                self.io.output.copy_data(&piece.data[start..end]);
                self.push_full_buffer().await?;
                start = end;
            }
        }
        self.io.output.copy_done();
        Ok(format!("COPY {rows}"))
    }
}
