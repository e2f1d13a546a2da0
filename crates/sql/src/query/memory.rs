//! The memory of queries: one budget for what they hold while they run and for the columns that stay
//! between them. The columns give way.

use super::columns::ColumnCache;
use datafusion::common::Result;
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};
use std::fmt;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(crate) struct QueryMemory {
    queries: FairSpillPool,
    columns: Arc<ColumnCache>,
}

impl QueryMemory {
    pub fn new(bytes: usize, columns: Arc<ColumnCache>) -> Self {
        QueryMemory {
            queries: FairSpillPool::new(bytes),
            columns,
        }
    }

    fn changed(&self) {
        self.columns.lend(self.queries.reserved());
    }
}

impl fmt::Display for QueryMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} beside decoded columns", self.queries)
    }
}

impl MemoryPool for QueryMemory {
    fn name(&self) -> &str {
        "queries"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.queries.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.queries.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.queries.grow(reservation, additional);
        self.changed();
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.queries.shrink(reservation, shrink);
        self.changed();
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.queries.try_grow(reservation, additional)?;
        self.changed();
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.queries.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.queries.memory_limit()
    }
}
