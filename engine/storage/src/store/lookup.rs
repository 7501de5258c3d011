//! Conditions that name keys: `WHERE id = 7`, `WHERE id IN (7, 8)`, `WHERE tenant = 1 AND name = 'a'`.
//!
//! A scan with such a condition looks the rows up instead of reading the table. The condition itself is still
//! evaluated on what is found, so that the look-up only has to find too much rather than too little.

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use triune_common::Result;

use crate::key::{KeyCodec, Keys};

/// More keys than this are found faster by a scan.
const MOST_KEYS: usize = 256;

/// The keys that rows must have to meet all of the conditions; `None` when the conditions do not say.
///
/// Errors: those of encoding values as keys.
pub(super) fn wanted_keys(codec: &KeyCodec, schema: &SchemaRef, conditions: &[Expr]) -> Option<Result<Keys>> {
    let mut columns: Vec<Vec<ScalarValue>> = Vec::new();
    for place in codec.columns() {
        let field = schema.field(*place);
        let values = conditions.iter().find_map(|c| values_of(c, field.name()))?;
        // A literal of another type was given for a cast of the column: its meaning is not ours to guess.
        if values.iter().any(|v| v.data_type() != *field.data_type()) {
            return None;
        }
        columns.push(values);
    }
    let mut combinations: Vec<Vec<ScalarValue>> = vec![Vec::new()];
    for values in columns {
        if combinations.len() * values.len() > MOST_KEYS {
            return None;
        }
        combinations = combinations
            .iter()
            .flat_map(|c| values.iter().map(|v| c.iter().cloned().chain([v.clone()]).collect::<Vec<_>>()))
            .collect();
    }
    // NULL equals nothing.
    combinations.retain(|c| c.iter().all(|v| !v.is_null()));
    Some(encode(codec, schema, &combinations))
}

fn encode(codec: &KeyCodec, schema: &SchemaRef, combinations: &[Vec<ScalarValue>]) -> Result<Keys> {
    let columns = codec
        .columns()
        .iter()
        .enumerate()
        .map(|(i, place)| -> Result<ArrayRef> {
            if combinations.is_empty() {
                return Ok(arrow::array::new_empty_array(schema.field(*place).data_type()));
            }
            Ok(ScalarValue::iter_to_array(combinations.iter().map(|c| c[i].clone()))?)
        })
        .collect::<Result<Vec<_>>>()?;
    let keys = codec.encode(&columns)?;
    Ok(without_repeats(keys))
}

fn without_repeats(keys: Keys) -> Keys {
    match keys {
        Keys::Ints(mut v) => {
            v.sort_unstable();
            v.dedup();
            Keys::Ints(v)
        }
        Keys::Bytes(mut v) => {
            v.sort_unstable();
            v.dedup();
            Keys::Bytes(v)
        }
    }
}

/// The values that a condition leaves for a column: `c = 1`, `1 = c`, `c IN (1, 2)`, `c = 1 OR c = 2`.
fn values_of(condition: &Expr, column: &str) -> Option<Vec<ScalarValue>> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            match (left.as_ref(), right.as_ref()) {
                (Expr::Column(c), Expr::Literal(v, _)) | (Expr::Literal(v, _), Expr::Column(c))
                    if c.name == column =>
                {
                    Some(vec![v.clone()])
                }
                _ => None,
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            values_of(left, column).or_else(|| values_of(right, column))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let mut values = values_of(left, column)?;
            values.extend(values_of(right, column)?);
            Some(values)
        }
        Expr::InList(list) if !list.negated => match list.expr.as_ref() {
            Expr::Column(c) if c.name == column => list
                .list
                .iter()
                .map(|e| match e {
                    Expr::Literal(v, _) => Some(v.clone()),
                    _ => None,
                })
                .collect(),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::prelude::{col, lit};

    use super::*;

    fn found(conditions: &[Expr]) -> Option<usize> {
        let schema: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("a", DataType::Int64, false),
            Field::new("b", DataType::Utf8, false),
            Field::new("c", DataType::Int64, true),
        ]));
        let codec = KeyCodec::try_new(&schema, vec![0, 1]).unwrap();
        wanted_keys(&codec, &schema, conditions).map(|k| k.unwrap().len())
    }

    #[test]
    fn every_column_of_the_key_must_be_named() {
        let (a, b) = (col("a").eq(lit(1i64)), col("b").eq(lit("x")));
        assert_eq!(found(std::slice::from_ref(&a)), None);
        assert_eq!(found(&[a.clone(), b.clone()]), Some(1));
        assert_eq!(found(&[a.clone().and(b.clone())]), Some(1));
        assert_eq!(found(&[a.clone().or(b.clone())]), None);
        assert_eq!(
            found(&[col("a").in_list(vec![lit(1i64), lit(2i64), lit(1i64)], false), b.clone()]),
            Some(2)
        );
        assert_eq!(found(&[col("a").in_list(vec![lit(1i64)], true), b.clone()]), None);
        assert_eq!(found(&[a.clone().or(col("a").eq(lit(3i64))), b.clone()]), Some(2));
        assert_eq!(found(&[col("a").gt(lit(1i64)), b.clone()]), None);
        assert_eq!(found(&[col("a").eq(lit(1i32)), b.clone()]), None, "another type");
        assert_eq!(found(&[col("a").eq(lit(ScalarValue::Int64(None))), b]), Some(0), "NULL equals nothing");
    }
}
