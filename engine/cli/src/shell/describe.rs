//! `\d`, `\dt`, `\di`, `\df`, `\h` and `.schema`: what the database has, as tables in the chosen format.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use triune_common::names::did_you_mean;
use triune_common::{Error, ErrorKind, Result};

use super::Shell;
use crate::catalog::{Catalog, FunctionEntry, TableEntry, matches_pattern, parse_name};
use crate::keywords::quote_name;
use crate::output::text::{visible, visible_lines};
use crate::output::{Format, TableOptions, open_sink};

impl Shell {
    /// The names now, or `cancelled` by Ctrl-C: tables may have to be opened for them.
    async fn catalog(&mut self) -> Result<Catalog> {
        self.interrupts.forget();
        tokio::select! {
            biased;
            () = self.interrupts.pressed() => Err(Error::new(ErrorKind::Cancelled, "the names were not waited for")),
            catalog = self.backend.catalog() => catalog,
        }
    }

    pub(super) async fn list_tables(&mut self, pattern: Option<&str>) -> Result<()> {
        let catalog = self.catalog().await?;
        let tables: Vec<&TableEntry> = catalog
            .tables
            .iter()
            .filter(|t| {
                pattern.is_none_or(|p| {
                    matches_pattern(p, &t.name) || matches_pattern(p, &format!("{}.{}", t.schema, t.name))
                })
            })
            .collect();
        if tables.is_empty() {
            return self.print(&match pattern {
                Some(p) => format!("No table matches {}.\n", visible(p)),
                None => "There are no tables yet.\n".to_owned(),
            });
        }
        self.show(&[
            ("schema", tables.iter().map(|t| Some(t.schema.clone())).collect()),
            ("name", tables.iter().map(|t| Some(t.name.clone())).collect()),
            ("kind", tables.iter().map(|t| Some(t.kind.clone())).collect()),
            ("columns", tables.iter().map(|t| Some(column_list(t))).collect()),
        ])
    }

    pub(super) async fn describe(&mut self, name: &str) -> Result<()> {
        let catalog = self.catalog().await?;
        for table in find_tables(&catalog, name)? {
            let heading = format!("{} {}.{}\n", table.kind, visible(&table.schema), visible(&table.name));
            if self.settings.format == Format::Table {
                self.print(&heading)?;
            }
            let columns = &table.columns;
            let mut shown = vec![
                ("column", columns.iter().map(|c| Some(c.name.clone())).collect()),
                ("type", columns.iter().map(|c| Some(c.data_type.clone())).collect()),
                (
                    "null",
                    columns
                        .iter()
                        .map(|c| Some(if c.nullable { "yes" } else { "no" }.to_owned()))
                        .collect::<Vec<_>>(),
                ),
            ];
            if columns.iter().any(|c| c.default.is_some()) {
                shown.push(("default", columns.iter().map(|c| c.default.clone()).collect()));
            }
            if columns.iter().any(|c| c.comment.is_some()) {
                shown.push(("comment", columns.iter().map(|c| c.comment.clone()).collect()));
            }
            self.show(&shown)?;
            if self.settings.format == Format::Table && !table.notes.is_empty() {
                let notes: String = table.notes.iter().map(|n| format!("  {}\n", visible(n))).collect();
                self.print(&notes)?;
            }
        }
        Ok(())
    }

    /// Indexes are the business of `SHOW INDEXES`.
    pub(super) async fn list_indexes(&mut self, pattern: Option<&str>) -> Result<()> {
        use crate::backend::Event;
        let mut running = self.backend.start("SHOW INDEXES".to_owned());
        let mut rows = Vec::new();
        let mut schema = None;
        loop {
            match running.next().await {
                Event::Started(started) => schema = Some(started.schema),
                Event::Batch(batch) => rows.push(batch),
                Event::Finished => break,
                // An engine that does not know the statement.
                Event::Failed(e)
                    if matches!(
                        e.kind(),
                        ErrorKind::Syntax | ErrorKind::Invalid | ErrorKind::Unsupported
                    ) =>
                {
                    return Err(Error::unsupported("this version does not list indexes")
                        .with_hint("EXPLAIN says whether a search uses one"));
                }
                Event::Failed(e) => return Err(e),
            }
        }
        let Some(schema) = schema else { return Ok(()) };
        let all = arrow::compute::concat_batches(&schema, &rows)?;
        let kept = match pattern {
            None => all,
            Some(p) => {
                // Any text of the row may match: the table's name or the index's.
                let text: Vec<_> = all
                    .columns()
                    .iter()
                    .map(|c| arrow::compute::cast(c, &DataType::Utf8))
                    .collect::<std::result::Result<_, _>>()?;
                let keep: arrow::array::BooleanArray = (0..all.num_rows())
                    .map(|row| {
                        Some(text.iter().any(|c| {
                            let c = arrow::array::AsArray::as_string::<i32>(c);
                            arrow::array::Array::is_valid(c, row) && matches_pattern(p, c.value(row))
                        }))
                    })
                    .collect();
                arrow::compute::filter_record_batch(&all, &keep)?
            }
        };
        if kept.num_rows() == 0 {
            return self.print("There are no indexes.\n");
        }
        self.show_batch(&kept)
    }

    pub(super) async fn list_functions(&mut self, pattern: Option<&str>) -> Result<()> {
        let catalog = self.catalog().await?;
        let found: Vec<&FunctionEntry> = catalog
            .functions
            .iter()
            .filter(|f| pattern.is_none_or(|p| matches_pattern(p, &f.name)))
            .collect();
        if found.is_empty() {
            return self.print(&format!("No function matches {}.\n", visible(pattern.unwrap_or("*"))));
        }
        self.show(&[
            ("name", found.iter().map(|f| Some(f.name.clone())).collect()),
            ("kind", found.iter().map(|f| Some(f.kind.clone())).collect()),
            ("signature", found.iter().map(|f| Some(f.signature.clone())).collect()),
            ("description", found.iter().map(|f| Some(first_line(&f.description))).collect()),
        ])
    }

    pub(super) async fn function_help(&mut self, name: Option<&str>) -> Result<()> {
        let catalog = self.catalog().await?;
        let Some(name) = name else {
            let mut names: Vec<&str> = catalog.functions.iter().map(|f| f.name.as_str()).collect();
            names.dedup();
            let text = format!(
                "{}\n\\h NAME tells of one of these; \\df PATTERN lists some; \\? lists the shell's commands.\n",
                fill(&names, 100)
            );
            return self.print(&text);
        };
        let wanted = name.trim_end_matches(')').trim_end_matches('(').trim();
        let found: Vec<&FunctionEntry> =
            catalog.functions.iter().filter(|f| f.name.eq_ignore_ascii_case(wanted)).collect();
        if found.is_empty() {
            let e = Error::not_found(format!("there is no function called \"{wanted}\""));
            let near = did_you_mean(wanted, catalog.functions.iter().map(|f| f.name.as_str()));
            return Err(match near {
                Some(near) => e.with_hint(format!("did you mean \"{near}\"?")),
                None => e.with_hint(format!("\\df {wanted} searches in the names")),
            });
        }
        let mut out = String::new();
        for f in found {
            out.push_str(&format!("{}  ({} function)\n", visible(&f.signature), f.kind));
            for line in f.description.trim().lines() {
                out.push_str(&format!("  {}\n", visible(line)));
            }
        }
        self.print(&out)
    }

    pub(super) async fn show_schema(&mut self, name: Option<&str>) -> Result<()> {
        let catalog = self.catalog().await?;
        let tables: Vec<&TableEntry> = match name {
            Some(name) => find_tables(&catalog, name)?,
            None => catalog.tables.iter().collect(),
        };
        if tables.is_empty() {
            return self.print("There are no tables yet.\n");
        }
        let text: String = tables.iter().map(|t| create_statement(t)).collect();
        self.print(&text)
    }

    fn show(&mut self, columns: &[(&str, Vec<Option<String>>)]) -> Result<()> {
        let fields: Vec<Field> =
            columns.iter().map(|(name, _)| Field::new(*name, DataType::Utf8, true)).collect();
        let arrays: Vec<ArrayRef> =
            columns.iter().map(|(_, v)| Arc::new(StringArray::from(v.clone())) as ArrayRef).collect();
        self.show_batch(&RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
    }

    /// A list of the shell's own: all its rows, without types.
    fn show_batch(&mut self, batch: &RecordBatch) -> Result<()> {
        let options = TableOptions { max_rows: None, types: false, footer: false, ..self.table_options() };
        let format = if self.settings.format.is_binary() { Format::Table } else { self.settings.format };
        let mut sink = open_sink(format, &mut self.out, &batch.schema(), false, &options)?;
        sink.write(batch)?;
        sink.finish(None)?;
        Ok(())
    }
}

/// The tables of that name, perhaps with a schema; none is an error that names the nearest.
fn find_tables<'a>(catalog: &'a Catalog, name: &str) -> Result<Vec<&'a TableEntry>> {
    let (schema, table) = parse_name(name);
    let found = catalog.find_tables(schema.as_deref(), &table);
    if !found.is_empty() {
        return Ok(found);
    }
    let e = Error::not_found(format!("there is no table or view called \"{name}\""));
    Err(match did_you_mean(&table, catalog.tables.iter().map(|t| t.name.as_str())) {
        Some(near) => e.with_hint(format!("did you mean \"{near}\"?")),
        None => e.with_hint("\\dt lists the tables"),
    })
}

/// The names of the first columns: `id, name, embedding, … 12 in all`.
fn column_list(table: &TableEntry) -> String {
    const SHOWN: usize = 6;
    let names: Vec<&str> = table.columns.iter().take(SHOWN).map(|c| c.name.as_str()).collect();
    let mut out = names.join(", ");
    if table.columns.len() > SHOWN {
        out.push_str(&format!(", … {} in all", table.columns.len()));
    }
    out
}

fn first_line(text: &str) -> String {
    text.trim().lines().next().unwrap_or("").to_owned()
}

/// Words in lines of at most `width` cells.
fn fill(words: &[&str], width: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    for word in words {
        if used > 0 && used + 1 + word.len() > width {
            out.push('\n');
            used = 0;
        }
        if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += word.len();
    }
    out
}

/// As `CREATE TABLE` would write it. Where an external table or view gets its rows from is not told by the names.
fn create_statement(table: &TableEntry) -> String {
    if table.kind == "table"
        && let Some(statement) = &table.statement
    {
        return format!("{};\n", visible_lines(statement));
    }
    let head = match table.kind.as_str() {
        "view" => "CREATE VIEW",
        "external" | "external table" => "CREATE EXTERNAL TABLE",
        "temporary" | "temporary table" => "CREATE TEMPORARY TABLE",
        _ => "CREATE TABLE",
    };
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|c| {
            let null = if c.nullable { "" } else { " NOT NULL" };
            format!("    {} {}{null}", visible(&quote_name(&c.name)), c.data_type)
        })
        .collect();
    let name = format!("{}.{}", quote_name(&table.schema), quote_name(&table.name));
    format!("{head} {} (\n{}\n);\n", visible(&name), columns.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ColumnEntry;

    fn table() -> TableEntry {
        let column = |name: &str, data_type: &str, nullable| ColumnEntry {
            name: name.into(),
            data_type: data_type.into(),
            nullable,
            default: None,
            comment: None,
        };
        TableEntry {
            schema: "main".into(),
            name: "Order".into(),
            kind: "table".into(),
            columns: vec![column("id", "BIGINT", false), column("select", "VECTOR(3)", true)],
            notes: vec![],
            statement: None,
        }
    }

    #[test]
    fn statements_are_quoted() {
        assert_eq!(
            create_statement(&table()),
            "CREATE TABLE main.\"Order\" (\n    id BIGINT NOT NULL,\n    \"select\" VECTOR(3)\n);\n"
        );
    }

    #[test]
    fn unknown_tables_have_neighbours() {
        let catalog = Catalog { tables: vec![table()], functions: Vec::new() };
        assert_eq!(find_tables(&catalog, "order").unwrap().len(), 1);
        assert_eq!(find_tables(&catalog, "main.ORDER").unwrap().len(), 1);
        let text = find_tables(&catalog, "ordr").unwrap_err().to_string();
        assert_eq!(text, "there is no table or view called \"ordr\"; did you mean \"Order\"?");
    }

    #[test]
    fn words_are_filled() {
        assert_eq!(fill(&["aa", "bb", "cc"], 5), "aa bb\ncc");
    }
}
