use anyhow::Result;
#[derive(clap::Subcommand)]
pub enum Against {
    Postgres,
}
pub async fn run(_: Against) -> Result<bool> {
    anyhow::bail!("not yet")
}
