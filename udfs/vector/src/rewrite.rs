//! ```text
//!   CAST(embedding AS Utf8)                 →  vector_to_text(embedding)
//!   CAST('[1,2,3]' AS FixedSizeList<f32,3>) →  to_vector('[1,2,3]', 'VECTOR(3)')
//! ```
//!
//! The session turns the casts that a statement spells out to vector types into calls of `to_vector` before
//! planning. What is left reaches this rewrite: `embedding::VARCHAR`, whose meaning needs the type of
//! `embedding`, and casts that DataFusion itself plans around the values of an INSERT. Left alone, the first
//! would print `[1.0, 2.0]`, and for bits their bytes, and the second would fail.
//!
//! *When it must not fire*: a cast from a vector to a vector type of the same elements, which only renames the
//! child field; anything that is neither from nor to a vector. Applied twice it changes nothing more.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{Expr, ExprSchemable};

use crate::functions::args::Shape;
use crate::functions::cast::{ToVectorFunc, VectorToTextFunc};
use crate::types::VectorType;

/// Register with `register_function_rewrite`; it runs before types are coerced.
#[derive(Debug, Default, Clone, Copy)]
pub struct VectorCastRewrite;

impl FunctionRewrite for VectorCastRewrite {
    fn name(&self) -> &str {
        "vector_cast_rewrite"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        let Expr::Cast(Cast { expr: inner, field }) = &expr else { return Ok(Transformed::no(expr)) };
        let to = VectorType::from_field(field);
        let to_text = field.data_type().is_string();
        if to.is_none() && !to_text {
            return Ok(Transformed::no(expr));
        }
        // A column of another relation has no type here; such a cast is looked at where it has one.
        let Ok((_, from)) = inner.to_field(schema) else { return Ok(Transformed::no(expr)) };
        let rewritten = match (Shape::of(&from), to) {
            (Some(Shape::Vector(_)), None) => {
                let text = VectorToTextFunc::call(inner.as_ref().clone());
                // The function gives Utf8; the cast may ask for another string type.
                Expr::Cast(Cast::new_from_field(Box::new(text), std::sync::Arc::clone(field)))
            }
            (Some(Shape::Vector(own)), Some(to))
                if own.kind == to.kind && own.list_size() == to.list_size() =>
            {
                return Ok(Transformed::no(expr));
            }
            (Some(Shape::Vector(_) | Shape::Text | Shape::List), Some(to)) => {
                ToVectorFunc::call(inner.as_ref().clone(), to)
            }
            _ => return Ok(Transformed::no(expr)),
        };
        // The rule that calls this keeps the names of columns.
        Ok(Transformed::yes(rewritten))
    }
}
