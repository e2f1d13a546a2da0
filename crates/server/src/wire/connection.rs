//! One client connection from accept to close.

use crate::phase::Phase;
use crate::wire::WireServer;
use crate::wire::backend::{Output, Severity};
use crate::wire::conversation::{Conversation, End};
use crate::wire::input::Input;
use crate::wire::io::{Gone, Io};
use crate::wire::limits::{AUTHENTICATION_TIMEOUT, LAST_WORDS_TIMEOUT, MAX_STARTUP_BYTES};
use crate::wire::scram;
use crate::wire::startup::{self, Opening, Refusal};
use crate::wire::stream::{Stream, Transport};
use futures::FutureExt;
use sql::instance::StartupParams;
use sql::session::Session;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, watch};
use types::{Error, SqlState};

/// Serves one connection. Returns when it is closed; whatever happens inside stays inside: a panic
/// ends this connection alone.
pub async fn serve<S: Transport>(
    stream: S,
    peer: Option<SocketAddr>,
    server: Arc<WireServer>,
    phase: watch::Receiver<Phase>,
) {
    let mut input = Input::new(server.max_message_bytes);
    let mut output = Output::default();
    let opening = startup::open(
        stream,
        &mut input,
        &mut output,
        server.tls.as_ref().map(|tls| &tls.acceptor),
    );
    let Ok(opened) = tokio::time::timeout(AUTHENTICATION_TIMEOUT, opening).await else {
        return;
    };
    let (stream, opening) = match opened {
        Ok(opened) => opened,
        Err(Refusal::Silent) => return,
        Err(Refusal::Told(stream, error)) => {
            let mut io = Io {
                stream,
                input,
                output,
            };
            return refuse(&mut io, &error).await;
        }
    };
    let mut io = Io {
        stream,
        input,
        output,
    };
    let parameters = match opening {
        Opening::Session(parameters) => parameters,
        Opening::Cancel { pid, secret } => {
            server.instance.cancel(pid, secret);
            return io.close().await;
        }
        Opening::Closed => return,
    };
    let greeting = greet(&mut io, &server, peer, parameters);
    let greeted = match tokio::time::timeout(AUTHENTICATION_TIMEOUT, greeting).await {
        Ok(greeted) => greeted,
        Err(_) => return,
    };
    let (session, _slot) = match greeted {
        Ok(Some(greeted)) => greeted,
        Ok(None) => return,
        Err(error) => return refuse(&mut io, &error).await,
    };
    let open = server.metrics.connection_opened();
    converse(&mut io, session, &server, phase).await;
    drop(open);
}

/// Tells a client that the node takes no sessions. Cancel requests are still heard.
pub async fn turn_away<S: Transport>(stream: S, server: &WireServer, phase: Phase) {
    let (mut input, mut output) = (Input::new(MAX_STARTUP_BYTES), Output::default());
    let tls = server.tls.as_ref().map(|tls| &tls.acceptor);
    let opening = startup::open(stream, &mut input, &mut output, tls);
    match tokio::time::timeout(LAST_WORDS_TIMEOUT, opening).await {
        Ok(Ok((stream, Opening::Session(_)))) => {
            let mut io = Io {
                stream,
                input,
                output,
            };
            let error = match phase {
                Phase::Leaving => Error::new(SqlState::CANNOT_CONNECT_NOW, "the node is draining")
                    .hint("Connect to another node of the cluster."),
                _ => Error::new(
                    SqlState::CANNOT_CONNECT_NOW,
                    "the database system is shutting down",
                ),
            };
            refuse(&mut io, &error).await;
        }
        Ok(Ok((_, Opening::Cancel { pid, secret }))) => server.instance.cancel(pid, secret),
        _ => {}
    }
}

async fn converse<S: Transport>(
    io: &mut Io<S>,
    session: Session,
    server: &WireServer,
    phase: watch::Receiver<Phase>,
) {
    let conversation = Conversation::new(io, session, server, phase);
    let end = AssertUnwindSafe(conversation.run()).catch_unwind().await;
    match end {
        Ok(End::Closed | End::Gone) => {}
        Ok(End::Fatal(error)) => {
            io.output.discard_open();
            io.output.error(Severity::Fatal, &error);
        }
        Err(panic) => {
            let what = panic_text(&*panic);
            tracing::error!(panic = what, "a session ended by a bug");
            io.output.discard_open();
            let error = Error::internal(format!("internal error: {what}"))
                .hint("This is a bug. The connection is closed; the node goes on.");
            io.output.error(Severity::Fatal, &error);
        }
    }
    io.close().await;
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("unknown")
}

async fn refuse<S: Transport>(io: &mut Io<S>, error: &Error) {
    io.output.error(Severity::Fatal, error);
    io.close().await;
}

/// Authenticates and opens the session. `None`: the client left.
async fn greet<S: Transport>(
    io: &mut Io<S>,
    server: &WireServer,
    peer: Option<SocketAddr>,
    parameters: StartupParams,
) -> Result<Option<(Session, OwnedSemaphorePermit)>, Error> {
    let trusted = server.trusts(peer);
    if !trusted {
        if server.tls.is_some() && matches!(io.stream, Stream::Plain(_)) {
            return Err(Error::new(
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                "connections from other machines must be encrypted",
            )
            .hint("Connect with sslmode=require."));
        }
        let role = server.instance.role_password(&parameters.user).await?;
        let verifier = role
            .filter(|role| role.can_login)
            .and_then(|role| role.verifier);
        let proved = scram::authenticate(
            &mut io.stream,
            &mut io.input,
            &mut io.output,
            &parameters.user,
            verifier.as_deref(),
            server
                .tls
                .as_ref()
                .map(|tls| tls.certificate_pem.as_slice()),
        );
        if !proved.await? {
            return Ok(None);
        }
    }
    let Ok(slot) = Arc::clone(&server.slots).try_acquire_owned() else {
        server.metrics.connection_refused();
        return Err(Error::new(
            SqlState::TOO_MANY_CONNECTIONS,
            "sorry, too many clients already",
        )
        .hint("Raise --max-connections, or close idle connections."));
    };
    let connecting = server.instance.connect(StartupParams {
        client_addr: peer,
        ..parameters
    });
    let session = connecting.await?;
    let output = &mut io.output;
    output.authentication_ok();
    for (name, value) in session.startup_parameters() {
        output.parameter_status(&name, &value);
    }
    output.backend_key_data(session.pid(), session.secret());
    output.ready_for_query(session.status());
    match io.flush().await {
        Ok(()) => Ok(Some((session, slot))),
        Err(Gone) => Ok(None),
    }
}
