//! Results on paper: a table, one line per value, or tab-separated for scripts.

use comfy_table::{CellAlignment, Table, presets};
use std::io::{self, Write};

/// Zero-width marks around a NULL, so that it can be dimmed after the table was laid out.
const NULL_MARK: &str = "\u{2060}";
const NULL_TEXT: &str = "NULL";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Table,
    Expanded,
    /// Expanded when the table is wider than the terminal.
    Auto,
    /// A header line, then one line per row, as COPY writes text.
    Tsv,
}

/// The rows of one result, or a part of them.
#[derive(Debug, Default)]
pub struct Rows {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Option<String>>>,
}

#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub format: Format,
    /// Terminal columns, if it is one.
    pub width: Option<usize>,
}

impl Style {
    pub fn print(&self, rows: &Rows, out: &mut impl Write) -> io::Result<()> {
        match self.format {
            Format::Tsv => tsv(rows, out),
            Format::Expanded => self.expanded(rows, out),
            Format::Table => self.table(rows, out),
            Format::Auto => match self.width {
                Some(width) if table_width(rows) > width => self.expanded(rows, out),
                _ => self.table(rows, out),
            },
        }
    }

    fn table(&self, rows: &Rows, out: &mut impl Write) -> io::Result<()> {
        if rows.columns.is_empty() {
            return Ok(());
        }
        let mut table = Table::new();
        table.load_preset(if self.width.is_some() {
            presets::UTF8_FULL_CONDENSED
        } else {
            presets::ASCII_FULL_CONDENSED
        });
        table.set_header(rows.columns.iter().map(|name| visible(name)));
        for row in &rows.rows {
            table.add_row(row.iter().map(|value| match value {
                Some(text) => visible(text),
                None => format!("{NULL_MARK}{NULL_TEXT}{NULL_MARK}"),
            }));
        }
        for at in numeric_columns(rows) {
            if let Some(column) = table.column_mut(at) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(out, "{}", self.dim_nulls(&table.to_string()))
    }

    fn expanded(&self, rows: &Rows, out: &mut impl Write) -> io::Result<()> {
        let width = rows.columns.iter().map(|name| name.chars().count()).max();
        let width = width.unwrap_or(0);
        for (number, row) in rows.rows.iter().enumerate() {
            writeln!(out, "─[ row {} ]{}", number + 1, "─".repeat(width))?;
            for (name, value) in rows.columns.iter().zip(row) {
                let value = match value {
                    Some(text) => visible(text).replace('\n', &format!("\n{:width$} │ ", "")),
                    None => format!("{NULL_MARK}{NULL_TEXT}{NULL_MARK}"),
                };
                writeln!(out, "{name:width$} │ {}", self.dim_nulls(&value))?;
            }
        }
        Ok(())
    }

    fn dim_nulls(&self, text: &str) -> String {
        let marked = format!("{NULL_MARK}{NULL_TEXT}{NULL_MARK}");
        match self.width {
            Some(_) => text.replace(&marked, &format!("{DIM}{NULL_TEXT}{RESET}")),
            None => text.replace(&marked, NULL_TEXT),
        }
    }
}

/// Control characters would upset the terminal and the layout.
fn visible(text: &str) -> String {
    if !text.contains(|c: char| c.is_control() || c == '\u{2060}') {
        return text.to_string();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push('\n'),
            '\t' => out.push_str("    "),
            '\r' => out.push_str("\\r"),
            '\u{2060}' => {}
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// Columns whose values all are numbers. The simple protocol's rows come without types here.
fn numeric_columns(rows: &Rows) -> Vec<usize> {
    (0..rows.columns.len())
        .filter(|at| {
            let mut values = rows.rows.iter().filter_map(|row| row.get(*at)?.as_deref());
            let first = values.next();
            first.is_some_and(is_number) && values.all(is_number)
        })
        .collect()
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit()) && text.parse::<f64>().is_ok()
        || matches!(text, "NaN" | "Infinity" | "-Infinity")
}

fn table_width(rows: &Rows) -> usize {
    let widest_line = |text: &str| text.lines().map(|l| l.chars().count()).max().unwrap_or(0);
    let columns = rows.columns.iter().enumerate().map(|(at, name)| {
        let values = rows.rows.iter().filter_map(|row| row.get(at));
        let widest = values.map(|v| v.as_deref().map_or(NULL_TEXT.len(), widest_line));
        // Borders and padding.
        widest.max().unwrap_or(0).max(widest_line(name)) + 3
    });
    columns.sum::<usize>() + 1
}

fn tsv(rows: &Rows, out: &mut impl Write) -> io::Result<()> {
    let line = |values: &mut dyn Iterator<Item = Option<&str>>| {
        let cells: Vec<String> = values
            .map(|value| value.map_or_else(|| "\\N".to_string(), escape))
            .collect();
        cells.join("\t")
    };
    if !rows.columns.is_empty() {
        let mut names = rows.columns.iter().map(|name| Some(name.as_str()));
        writeln!(out, "{}", line(&mut names))?;
    }
    for row in &rows.rows {
        writeln!(out, "{}", line(&mut row.iter().map(Option::as_deref)))?;
    }
    Ok(())
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(format: Format, width: Option<usize>) -> String {
        let rows = Rows {
            columns: vec!["id".into(), "name".into()],
            rows: vec![
                vec![Some("1".into()), Some("a\tb".into())],
                vec![Some("20".into()), None],
            ],
        };
        let mut out = Vec::new();
        Style { format, width }
            .print(&rows, &mut out)
            .expect("memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn tables_align_numbers_right() {
        assert_eq!(
            printed(Format::Table, None),
            "+----+--------+\n\
             | id | name   |\n\
             +=============+\n\
             |  1 | a    b |\n\
             | 20 | NULL   |\n\
             +----+--------+\n"
        );
        assert!(printed(Format::Table, Some(80)).contains("\x1b[2mNULL\x1b[0m"));
    }

    #[test]
    fn wide_tables_turn_into_lines() {
        assert!(printed(Format::Auto, Some(10)).starts_with("─[ row 1 ]"));
        assert!(printed(Format::Auto, Some(100)).starts_with('┌'));
    }

    #[test]
    fn scripts_get_one_line_per_row() {
        assert_eq!(printed(Format::Tsv, None), "id\tname\n1\ta\\tb\n20\t\\N\n");
    }
}
