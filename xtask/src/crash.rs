use anyhow::Result;
#[derive(clap::Args)]
pub struct Args {}
pub async fn run(_: Args) -> Result<bool> {
    anyhow::bail!("not yet")
}
