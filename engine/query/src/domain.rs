//! Functions that are defined on a part of the numbers only.
//!
//! ```sql
//! SELECT x FROM t ORDER BY ln(x) LIMIT 10;
//! ```
//!
//! The planner asks every function in a sort key whether it keeps its argument's order. DataFusion's `ln`, `sqrt`,
//! `asin` … answer with an error where the argument may lie outside of their domain, which is wherever nothing is
//! known of a column's range, and the statement fails. Here that answer is "no order is kept".

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// What DataFusion 54 raises such errors in. All take one number.
pub(crate) const FUNCTIONS: [&str; 8] = ["acos", "acosh", "asin", "atanh", "ln", "log2", "log10", "sqrt"];

/// The function with the milder answer.
pub(crate) fn without_error(function: &Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Partial(Arc::clone(function))))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Partial(Arc<ScalarUDF>);

impl ScalarUDFImpl for Partial {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.0.return_type(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.0.invoke_with_args(args)
    }

    fn evaluate_bounds(&self, inputs: &[&Interval]) -> Result<Interval> {
        self.0.evaluate_bounds(inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        Ok(self.0.output_ordering(inputs).unwrap_or(SortProperties::Unordered))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.0.documentation()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Database;

    #[tokio::test]
    async fn any_function_orders() {
        let session = Database::open(None).await.unwrap().session();
        session
            .execute("CREATE TABLE t (x DOUBLE) AS VALUES (0.5), (NULL), (0.25), (2), (-1)")
            .await
            .unwrap();
        // Whatever DataFusion adds: a function of one number must not fail where it is ordered by.
        let functions = session.functions();
        let mut tried = 0;
        for function in functions.iter().filter(|f| f.kind == crate::FunctionKind::Scalar) {
            let probe = format!("SELECT {}(x) FROM t", function.name);
            let Ok(result) = session.execute(&probe).await else { continue };
            let nested = result.schema().field(0).data_type().is_nested();
            if nested || result.collect().await.is_err() {
                continue;
            }
            tried += 1;
            for order in ["", " DESC", " LIMIT 2", ", x DESC LIMIT 2"] {
                let sql = format!("SELECT x FROM t ORDER BY {}(x){order}", function.name);
                let result = session.execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
                result.collect().await.unwrap_or_else(|e| panic!("{sql}: {e}"));
            }
            // Sorted input, of which the planner knows.
            let sql =
                format!("SELECT {}(x) AS y FROM (SELECT x FROM t ORDER BY x) ORDER BY y", function.name);
            session.execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        }
        assert!(tried > 30, "{tried} functions");
        for name in FUNCTIONS {
            assert!(functions.iter().any(|f| f.name == name), "{name}");
        }
    }
}
