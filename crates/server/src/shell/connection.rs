//! The shell's connection: statements run, cancelled by Ctrl-C, and their results collected.

use crate::shell::lexer;
use crate::shell::print::Rows;
use crate::shell::report;
use bytes::Bytes;
use futures::{SinkExt, StreamExt, future, pin_mut, stream};
use std::time::Duration;
use tokio_postgres::{AsyncMessage, CancelToken, Client, Config, NoTls, SimpleQueryMessage};

/// Rows drawn as one table; a longer result is drawn as several, so that memory stays bounded.
const TABLE_ROWS: usize = 10_000;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// COPY data goes out in pieces of about this many bytes.
const COPY_PIECE_BYTES: usize = 64 << 10;

pub struct Connection {
    client: Client,
    cancel: CancelToken,
    config: Config,
}

/// What a statement came to.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// Rows were given to the sink; so many.
    Rows(u64),
    /// A command's tag.
    Done(String),
}

#[derive(Debug)]
pub enum Failure {
    Server(tokio_postgres::Error),
    /// Writing the result failed.
    Output(std::io::Error),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Failure::Server(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::Output(error)
    }
}

/// Where results go, piece by piece.
pub trait Sink {
    fn rows(&mut self, rows: &Rows) -> std::io::Result<()>;
    /// Data of COPY TO STDOUT.
    fn data(&mut self, data: &[u8]) -> std::io::Result<()>;
}

impl Connection {
    pub async fn open(config: Config) -> Result<Connection, tokio_postgres::Error> {
        let (client, mut connection) = config.connect(NoTls).await?;
        let messages = stream::poll_fn(move |cx| connection.poll_message(cx));
        // After an error there is nothing more to come, and what waits for an answer must hear of it.
        let messages = messages.take_while(|message| future::ready(message.is_ok()));
        tokio::spawn(messages.for_each(|message| {
            if let Ok(AsyncMessage::Notice(notice)) = &message {
                eprintln!("{}", report::db_error_text(notice, ""));
            }
            future::ready(())
        }));
        Ok(Connection {
            cancel: client.cancel_token(),
            client,
            config,
        })
    }

    /// The settings of a URL, with the shell's own.
    pub fn config(url: &str) -> Result<Config, tokio_postgres::Error> {
        let mut config: Config = url.parse()?;
        config.connect_timeout(CONNECT_TIMEOUT);
        if config.get_application_name().is_none() {
            config.application_name("phantomdb sql");
        }
        if config.get_password().is_none()
            && let Ok(password) = std::env::var("PGPASSWORD")
        {
            config.password(password);
        }
        Ok(config)
    }

    pub fn database(&self) -> &str {
        self.config
            .get_dbname()
            .or(self.config.get_user())
            .unwrap_or("?")
    }

    pub fn user(&self) -> &str {
        self.config.get_user().unwrap_or("?")
    }

    pub fn settings(&self) -> &Config {
        &self.config
    }

    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs one statement. Ctrl-C meanwhile asks the server to cancel it.
    pub async fn run(&self, statement: &str, sink: &mut impl Sink) -> Result<Outcome, Failure> {
        let work = self.run_to_end(statement, sink);
        pin_mut!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                pressed = tokio::signal::ctrl_c() => if pressed.is_ok() {
                    // The terminal has shown ^C, and the error comes next.
                    eprintln!("Cancel request sent");
                    let _ = self.cancel.cancel_query(NoTls).await;
                }
            }
        }
    }

    async fn run_to_end(&self, statement: &str, sink: &mut impl Sink) -> Result<Outcome, Failure> {
        if copies(statement, "TO", "STDOUT") {
            return self.copy_out(statement, sink).await;
        }
        let stream = self.client.simple_query_raw(statement).await?;
        pin_mut!(stream);
        let mut part: Option<Rows> = None;
        let mut outcome = Outcome::Done(tag(statement, 0));
        while let Some(message) = stream.next().await {
            match message? {
                SimpleQueryMessage::RowDescription(columns) => {
                    part = Some(Rows {
                        columns: columns.iter().map(|c| c.name().to_string()).collect(),
                        rows: Vec::new(),
                    });
                }
                SimpleQueryMessage::Row(row) => {
                    let Some(part) = &mut part else { continue };
                    let values = (0..row.len()).map(|at| row.get(at).map(str::to_string));
                    part.rows.push(values.collect());
                    if part.rows.len() >= TABLE_ROWS {
                        sink.rows(part)?;
                        part.rows.clear();
                    }
                }
                SimpleQueryMessage::CommandComplete(count) => {
                    outcome = match part.take() {
                        Some(rest) => {
                            if !rest.rows.is_empty() || count < TABLE_ROWS as u64 {
                                sink.rows(&rest)?;
                            }
                            Outcome::Rows(count)
                        }
                        None => Outcome::Done(tag(statement, count)),
                    };
                }
                _ => {}
            }
        }
        Ok(outcome)
    }

    async fn copy_out(&self, statement: &str, sink: &mut impl Sink) -> Result<Outcome, Failure> {
        let data = self.client.copy_out(statement).await?;
        pin_mut!(data);
        let mut rows = 0;
        while let Some(piece) = data.next().await {
            let piece = piece?;
            rows += piece.iter().filter(|b| **b == b'\n').count();
            sink.data(&piece)?;
        }
        Ok(Outcome::Done(format!("COPY {rows}")))
    }

    /// Runs COPY … FROM STDIN with these data, a piece at a time.
    pub async fn copy_in<E>(
        &self,
        statement: &str,
        data: impl Iterator<Item = Result<Bytes, E>>,
    ) -> Result<Outcome, Failure>
    where
        std::io::Error: From<E>,
    {
        let sink = self.client.copy_in::<_, Bytes>(statement).await?;
        pin_mut!(sink);
        let mut piece = Vec::new();
        for some in data {
            let some = some.map_err(|error| Failure::Output(error.into()))?;
            piece.extend_from_slice(&some);
            if piece.len() >= COPY_PIECE_BYTES {
                sink.send(Bytes::from(std::mem::take(&mut piece))).await?;
            }
        }
        sink.send(Bytes::from(piece)).await?;
        let rows = sink.finish().await?;
        Ok(Outcome::Done(format!("COPY {rows}")))
    }

    /// All rows of a query of the shell's own.
    pub async fn query(
        &self,
        sql: &str,
    ) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
        let messages = self.client.simple_query(sql).await?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|at| row.get(at).map(str::to_string))
                    .collect(),
            ),
            _ => None,
        });
        Ok(rows.collect())
    }
}

/// Whether a statement is COPY in this direction with this end.
pub fn copies(statement: &str, direction: &str, end: &str) -> bool {
    if lexer::leading_words(statement, 1) != ["COPY"] {
        return false;
    }
    let words: Vec<String> = lexer::tokens(statement)
        .filter(|token| token.kind == lexer::Kind::Word)
        .map(|token| token.text.to_ascii_uppercase())
        .collect();
    words
        .windows(2)
        .any(|pair| pair[0] == direction && pair[1] == end)
}

/// The tag of a statement that gave no rows: the client library tells only its count.
fn tag(statement: &str, count: u64) -> String {
    let words = lexer::leading_words(statement, 3);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["INSERT", ..] => format!("INSERT 0 {count}"),
        [verb @ ("UPDATE" | "DELETE" | "MERGE" | "COPY"), ..] => format!("{verb} {count}"),
        [verb @ ("CREATE" | "ALTER" | "DROP"), "UNIQUE", what] => format!("{verb} {what}"),
        [verb @ ("CREATE" | "ALTER" | "DROP"), "OR", ..] => (*verb).to_string(),
        [verb @ ("CREATE" | "ALTER" | "DROP"), what, ..] => format!("{verb} {what}"),
        ["START", ..] => "BEGIN".to_string(),
        ["END", ..] => "COMMIT".to_string(),
        [verb, ..] => (*verb).to_string(),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        assert_eq!(tag("insert into t values (1)", 1), "INSERT 0 1");
        assert_eq!(tag("create unique index on t (a)", 0), "CREATE INDEX");
        assert_eq!(tag("drop table t", 0), "DROP TABLE");
        assert_eq!(tag("set a = 1", 0), "SET");
    }

    #[test]
    fn finds_copy() {
        assert!(copies("copy t (a) from stdin csv", "FROM", "STDIN"));
        assert!(copies("COPY (select 1) TO STDOUT", "TO", "STDOUT"));
        assert!(!copies("select 'copy from stdin'", "FROM", "STDIN"));
    }
}
