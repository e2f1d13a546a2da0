//! Tables for people.

use comfy_table::{ContentArrangement, Table, presets};

/// A table with a header, drawn with plain characters so that it can be pasted anywhere.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table
}
