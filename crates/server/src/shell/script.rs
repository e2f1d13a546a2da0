//! Statements from a file, a pipe, an argument or an editor.

use crate::shell::connection;
use crate::shell::lexer;
use crate::shell::{Shell, ShellError, failure_text};
use bytes::Bytes;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek};
use std::path::PathBuf;
use std::process::Command;

#[derive(Clone, Debug)]
pub enum Source {
    Text(String),
    File(PathBuf),
    Stdin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Continue,
    Quit,
}

impl Source {
    pub fn text(sql: &str) -> Source {
        Source::Text(sql.to_string())
    }
}

impl Shell {
    pub(super) fn run_source(&mut self, source: &Source) -> Result<Flow, ShellError> {
        match source {
            Source::Text(text) => self.run_text(text),
            Source::Stdin => self.run_lines(&mut io::stdin().lock()),
            Source::File(path) => {
                let file = File::open(path)
                    .map_err(|error| ShellError(format!("{}: {error}", path.display())))?;
                self.run_lines(&mut BufReader::new(file))
            }
        }
    }

    pub(super) fn run_text(&mut self, text: &str) -> Result<Flow, ShellError> {
        self.run_lines(&mut Cursor::new(text))
    }

    /// Runs statements as they become whole, and backslash commands between them. The last
    /// statement may lack its semicolon.
    fn run_lines(&mut self, lines: &mut dyn BufRead) -> Result<Flow, ShellError> {
        let mut pending = String::new();
        let mut line = String::new();
        loop {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                break;
            }
            if lexer::is_blank(&pending) && line.trim_start().starts_with('\\') {
                pending.clear();
                if self.command(&line)? == Flow::Quit {
                    return Ok(Flow::Quit);
                }
                continue;
            }
            pending.push_str(&line);
            // Only a semicolon can end a statement; looking for it on every line would cost the
            // square of a long statement's length.
            if !line.contains(';') {
                continue;
            }
            let mut done = 0;
            while let Some(statement) = lexer::next_statement(&pending[done..]) {
                done += statement.end;
                self.script_statement(statement.text, lines)?;
            }
            pending.drain(..done);
        }
        if !lexer::is_blank(&pending) {
            self.script_statement(pending.trim(), lines)?;
        }
        Ok(Flow::Continue)
    }

    fn script_statement(&mut self, sql: &str, lines: &mut dyn BufRead) -> Result<(), ShellError> {
        if lexer::is_blank(sql) {
            return Ok(());
        }
        if !connection::copies(sql, "FROM", "STDIN") {
            return self.statement(sql);
        }
        let copied = self.connection.copy_in(sql, CopyLines(lines));
        match self.runtime.block_on(copied) {
            Ok(outcome) => Ok(self.show_outcome(&outcome)?),
            Err(failure) => Err(failure_text(&failure, sql)),
        }
    }
}

/// The lines that follow a COPY … FROM STDIN, up to `\.` or the end.
struct CopyLines<'a>(&'a mut dyn BufRead);

impl Iterator for CopyLines<'_> {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        let mut line = Vec::new();
        match self.0.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) if line.trim_ascii_end() == b"\\." => None,
            Ok(_) => Some(Ok(Bytes::from(line))),
            Err(error) => Some(Err(error)),
        }
    }
}

/// A text written in `$EDITOR`.
pub(super) fn edit_text() -> Result<String, ShellError> {
    let mut file = tempfile::Builder::new().suffix(".sql").tempfile()?;
    let editor = std::env::var("VISUAL")
        .or_else(|_| std::env::var("EDITOR"))
        .unwrap_or_else(|_| "vi".to_string());
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let status = Command::new(program)
        .args(words)
        .arg(file.path())
        .status()
        .map_err(|error| ShellError(format!("{program}: {error}")))?;
    if !status.success() {
        return Err(ShellError(format!("{program} ended with {status}")));
    }
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text)
}
