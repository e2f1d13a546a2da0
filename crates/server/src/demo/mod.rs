//! `phantomdb demo`: nodes with a sample database, a proxy in front of them if there are several, and the shell.
//! Leaving the shell stops all of them and removes their folders; so do SIGTERM and the end of this process.

mod child;
mod node;
mod shop;

use crate::cli::DemoArgs;
use crate::shell::{Shell, Source};
use bytes::Bytes;
use child::{DemoChild, free};
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

/// The port of `phantomdb proxy`, or any free one.
const PROXY_ADDR: &str = "127.0.0.1:5440";

/// What the demo has started.
#[derive(Default)]
struct Started {
    nodes: Vec<DemoNode>,
    proxy: Option<DemoChild>,
}

type Processes = Arc<Mutex<Started>>;

pub fn run(args: &DemoArgs) -> Result<ExitCode, String> {
    if !(1..=MOST_NODES).contains(&args.nodes) {
        return Err(format!("--nodes must be 1 to {MOST_NODES}"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let processes = Processes::default();
    runtime.spawn(stop_on_signal(Arc::clone(&processes)));
    let result = run_with(&runtime, args, &processes);
    runtime.block_on(stop(&processes));
    result
}

async fn start(args: &DemoArgs, processes: &Processes) -> Result<(), String> {
    for _ in 0..args.nodes {
        let first = processes
            .lock()
            .await
            .nodes
            .first()
            .map(|node| node.rpc.clone());
        let mut node = DemoNode::start(first.as_deref()).await?;
        if args.keep {
            node.keep_folder();
        }
        processes.lock().await.nodes.push(node);
    }
    let mut started = processes.lock().await;
    if started.nodes.len() > 1 {
        let nodes: Vec<&str> = started.nodes.iter().map(|node| &node.rpc[..]).collect();
        let (join, listen) = (nodes.join(","), free(PROXY_ADDR)?);
        let arguments = [
            "proxy",
            "--join",
            &join,
            "--listen",
            &listen,
            "--http-addr",
            "none",
        ];
        started.proxy = Some(DemoChild::start(&arguments).await?);
    }
    Ok(())
}

fn run_with(runtime: &Runtime, args: &DemoArgs, processes: &Processes) -> Result<ExitCode, String> {
    runtime.block_on(start(args, processes))?;
    let started = runtime.block_on(processes.lock());
    let first = started.nodes.first().ok_or("there is no node")?;
    let loading = first.process.url.clone();
    let url = started
        .proxy
        .as_ref()
        .map_or(&loading, |proxy| &proxy.url)
        .clone();
    let introduction = introduction(&url, &started.nodes, args.keep);
    drop(started);
    runtime
        .block_on(load(&loading))
        .map_err(|error| format!("loading the sample database failed: {}", chain(&error)))?;

    let interactive = std::io::stdin().is_terminal();
    if interactive {
        println!("{introduction}");
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
async fn stop(processes: &Processes) {
    let mut started = std::mem::take(&mut *processes.lock().await);
    if let Some(proxy) = &mut started.proxy {
        proxy.stop().await;
    }
    join_all(started.nodes.iter_mut().map(DemoNode::stop)).await;
}

/// The shell's line editor blocks its thread, so the process is ended from here.
async fn stop_on_signal(processes: Processes) {
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
    stop(&processes).await;
    std::process::exit(EXIT_TERMINATED);
}

/// What a person is told before the first prompt.
fn introduction(url: &str, nodes: &[DemoNode], kept: bool) -> String {
    let mut text =
        String::from("\nA web shop is loaded: customers, products, orders, order_items.\n");
    let mut say = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    say(format!("  psql, drivers:  {url}"));
    say(format!("  another shell:  phantomdb sql {url}"));
    if nodes.len() > 1 {
        say("That is a proxy; behind it are".to_string());
        for (place, node) in nodes.iter().enumerate() {
            let pid = node.process.pid().unwrap_or_default();
            say(format!(
                "  node {}:         {} (process {pid})",
                place + 1,
                node.process.url
            ));
        }
        say(format!(
            "Any one of them may die: kill -9 one, and go on here. See them: phantomdb node ls --url {url}"
        ));
    }
    for folder in nodes.iter().filter(|_| kept).filter_map(DemoNode::folder) {
        say(format!("  kept on exit:   {}", folder.display()));
    }
    say("\nTry:\n".to_string());
    for query in shop::SAMPLE_QUERIES {
        say(format!("{query}\n"));
    }
    say("\\? for help, \\q to leave. Leaving stops the nodes and removes their data.".to_string());
    text
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
