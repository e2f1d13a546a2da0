//! Tables for people, and the files that hold them.

use std::fs;

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};

/// A table with a header, drawn with plain characters so that it can be pasted anywhere.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table
}

/// Prints a page, and writes it and its chart below cargo's target folder.
pub fn publish(name: &str, page: &str, chart: &str) -> Result<()> {
    println!("{page}");
    let folder = crate::peer::target_folder().join("bench");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("{name}.md")), page)?;
    fs::write(folder.join(format!("{name}.svg")), chart)?;
    println!(
        "written: {0}/{name}.md and {0}/{name}.svg",
        folder.display()
    );
    Ok(())
}

/// The value that a share of the values does not exceed (nearest rank); 0 of none.
pub fn percentile(values: &[u64], share: f64) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<u64> = (1..=30).rev().collect();
        assert_eq!(percentile(&values, 0.5), 15);
        assert_eq!(percentile(&values, 0.99), 30);
        assert_eq!(percentile(&values, 1.0), 30);
        assert_eq!(percentile(&[], 0.5), 0);
    }
}
