//! Names of result columns that DataFusion would derive badly, or not at all.
//!
//! DataFusion names a column after the planned expression: `sum(id)` over a file becomes `sum(/path/of/file.id)`,
//! `a <-> b` and `l2_distance(a, b)` bear one name, and one name twice in a select list is an error there. A column
//! without a name is called by the statement's own text; a repeated one gets `_1`, `_2` … as in DuckDB.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, OrderBy, OrderByKind, Query, Select, SelectFlavor, SelectItem, SetExpr,
    WildcardAdditionalOptions, visit_expressions,
};

/// Longer texts are cut: a query vector may have thousands of characters.
const LONGEST: usize = 60;

/// Labels the query's select list, and lets its ORDER BY speak of a labelled expression by its label: after DISTINCT
/// nothing else may be ordered by. The first branch of a recursive CTE takes the names of the CTE's column list,
/// which DataFusion applies only when the recursion, which speaks of them, is planned already.
pub(super) fn rewrite_query(query: &mut Query) {
    if let Some(with) = query.with.as_mut().filter(|w| w.recursive) {
        for cte in &mut with.cte_tables {
            let names: Vec<Ident> = cte.alias.columns.iter().map(|c| c.name.clone()).collect();
            name_first_branch(&mut cte.query.body, &names);
        }
    }
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let labelled = rewrite(select);
    let Some(OrderBy { kind: OrderByKind::Expressions(order), .. }) = &mut query.order_by else { return };
    for by in order {
        if let Some((_, label)) = labelled.iter().find(|(expr, _)| *expr == by.expr) {
            by.expr = Expr::Identifier(label.clone());
        }
    }
}

fn name_first_branch(body: &mut SetExpr, names: &[Ident]) {
    match body {
        SetExpr::SetOperation { left, .. } => name_first_branch(left, names),
        SetExpr::Query(query) => name_first_branch(&mut query.body, names),
        SetExpr::Select(select) if select.projection.len() == names.len() => {
            for (item, name) in select.projection.iter_mut().zip(names) {
                if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                    let expr = std::mem::replace(expr, Expr::Identifier(Ident::new("")));
                    *item = SelectItem::ExprWithAlias { expr, alias: name.clone() };
                }
            }
        }
        _ => {}
    }
}

/// Labels one select list; what was labelled, and how.
pub(super) fn rewrite(select: &mut Select) -> Vec<(Expr, Ident)> {
    let mut labelled = Vec::new();
    if select.flavor == SelectFlavor::FromFirstNoSelect && select.projection.is_empty() {
        select.projection.push(SelectItem::Wildcard(WildcardAdditionalOptions::default()));
    }
    let mut seen: HashMap<String, usize> = HashMap::new();
    for item in &mut select.projection {
        match item {
            SelectItem::ExprWithAlias { alias, .. } => {
                seen.entry(fold(alias)).or_default();
            }
            SelectItem::UnnamedExpr(expr) => {
                let name = name_of(expr);
                let times = *seen.entry(name.clone()).and_modify(|n| *n += 1).or_insert(0);
                if times > 0 || !names_itself(expr) {
                    let label = if times > 0 { format!("{name}_{times}") } else { name };
                    let taken = std::mem::replace(expr, Expr::Identifier(Ident::new("")));
                    let label = Ident::with_quote('"', label);
                    labelled.push((taken.clone(), label.clone()));
                    *item = SelectItem::ExprWithAlias { expr: taken, alias: label };
                }
            }
            _ => {}
        }
    }
    labelled
}

fn fold(ident: &Ident) -> String {
    crate::parser::normalize(ident)
}

/// A column's own name, else the expression's text.
fn name_of(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(ident) => fold(ident),
        Expr::CompoundIdentifier(parts) => parts.last().map(fold).unwrap_or_default(),
        other => {
            let text = other.to_string();
            match text.char_indices().nth(LONGEST) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            }
        }
    }
}

/// Columns keep their names, and `unnest` of a struct becomes several columns, which no one name fits.
fn names_itself(expr: &Expr) -> bool {
    if matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
        return true;
    }
    let unnests = visit_expressions(expr, |e| match e {
        Expr::Function(f) if f.name.to_string().eq_ignore_ascii_case("unnest") => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    unnests.is_break()
}
