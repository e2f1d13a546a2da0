//! Statements that steer the session, parsed by hand.

use super::tokens::Tokens;
use super::{
    Discard, SetValue, Statement, TransactionModes, copy, cursor, parse_expressions, parse_query,
};
use txn::kv::Isolation;
use types::{Error, Result};

/// `None`: not one of these, the grammar decides.
pub fn parse(t: &mut Tokens<'_>) -> Result<Option<Statement>> {
    let statement = if t.eat(&["begin"]) {
        t.eat_one_of(&["work", "transaction"]);
        Statement::Begin(modes(t)?)
    } else if t.eat(&["start", "transaction"]) {
        Statement::Begin(modes(t)?)
    } else if t.eat(&["prepare", "transaction"]) || t.looking_at(&["commit", "prepared"]) {
        return Err(Error::unsupported("PREPARE TRANSACTION"));
    } else if t.eat_one_of(&["commit", "end"]) {
        t.eat_one_of(&["work", "transaction"]);
        Statement::Commit { chain: chain(t)? }
    } else if t.eat_one_of(&["rollback", "abort"]) {
        rollback(t)?
    } else if t.eat(&["savepoint"]) {
        Statement::Savepoint(t.identifier()?)
    } else if t.eat(&["release"]) {
        t.eat(&["savepoint"]);
        Statement::Release(t.identifier()?)
    } else if t.eat(&["set"]) {
        set(t)?
    } else if t.eat(&["show"]) {
        show(t)?
    } else if t.eat(&["reset"]) {
        if t.eat(&["all"]) {
            Statement::ResetAll
        } else {
            Statement::Reset(setting_name(t)?)
        }
    } else if t.eat(&["discard"]) {
        discard(t)?
    } else if t.eat(&["prepare"]) {
        return prepare(t).map(Some);
    } else if t.eat(&["execute"]) {
        let name = t.identifier()?;
        let arguments = if t.at_end() {
            Vec::new()
        } else {
            parse_expressions(t.parenthesised()?)?
        };
        Statement::Execute { name, arguments }
    } else if t.eat(&["deallocate"]) {
        t.eat(&["prepare"]);
        Statement::Deallocate(if t.eat(&["all"]) {
            None
        } else {
            Some(t.identifier()?)
        })
    } else if t.eat(&["declare"]) {
        return declare(t).map(Some);
    } else if t.eat(&["fetch"]) {
        Statement::Fetch(cursor::fetch(t, false)?)
    } else if t.eat(&["move"]) {
        Statement::Fetch(cursor::fetch(t, true)?)
    } else if t.eat(&["close"]) {
        Statement::CloseCursor(if t.eat(&["all"]) {
            None
        } else {
            Some(t.identifier()?)
        })
    } else if t.eat(&["copy"]) {
        Statement::Copy(Box::new(copy::parse(t)?))
    } else if t.eat(&["explain"]) {
        return explain(t).map(Some);
    } else if t.eat(&["vacuum"]) {
        maintenance(t, "VACUUM")?
    } else if t.eat_one_of(&["analyze", "analyse"]) {
        maintenance(t, "ANALYZE")?
    } else if t.eat(&["reindex"]) {
        t.rest();
        Statement::Maintenance {
            tag: "REINDEX",
            relations: Vec::new(),
        }
    } else if t.eat(&["cluster"]) {
        t.rest();
        Statement::Maintenance {
            tag: "CLUSTER",
            relations: Vec::new(),
        }
    } else if t.eat(&["checkpoint"]) {
        Statement::Maintenance {
            tag: "CHECKPOINT",
            relations: Vec::new(),
        }
    } else if t.eat(&["lock"]) {
        lock(t)?
    } else {
        for verb in [
            "listen", "notify", "unlisten", "do", "call", "load", "merge", "import",
        ] {
            if t.looking_at(&[verb]) {
                return Err(Error::unsupported(verb.to_uppercase()));
            }
        }
        return Ok(None);
    };
    t.expect_end()?;
    Ok(Some(statement))
}

fn modes(t: &mut Tokens<'_>) -> Result<TransactionModes> {
    let mut modes = TransactionModes::default();
    while !t.at_end() {
        if t.eat(&["isolation", "level"]) {
            modes.isolation = Some(isolation(t)?);
        } else if t.eat(&["read", "only"]) {
            modes.read_only = Some(true);
        } else if t.eat(&["read", "write"]) {
            modes.read_only = Some(false);
        } else if t.eat(&["not", "deferrable"]) {
            modes.deferrable = Some(false);
        } else if t.eat(&["deferrable"]) {
            modes.deferrable = Some(true);
        } else {
            return Err(t.unexpected());
        }
        t.eat_symbol(",");
    }
    Ok(modes)
}

fn isolation(t: &mut Tokens<'_>) -> Result<Isolation> {
    if t.eat(&["read", "committed"]) || t.eat(&["read", "uncommitted"]) {
        Ok(Isolation::ReadCommitted)
    } else if t.eat(&["repeatable", "read"]) {
        Ok(Isolation::RepeatableRead)
    } else if t.eat(&["serializable"]) {
        Ok(Isolation::Serializable)
    } else {
        Err(t.unexpected())
    }
}

fn chain(t: &mut Tokens<'_>) -> Result<bool> {
    if t.eat(&["and", "no", "chain"]) {
        return Ok(false);
    }
    Ok(t.eat(&["and", "chain"]))
}

fn rollback(t: &mut Tokens<'_>) -> Result<Statement> {
    if t.looking_at(&["prepared"]) {
        return Err(Error::unsupported("ROLLBACK PREPARED"));
    }
    t.eat_one_of(&["work", "transaction"]);
    if t.eat(&["to"]) {
        t.eat(&["savepoint"]);
        return Ok(Statement::RollbackTo(t.identifier()?));
    }
    Ok(Statement::Rollback { chain: chain(t)? })
}

fn setting_name(t: &mut Tokens<'_>) -> Result<String> {
    if t.eat(&["time", "zone"]) {
        return Ok("timezone".to_string());
    }
    if t.eat(&["transaction", "isolation", "level"]) {
        return Ok("transaction_isolation".to_string());
    }
    if t.eat(&["session", "authorization"]) {
        return Ok("session_authorization".to_string());
    }
    let mut name = t.identifier()?;
    while t.eat_symbol(".") {
        name = format!("{name}.{}", t.identifier()?);
    }
    Ok(name)
}

fn show(t: &mut Tokens<'_>) -> Result<Statement> {
    if t.eat(&["all"]) {
        return Ok(Statement::ShowAll);
    }
    Ok(Statement::Show(setting_name(t)?))
}

fn set(t: &mut Tokens<'_>) -> Result<Statement> {
    if t.eat(&["session", "characteristics", "as", "transaction"]) {
        return Ok(Statement::SetTransaction {
            modes: modes(t)?,
            session: true,
        });
    }
    if t.eat(&["transaction"]) {
        if t.looking_at(&["snapshot"]) {
            return Err(Error::unsupported("SET TRANSACTION SNAPSHOT"));
        }
        return Ok(Statement::SetTransaction {
            modes: modes(t)?,
            session: false,
        });
    }
    if t.eat(&["constraints"]) {
        while !t.at_end() && !t.looking_at(&["deferred"]) && !t.looking_at(&["immediate"]) {
            t.next_text();
        }
        let deferred = t.eat(&["deferred"]);
        if !deferred {
            t.expect(&["immediate"])?;
        }
        return Ok(Statement::SetConstraints { deferred });
    }
    let local = t.eat(&["local"]);
    if !local {
        t.eat(&["session"]);
    }
    let time_zone = t.looking_at(&["time", "zone"]);
    let name = if t.eat(&["names"]) {
        "client_encoding".to_string()
    } else if t.eat(&["schema"]) {
        "search_path".to_string()
    } else {
        let name = setting_name(t)?;
        if !time_zone && !t.eat(&["to"]) {
            t.expect_symbol("=")?;
        }
        name
    };
    let value = set_value(t, &name)?;
    Ok(Statement::Set { name, value, local })
}

fn set_value(t: &mut Tokens<'_>, name: &str) -> Result<SetValue> {
    if t.eat(&["default"]) || (name == "timezone" && t.eat(&["local"])) {
        return Ok(SetValue::Default);
    }
    if name == "timezone" && t.eat(&["interval"]) {
        let offset = t.string()?;
        t.rest();
        return Ok(SetValue::Text(offset));
    }
    let mut parts = Vec::new();
    loop {
        if let Some(number) = t.try_number() {
            parts.push(number);
        } else if let Some(text) = t.try_string()? {
            let many = !parts.is_empty();
            parts.push(if many { quoted(&text) } else { text });
        } else {
            let word = t.identifier()?;
            let plain =
                name != "search_path" || word.chars().all(|c| c.is_alphanumeric() || c == '_');
            parts.push(if plain { word } else { quoted(&word) });
        }
        if !t.eat_symbol(",") {
            break;
        }
    }
    Ok(SetValue::Text(parts.join(", ")))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn discard(t: &mut Tokens<'_>) -> Result<Statement> {
    let what = if t.eat(&["all"]) {
        Discard::All
    } else if t.eat(&["plans"]) {
        Discard::Plans
    } else if t.eat(&["sequences"]) {
        Discard::Sequences
    } else if t.eat_one_of(&["temp", "temporary"]) {
        Discard::Temporary
    } else {
        return Err(t.unexpected());
    };
    Ok(Statement::Discard(what))
}

fn prepare(t: &mut Tokens<'_>) -> Result<Statement> {
    let name = t.identifier()?;
    let mut types = Vec::new();
    if !t.looking_at(&["as"]) {
        types = split_top_level(t.parenthesised()?);
    }
    t.expect(&["as"])?;
    Ok(Statement::Prepare {
        name,
        types,
        statement: t.rest().to_string(),
    })
}

/// Splits at commas outside of parentheses: `int, numeric(10,2)`.
fn split_top_level(list: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for c in list.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
        .into_iter()
        .map(|part| part.trim().to_string())
        .collect()
}

fn declare(t: &mut Tokens<'_>) -> Result<Statement> {
    let name = t.identifier()?;
    if t.eat(&["binary"]) {
        return Err(Error::unsupported("DECLARE … BINARY CURSOR"));
    }
    let mut scroll = None;
    loop {
        if t.eat(&["no", "scroll"]) {
            scroll = Some(false);
        } else if t.eat(&["scroll"]) {
            scroll = Some(true);
        } else if !t.eat_one_of(&["insensitive", "asensitive"]) {
            break;
        }
    }
    t.expect(&["cursor"])?;
    let hold = t.eat(&["with", "hold"]);
    t.eat(&["without", "hold"]);
    t.expect(&["for"])?;
    Ok(Statement::Declare {
        name,
        hold,
        scroll,
        query: parse_query(t.rest())?,
    })
}

fn explain(t: &mut Tokens<'_>) -> Result<Statement> {
    let (mut analyze, mut verbose, mut json) = (false, false, false);
    if t.eat_symbol("(") {
        loop {
            let option = t.identifier()?;
            if option == "format" {
                match t.identifier()?.as_str() {
                    "text" => {}
                    "json" => json = true,
                    other => {
                        return Err(Error::unsupported(format!("EXPLAIN (FORMAT {other})")));
                    }
                }
            } else {
                let off = t.eat_one_of(&["off", "false"]) || t.try_number().as_deref() == Some("0");
                if !off {
                    t.eat_one_of(&["on", "true"]);
                }
                match option.as_str() {
                    "analyze" => analyze = !off,
                    "verbose" => verbose = !off,
                    "costs" | "buffers" | "timing" | "summary" | "settings" | "wal" | "memory" => {}
                    other => {
                        return Err(Error::syntax(format!(
                            "unrecognized EXPLAIN option \"{other}\""
                        )));
                    }
                }
            }
            if !t.eat_symbol(",") {
                break;
            }
        }
        t.expect_symbol(")")?;
    } else {
        analyze = t.eat_one_of(&["analyze", "analyse"]);
        verbose = t.eat(&["verbose"]);
    }
    // Here and not after the fact: each EXPLAIN in the rest would be a level of recursion.
    if t.looking_at(&["explain"]) {
        return Err(t.unexpected());
    }
    let statement = Box::new(Statement::parse(t.rest())?);
    match statement.as_ref() {
        Statement::Query(_)
        | Statement::Change(_)
        | Statement::ChangeWith(_)
        | Statement::Execute { .. }
        | Statement::CreateTableAs { .. }
        | Statement::Declare { .. } => Ok(Statement::Explain {
            analyze,
            verbose,
            json,
            statement,
        }),
        _ => Err(t.unexpected()),
    }
}

fn maintenance(t: &mut Tokens<'_>, tag: &'static str) -> Result<Statement> {
    let mut relations = Vec::new();
    if t.eat_symbol("(") {
        while !t.eat_symbol(")") {
            if t.next_text().is_none() {
                return Err(t.unexpected());
            }
        }
    }
    while t.eat_one_of(&["full", "freeze", "verbose", "analyze", "analyse"]) {}
    while !t.at_end() {
        relations.push(t.qualified_name()?);
        if t.eat_symbol("(") {
            while !t.eat_symbol(")") {
                t.identifier()?;
                t.eat_symbol(",");
            }
        }
        if !t.eat_symbol(",") {
            break;
        }
    }
    Ok(Statement::Maintenance { tag, relations })
}

fn lock(t: &mut Tokens<'_>) -> Result<Statement> {
    t.eat(&["table"]);
    let mut relations = Vec::new();
    loop {
        t.eat(&["only"]);
        relations.push(t.qualified_name()?);
        t.eat_symbol("*");
        if !t.eat_symbol(",") {
            break;
        }
    }
    let mut exclusive = true;
    if t.eat(&["in"]) {
        // Modes that let other writers in only keep definitions away.
        exclusive = !(t.eat(&["access", "share"])
            || t.eat(&["row", "share"])
            || t.eat(&["row", "exclusive"]));
        while !t.eat(&["mode"]) {
            if t.next_text().is_none() {
                return Err(t.unexpected());
            }
        }
    }
    let no_wait = t.eat(&["nowait"]);
    Ok(Statement::LockTable {
        relations,
        exclusive,
        no_wait,
    })
}
