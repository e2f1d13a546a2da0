//! Portals: bound statements by name.

use super::prepared::Prepared;
use crate::response::{RowCursor, RowsTag};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::{Datum, Error, Result, SqlState};

/// Named portals of one transaction; guards memory.
const MAX_PORTALS: usize = 10_000;

/// Format codes of result columns as Bind gave them: none, one for all, or one a column.
pub type Formats = SmallVec<[i16; 4]>;

/// A bound statement, or one that has sent some of its rows.
pub struct Portal {
    pub prepared: Arc<Prepared>,
    pub params: Vec<Datum>,
    pub formats: Formats,
    pub state: PortalState,
}

pub enum PortalState {
    New,
    /// Some rows were sent; these are left.
    Suspended(RowCursor, RowsTag),
    Done(RowsTag),
}

/// The portals of a session. The unnamed one, which most statements use, has a place of its own.
#[derive(Default)]
pub struct Portals {
    unnamed: Option<Portal>,
    named: BTreeMap<String, Portal>,
}

impl Portals {
    /// Whether a portal of this name may be made: the unnamed one always, in place of the last.
    pub fn check_new(&self, name: &str) -> Result<()> {
        if self.named.contains_key(name) {
            return Err(Error::new(
                SqlState::DUPLICATE_CURSOR,
                format!("cursor \"{name}\" already exists"),
            ));
        }
        if !name.is_empty() && self.named.len() >= MAX_PORTALS {
            return Err(Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!("more than {MAX_PORTALS} portals in a transaction"),
            ));
        }
        Ok(())
    }

    pub fn insert(&mut self, name: &str, portal: Portal) {
        match name {
            "" => self.unnamed = Some(portal),
            name => {
                self.named.insert(name.to_string(), portal);
            }
        }
    }

    pub fn get(&self, name: &str) -> Option<&Portal> {
        match name {
            "" => self.unnamed.as_ref(),
            name => self.named.get(name),
        }
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut Portal> {
        match name {
            "" => self.unnamed.as_mut(),
            name => self.named.get_mut(name),
        }
    }

    pub fn remove(&mut self, name: &str) {
        match name {
            "" => self.unnamed = None,
            name => {
                self.named.remove(name);
            }
        }
    }

    pub fn clear(&mut self) {
        self.unnamed = None;
        self.named.clear();
    }
}
