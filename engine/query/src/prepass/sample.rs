//! `FROM t TABLESAMPLE BERNOULLI (10)`: a part of a relation's rows, drawn by chance.
//!
//! | written | becomes |
//! |---|---|
//! | `t TABLESAMPLE BERNOULLI (10)`, `SYSTEM (10)`, `(10 PERCENT)` | `(SELECT * FROM t WHERE random() < 0.1) AS t` |
//! | `t TABLESAMPLE (100 ROWS)` | `(SELECT * FROM t ORDER BY random() LIMIT 100) AS t` |
//!
//! Every row is drawn by itself, for `SYSTEM` too: the standard lets an engine choose what it draws, and drawing
//! blocks would save no reading here. A sample of rows reads and sorts the whole relation.
//!
//! Not supported: `REPEATABLE (seed)`, for rows come in no fixed order, and `BUCKET`.

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectNamePart, SetExpr, Spanned, TableAlias, TableFactor, TableSample, TableSampleKind,
    TableSampleMethod, TableSampleQuantity, TableSampleUnit, Value,
};
use triune_common::{Error, Result};

use crate::parser::{parse_query, position};

const ACCEPTED: &str = "write TABLESAMPLE BERNOULLI (10) for ten per cent, or TABLESAMPLE (100 ROWS)";

pub(super) fn rewrite(factor: &mut TableFactor) -> Result<()> {
    let at = position(factor.span().start);
    let (sample, alias) = match factor {
        TableFactor::Table { sample, name, alias, .. } => {
            let Some(sample) = sample.take() else { return Ok(()) };
            let own = name.0.last().and_then(ObjectNamePart::as_ident).cloned();
            (sample, alias.take().or_else(|| own.map(named)))
        }
        TableFactor::Derived { sample, alias, .. } => {
            let Some(sample) = sample.take() else { return Ok(()) };
            (sample, alias.take())
        }
        _ => return Ok(()),
    };
    let (TableSampleKind::BeforeTableAlias(sample) | TableSampleKind::AfterTableAlias(sample)) = sample;
    let mut query = parse_query(&drawn(&sample).map_err(|e| e.with_hint(ACCEPTED).at(at))?)?;
    let SetExpr::Select(select) = query.body.as_mut() else {
        return Err(Error::internal("a sample is no SELECT"));
    };
    let Some(from) = select.from.first_mut() else {
        return Err(Error::internal("a sample is of no relation"));
    };
    std::mem::swap(&mut from.relation, factor);
    *factor = TableFactor::Derived { lateral: false, subquery: query, alias, sample: None };
    Ok(())
}

fn named(name: Ident) -> TableAlias {
    TableAlias { explicit: false, name, columns: vec![], at: None }
}

/// The query that draws from a relation `t`.
fn drawn(sample: &TableSample) -> Result<String> {
    if let Some(seed) = &sample.seed {
        return Err(Error::unsupported(format!(
            "a sample with {seed} is not supported: rows come in no fixed order"
        )));
    }
    if sample.bucket.is_some() || sample.offset.is_some() {
        return Err(Error::unsupported("a sample of buckets is not supported"));
    }
    let Some(TableSampleQuantity { value, unit, .. }) = &sample.quantity else {
        return Err(Error::invalid("TABLESAMPLE does not say how much"));
    };
    let number = match value {
        Expr::Value(v) => match &v.value {
            Value::Number(n, _) => Some(n),
            _ => None,
        },
        _ => None,
    };
    let Some(number) = number else {
        return Err(Error::invalid(format!("the size of a sample is a number, not {value}")));
    };
    match (unit, &sample.name) {
        (Some(TableSampleUnit::Rows), None) => {
            let rows: u64 =
                number.parse().map_err(|_| Error::invalid(format!("{number} is no number of rows")))?;
            Ok(format!("SELECT * FROM t ORDER BY random() LIMIT {rows}"))
        }
        (Some(TableSampleUnit::Rows), Some(method)) => {
            Err(Error::unsupported(format!("{method} draws a share of the rows, not a number of them")))
        }
        (None, None) => Err(Error::invalid(format!("TABLESAMPLE ({number}) does not say of what"))),
        (_, Some(TableSampleMethod::Row | TableSampleMethod::Block)) => {
            Err(Error::unsupported("sampling by ROW and BLOCK is not supported"))
        }
        (Some(TableSampleUnit::Percent) | None, _) => {
            let percent: f64 = number
                .parse()
                .ok()
                .filter(|p| (0.0..=100.0).contains(p))
                .ok_or_else(|| Error::invalid(format!("{number} is no percentage between 0 and 100")))?;
            // A cast, for "0.00000001" as text may come out as "1e-8".
            Ok(format!("SELECT * FROM t WHERE random() < CAST({} AS DOUBLE)", percent / 100.0))
        }
    }
}
