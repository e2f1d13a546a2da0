//! The `phantomdb` program.

use clap::Parser;
use server::cli::{Cli, Command};
use server::config::Config;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    server::memory::prefer_small_pages();
    let result = match Cli::parse().command {
        Command::Start(args) => start(&args),
        Command::Version => {
            println!("phantomdb {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
        Command::Demo(args) => server::demo::run(&args),
        Command::Sql(args) => server::shell::run(&args),
        Command::Cert(command) => server::cert::run(&command),
        Command::Proxy(args) => server::proxy::run(&args),
        Command::Node(command) => server::operate::node(&command),
        Command::Cluster(command) => server::operate::cluster(&command),
    };
    result.unwrap_or_else(|error| {
        eprintln!("phantomdb: {error}");
        ExitCode::FAILURE
    })
}

fn start(args: &server::cli::StartArgs) -> Result<ExitCode, String> {
    let config = Config::load(args).map_err(|error| error.to_string())?;
    server::logging::install(&config.log)?;
    server::start::run(config).map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}
