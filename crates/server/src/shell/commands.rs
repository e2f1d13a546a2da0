//! Backslash commands.

/// A command and what it was given.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// `\d name`; without a name, tables, views and sequences.
    Describe(Option<String>),
    /// Relations of these `pg_class` kinds.
    List(&'static str, Option<String>),
    Databases,
    Schemas(Option<String>),
    Roles(Option<String>),
    Connect(Option<String>),
    ConnectionInfo,
    Expanded(Option<String>),
    Timing(Option<String>),
    Include(String),
    Edit,
    Echo(String),
    Help,
    Quit,
}

pub const HELP: &str = "\
  \\d [name]       describe a table, view, sequence or index; without a name, list them
  \\dt \\dv \\ds \\di [pattern]   list tables, views, sequences, indexes
  \\dn \\du [pattern]           list schemas, roles
  \\l              list databases
  \\c [database]   connect to another database; \\conninfo tells where you are
  \\x [on|off|auto]   one value per line; auto: when a table is too wide
  \\timing [on|off]   show how long statements take
  \\i FILE         run the statements of a file
  \\e              write a statement in $EDITOR
  \\q              leave

Statements end with a semicolon and may span lines. Tab completes, Ctrl-C cancels.";

pub fn parse(line: &str) -> Result<Command, String> {
    let line = line.trim().trim_end_matches(';').trim_end();
    let (name, rest) = match line.split_once(char::is_whitespace) {
        Some((name, rest)) => (name, rest.trim()),
        None => (line, ""),
    };
    let argument = (!rest.is_empty()).then(|| rest.to_string());
    // A plus asks psql for more detail, which there is none of here.
    Ok(match name.trim_end_matches('+') {
        "\\d" => Command::Describe(argument),
        "\\dt" => Command::List("r", argument),
        "\\dv" => Command::List("v", argument),
        "\\ds" => Command::List("S", argument),
        "\\di" => Command::List("i", argument),
        "\\dn" => Command::Schemas(argument),
        "\\du" | "\\dg" => Command::Roles(argument),
        "\\l" => Command::Databases,
        "\\c" | "\\connect" => Command::Connect(argument),
        "\\conninfo" => Command::ConnectionInfo,
        "\\x" => Command::Expanded(argument),
        "\\timing" => Command::Timing(argument),
        "\\i" => Command::Include(argument.ok_or("\\i needs a file name")?),
        "\\e" => Command::Edit,
        "\\echo" => Command::Echo(rest.to_string()),
        "\\?" | "\\h" => Command::Help,
        "\\q" => Command::Quit,
        other => return Err(format!("there is no command {other}; \\? lists them")),
    })
}

/// `on`, `off`, or nothing, which turns it over.
pub fn switch(argument: Option<&str>, now: bool) -> Result<bool, String> {
    match argument {
        None => Ok(!now),
        Some("on" | "true" | "1") => Ok(true),
        Some("off" | "false" | "0") => Ok(false),
        Some(other) => Err(format!("`{other}` is neither on nor off")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_commands() {
        assert_eq!(parse("\\dt"), Ok(Command::List("r", None)));
        assert_eq!(
            parse("\\d+ orders;"),
            Ok(Command::Describe(Some("orders".into())))
        );
        assert_eq!(
            parse("\\i  a b.sql "),
            Ok(Command::Include("a b.sql".into()))
        );
        assert!(parse("\\i").is_err());
        assert!(parse("\\nope").is_err());
        assert_eq!(switch(None, true), Ok(false));
    }
}
