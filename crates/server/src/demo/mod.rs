//! `phantomdb demo`: nodes with a sample database, and the shell on the first. Leaving the shell stops
//! the nodes and removes their folders; so do SIGTERM and the end of this process.

mod node;
mod shop;

use crate::cli::DemoArgs;
use crate::shell::{Shell, Source};
use bytes::Bytes;
use futures::future::join_all;
use futures::{SinkExt, pin_mut};
use indicatif::{ProgressBar, ProgressStyle};
use node::DemoNode;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;
use tokio_postgres::{Client, NoTls};

/// Generated rows are sent in pieces of about this many bytes.
const PIECE_BYTES: usize = 64 << 10;
/// What a shell's exit code is after SIGTERM.
const EXIT_TERMINATED: i32 = 143;

/// More than this a laptop would not run well.
const MOST_NODES: u32 = 9;

type Nodes = Arc<Mutex<Vec<DemoNode>>>;

pub fn run(args: &DemoArgs) -> Result<ExitCode, String> {
    if !(1..=MOST_NODES).contains(&args.nodes) {
        return Err(format!("--nodes must be 1 to {MOST_NODES}"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let nodes: Nodes = Arc::default();
    runtime.spawn(stop_on_signal(Arc::clone(&nodes)));
    let result = run_with(&runtime, args, &nodes);
    runtime.block_on(stop(&nodes));
    result
}

async fn start(args: &DemoArgs, nodes: &Nodes) -> Result<(), String> {
    for _ in 0..args.nodes {
        let join = nodes.lock().await.first().map(|first| first.rpc.clone());
        let mut started = DemoNode::start(join.as_deref()).await?;
        if args.keep {
            started.keep_folder();
        }
        nodes.lock().await.push(started);
    }
    Ok(())
}

fn run_with(runtime: &Runtime, args: &DemoArgs, nodes: &Nodes) -> Result<ExitCode, String> {
    runtime.block_on(start(args, nodes))?;
    let shown = runtime.block_on(nodes.lock());
    let urls: Vec<String> = shown.iter().map(|node| node.url.clone()).collect();
    let folders = shown.iter().filter_map(|node| node.folder());
    let folders: Vec<String> = folders.map(|path| path.display().to_string()).collect();
    drop(shown);
    let url = urls.first().ok_or("there is no node")?.clone();
    runtime
        .block_on(load(&url))
        .map_err(|error| format!("loading the sample database failed: {}", chain(&error)))?;

    let interactive = std::io::stdin().is_terminal();
    if interactive {
        introduce(&urls, if args.keep { &folders } else { &[] });
    }
    let mut shell = Shell::connect(&url).map_err(|error| error.0)?;
    if interactive {
        shell.interact();
        Ok(ExitCode::SUCCESS)
    } else {
        eprintln!("{url}");
        Ok(shell.run_sources(&[Source::Stdin]))
    }
}

/// All at once: nobody is left to hand leases to.
async fn stop(nodes: &Nodes) {
    let mut nodes = nodes.lock().await;
    join_all(nodes.iter_mut().map(DemoNode::stop)).await;
    nodes.clear();
}

/// The shell's line editor blocks its thread, so the process is ended from here.
async fn stop_on_signal(nodes: Nodes) {
    let (Ok(mut terminate), Ok(mut hangup)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
    ) else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    stop(&nodes).await;
    std::process::exit(EXIT_TERMINATED);
}

fn introduce(urls: &[String], kept: &[String]) {
    println!("\nA web shop is loaded: customers, products, orders, order_items.");
    for url in urls {
        println!("  psql, drivers:  {url}");
    }
    if let Some(url) = urls.first() {
        println!("  another shell:  phantomdb sql {url}");
    }
    for folder in kept {
        println!("  kept on exit:   {folder}");
    }
    println!("\nTry:\n");
    for query in shop::SAMPLE_QUERIES {
        println!("{query}\n");
    }
    println!("\\? for help, \\q to leave. Leaving stops the node and removes its data.\n");
}

/// Ids whose rows are loaded by one COPY: its transaction's memory is what the node grows by.
const COPY_IDS: u32 = 2500;

async fn load(url: &str) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move {
        // An error shows in the statement that meets it.
        let _ = connection.await;
    });
    let bar = ProgressBar::new(u64::from(
        shop::CUSTOMERS + shop::PRODUCTS + shop::ORDERS + shop::ORDERS,
    ));
    if let Ok(style) = ProgressStyle::with_template("{msg:24} {wide_bar} {percent:>3} %") {
        bar.set_style(style);
    }
    bar.set_message("creating tables");
    for statement in shop::SCHEMA {
        client.batch_execute(statement).await?;
    }
    copy(&client, &bar, "customers", shop::CUSTOMERS, shop::customer).await?;
    copy(&client, &bar, "products", shop::PRODUCTS, shop::product).await?;
    copy(&client, &bar, "orders", shop::ORDERS, shop::order).await?;
    copy(
        &client,
        &bar,
        "order_items",
        shop::ORDERS,
        shop::order_items,
    )
    .await?;
    bar.finish_and_clear();
    Ok(())
}

async fn copy(
    client: &Client,
    bar: &ProgressBar,
    table: &'static str,
    count: u32,
    write: fn(u32, &mut String),
) -> Result<(), tokio_postgres::Error> {
    bar.set_message(format!("loading {table}"));
    let copy = format!("COPY {table} FROM STDIN");
    let mut first = 1;
    while first <= count {
        let last = count.min(first + COPY_IDS - 1);
        let sink = client.copy_in::<_, Bytes>(&copy).await?;
        pin_mut!(sink);
        let mut piece = String::new();
        for id in first..=last {
            write(id, &mut piece);
            if piece.len() >= PIECE_BYTES {
                sink.send(Bytes::from(std::mem::take(&mut piece))).await?;
            }
        }
        sink.send(Bytes::from(piece)).await?;
        sink.finish().await?;
        bar.inc(u64::from(last - first + 1));
        first = last + 1;
    }
    Ok(())
}

fn chain(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{} ({})", error.message(), error.code().code()),
        None => error.to_string(),
    }
}
