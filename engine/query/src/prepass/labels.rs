//! ColumnNames of result columns that DataFusion would derive badly, or not at all.
//!
//! DataFusion names a column after the planned expression: `sum(id)` over a file becomes `sum(/path/of/file.id)`,
//! `a <-> b` and `l2_distance(a, b)` bear one name, and one name twice in a select list is an error there. A column
//! without a name is called by the statement's own text. A name that comes again gets another one for the planner:
//!
//! | where | `SELECT id, id` | `SELECT id, n AS id` | `SELECT *, id` |
//! |---|---|---|---|
//! | what a user reads | `id`, `id` | `id`, `id` | `id`, …, `id` |
//! | in what is kept or written (CREATE TABLE … AS, views, COPY) | `id`, `id_1` | `id`, `id_1` | `id`, …, `id_1` |
//! | in a sub-query | `id`, `id_1` | two columns that cannot be told apart: `id` is an error | the same |
//!
//! ColumnNames that are to be given back in the end travel with a [`MARK`]. What `*` stands for is known to the planner only:
//! its complaint about a name that comes twice names the [`ColumnNames::collisions`] of the next attempt.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, OrderBy, OrderByKind, Query, Select, SelectFlavor, SelectItem, SetExpr, Statement, Visit,
    Visitor, WildcardAdditionalOptions,
};
use triune_common::{Error, Result};

use crate::visit::{self, walk};

/// Longer texts are cut: a query vector may have thousands of characters.
const LONGEST: usize = 60;

/// Between a column's name and the number that makes it another one. A character of the private use area, which no
/// keyboard writes.
const MARK: char = '\u{e000}';

/// What is done with names in one attempt to plan a statement.
#[derive(Debug, Clone, Default)]
pub(crate) struct ColumnNames {
    /// Whether the result's columns get their names back, with [`given`].
    pub(crate) give_back: bool,
    /// ColumnNames that a `*` and another item of its list have in common.
    pub(crate) collisions: Vec<String>,
}

/// The name that the statement gives to a column.
pub(crate) fn given(name: &str) -> &str {
    match name.rsplit_once(MARK) {
        Some((given, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => given,
        _ => name,
    }
}

/// Whether a message of DataFusion's lists columns that were given this name and cannot be told apart by it.
pub(crate) fn is_marked_in(name: &str, message: &str) -> bool {
    message.contains(&format!("{name}{MARK}"))
}

/// The name that DataFusion found twice in one select list.
pub(crate) fn collision(message: &str) -> Option<String> {
    let column = |name: &str| {
        let name = name.rsplit_once('.').map_or(name, |(_, column)| column);
        name.trim_matches('"').to_owned()
    };
    if let Some((_, rest)) = message.split_once("require unique expression names but the expression ") {
        let (_, rest) = rest.split_once(" and \"")?;
        let (expr, _) = rest.split_once("\" at position")?;
        return Some(column(expr.rsplit_once(" AS ").map_or(expr, |(_, alias)| alias)));
    }
    let (_, rest) = message.split_once("Schema contains ")?;
    let (_, rest) = rest.split_once("qualified field name ")?;
    let name = rest.split(" and ").next().unwrap_or(rest);
    Some(column(name.trim_end_matches('.')))
}

impl ColumnNames {
    /// The name of a column whose name came `times` times before.
    fn again(&self, name: &str, times: usize, at_top: bool) -> String {
        if at_top && self.give_back { marked(name, times) } else { format!("{name}_{times}") }
    }

    /// Labels a query's select lists, and lets its ORDER BY speak of a labelled expression by its label: after DISTINCT
    /// nothing else may be ordered by. The first branch of a recursive CTE takes the names of the CTE's column
    /// list, which DataFusion applies only when the recursion, which speaks of them, is planned already.
    pub(super) fn rewrite_query(&self, query: &mut Query, at_top: bool) -> Result<()> {
        if let Some(with) = query.with.as_mut().filter(|w| w.recursive) {
            for cte in &mut with.cte_tables {
                let names: Vec<Ident> = cte.alias.columns.iter().map(|c| c.name.clone()).collect();
                name_first_branch(&mut cte.query.body, &names);
            }
        }
        let labelled = self.rewrite_body(&mut query.body, at_top);
        let Some(OrderBy { kind: OrderByKind::Expressions(order), .. }) = &mut query.order_by else {
            return Ok(());
        };
        for by in order {
            // With the name of a table before it, it is a column of that table and nothing else.
            let plain = Some(&by.expr).filter(|e| matches!(e, Expr::Identifier(_))).and_then(name_of_column);
            if let Some(name) = plain.filter(|name| labelled.ambiguous.contains(name)) {
                return Err(Error::invalid(format!(
                    "ORDER BY \"{name}\" may mean several columns of the result"
                ))
                .with_hint("order by an expression or a number, or rename one of them with AS"));
            }
            if let Some((_, label)) = labelled.labels.iter().find(|(expr, _)| *expr == by.expr) {
                by.expr = Expr::Identifier(label.clone());
            }
        }
        Ok(())
    }

    fn rewrite_body(&self, body: &mut SetExpr, at_top: bool) -> Labelled {
        match body {
            SetExpr::Select(select) => self.rewrite(select, at_top),
            SetExpr::Query(query) if at_top => self.rewrite_body(&mut query.body, at_top),
            SetExpr::SetOperation { left, right, .. } if at_top => {
                self.rewrite_body(left, at_top);
                self.rewrite_body(right, at_top);
                Labelled::default()
            }
            _ => Labelled::default(),
        }
    }

    /// Labels one select list. Doing it again changes nothing.
    pub(super) fn rewrite(&self, select: &mut Select, at_top: bool) -> Labelled {
        let mut done = Labelled::default();
        if triune_search::is_of_search(select) {
            return done;
        }
        if select.flavor == SelectFlavor::FromFirstNoSelect && select.projection.is_empty() {
            select.projection.push(SelectItem::Wildcard(WildcardAdditionalOptions::default()));
        }
        let all = has_wildcard(select);
        // ColumnNames of several columns of which some other than the first one was named by the user.
        let renamed: Vec<String> = if self.give_back { renamed(&select.projection) } else { vec![] };
        let mut seen: HashMap<String, usize> = HashMap::new();
        if all {
            seen.extend(self.collisions.iter().map(|name| (name.clone(), 0)));
        }
        for item in &mut select.projection {
            let (name, expr, aliased) = match item {
                SelectItem::ExprWithAlias { alias, expr } => (fold(alias), expr, true),
                SelectItem::UnnamedExpr(expr) => (name_of(expr), expr, false),
                _ => continue,
            };
            let times = *seen.entry(name.clone()).and_modify(|n| *n += 1).or_insert(0);
            let differ = renamed.contains(&name);
            let beside_all = all && self.collisions.contains(&name);
            let label = if (differ && !at_top) || (times > 0 && beside_all && self.give_back) {
                marked(&name, times)
            } else if times > 0 {
                self.again(&name, times, at_top)
            } else if aliased || names_itself(expr) {
                continue;
            } else {
                name.clone()
            };
            if differ || beside_all && (aliased || name_of_column(expr).is_none()) {
                done.ambiguous.push(name);
            }
            let taken = std::mem::replace(expr, Expr::Identifier(Ident::new("")));
            let label = Ident::with_quote('"', label);
            if !aliased {
                done.labels.push((taken.clone(), label.clone()));
            }
            *item = SelectItem::ExprWithAlias { expr: taken, alias: label };
        }
        done
    }
}

/// What became of a select list.
#[derive(Debug, Default)]
pub(super) struct Labelled {
    /// Expressions that had no name, and the names that they have now.
    labels: Vec<(Expr, Ident)>,
    /// ColumnNames of several columns with different contents.
    ambiguous: Vec<String>,
}

fn marked(name: &str, times: usize) -> String {
    format!("{name}{MARK}{times}")
}

/// ColumnNames that several items of a list have, which are not all one expression.
fn renamed(items: &[SelectItem]) -> Vec<String> {
    let mut first: HashMap<String, &Expr> = HashMap::new();
    let mut found = vec![];
    for item in items {
        let (name, expr) = match item {
            SelectItem::ExprWithAlias { alias, expr } => (fold(alias), expr),
            SelectItem::UnnamedExpr(expr) => (name_of(expr), expr),
            _ => continue,
        };
        match first.get(&name) {
            Some(one) if *one != expr => found.push(name),
            Some(_) => {}
            None => drop(first.insert(name, expr)),
        }
    }
    found
}

/// Whether columns that a `*` doubles may get another name: in the outermost result always, in a sub-query only when
/// the statement uses the name nowhere else, where it might mean the one or the other.
pub(crate) fn may_rename(statement: &Statement, name: &str) -> bool {
    let mut doubled = Doubled { name, outermost: None, inner: false, inside: 0 };
    let _ = walk(statement, &mut doubled);
    !doubled.inner || mentions(statement, name) == doubled.inside
}

/// Sub-queries with a `*` and another column of some name.
struct Doubled<'a> {
    name: &'a str,
    /// The lists of the outermost query, as addresses.
    outermost: Option<Vec<*const Select>>,
    inner: bool,
    /// How often their lists speak of the name.
    inside: usize,
}

impl Visitor for Doubled<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.outermost.get_or_insert_with(|| lists(&query.body));
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        let at_top = self.outermost.iter().flatten().any(|s| std::ptr::eq(*s, select));
        let named = select.projection.iter().any(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => fold(alias) == self.name,
            SelectItem::UnnamedExpr(expr) => name_of(expr) == self.name,
            _ => false,
        });
        if !at_top && named && has_wildcard(select) {
            self.inner = true;
            self.inside += mentions(&select.projection, self.name);
        }
        ControlFlow::Continue(())
    }
}

fn lists(body: &SetExpr) -> Vec<*const Select> {
    match body {
        SetExpr::Select(select) => vec![std::ptr::from_ref(select.as_ref())],
        SetExpr::Query(query) => lists(&query.body),
        SetExpr::SetOperation { left, right, .. } => [lists(left), lists(right)].concat(),
        _ => vec![],
    }
}

fn has_wildcard(select: &Select) -> bool {
    let all = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    select.projection.iter().any(all)
}

/// How often a tree speaks of a column by this name.
fn mentions<T: Visit>(tree: &T, name: &str) -> usize {
    let mut count = 0;
    let _ = visit::expressions(tree, |expr| {
        count += usize::from(name_of_column(expr).as_deref() == Some(name));
        ControlFlow::<()>::Continue(())
    });
    count
}

/// The error for those that may not.
pub(crate) fn twice(name: &str) -> Error {
    Error::invalid(format!("a select list has the column \"{name}\" twice, which would be ambiguous"))
        .with_hint(format!("leave one out with * EXCLUDE (\"{name}\"), or rename one with AS"))
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

fn fold(ident: &Ident) -> String {
    crate::parser::normalize(ident)
}

/// The name of a column that is all of the expression.
fn name_of_column(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(fold(ident)),
        Expr::CompoundIdentifier(parts) => parts.last().map(fold),
        _ => None,
    }
}

/// A column's own name, else the expression's text.
pub(crate) fn name_of(expr: &Expr) -> String {
    name_of_column(expr).unwrap_or_else(|| {
        let text = expr.to_string();
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    })
}

/// Columns keep their names, and `unnest` of a struct becomes several columns, which no one name fits.
fn names_itself(expr: &Expr) -> bool {
    if name_of_column(expr).is_some() {
        return true;
    }
    let is_unnest =
        |e: &Expr| matches!(e, Expr::Function(f) if f.name.to_string().eq_ignore_ascii_case("unnest"));
    visit::any(expr, is_unnest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        assert_eq!(given(&marked("id", 12)), "id");
        assert_eq!(given(&marked("", 1)), "");
        for own in ["id", "id_1", "a\u{e000}", "a\u{e000}b"] {
            assert_eq!(given(own), own);
        }
    }

    #[test]
    fn datafusions_complaint_is_read() {
        let of = |second: &str| {
            collision(&format!(
                "Projections require unique expression names but the expression \"t.id\" at position 0 and \
                 \"{second}\" at position 2 have the same name. Consider aliasing (\"AS\") one of them."
            ))
        };
        assert_eq!(of("t.id").as_deref(), Some("id"));
        assert_eq!(of("t.a + Int64(1) AS id").as_deref(), Some("id"));
        let text = "Schema contains qualified field name t.id and unqualified field name id which would be ambiguous";
        assert_eq!(collision(text).as_deref(), Some("id"));
        let text = "Schema contains duplicate qualified field name t.\"Id\"";
        assert_eq!(collision(text).as_deref(), Some("Id"));
        assert_eq!(collision("something else"), None);
    }
}
