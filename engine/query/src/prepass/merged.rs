//! Joins by `USING`: the column that both sides give is one.
//!
//! ```sql
//! SELECT * FROM a FULL JOIN b USING (k) WHERE k > 1
//! -- becomes
//! SELECT coalesce(a.k, b.k) AS k, a.* EXCLUDE (k), b.* EXCLUDE (k)
//! FROM a FULL JOIN b ON a.k = b.k WHERE coalesce(a.k, b.k) > 1
//! ```
//!
//! The column is that of the left side, of a right join that of the right side, of a full join the one that is not
//! NULL; `*` gives it first. DataFusion 54 takes the one whose table comes first in the alphabet, and in its place.
//!
//! Limits: tables need names; a column that several tables before the join may have, and outer joins by `NATURAL`,
//! are refused where the answer depends on them: inner joins of that kind are left to DataFusion, whose columns are the
//! right ones in another order. `ORDER BY k` works where `k` is selected.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, ExcludeSelectItem, Expr, GroupByExpr, Ident, JoinConstraint, JoinOperator, ObjectName,
    ObjectNamePart, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, TableFactor, TableWithJoins,
    VisitorMut, WildcardAdditionalOptions,
};
use triune_common::{Error, Result};

use crate::dml::rows;
use crate::parser::normalize;
use crate::visit::{Stop, walk_mut};

/// Rewrites a SELECT whose FROM has such joins.
pub(super) fn rewrite(select: &mut Select) -> Result<()> {
    let any_join = |is: fn(&JoinOperator) -> bool| {
        select.from.iter().any(|f| f.joins.iter().any(|j| is(&j.join_operator)))
    };
    let has_outer = any_join(is_outer);
    let has_options =
        |i: &SelectItem| matches!(i, SelectItem::Wildcard(o) if *o != WildcardAdditionalOptions::default());
    if !has_outer && (!any_join(is_using) || select.projection.iter().any(has_options)) {
        return Ok(());
    }
    let mut merged: Vec<(Ident, Expr)> = Vec::new();
    let mut factors: Vec<(Ident, Vec<Ident>)> = Vec::new();
    let star = select.projection.iter().any(|i| matches!(i, SelectItem::Wildcard(_)));
    let mut any = false;
    for from in &mut select.from {
        any |= merge(from, star, &mut merged, &mut factors)?;
    }
    if !any {
        return Ok(());
    }
    let mut items = Vec::with_capacity(select.projection.len());
    for item in std::mem::take(&mut select.projection) {
        match item {
            SelectItem::Wildcard(options) if options == WildcardAdditionalOptions::default() => {
                items.extend(all(&merged, &factors));
            }
            SelectItem::Wildcard(_) => {
                return Err(Error::unsupported(
                    "SELECT * with EXCLUDE or the like over an outer join by USING is not supported",
                )
                .with_hint("join ON a.k = b.k, or select the columns by name"));
            }
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => {
                items.push(match find(&merged, &name) {
                    Some(expr) => SelectItem::ExprWithAlias { expr: expr.clone(), alias: name },
                    None => SelectItem::UnnamedExpr(Expr::Identifier(name)),
                });
            }
            other => items.push(other),
        }
    }
    select.projection = items;
    let mut replace = Replace { merged: &merged, depth: 0 };
    // Never stops early.
    let _ = walk_mut(&mut select.projection, &mut replace);
    let _ = walk_mut(&mut select.distinct, &mut replace);
    let _ = walk_mut(&mut select.selection, &mut replace);
    let _ = walk_mut(&mut select.having, &mut replace);
    let _ = walk_mut(&mut select.qualify, &mut replace);
    if let GroupByExpr::Expressions(by, _) = &mut select.group_by {
        let _ = walk_mut(by, &mut replace);
    }
    Ok(())
}

fn constraint(operator: &JoinOperator) -> Option<&JoinConstraint> {
    use JoinOperator as J;
    match operator {
        J::Join(c)
        | J::Inner(c)
        | J::Left(c)
        | J::LeftOuter(c)
        | J::Right(c)
        | J::RightOuter(c)
        | J::FullOuter(c) => Some(c),
        _ => None,
    }
}

fn is_using(operator: &JoinOperator) -> bool {
    matches!(constraint(operator), Some(JoinConstraint::Using(_)))
}

fn is_outer(operator: &JoinOperator) -> bool {
    let inner = matches!(operator, JoinOperator::Join(_) | JoinOperator::Inner(_));
    !inner && matches!(constraint(operator), Some(JoinConstraint::Using(_) | JoinConstraint::Natural))
}

/// Turns the joins by USING of one FROM into joins by ON; `false` where they can stay.
fn merge(
    from: &mut TableWithJoins,
    star: bool,
    merged: &mut Vec<(Ident, Expr)>,
    factors: &mut Vec<(Ident, Vec<Ident>)>,
) -> Result<bool> {
    let left = |o: &JoinOperator| matches!(o, JoinOperator::Left(_) | JoinOperator::LeftOuter(_));
    // DataFusion is right about these: names stand for the left side.
    let inner = from.joins.iter().all(|j| !is_outer(&j.join_operator));
    let lefts = from.joins.iter().all(|j| left(&j.join_operator) || !is_outer(&j.join_operator));
    let harmless = inner || (!star && lefts);
    let plan = plan(from);
    let (operators, names, known) = match plan {
        Ok(plan) => plan,
        Err(_) if harmless => return Ok(false),
        Err(why) => return Err(why),
    };
    for (join, on) in from.joins.iter_mut().zip(operators) {
        if let Some(on) = on {
            use JoinOperator as J;
            match &mut join.join_operator {
                J::Join(c)
                | J::Inner(c)
                | J::Left(c)
                | J::LeftOuter(c)
                | J::Right(c)
                | J::RightOuter(c)
                | J::FullOuter(c) => *c = JoinConstraint::On(on),
                _ => {}
            }
        }
    }
    merged.extend(known);
    factors.extend(names);
    Ok(true)
}

/// The condition of each join that has another one now, the tables with the columns that `*` leaves out of them, and
/// the merged columns.
type Plan = (Vec<Option<Expr>>, Vec<(Ident, Vec<Ident>)>, Vec<(Ident, Expr)>);

fn plan(from: &TableWithJoins) -> Result<Plan> {
    let mut names = vec![(name_of(&from.relation)?, Vec::new())];
    let mut merged: Vec<(Ident, Expr)> = Vec::new();
    let mut conditions = Vec::new();
    for join in &from.joins {
        let right = name_of(&join.relation)?;
        names.push((right.clone(), Vec::new()));
        let columns = match constraint(&join.join_operator) {
            Some(JoinConstraint::Using(columns)) => columns,
            Some(JoinConstraint::Natural) => {
                return Err(Error::unsupported(
                    "a NATURAL join beside an outer join by USING, or an outer one, is not supported",
                )
                .with_hint("name the columns: USING (…), or ON a.k = b.k"));
            }
            _ => {
                conditions.push(None);
                continue;
            }
        };
        let mut on: Option<Expr> = None;
        for column in columns {
            let name = plain(column)?;
            let known = merged.iter().position(|(n, _)| normalize(n) == normalize(&name));
            let before = match known {
                Some(i) => merged[i].1.clone(),
                None if names.len() == 2 => column_of(&names[0].0, &name),
                None => {
                    return Err(Error::unsupported(format!(
                        "an outer join USING ({name}) after several tables, which may all have the column, is not supported"
                    ))
                    .with_hint(format!("write ON t.{name} = {right}.{name}")));
                }
            };
            let own = column_of(&right, &name);
            let equal = binary(before.clone(), BinaryOperator::Eq, own.clone());
            on = Some(match on {
                Some(rest) => binary(rest, BinaryOperator::And, equal),
                None => equal,
            });
            let value = match &join.join_operator {
                JoinOperator::Right(_) | JoinOperator::RightOuter(_) => own,
                JoinOperator::FullOuter(_) => coalesce(&before, &own)?,
                _ => before,
            };
            match known {
                Some(i) => merged[i].1 = value,
                None => {
                    names[0].1.push(name.clone());
                    merged.push((name.clone(), value));
                }
            }
            if let Some((_, left_out)) = names.last_mut() {
                left_out.push(name);
            }
        }
        conditions.push(on);
    }
    Ok((conditions, names, merged))
}

fn name_of(factor: &TableFactor) -> Result<Ident> {
    let (alias, name) = match factor {
        TableFactor::Table { alias, name, .. } => (alias.as_ref(), name.0.last()),
        TableFactor::Derived { alias, .. } | TableFactor::Function { alias, .. } => (alias.as_ref(), None),
        _ => (None, None),
    };
    match (alias, name) {
        (Some(alias), _) => Ok(alias.name.clone()),
        (None, Some(ObjectNamePart::Identifier(name))) if name.quote_style != Some('\'') => Ok(name.clone()),
        _ => Err(Error::unsupported("a table without a name beside an outer join by USING is not supported")
            .with_hint("give it one with AS, or join ON a.k = b.k")),
    }
}

fn plain(column: &ObjectName) -> Result<Ident> {
    match column.0.as_slice() {
        [ObjectNamePart::Identifier(name)] => Ok(name.clone()),
        _ => Err(Error::invalid(format!("USING takes names of columns, not {column}"))),
    }
}

fn column_of(table: &Ident, column: &Ident) -> Expr {
    Expr::CompoundIdentifier(vec![table.clone(), column.clone()])
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

fn coalesce(left: &Expr, right: &Expr) -> Result<Expr> {
    rows::expression(&format!("coalesce({left}, {right})"))
}

fn find<'a>(merged: &'a [(Ident, Expr)], name: &Ident) -> Option<&'a Expr> {
    merged.iter().find(|(n, _)| normalize(n) == normalize(name)).map(|(_, expr)| expr)
}

/// What `*` stands for: the merged columns, then the others of each table.
fn all(merged: &[(Ident, Expr)], factors: &[(Ident, Vec<Ident>)]) -> Vec<SelectItem> {
    let first = merged
        .iter()
        .map(|(name, expr)| SelectItem::ExprWithAlias { expr: expr.clone(), alias: name.clone() });
    let others = factors.iter().map(|(table, left_out)| {
        let left_out = left_out.iter().map(|n| ObjectName::from(vec![n.clone()])).collect::<Vec<_>>();
        let opt_exclude = (!left_out.is_empty()).then_some(ExcludeSelectItem::Multiple(left_out));
        SelectItem::QualifiedWildcard(
            SelectItemQualifiedWildcardKind::ObjectName(ObjectName::from(vec![table.clone()])),
            WildcardAdditionalOptions { opt_exclude, ..WildcardAdditionalOptions::default() },
        )
    });
    first.chain(others).collect()
}

struct Replace<'a> {
    merged: &'a [(Ident, Expr)],
    depth: usize,
}

impl VisitorMut for Replace<'_> {
    type Break = Stop;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<Stop> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Stop> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Stop> {
        if let Expr::Identifier(name) = expr
            && self.depth == 0
            && let Some(merged) = find(self.merged, name)
        {
            *expr = merged.clone();
        }
        ControlFlow::Continue(())
    }
}
