//! `phantomdb sql`: an interactive SQL shell, and a runner of scripts.
//!
//! - `lexer` finds where statements end, `editor` edits lines, `commands` reads `\d` and the
//!   like, `catalog` has their queries.
//! - `connection` runs statements over the simple protocol, [`print`] and `report` show results
//!   and errors.
//!
//! Interactive, an error is shown and the shell goes on. With `-e`, `-f` or a pipe the first error
//! ends the run with exit code 1.

mod catalog;
mod commands;
pub(crate) mod connection;
mod describe;
mod editor;
mod keywords;
mod lexer;
mod print;
pub(crate) mod report;
mod script;

use crate::cli::SqlArgs;
use commands::Command;
use connection::{Connection, Failure, Outcome, Sink};
use console::Term;
use editor::{Names, SqlEditor};
use print::{Format, Rows, Style};
use rustyline::error::ReadlineError;
pub use script::Source;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;
use tokio::runtime::Runtime;
use tokio_postgres::Config;

/// What ends a script, or is shown at the prompt. The text is for people.
pub struct ShellError(pub String);

impl<T: std::fmt::Display> From<T> for ShellError {
    fn from(error: T) -> Self {
        ShellError(error.to_string())
    }
}

pub struct Shell {
    runtime: Runtime,
    connection: Connection,
    format: Format,
    timing: bool,
    names: Names,
}

/// `phantomdb sql`.
pub fn run(args: &SqlArgs) -> Result<ExitCode, String> {
    let mut shell = Shell::connect(&args.url).map_err(|error| error.0)?;
    let interactive = io::stdin().is_terminal();
    if !args.execute.is_empty() && !io::stdout().is_terminal() {
        shell.format = Format::Tsv;
    }
    let given = args
        .execute
        .iter()
        .map(|sql| Source::text(sql))
        .chain(args.file.iter().map(|path| Source::File(path.clone())));
    let mut sources: Vec<Source> = given.collect();
    if sources.is_empty() && interactive {
        shell.greet();
        shell.interact();
        return Ok(ExitCode::SUCCESS);
    }
    if sources.is_empty() {
        sources.push(Source::Stdin);
    }
    Ok(shell.run_sources(&sources))
}

impl Shell {
    pub fn connect(url: &str) -> Result<Shell, ShellError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let config = Connection::config(url)?;
        let connection = open(&runtime, config)?;
        Ok(Shell {
            runtime,
            connection,
            format: Format::Auto,
            timing: false,
            names: Names::default(),
        })
    }

    /// For tasks beside the shell.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Runs scripts one after the other; the first error ends it.
    pub fn run_sources(&mut self, sources: &[Source]) -> ExitCode {
        for source in sources {
            match self.run_source(source) {
                Ok(script::Flow::Continue) => {}
                Ok(script::Flow::Quit) => break,
                Err(error) => {
                    eprintln!("{}", error.0);
                    return ExitCode::FAILURE;
                }
            }
        }
        ExitCode::SUCCESS
    }

    fn greet(&self) {
        println!(
            "PhantomDB shell {}. Type SQL, \\? for help, \\q to leave.",
            env!("CARGO_PKG_VERSION")
        );
    }

    /// Reads and runs statements until the user leaves.
    pub fn interact(&mut self) {
        let mut editor = match editor::editor(self.names.clone()) {
            Ok(editor) => editor,
            Err(error) => {
                eprintln!("the terminal cannot be used: {error}");
                return;
            }
        };
        let history = editor::history_file();
        if let Some(file) = &history {
            // The first time there is none.
            let _ = editor.load_history(file);
        }
        self.refresh_names();
        loop {
            let prompt = format!("{}> ", self.connection.database());
            match editor.readline(&prompt) {
                Ok(input) if lexer::is_blank(&input) => {}
                Ok(input) => {
                    let _ = editor.add_history_entry(input.trim());
                    if let script::Flow::Quit = self.interactive_input(&input, &mut editor) {
                        break;
                    }
                }
                // Ctrl-C drops the line, Ctrl-D leaves.
                Err(ReadlineError::Interrupted) => {}
                Err(_) => break,
            }
        }
        if let Some(file) = &history
            && let Err(error) = editor.save_history(file)
        {
            eprintln!("the history could not be saved: {error}");
        }
    }

    fn interactive_input(&mut self, input: &str, editor: &mut SqlEditor) -> script::Flow {
        match input.trim() {
            "exit" | "quit" => return script::Flow::Quit,
            "help" => {
                println!("{}", commands::HELP);
                return script::Flow::Continue;
            }
            "\\e" => return self.edit(editor),
            _ => {}
        }
        let result = if input.trim_start().starts_with('\\') {
            self.command(input)
        } else {
            self.run_text(input)
        };
        result.unwrap_or_else(|error| {
            eprintln!("{}", error.0);
            self.reconnect_if_closed();
            script::Flow::Continue
        })
    }

    /// Writes a statement in the user's editor, then runs it.
    fn edit(&mut self, editor: &mut SqlEditor) -> script::Flow {
        let text = match script::edit_text() {
            Ok(text) => text,
            Err(error) => {
                eprintln!("{}", error.0);
                return script::Flow::Continue;
            }
        };
        if lexer::is_blank(&text) {
            return script::Flow::Continue;
        }
        let _ = editor.add_history_entry(text.trim());
        if let Err(error) = self.run_text(&text) {
            eprintln!("{}", error.0);
        }
        script::Flow::Continue
    }

    /// Runs one statement and shows what it gives.
    fn statement(&mut self, sql: &str) -> Result<(), ShellError> {
        let started = Instant::now();
        let mut screen = self.screen();
        let result = self.runtime.block_on(self.connection.run(sql, &mut screen));
        let shown = match result {
            Ok(outcome) => self.show_outcome(&outcome),
            Err(failure) => {
                // After the error, so that the two stand in the order of psql.
                let mut error = failure_text(&failure, sql);
                if self.timing {
                    let millis = started.elapsed().as_secs_f64() * 1000.0;
                    error.0.push_str(&format!("\nTime: {millis:.3} ms"));
                }
                return Err(error);
            }
        };
        shown?;
        if self.timing {
            println!("Time: {:.3} ms", started.elapsed().as_secs_f64() * 1000.0);
        }
        if matches!(
            lexer::leading_words(sql, 1).first().map(String::as_str),
            Some("CREATE" | "ALTER" | "DROP")
        ) {
            self.refresh_names();
        }
        Ok(())
    }

    fn show_outcome(&self, outcome: &Outcome) -> io::Result<()> {
        if self.format == Format::Tsv {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        match outcome {
            Outcome::Rows(1) => writeln!(out, "(1 row)"),
            Outcome::Rows(count) => writeln!(out, "({count} rows)"),
            Outcome::Done(tag) if tag.is_empty() => Ok(()),
            Outcome::Done(tag) => writeln!(out, "{tag}"),
        }
    }

    fn screen(&self) -> Screen {
        let terminal = Term::stdout();
        let width = terminal.is_term().then(|| usize::from(terminal.size().1));
        Screen(Style {
            format: self.format,
            width,
        })
    }

    /// Runs a query of the shell's own and shows its rows.
    fn show(&mut self, sql: &str) -> Result<(), ShellError> {
        let mut screen = self.screen();
        let run = self.connection.run(sql, &mut screen);
        match self.runtime.block_on(run) {
            Ok(outcome) => Ok(self.show_outcome(&outcome)?),
            Err(failure) => Err(failure_text(&failure, sql)),
        }
    }

    fn rows(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, ShellError> {
        self.runtime
            .block_on(self.connection.query(sql))
            .map_err(|error| ShellError(report::error_text(&error, sql)))
    }

    fn command(&mut self, line: &str) -> Result<script::Flow, ShellError> {
        match commands::parse(line)? {
            Command::Describe(None) => self.show(&catalog::relations("rvS", None))?,
            Command::Describe(Some(name)) => self.describe(&name)?,
            Command::List(kinds, pattern) => {
                self.show(&catalog::relations(kinds, pattern.as_deref()))?;
            }
            Command::Databases => self.show(&catalog::databases())?,
            Command::Schemas(pattern) => self.show(&catalog::schemas(pattern.as_deref()))?,
            Command::Roles(pattern) => self.show(&catalog::roles(pattern.as_deref()))?,
            Command::Connect(database) => self.reconnect(database)?,
            Command::ConnectionInfo => self.connection_info(),
            Command::Expanded(argument) => self.set_expanded(argument.as_deref())?,
            Command::Timing(argument) => {
                self.timing = commands::switch(argument.as_deref(), self.timing)?;
                println!("Timing is {}.", if self.timing { "on" } else { "off" });
            }
            Command::Include(path) => return self.run_source(&Source::File(path.into())),
            Command::Edit => self.run_text(&script::edit_text()?).map(drop)?,
            Command::Echo(text) => println!("{text}"),
            Command::Help => println!("{}", commands::HELP),
            Command::Quit => return Ok(script::Flow::Quit),
        }
        Ok(script::Flow::Continue)
    }

    fn set_expanded(&mut self, argument: Option<&str>) -> Result<(), ShellError> {
        self.format = match argument {
            Some("auto") => Format::Auto,
            other => match commands::switch(other, self.format == Format::Expanded)? {
                true => Format::Expanded,
                false => Format::Table,
            },
        };
        println!(
            "Expanded display is {}.",
            match self.format {
                Format::Expanded => "on",
                Format::Auto => "used for wide tables",
                Format::Table | Format::Tsv => "off",
            }
        );
        Ok(())
    }

    fn connection_info(&self) {
        let settings = self.connection.settings();
        println!(
            "You are connected to database \"{}\" as user \"{}\" on {:?}, port {:?}.",
            self.connection.database(),
            self.connection.user(),
            settings.get_hosts(),
            settings.get_ports()
        );
    }

    fn reconnect(&mut self, database: Option<String>) -> Result<(), ShellError> {
        let mut config = self.connection.settings().clone();
        if let Some(database) = database {
            config.dbname(database.trim_matches('"'));
        }
        self.connection = open(&self.runtime, config)?;
        self.refresh_names();
        println!(
            "You are now connected to database \"{}\" as user \"{}\".",
            self.connection.database(),
            self.connection.user()
        );
        Ok(())
    }

    fn reconnect_if_closed(&mut self) {
        if !self.connection.is_closed() {
            return;
        }
        eprintln!("The connection was lost. Connecting again …");
        if let Err(error) = self.reconnect(None) {
            eprintln!("{}", error.0);
        }
    }

    /// Completion works without them, so a failure is no matter.
    fn refresh_names(&mut self) {
        if let Ok(rows) = self.rows(&catalog::names()) {
            let names = rows.into_iter().filter_map(|row| row.into_iter().next()?);
            *self.names.lock() = names.collect();
        }
    }
}

fn open(runtime: &Runtime, config: Config) -> Result<Connection, ShellError> {
    let host = config.get_hosts().first().map_or_else(
        || "the server".to_string(),
        |host| match host {
            tokio_postgres::config::Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
        },
    );
    let port = config.get_ports().first().copied().unwrap_or(5432);
    runtime.block_on(Connection::open(config)).map_err(|error| {
        let text = report::error_text(&error, "");
        match error.as_db_error() {
            Some(_) => ShellError(text),
            None => ShellError(format!(
                "cannot connect to {host}, port {port}: {text}\n\
                 HINT: `phantomdb start` runs a node, `phantomdb demo` one with sample data."
            )),
        }
    })
}

fn failure_text(failure: &Failure, sql: &str) -> ShellError {
    match failure {
        Failure::Server(error) => ShellError(report::error_text(error, sql)),
        Failure::Output(error) => ShellError(format!("cannot write the result: {error}")),
    }
}

/// Results go to stdout.
struct Screen(Style);

impl Sink for Screen {
    fn rows(&mut self, rows: &Rows) -> io::Result<()> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        self.0.print(rows, &mut out)?;
        out.flush()
    }

    fn data(&mut self, data: &[u8]) -> io::Result<()> {
        io::stdout().write_all(data)
    }
}
