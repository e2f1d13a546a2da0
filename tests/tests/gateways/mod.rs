//! Two gateways over one store: each has its own picture of the catalog, its own plans, caches and
//! counters, and what one defines must hold at the other.

mod check;
mod random;
mod stories;

use sql::instance::{Instance, InstanceOptions, StartupParams};
use sql::response::Response;
use sql::session::Session;
use std::sync::Arc;
use types::{Datum, Error};

pub struct World {
    store: Arc<node::Store>,
    pub gateways: [Arc<Instance>; 2],
}

impl World {
    pub async fn new() -> World {
        let store = node::testing::memory_store().expect("a store");
        let gateways = [open(&store).await, open(&store).await];
        World { store, gateways }
    }

    /// A session at one of the gateways.
    pub async fn client(&self, gateway: usize) -> Client {
        Client::new(&self.gateways[gateway], "phantom")
            .await
            .expect("the role exists")
    }

    pub async fn clients(&self) -> (Client, Client) {
        (self.client(0).await, self.client(1).await)
    }

    pub async fn end(self) {
        check::agreement(&self).await;
        self.store.shutdown().await;
    }
}

async fn open(store: &Arc<node::Store>) -> Arc<Instance> {
    let options = InstanceOptions::default();
    let coordinator = store.coordinator(options.transaction_limits());
    let instance = Instance::open(coordinator, node::testing::real_env(), options);
    instance.await.expect("the catalog is readable")
}

pub struct Client {
    pub session: Session,
}

impl Client {
    pub async fn new(gateway: &Arc<Instance>, user: &str) -> Result<Client, Error> {
        let parameters = StartupParams {
            user: user.to_string(),
            database: "phantom".to_string(),
            ..StartupParams::default()
        };
        let session = gateway.connect(parameters).await?;
        Ok(Client { session })
    }

    /// Runs a query string: the last statement's rows with `|` between columns, or its tag.
    pub async fn run(&mut self, sql: &str) -> Result<Vec<String>, Error> {
        let mut query = self.session.simple(sql);
        let mut output = Vec::new();
        while let Some(response) = self.session.next_simple(&mut query).await {
            output = self.read(response?).await?;
        }
        Ok(output)
    }

    pub async fn ok(&mut self, sql: &str) -> Vec<String> {
        let result = self.run(sql).await;
        result.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The state of the error that a query string gives.
    pub async fn fails(&mut self, sql: &str) -> String {
        match self.run(sql).await {
            Ok(output) => panic!("{sql}: {output:?}"),
            Err(error) => error.state.as_str().to_string(),
        }
    }

    pub async fn read(&mut self, response: Response) -> Result<Vec<String>, Error> {
        let (columns, rows) = match response {
            Response::Rows { set, .. } => {
                let columns = Arc::clone(&set.columns);
                match set.collect().await {
                    Ok(rows) => (columns, rows),
                    Err(error) => {
                        self.session.fail();
                        return Err(error);
                    }
                }
            }
            Response::Complete(tag) => return Ok(vec![tag]),
            _ => return Ok(Vec::new()),
        };
        let context = self.session.format_context();
        let row = |row: &Vec<Datum>| {
            let cells = row.iter().zip(columns.iter());
            let cells = cells.map(|(datum, column)| match datum {
                Datum::Null => "null".to_string(),
                datum => datum.to_text(&column.sql_type, context),
            });
            cells.collect::<Vec<_>>().join("|")
        };
        Ok(rows.iter().map(row).collect())
    }
}
