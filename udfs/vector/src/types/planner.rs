//! `VECTOR(n)`, `HALFVEC(n)`, `TINYVEC(n)` and `BITVEC(n)` wherever SQL takes a type.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::common::Result;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::logical_expr::sqlparser::ast::DataType as SqlType;
use triune_common::Error;

use super::{VectorKind, VectorType};

/// Plans the four vector types to fields with extension metadata; every other type is left to DataFusion,
/// also `float[n]`, which becomes the same Arrow type without metadata.
///
/// *Errors*: a vector type without a length, with several, or with one that is not within 1 … 65,535.
#[derive(Debug, Default, Clone, Copy)]
pub struct VectorTypePlanner;

impl TypePlanner for VectorTypePlanner {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        let SqlType::Custom(name, modifiers) = sql_type else { return Ok(None) };
        let [part] = name.0.as_slice() else { return Ok(None) };
        let Some(name) = part.as_ident().map(|ident| ident.value.as_str()) else { return Ok(None) };
        let Some(kind) = VectorKind::from_sql_name(name) else { return Ok(None) };
        let dims = match modifiers.as_slice() {
            [] => None,
            [one] => Some(one.as_str()),
            several => {
                let (name, all) = (kind.sql_name(), several.join(", "));
                return Err(Error::invalid(format!(
                    "{name}({all}): {name} takes one number, its dimensions"
                ))
                .into());
            }
        };
        let planned = VectorType::from_sql_name(name, dims)?;
        Ok(planned.map(|ty| Arc::new(ty.field("", true))))
    }
}
