//! Functions over texts and their queries.

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

/// The functions that users call.
pub fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    Vec::new()
}
