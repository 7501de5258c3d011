//! `information_schema.columns` is our own relation: DataFusion's knows no defaults and counts from 0.

use datafusion::sql::sqlparser::ast::{Ident, ObjectName, TableAlias, TableFactor};

use crate::catalog::information::COLUMNS;
use crate::parser::name_parts;

pub(super) fn rewrite(factor: &mut TableFactor) {
    let TableFactor::Table { name, alias, args: None, .. } = factor else { return };
    let parts = name_parts(name);
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    if !matches!(
        parts.as_slice(),
        ["information_schema", "columns"] | [crate::CATALOG, "information_schema", "columns"]
    ) {
        return;
    }
    if alias.is_none() {
        *alias = Some(TableAlias { explicit: true, name: Ident::new("columns"), columns: vec![], at: None });
    }
    *name = ObjectName::from(vec![Ident::with_quote('"', COLUMNS)]);
}
