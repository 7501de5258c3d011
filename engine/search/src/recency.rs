//! Newer rows first: `recency => exponential(published, '7 days')`.
//!
//! ```sql
//! SELECT id, _score FROM text_search(docs, 'solar', recency => gauss(published, '30 days', offset => '1 day'))
//! ```
//!
//! A row's score is multiplied by a factor of its age: 1 up to `offset`, `decay` at `scale` beyond it.
//!
//! | | factor, x = (age − offset) / scale |
//! |---|---|
//! | `exponential` | decay ^ x |
//! | `gauss` | decay ^ x² |
//! | `linear` | 1 − (1 − decay) · x, and 0 where that is negative |
//!
//! | argument | accepted | when it is left out |
//! |---|---|---|
//! | column (1st) | a column of a TIMESTAMP or DATE | an error |
//! | `scale` (2nd) | an interval, more than 0; a month has 30 days | an error |
//! | `offset` | an interval | 0 |
//! | `decay` | a number between 0 and 1 | 0.5 |
//! | `origin` | when the age is 0: a time, a parameter, a sub-query | `now()` |
//!
//! The age of a row of the future is 0; a row without a time is older than all others: its factor is 0. The factor is
//! applied before the k rows of a `text_search` are chosen; of a fusion, after its parts have found their rows.

use std::fmt;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{self as logical, ExprSchemable};
use datafusion::physical_plan::PhysicalExpr;
use datafusion::physical_planner::PhysicalPlanner;
use datafusion::sql::sqlparser::ast::{Expr, Function, FunctionArguments, Interval, ObjectNamePart, Spanned};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use triune_common::{Error, Position, names::did_you_mean};

use crate::analyzer::search::relation_of;
use crate::desugar::args::normal;
use crate::desugar::named::{Argument, Given, Signature, decimal, string, wrong};
use crate::desugar::position_of;
use crate::fusion::rank::Number;
use crate::node::without_alias;
use crate::topk::QuerySource;

const ARGUMENTS: &[&str] = &["column", "scale", "offset", "decay", "origin"];
const USAGE: &str =
    "recency => exponential(published, '7 days' [, offset => '1 day', decay => 0.5, origin => now()])";

static SIGNATURES: [Signature; 3] = [
    Signature { name: "exponential", arguments: ARGUMENTS, by_place: 2, usage: USAGE },
    Signature { name: "gauss", arguments: ARGUMENTS, by_place: 2, usage: USAGE },
    Signature { name: "linear", arguments: ARGUMENTS, by_place: 2, usage: USAGE },
];

/// How a factor falls with age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    Exponential,
    Gauss,
    Linear,
}

/// A factor of an age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decay {
    pub shape: Shape,
    /// Seconds, more than 0.
    pub scale: Number,
    /// Seconds, not negative.
    pub offset: Number,
    /// The factor at `scale`, between 0 and 1.
    pub at_scale: Number,
}

impl Decay {
    /// The factor of an age in seconds: from 0 to 1.
    pub fn factor(&self, age: f64) -> f64 {
        let x = (age - self.offset.0).max(0.0) / self.scale.0;
        let factor = match self.shape {
            Shape::Exponential => self.at_scale.0.powf(x),
            Shape::Gauss => self.at_scale.0.powf(x * x),
            Shape::Linear => 1.0 - (1.0 - self.at_scale.0) * x,
        };
        factor.clamp(0.0, 1.0)
    }
}

impl fmt::Display for Decay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = match self.shape {
            Shape::Exponential => "exponential",
            Shape::Gauss => "gauss",
            Shape::Linear => "linear",
        };
        write!(f, "{shape}, scale={}s, offset={}s, decay={}", self.scale.0, self.offset.0, self.at_scale.0)
    }
}

/// What a call says, read: options for the analyzer, and the origin as an expression.
///
/// # Errors
/// `Invalid`, with a position.
pub(crate) fn desugar(argument: Option<Argument>) -> triune_common::Result<Option<(Json, Expr)>> {
    let Some((expr, place)) = argument else { return Ok(None) };
    let unknown =
        |expr: &Expr| wrong("recency", expr, "exponential(column, scale), gauss(…) or linear(…) is", place);
    let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = &expr else {
        return Err(unknown(&expr));
    };
    let [ObjectNamePart::Identifier(name)] = name.0.as_slice() else { return Err(unknown(&expr)) };
    let Some(signature) = SIGNATURES.iter().find(|s| name.value.eq_ignore_ascii_case(s.name)) else {
        return Err(match did_you_mean(&name.value.to_lowercase(), SIGNATURES.iter().map(|s| s.name)) {
            Some(near) => wrong(
                "recency",
                &expr,
                &format!("did you mean {near}(…)? exponential, gauss and linear are"),
                place,
            ),
            None => unknown(&expr),
        });
    };
    let call = position_of(expr.span()).or(place);
    let mut given = Given::sort(signature, list.args.clone(), call)?;
    let (column, column_place) = given.needed("column")?;
    let column_name = match &column {
        Expr::Identifier(ident) => normal(ident),
        Expr::CompoundIdentifier(idents) => idents.last().map(normal).unwrap_or_default(),
        other => string(other).unwrap_or_default().to_owned(),
    };
    if column_name.is_empty() {
        return Err(Error::invalid(format!("the column of recency cannot be {column}"))
            .with_hint("the name of a TIMESTAMP or DATE column is accepted")
            .at(column_place));
    }
    let (scale, scale_place) = given.needed("scale")?;
    let seconds = |name: &str, expr: &Expr, place: Option<Position>, least: f64| {
        interval(expr).filter(|s| *s >= least && s.is_finite()).ok_or_else(|| {
            wrong(
                name,
                expr,
                "an interval, '7 days' or INTERVAL '7 days', is; it must not be negative, and scale not 0",
                place,
            )
        })
    };
    let scale = seconds("scale", &scale, scale_place, 1e-6)?;
    let offset = match given.take("offset") {
        Some((expr, place)) => seconds("offset", &expr, place, 0.0)?,
        None => 0.0,
    };
    let decay = match given.take("decay") {
        None => 0.5,
        Some((expr, place)) => decimal(&expr)
            .filter(|d| *d > 0.0 && *d < 1.0)
            .ok_or_else(|| wrong("decay", &expr, "a number between 0 and 1 is", place))?,
    };
    let origin = match given.take("origin") {
        Some((expr, _)) => expr,
        None => {
            let broken = || Error::internal("now() no longer parses");
            let mut parser =
                Parser::new(&GenericDialect {}).try_with_sql("now()").map_err(|e| broken().with_source(e))?;
            parser.parse_expr().map_err(|e| broken().with_source(e))?
        }
    };
    let at = column_place.map(|p| json!([p.line, p.column]));
    let options = json!({
        "shape": signature.name, "column": column_name, "scale": scale, "offset": offset, "decay": decay, "at": at,
    });
    Ok(Some((options, origin)))
}

/// Seconds of `'7 days'`, `INTERVAL '7 days'` or `INTERVAL '7' DAY`.
pub(crate) fn interval(expr: &Expr) -> Option<f64> {
    let text = match expr {
        Expr::Interval(Interval { value, leading_field, last_field: None, .. }) => {
            let unit = leading_field.as_ref().map_or_else(String::new, |f| format!(" {f}"));
            format!("{}{unit}", string(value)?)
        }
        other => string(other)?.to_owned(),
    };
    // A number alone would be read as seconds of nobody's choice.
    if text.trim().parse::<f64>().is_ok() {
        return None;
    }
    let interval = parse_interval_month_day_nano(&text).ok()?;
    let days = f64::from(interval.months) * 30.0 + f64::from(interval.days);
    Some(days * 86_400.0 + interval.nanoseconds as f64 / 1e9)
}

/// A factor of the scores of a plan's rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Recency {
    pub decay: Decay,
    /// A column of a time.
    pub time: logical::Expr,
    /// When the age is 0; an expression without columns.
    pub origin: logical::Expr,
}

impl Recency {
    /// Reads what [`desugar`] wrote; `None` if it wrote nothing.
    ///
    /// # Errors
    /// If there is no such column, or it is of another type; if the origin is no time.
    pub(crate) fn of(
        options: &Json,
        origin: Option<&logical::Expr>,
        schema: &DFSchema,
    ) -> triune_common::Result<Option<Self>> {
        let (Some(options), Some(origin)) = (options["recency"].as_object(), origin) else { return Ok(None) };
        let number = |name: &str| Number(options.get(name).and_then(Json::as_f64).unwrap_or(0.0));
        let shape = match options.get("shape").and_then(Json::as_str) {
            Some("gauss") => Shape::Gauss,
            Some("linear") => Shape::Linear,
            _ => Shape::Exponential,
        };
        let decay =
            Decay { shape, scale: number("scale"), offset: number("offset"), at_scale: number("decay") };
        let place =
            options.get("at").and_then(|at| Some(Position::new(at.get(0)?.as_u64()?, at.get(1)?.as_u64()?)));
        let name = options.get("column").and_then(Json::as_str).unwrap_or_default();
        let time = time_column(schema, name).map_err(|e| e.at(place))?;
        Ok(Some(Self { decay, time: logical::Expr::Column(time), origin: origin_of(origin)? }))
    }

    /// The same over rows whose columns have other names, at the same places.
    pub(crate) fn renamed(&self, old: &DFSchema, new: &DFSchema) -> Result<Self> {
        let logical::Expr::Column(column) = &self.time else {
            return Err(Error::internal("a time is not a column before it is optimised").into());
        };
        let place = old.index_of_column(column)?;
        let time = logical::Expr::Column(Column::from(new.qualified_field(place)));
        Ok(Self { time, ..self.clone() })
    }

    /// The expressions of a node that has it, in the order of [`Self::with_expressions`].
    pub(crate) fn expressions(&self) -> [logical::Expr; 2] {
        [self.time.clone(), self.origin.clone()]
    }

    /// Takes its expressions off the end of a node's.
    pub(crate) fn with_expressions(&self, exprs: &mut Vec<logical::Expr>) -> Option<Self> {
        let origin = without_alias(exprs.pop()?);
        let time = without_alias(exprs.pop()?);
        Some(Self { decay: self.decay, time, origin })
    }

    /// The operator's part.
    pub(crate) fn physical(
        &self,
        planner: &dyn PhysicalPlanner,
        schema: &DFSchema,
        state: &SessionState,
    ) -> Result<Factors> {
        Ok(Factors {
            decay: self.decay,
            time: planner.create_physical_expr(&self.time, schema, state)?,
            origin: QuerySource::new(planner.create_physical_expr(
                &self.origin,
                &DFSchema::empty(),
                state,
            )?),
        })
    }
}

impl fmt::Display for Recency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "recency=[{}: {}]", self.time, self.decay)
    }
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
}

fn time_column(schema: &DFSchema, name: &str) -> triune_common::Result<Column> {
    let times: Vec<String> = schema
        .fields()
        .iter()
        .filter(|f| is_time(f.data_type()))
        .map(|f| format!("\"{}\"", f.name()))
        .collect();
    let hint = match times.is_empty() {
        true => "it has no TIMESTAMP or DATE column".to_owned(),
        false => format!("its columns of times are {}", times.join(", ")),
    };
    let find = |same: &dyn Fn(&str) -> bool| schema.iter().find(|(_, f)| same(f.name()));
    let found = find(&|n| n == name).or_else(|| find(&|n| n.eq_ignore_ascii_case(name)));
    match found {
        Some((relation, field)) if is_time(field.data_type()) => {
            Ok(Column::new(relation.cloned(), field.name()))
        }
        Some((_, field)) => Err(Error::invalid(format!(
            "the column \"{}\" of {} is no time but {}",
            field.name(),
            relation_of(schema),
            field.data_type()
        ))
        .with_hint(hint)),
        None => {
            let near = did_you_mean(name, schema.fields().iter().map(|f| f.name().as_str()))
                .map(|near| format!("did you mean \"{near}\"? "))
                .unwrap_or_default();
            Err(Error::not_found(format!("{} has no column \"{name}\"", relation_of(schema)))
                .with_hint(format!("{near}{hint}")))
        }
    }
}

fn origin_of(origin: &logical::Expr) -> triune_common::Result<logical::Expr> {
    let origin = without_alias(origin.clone());
    let mut dependent = None;
    origin.apply(|e| {
        let outer = match e {
            logical::Expr::Column(c) | logical::Expr::OuterReferenceColumn(_, c) => Some(c.to_string()),
            logical::Expr::ScalarSubquery(s) => s.outer_ref_columns.first().map(ToString::to_string),
            _ => None,
        };
        dependent = dependent.take().or(outer);
        Ok(if dependent.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    if let Some(column) = dependent {
        return Err(Error::unsupported(format!("the origin of recency depends on {column}"))
            .with_hint("it must be a constant, a parameter or a sub-query of its own"));
    }
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    match origin.get_type(&DFSchema::empty()) {
        Ok(data_type) if is_time(&data_type) => Ok(origin),
        Ok(DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) | Err(_) => {
            Ok(logical::cast(origin, time))
        }
        Ok(other) => Err(Error::invalid(format!("the origin of recency is no time but {other}"))
            .with_hint("a TIMESTAMP or DATE is accepted")),
    }
}

/// Computes factors of a batch's rows.
#[derive(Debug, Clone)]
pub(crate) struct Factors {
    decay: Decay,
    time: Arc<dyn PhysicalExpr>,
    origin: QuerySource,
}

impl Factors {
    /// # Errors
    /// What computing the time or the origin raises; an origin that is NULL.
    pub(crate) fn of(&self, batch: &RecordBatch) -> Result<Vec<f64>> {
        let origin = microseconds(&self.origin.value()?.to_array()?)?;
        let Some(origin) = origin.first().copied().flatten() else {
            return Err(Error::invalid("the origin of recency is NULL")
                .with_hint("a time is accepted")
                .into());
        };
        let times = microseconds(&self.time.evaluate(batch)?.into_array(batch.num_rows())?)?;
        let factor = |time: Option<i64>| match time {
            // As numbers of floating point: the difference of two times may not fit.
            Some(time) => self.decay.factor(((origin as f64 - time as f64) / 1e6).max(0.0)),
            None => 0.0,
        };
        Ok(times.into_iter().map(factor).collect())
    }
}

/// Times as microseconds since 1970 of UTC; a time without a zone is taken as one of UTC.
fn microseconds(times: &ArrayRef) -> Result<Vec<Option<i64>>> {
    let zone = match times.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let times = cast(times, &DataType::Timestamp(TimeUnit::Microsecond, zone))?;
    let values = times.as_primitive::<TimestampMicrosecondType>();
    Ok((0..values.len()).map(|i| values.is_valid(i).then(|| values.value(i))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_fall_with_age() {
        let decay = |shape| Decay { shape, scale: Number(10.0), offset: Number(5.0), at_scale: Number(0.5) };
        for (shape, at_25) in [(Shape::Exponential, 0.25), (Shape::Gauss, 0.0625), (Shape::Linear, 0.0)] {
            let decay = decay(shape);
            let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
            assert!(near(decay.factor(0.0), 1.0) && near(decay.factor(5.0), 1.0), "{shape:?}");
            assert!(near(decay.factor(15.0), 0.5), "{shape:?}");
            assert!(near(decay.factor(25.0), at_25), "{shape:?}");
            assert!(near(decay.factor(f64::INFINITY), 0.0), "{shape:?}");
        }
        assert!((decay(Shape::Linear).factor(20.0) - 0.25).abs() < 1e-12);
    }

    #[test]
    fn intervals() {
        let read = |sql: &str| {
            let mut parser = Parser::new(&GenericDialect {}).try_with_sql(sql).unwrap();
            interval(&parser.parse_expr().unwrap())
        };
        assert_eq!(read("'7 days'"), Some(604_800.0));
        assert_eq!(read("INTERVAL '1 month 2 hours'"), Some(30.0 * 86_400.0 + 7200.0));
        assert_eq!(read("INTERVAL '90' MINUTE"), Some(5400.0));
        assert_eq!(read("'50 milliseconds'"), Some(0.05));
        for text in ["'soon'", "7", "'7'", "x"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
