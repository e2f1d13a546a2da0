//! The grammar of CREATE and ALTER SEQUENCE.

use super::ExtraStatement;
use super::words::Words;
use crate::ddl::alter_sequence::AlterSequence;
use crate::ddl::sequence::integer;
use sqlparser::ast::{DataType, ObjectName, SequenceOptions};
use sqlparser::tokenizer::Token;
use types::Result;

pub(super) fn create_sequence_statement(words: &mut Words) -> Result<ExtraStatement> {
    let if_not_exists = words.accept("if not exists");
    let name = words.object_name()?;
    let mut parts = SequenceParts::default();
    while let Some(token) = words.peek() {
        if *token == Token::SemiColon {
            break;
        }
        if !parts.accept(words)? {
            return Err(words.unexpected());
        }
    }
    Ok(ExtraStatement::CreateSequence {
        name,
        if_not_exists,
        data_type: parts.data_type,
        options: parts.options,
        owned_by: parts.owned_by,
    })
}

pub(super) fn alter_sequence_statement(words: &mut Words) -> Result<ExtraStatement> {
    let if_exists = words.accept("if exists");
    let mut alter = AlterSequence {
        name: words.object_name()?,
        if_exists,
        data_type: None,
        options: Vec::new(),
        restart: None,
        owned_by: None,
        owner: None,
        rename: None,
        schema: None,
    };
    let mut parts = SequenceParts::default();
    while let Some(token) = words.peek() {
        if *token == Token::SemiColon {
            break;
        }
        if words.accept("restart") {
            let with = words.accept("with");
            let value = matches!(
                words.peek(),
                Some(Token::Number(..) | Token::Minus | Token::Plus)
            );
            alter.restart = Some(if with || value {
                Some(integer(&words.number()?)?)
            } else {
                None
            });
        } else if words.accept("owner to") {
            alter.owner = Some(words.ident()?);
        } else if words.accept("rename to") {
            alter.rename = Some(words.ident()?);
        } else if words.accept("set schema") {
            alter.schema = Some(words.ident()?);
        } else if !parts.accept(words)? {
            return Err(words.unexpected());
        }
    }
    alter.data_type = parts.data_type;
    alter.options = parts.options;
    alter.owned_by = parts.owned_by;
    Ok(ExtraStatement::AlterSequence(alter))
}

/// What CREATE and ALTER SEQUENCE share, in any order.
#[derive(Default)]
pub(super) struct SequenceParts {
    data_type: Option<DataType>,
    pub(super) options: Vec<SequenceOptions>,
    owned_by: Option<ObjectName>,
}

impl SequenceParts {
    pub(super) fn accept(&mut self, words: &mut Words) -> Result<bool> {
        if words.accept("as") {
            self.data_type = Some(words.data_type()?);
        } else if words.accept("increment") {
            words.accept("by");
            let value = words.number()?;
            self.options.push(SequenceOptions::IncrementBy(value, true));
        } else if words.accept("no minvalue") {
            self.options.push(SequenceOptions::MinValue(None));
        } else if words.accept("minvalue") {
            let value = words.number()?;
            self.options.push(SequenceOptions::MinValue(Some(value)));
        } else if words.accept("no maxvalue") {
            self.options.push(SequenceOptions::MaxValue(None));
        } else if words.accept("maxvalue") {
            let value = words.number()?;
            self.options.push(SequenceOptions::MaxValue(Some(value)));
        } else if words.accept("start") {
            words.accept("with");
            let value = words.number()?;
            self.options.push(SequenceOptions::StartWith(value, true));
        } else if words.accept("cache") {
            let value = words.number()?;
            self.options.push(SequenceOptions::Cache(value));
        } else if words.accept("no cycle") {
            self.options.push(SequenceOptions::Cycle(true));
        } else if words.accept("cycle") {
            self.options.push(SequenceOptions::Cycle(false));
        } else if words.accept("owned by") {
            self.owned_by = Some(words.object_name()?);
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}
