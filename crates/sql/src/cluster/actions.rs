//! What SQL does to the cluster: the functions of schema `phantom` that act.
//!
//! - A call acts when the statement runs, and is no part of its transaction: ROLLBACK does not undo it.
//! - It acts once. So it stands in the select list of a query without FROM and WHERE, and nowhere else:
//!   `SELECT phantom.drain_node(2)` (`query::actions` sees to it; other places are 0A000).
//! - It is for superusers (42501), and refused in read-only transactions (25006).
//!
//! To add one: a method of [`ClusterActions`], and an entry in [`ACTIONS`].

use super::SCHEMA;
use crate::context::StatementContext;
use crate::functions::{ScalarFunction, Volatility, signature};
use std::sync::{Arc, LazyLock};
use txn::kv::{Key, Span};
use types::env::BoxFuture;
use types::{Datum, Error, Result, SqlState, SqlType, StoreId};

/// Acts on the cluster. What a method returns is shown to whoever called: what happens now.
pub trait ClusterActions: Send + Sync {
    /// The node gives its leases away and takes no more sessions. It keeps its replicas.
    fn drain_node(&self, node: StoreId) -> BoxFuture<Result<String>>;

    /// The node gives away all it holds, and leaves the cluster for good.
    fn decommission_node(&self, node: StoreId) -> BoxFuture<Result<String>>;

    /// The node shall serve again: the opposite of the two above, as long as it has not left.
    fn cancel_node(&self, node: StoreId) -> BoxFuture<Result<String>>;

    /// A new shard begins at this key; its number. 42710 if one does already, 22023 for a key that must not be split
    /// at.
    fn split_at(&self, at: Key) -> BoxFuture<Result<u64>>;

    /// The shard in which the middle of these keys lies is split there; the new one's number. 22023 if there are not
    /// two.
    fn split_middle(&self, span: Span) -> BoxFuture<Result<u64>>;
}

/// A function that acts.
pub(crate) struct Action {
    /// Its name and types. Its `evaluate` is never called.
    pub function: ScalarFunction,
    /// `phantom.` and the name.
    pub full_name: String,
    run: Run,
}

type Run = fn(Call) -> BoxFuture<Result<Datum>>;

/// One call that may act.
pub(crate) struct Call {
    /// Names among the arguments are looked up in its catalog.
    pub context: Arc<StatementContext>,
    pub arguments: Vec<Datum>,
    /// The arguments' types.
    pub types: Vec<SqlType>,
}

impl Call {
    pub(super) fn cluster(&self) -> Result<Arc<dyn ClusterActions>> {
        let cluster = self.context.effects.cluster_actions();
        cluster.ok_or_else(|| {
            Error::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                "this node belongs to no cluster",
            )
        })
    }

    /// The only argument as a node's number.
    fn node(&self) -> Result<StoreId> {
        let number = match self.arguments.as_slice() {
            [Datum::Int8(number)] => u64::try_from(*number).ok(),
            _ => None,
        };
        number.map(StoreId).ok_or_else(|| {
            Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "a node's number is not negative",
            )
        })
    }
}

static ACTIONS: LazyLock<Vec<Action>> = LazyLock::new(|| {
    vec![
        action("drain_node(int8) text", |call| {
            Box::pin(async move { shown(call.cluster()?.drain_node(call.node()?).await) })
        }),
        action("decommission_node(int8) text", |call| {
            Box::pin(async move { shown(call.cluster()?.decommission_node(call.node()?).await) })
        }),
        action("cancel_node(int8) text", |call| {
            Box::pin(async move { shown(call.cluster()?.cancel_node(call.node()?).await) })
        }),
        action("split_shard(text, variadic any) int8", |call| {
            Box::pin(super::split::split_shard(call))
        }),
    ]
});

/// Signatures are as [`crate::functions`] has them. NULL arguments give NULL without a call.
fn action(text: &'static str, run: Run) -> Action {
    let function = signature(text, Volatility::Volatile);
    let full_name = format!("{SCHEMA}.{}", function.name);
    Action {
        function,
        full_name,
        run,
    }
}

fn shown(text: Result<String>) -> Result<Datum> {
    text.map(|text| Datum::Text(text.into()))
}

impl Action {
    /// The action of this name, if schema `phantom` has one.
    pub fn named(schema: &str, name: &str) -> Option<&'static Action> {
        let mut all = ACTIONS.iter();
        all.find(|action| schema == SCHEMA && action.function.name == name)
    }

    /// The action that a plan calls by this name.
    pub fn of_full_name(full_name: &str) -> Option<&'static Action> {
        ACTIONS.iter().find(|action| action.full_name == full_name)
    }

    /// Acts, if the session may.
    pub async fn run(
        &self,
        context: &Arc<StatementContext>,
        arguments: Vec<Datum>,
        types: &[SqlType],
    ) -> Result<Datum> {
        self.refuse_unless_superuser(context)?;
        if context.read_only {
            let message = format!(
                "cannot execute {}() in a read-only transaction",
                self.full_name
            );
            return Err(Error::new(SqlState::READ_ONLY_SQL_TRANSACTION, message));
        }
        if self.function.strict && arguments.iter().any(Datum::is_null) {
            return Ok(Datum::Null);
        }
        let acting = (self.run)(Call {
            context: Arc::clone(context),
            arguments,
            types: types.to_vec(),
        });
        let canceled = Box::pin(context.cancel.canceled());
        match futures::future::select(acting, canceled).await {
            futures::future::Either::Left((result, _)) => result,
            futures::future::Either::Right(_) => Err(context.cancel.error()),
        }
    }

    fn refuse_unless_superuser(&self, context: &StatementContext) -> Result<()> {
        let role = context.catalog.role_by_name(&context.settings.user);
        if role.is_some_and(|role| role.superuser) {
            return Ok(());
        }
        let message = format!("permission denied for function {}", self.full_name);
        Err(Error::new(SqlState::INSUFFICIENT_PRIVILEGE, message)
            .hint("Only superusers may act on the cluster."))
    }
}
