//! Relations of `information_schema` that are our own: DataFusion's know no defaults, keys and checks.

use datafusion::sql::sqlparser::ast::{Ident, ObjectName, TableAlias, TableFactor};

use crate::catalog::information::{PREFIX, RELATIONS};
use crate::parser::name_parts;

pub(super) fn rewrite(factor: &mut TableFactor) {
    let TableFactor::Table { name, alias, args: None, .. } = factor else { return };
    let parts = name_parts(name);
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (["information_schema", relation] | [crate::CATALOG, "information_schema", relation]) =
        parts.as_slice()
    else {
        return;
    };
    if !RELATIONS.contains(relation) {
        return;
    }
    if alias.is_none() {
        *alias = Some(TableAlias { explicit: true, name: Ident::new(*relation), columns: vec![], at: None });
    }
    *name = ObjectName::from(vec![Ident::with_quote('"', format!("{PREFIX}{relation}"))]);
}
