//! How a running statement's context reaches functions inside a DataFusion plan.
//!
//! DataFusion hands every function call its `ConfigOptions`; ours carry the [`StatementContext`] as
//! an extension. So plans hold no context and can be cached.

use super::columns::ColumnCache;
use crate::context::StatementContext;
use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::common::{DataFusionError, Result};
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// The statement in whose name a plan runs.
#[derive(Clone)]
pub struct Statement {
    context: Arc<StatementContext>,
    columns: Option<Arc<ColumnCache>>,
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Statement")
    }
}

impl Statement {
    /// Without a cache, scans read the store.
    pub fn new(context: Arc<StatementContext>, columns: Option<Arc<ColumnCache>>) -> Self {
        Statement { context, columns }
    }

    /// The decoded columns that the statement may use and add to.
    pub fn columns(options: &ConfigOptions) -> Option<&Arc<ColumnCache>> {
        options.extensions.get::<Statement>()?.columns.as_ref()
    }

    /// The context of the statement that this configuration belongs to.
    pub fn of(options: &ConfigOptions) -> Result<&Arc<StatementContext>> {
        options
            .extensions
            .get::<Statement>()
            .map(|statement| &statement.context)
            .ok_or_else(|| DataFusionError::Internal("plan runs outside a statement".into()))
    }
}

impl ConfigExtension for Statement {
    const PREFIX: &'static str = "phantom";
}

impl ExtensionOptions for Statement {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, _value: &str) -> Result<()> {
        Err(DataFusionError::Configuration(format!(
            "phantom.{key} cannot be set"
        )))
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}
