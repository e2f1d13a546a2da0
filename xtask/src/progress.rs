//! Progress bars on stderr: nothing is drawn when stderr is not a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Steps of a bar that shows how time passes.
const TICK: Duration = Duration::from_millis(500);

/// A bar over a known number of steps.
pub fn bar(steps: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    if let Ok(style) =
        ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {elapsed} (left {eta}) {msg}")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Lets time pass, and shows how much.
pub async fn wait(what: &str, time: Duration) {
    let ticks = time.as_millis() / TICK.as_millis();
    let bar = bar(ticks as u64, what);
    for _ in 0..ticks {
        tokio::time::sleep(TICK).await;
        bar.inc(1);
    }
    bar.finish_and_clear();
}
