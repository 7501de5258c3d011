//! ```sql
//! SELECT array_remove(tags, 'old'), array_replace(tags, 'old', 'new') FROM t;
//! ```
//!
//! `array_remove` and `array_replace` take all elements that are like the given one, as in PostgreSQL; DataFusion's of
//! these names take the first. NULL is like NULL: `array_remove(list, NULL)` leaves what is not NULL. A list that is NULL
//! stays NULL.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray};
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use crate::define::{over_arrays, renamed};

/// The two over DataFusion's `array_remove_all`, `array_compact` and `array_replace_all`.
pub(crate) fn functions(existing: &dyn Fn(&str) -> Option<Arc<ScalarUDF>>) -> Vec<Arc<ScalarUDF>> {
    let mut all = Vec::new();
    if let (Some(inner), Some(compact)) = (existing("array_remove_all"), existing("array_compact")) {
        let aliases = vec!["list_remove".to_owned()];
        all.push(Arc::new(ScalarUDF::new_from_impl(Remove { inner, compact, aliases })));
    }
    all.extend(existing("array_replace_all").map(|f| renamed("array_replace", &["list_replace"], &f)));
    all
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Remove {
    /// Gives NULL where the element is.
    inner: Arc<ScalarUDF>,
    compact: Arc<ScalarUDF>,
    aliases: Vec<String>,
}

impl ScalarUDFImpl for Remove {
    fn name(&self) -> &str {
        "array_remove"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let field = self.inner.return_field_from_args(args)?;
        Ok(Arc::new(Field::clone(&field).with_name(self.name()).with_nullable(true)))
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        over_arrays(&args, |arrays| {
            let rows = arrays[0].len();
            let call = |function: &ScalarUDF, count: usize| -> Result<_> {
                let call = ScalarFunctionArgs {
                    args: arrays[..count].iter().map(|a| ColumnarValue::Array(Arc::clone(a))).collect(),
                    arg_fields: args.arg_fields[..count].to_vec(),
                    number_rows: rows,
                    return_field: Arc::clone(&args.return_field),
                    config_options: Arc::clone(&args.config_options),
                };
                function.invoke_with_args(call)?.to_array(rows)
            };
            let removed = call(&self.inner, 2)?;
            let Some(nulls) = arrays[1].logical_nulls().filter(|n| n.null_count() > 0) else {
                return Ok(removed);
            };
            let compacted = arrow::compute::cast(&call(&self.compact, 1)?, removed.data_type())?;
            let is_null = BooleanArray::new(!nulls.inner(), None);
            Ok(zip(&is_null, &compacted, &removed)?)
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}
