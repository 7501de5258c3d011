//! What conditions of a statement ask of an index.

use std::ops::Bound;

use arrow::datatypes::Schema;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Like, Operator};
use lance_index::scalar::{AnyQuery, BloomFilterQuery, SargableQuery, TextQuery};

/// What an index can be asked, the one that says most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Which rows have values.
    Rows,
    /// Which rows have three letters in a row.
    Letters,
    /// Which stretches of rows may have a value.
    Bloom,
    /// Between which values those of a stretch are.
    Zones,
}

/// The letters that an index of letters knows in a row.
const LETTERS: usize = 3;

/// A condition of one column and constants.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) column: String,
    /// What is said of the value.
    values: Option<SargableQuery>,
    /// Texts that a text must have in it.
    inside: Vec<String>,
    is_float: bool,
}

impl Probe {
    /// `None` for conditions that no index is asked.
    pub(super) fn of(filter: &Expr, schema: &Schema) -> Option<Self> {
        let column = |e: &Expr| match e {
            Expr::Column(c) => Some(c.name.clone()),
            _ => None,
        };
        let mut inside = Vec::new();
        let (name, values) = match filter {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let (name, value, op) = match (column(left), column(right)) {
                    (Some(name), None) => (name, right, *op),
                    (None, Some(name)) => (name, left, op.swap()?),
                    _ => return None,
                };
                let value = value_of(schema, &name, value)?;
                inside.extend(text_of(&value).filter(|_| op == Operator::Eq));
                let query = match op {
                    Operator::Eq => SargableQuery::Equals(value),
                    Operator::Lt => SargableQuery::Range(Bound::Unbounded, Bound::Excluded(value)),
                    Operator::LtEq => SargableQuery::Range(Bound::Unbounded, Bound::Included(value)),
                    Operator::Gt => SargableQuery::Range(Bound::Excluded(value), Bound::Unbounded),
                    Operator::GtEq => SargableQuery::Range(Bound::Included(value), Bound::Unbounded),
                    _ => return None,
                };
                (name, Some(query))
            }
            Expr::Between(Between { expr, negated: false, low, high }) => {
                let name = column(expr)?;
                let (low, high) = (value_of(schema, &name, low)?, value_of(schema, &name, high)?);
                (name, Some(SargableQuery::Range(Bound::Included(low), Bound::Included(high))))
            }
            Expr::InList(list) if !list.negated => {
                let name = column(&list.expr)?;
                let values = list.list.iter().map(|e| value_of(schema, &name, e));
                let values = values.collect::<Option<Vec<ScalarValue>>>()?;
                (name, Some(SargableQuery::IsIn(values)))
            }
            Expr::IsNull(inner) => (column(inner)?, Some(SargableQuery::IsNull())),
            Expr::Like(Like { negated: false, expr, pattern, escape_char, case_insensitive: false }) => {
                let name = column(expr)?;
                let pattern = text_of(&value_of(schema, &name, pattern)?)?;
                inside = fixed_parts(&pattern, escape_char.unwrap_or('\\'));
                let prefix = |p| SargableQuery::LikePrefix(ScalarValue::Utf8(Some(p)));
                (name, pattern_prefix(&pattern, *escape_char).map(prefix))
            }
            Expr::ScalarFunction(ScalarFunction { func, args }) => {
                let ("contains" | "starts_with" | "ends_with", [text, part]) = (func.name(), args.as_slice())
                else {
                    return None;
                };
                let name = column(text)?;
                inside.push(text_of(&value_of(schema, &name, part)?)?);
                (name, None)
            }
            _ => return None,
        };
        inside.retain(|text| text.chars().count() >= LETTERS);
        let is_float = schema.field_with_name(&name).ok()?.data_type().is_floating();
        (values.is_some() || !inside.is_empty()).then_some(Self { column: name, values, inside, is_float })
    }

    /// What an index of a kind is asked; all answers hold. Empty: it cannot be asked.
    pub(super) fn queries(&self, kind: Kind) -> Vec<Box<dyn AnyQuery>> {
        let one: Option<Box<dyn AnyQuery>> = match (kind, &self.values) {
            (Kind::Letters, _) => {
                let texts = self.inside.iter();
                return texts.map(|t| Box::new(TextQuery::StringContains(t.clone())) as _).collect();
            }
            (_, None) => None,
            (Kind::Rows, Some(values)) => Some(Box::new(values.clone())),
            (Kind::Bloom, Some(values)) => match values {
                SargableQuery::Equals(value) => Some(Box::new(BloomFilterQuery::Equals(value.clone()))),
                SargableQuery::IsIn(values) => Some(Box::new(BloomFilterQuery::IsIn(values.clone()))),
                SargableQuery::IsNull() => Some(Box::new(BloomFilterQuery::IsNull())),
                _ => None,
            },
            // Where NaN is among the values, least and greatest say little.
            (Kind::Zones, Some(SargableQuery::Range(..))) if self.is_float => None,
            (Kind::Zones, Some(SargableQuery::LikePrefix(prefix))) => {
                text_of(prefix).map(|p| Box::new(range_of(&p)) as _)
            }
            (Kind::Zones, Some(values)) => Some(Box::new(values.clone())),
        };
        one.into_iter().collect()
    }
}

/// A constant of the column's own type that is not NULL and not NaN (of which indexes and conditions may
/// think differently).
fn value_of(schema: &Schema, column: &str, expr: &Expr) -> Option<ScalarValue> {
    let Expr::Literal(value, _) = expr else { return None };
    let field = schema.field_with_name(column).ok()?;
    let fits = match value {
        ScalarValue::Float32(Some(v)) => !v.is_nan() && *v != 0.0,
        ScalarValue::Float64(Some(v)) => !v.is_nan() && *v != 0.0,
        other => !other.is_null(),
    };
    (fits && value.data_type() == *field.data_type()).then(|| value.clone())
}

fn text_of(value: &ScalarValue) -> Option<String> {
    match value {
        ScalarValue::Utf8(Some(text)) => Some(text.clone()),
        _ => None,
    }
}

/// `abc` of `LIKE 'abc%'`, if there is nothing else in it.
fn pattern_prefix(pattern: &str, escape: Option<char>) -> Option<String> {
    let prefix = pattern.strip_suffix('%').filter(|_| escape.is_none())?;
    (!prefix.is_empty() && !prefix.contains(['%', '_', '\\'])).then(|| prefix.to_owned())
}

/// What a text that is like a pattern has in it for certain.
fn fixed_parts(pattern: &str, escape: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '%' | '_' => parts.push(String::new()),
            // What an escape stands before differs between languages: the parts beside it are certain.
            letter if letter == escape => {
                letters.next();
                parts.push(String::new());
            }
            letter => parts.last_mut().into_iter().for_each(|part| part.push(letter)),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// All texts that begin with this one are in it, and some others may be.
fn range_of(prefix: &str) -> SargableQuery {
    let mut letters: Vec<char> = prefix.chars().collect();
    let next = letters.pop().and_then(|last| char::from_u32(u32::from(last) + 1));
    let text = |text: String| ScalarValue::Utf8(Some(text));
    let end = match next {
        Some(next) => Bound::Excluded(text(letters.into_iter().chain([next]).collect())),
        None => Bound::Unbounded,
    };
    SargableQuery::Range(Bound::Included(text(prefix.to_owned())), end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field};
    use datafusion::logical_expr::{col, lit};

    fn schema() -> Schema {
        let field = |name, data_type| Field::new(name, data_type, true);
        Schema::new(vec![
            field("t", DataType::Utf8),
            field("n", DataType::Int32),
            field("f", DataType::Float64),
        ])
    }

    fn asked(filter: &Expr, kind: Kind) -> Vec<String> {
        let probe = Probe::of(filter, &schema());
        probe.map_or_else(Vec::new, |p| p.queries(kind).iter().map(|q| q.format(&p.column)).collect())
    }

    #[test]
    fn indexes_are_asked_what_they_know() {
        let like = col("t").like(lit("%solar_panel%x%"));
        assert_eq!(asked(&like, Kind::Letters).len(), 2);
        assert!(asked(&like, Kind::Rows).is_empty() && asked(&like, Kind::Zones).is_empty());
        assert_eq!(asked(&col("t").like(lit("sol%")), Kind::Rows).len(), 1);
        assert_eq!(asked(&col("t").like(lit("sol%")), Kind::Zones).len(), 1);
        assert!(asked(&col("t").like(lit("so%")), Kind::Letters).is_empty());
        assert_eq!(asked(&col("t").eq(lit("solar")), Kind::Letters).len(), 1);
        assert!(asked(&col("t").not_eq(lit("solar")), Kind::Letters).is_empty());
        assert!(asked(&col("t").gt(lit("solar")), Kind::Letters).is_empty());
        assert_eq!(asked(&col("n").eq(lit(3)), Kind::Bloom).len(), 1);
        assert!(asked(&col("n").gt(lit(3)), Kind::Bloom).is_empty());
        assert_eq!(asked(&col("n").gt(lit(3)), Kind::Zones).len(), 1);
        assert!(asked(&col("f").gt(lit(3.0)), Kind::Zones).is_empty());
        assert_eq!(asked(&col("f").eq(lit(3.0)), Kind::Zones).len(), 1);
        assert!(asked(&col("n").eq(lit(3_i64)), Kind::Rows).is_empty(), "a constant of another type");
    }

    #[test]
    fn parts_of_patterns() {
        assert_eq!(fixed_parts("%abc_d%", '\\'), ["abc", "d"]);
        assert_eq!(fixed_parts("ab\\%cd%ef", '\\'), ["ab", "cd", "ef"]);
        assert_eq!(fixed_parts("a!_b\\c", '!'), ["a", "b\\c"]);
        assert!(fixed_parts("%_%", '\\').is_empty());
        let SargableQuery::Range(_, Bound::Excluded(end)) = range_of("ab") else { panic!() };
        assert_eq!(end, ScalarValue::Utf8(Some("ac".to_owned())));
    }
}
