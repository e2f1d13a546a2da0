//! `phantomdb node` and `phantomdb cluster`: what an operator sees of a cluster and does to it, from a terminal.
//!
//! All of it is SQL on any node: the views and functions of schema `phantom` (`client` reaches a node, and
//! another when that one goes away). `picture` reads the cluster, `draw` prints it, `wait` follows a node that
//! gives away what it has.

mod client;
mod draw;
mod picture;
mod wait;

use crate::cli::{ClusterCommand, NodeAction, NodeCommand, Reach};
use client::Client;
use std::process::ExitCode;
use wait::Goal;

/// `phantomdb cluster status --check`: something is not as it should be.
const EXIT_UNWELL: u8 = 3;

/// `phantomdb node`.
pub fn node(command: &NodeCommand) -> Result<ExitCode, String> {
    match command {
        NodeCommand::Ls { reach } => run(reach, async |client| {
            print!("{}", draw::nodes(&picture::nodes(client).await?));
            Ok(ExitCode::SUCCESS)
        }),
        NodeCommand::Status { reach, node } => run(reach, async |client| {
            let known = picture::nodes(client).await?;
            let found = known.iter().find(|known| known.id == *node);
            let found = found.ok_or_else(|| format!("node {node} does not exist"))?;
            let (moves, events) = picture::about(client, *node).await?;
            print!("{}", draw::node(found, &moves, &events));
            Ok(ExitCode::SUCCESS)
        }),
        NodeCommand::Drain(action) => act(action, "drain_node", Some(Goal::Drained)),
        NodeCommand::Decommission(action) => act(action, "decommission_node", Some(Goal::Gone)),
        NodeCommand::Cancel { reach, node } => {
            let action = NodeAction {
                reach: reach.clone(),
                node: *node,
                no_wait: true,
            };
            act(&action, "cancel_node", None)
        }
    }
}

/// `phantomdb cluster`.
pub fn cluster(command: &ClusterCommand) -> Result<ExitCode, String> {
    let ClusterCommand::Status { reach, check } = command;
    run(reach, async |client| {
        let cluster = picture::cluster(client).await?;
        print!("{}", draw::cluster(&cluster));
        Ok(match *check && !cluster.complaints().is_empty() {
            true => ExitCode::from(EXIT_UNWELL),
            false => ExitCode::SUCCESS,
        })
    })
}

/// Says what is wanted of a node, and waits until it is so.
fn act(action: &NodeAction, function: &str, goal: Option<Goal>) -> Result<ExitCode, String> {
    let (number, goal) = (action.node, goal.filter(|_| !action.no_wait));
    run(&action.reach, async |client| {
        // So that the client can go on elsewhere when this node sends it away.
        let before = picture::nodes(client).await?;
        client.remember(before.iter().map(|node| node.sql_address.as_str()));
        let rows = client
            .query(&format!("SELECT phantom.{function}({number})"))
            .await?;
        let said = rows.into_iter().flatten().flatten().next();
        println!("{}", said.unwrap_or_default());
        if let Some(goal) = goal {
            let before = before.into_iter().find(|node| node.id == number);
            wait::until(client, number, goal, before).await?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Connects, and does the work in a runtime of its own.
fn run(
    reach: &Reach,
    work: impl AsyncFnOnce(&mut Client) -> Result<ExitCode, String>,
) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut client = Client::connect(&reach.url).await?;
        work(&mut client).await
    })
}
