//! Effects on a session that tests of single statements do without.

use crate::catalog::descriptor::ObjectId;
use crate::context::SessionEffects;
use types::{MaybeReady, Result};

/// Every sequence stands at 1; there are no settings.
pub struct FixedEffects;

impl SessionEffects for FixedEffects {
    fn nextval(&self, _: ObjectId) -> MaybeReady<Result<i64>> {
        MaybeReady::ready(Ok(1))
    }
    fn currval(&self, _: ObjectId) -> Result<i64> {
        Ok(1)
    }
    fn lastval(&self) -> Result<i64> {
        Ok(1)
    }
    fn setval(&self, _: ObjectId, value: i64, _: bool) -> MaybeReady<Result<i64>> {
        MaybeReady::ready(Ok(value))
    }
    fn setting(&self, _: &str) -> Option<String> {
        None
    }
    fn set_setting(&self, _: &str, value: &str, _: bool) -> Result<String> {
        Ok(value.into())
    }
}
