//! The functions over Arrow arrays of text.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListBuilder, StringArray, StringBuilder,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use triune_common::{Error, Result};

use super::read::{self, Step};
use crate::ddl::types::{NAMED, Named};

/// Which function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Form {
    Get,
    GetText,
    Path,
    PathText,
    HasKey,
    TypeOf,
    ArrayLength,
    ObjectKeys,
}

impl Form {
    pub(super) const ALL: [Self; 8] = [
        Self::Get,
        Self::GetText,
        Self::Path,
        Self::PathText,
        Self::HasKey,
        Self::TypeOf,
        Self::ArrayLength,
        Self::ObjectKeys,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Get => "json_get",
            Self::GetText => "json_get_text",
            Self::Path => "json_extract_path",
            Self::PathText => "json_extract_path_text",
            Self::HasKey => "json_has_key",
            Self::TypeOf => "json_typeof",
            Self::ArrayLength => "json_array_length",
            Self::ObjectKeys => "json_object_keys",
        }
    }

    /// How many arguments follow the document; `None` for any number of keys, or one list of them.
    fn steps(self) -> Option<usize> {
        match self {
            Self::Path | Self::PathText => None,
            Self::Get | Self::GetText | Self::HasKey => Some(1),
            Self::TypeOf | Self::ArrayLength | Self::ObjectKeys => Some(0),
        }
    }

    fn returns(self) -> DataType {
        match self {
            Self::HasKey => DataType::Boolean,
            Self::ArrayLength => DataType::Int64,
            Self::ObjectKeys => DataType::new_list(DataType::Utf8, true),
            _ => DataType::Utf8,
        }
    }
}

/// A function of JSON text. NULL for a NULL among its arguments.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct JsonFunc {
    form: Form,
    signature: Signature,
}

impl JsonFunc {
    pub(super) fn udf(form: Form) -> Arc<ScalarUDF> {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Self { form, signature }))
    }
}

/// Whether JSON, or a key into it, may stand in a column of this type.
pub(super) fn is_text(ty: &DataType) -> bool {
    matches!(ty, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null)
        || matches!(ty, DataType::Dictionary(_, value) if is_text(value))
}

impl ScalarUDFImpl for JsonFunc {
    fn name(&self) -> &str {
        self.form.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> DfResult<DataType> {
        Ok(self.form.returns())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        let field = Field::new(self.name(), self.form.returns(), true);
        Ok(Arc::new(match self.form {
            Form::Get | Form::Path => {
                field.with_metadata([(NAMED.to_owned(), Named::Json.label().to_owned())].into())
            }
            _ => field,
        }))
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        let name = self.name();
        let wrong = |what: String, hint: &str| Err(Error::invalid(what).with_hint(hint).into());
        let Some((document, steps)) = types.split_first() else {
            return wrong(format!("{name} takes a JSON text"), "write it as the first argument");
        };
        if !is_text(document) {
            return wrong(
                format!("{name} reads JSON text, not {}", crate::types::name_of(document)),
                "accepted are columns of type JSON and text",
            );
        }
        if let Some(wanted) = self.form.steps().filter(|n| *n != steps.len()) {
            let wanted = ["no argument", "one argument"][wanted.min(1)];
            return wrong(
                format!("{name} takes {wanted} after the JSON text, not {}", steps.len()),
                "see \\df",
            );
        }
        let mut out = vec![DataType::Utf8];
        for ty in steps {
            out.push(match (self.form, ty) {
                (_, ty) if is_text(ty) => DataType::Utf8,
                (Form::Get | Form::GetText, ty) if ty.is_integer() => DataType::Int64,
                (Form::Path | Form::PathText, DataType::List(item) | DataType::LargeList(item))
                    if steps.len() == 1 && is_text(item.data_type()) =>
                {
                    DataType::new_list(DataType::Utf8, true)
                }
                (form, ty) => {
                    let accepted = match form {
                        Form::Get | Form::GetText => "accepted are a key (text) and an index (integer)",
                        Form::HasKey => "accepted is a key (text)",
                        _ => "accepted are texts, or one list of texts",
                    };
                    return wrong(format!("{} is no step into JSON", crate::types::name_of(ty)), accepted);
                }
            });
        }
        Ok(out)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let (document, steps) = (cast(&arrays[0], &DataType::Utf8)?, &arrays[1..]);
        let done = evaluate(self.form, document.as_string::<i32>(), steps)?;
        if scalar {
            return Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&done, 0)?));
        }
        Ok(ColumnarValue::Array(done))
    }
}

fn evaluate(form: Form, documents: &StringArray, steps: &[ArrayRef]) -> Result<ArrayRef> {
    Ok(match form {
        Form::Get | Form::Path => {
            let mut out = StringBuilder::with_capacity(documents.len(), 0);
            for (row, json) in documents.iter().enumerate() {
                out.append_option(json.map(|j| descend(form, j, steps, row)).transpose()?.flatten());
            }
            Arc::new(out.finish())
        }
        Form::GetText | Form::PathText => {
            let mut out = StringBuilder::with_capacity(documents.len(), 0);
            for (row, json) in documents.iter().enumerate() {
                let found = json.map(|j| descend(form, j, steps, row)).transpose()?.flatten();
                out.append_option(found.map(read::as_text).transpose()?.flatten());
            }
            Arc::new(out.finish())
        }
        Form::HasKey => {
            let keys = steps[0].as_string::<i32>();
            let rows = documents.iter().zip(keys.iter()).map(|(json, key)| match (json, key) {
                (Some(json), Some(key)) => Ok(Some(read::has(read::valid(json)?, key))),
                _ => Ok(None),
            });
            Arc::new(rows.collect::<Result<BooleanArray>>()?)
        }
        Form::TypeOf => {
            let name = |json| read::valid(json).map(|json| read::kind(json).name());
            Arc::new(documents.iter().map(|j| j.map(name).transpose()).collect::<Result<StringArray>>()?)
        }
        Form::ArrayLength => {
            let length = |json| Ok(read::length(read::valid(json)?).and_then(|n| i64::try_from(n).ok()));
            Arc::new(documents.iter().map(|j| j.map_or(Ok(None), length)).collect::<Result<Int64Array>>()?)
        }
        Form::ObjectKeys => {
            let mut out = ListBuilder::new(StringBuilder::new());
            for json in documents {
                match json.map_or(Ok(None), |json| read::keys(read::valid(json)?))? {
                    Some(keys) => {
                        keys.iter().for_each(|k| out.values().append_value(k));
                        out.append(true);
                    }
                    None => out.append(false),
                }
            }
            Arc::new(out.finish())
        }
    })
}

/// Down all steps of one row; `None` as soon as there is nothing, or a step is NULL.
fn descend<'t>(form: Form, json: &'t str, steps: &[ArrayRef], row: usize) -> Result<Option<&'t str>> {
    let mut at = Some(read::valid(json)?);
    for array in steps {
        let Some(json) = at.filter(|_| array.is_valid(row)) else { return Ok(None) };
        at = match array.data_type() {
            DataType::Int64 => read::step(json, Step::Index(array.as_primitive::<Int64Type>().value(row))),
            DataType::List(_) => {
                let keys = array.as_list::<i32>().value(row);
                keys.as_string::<i32>()
                    .iter()
                    .try_fold(json, |json, key| read::step(json, Step::Either(key?)))
            }
            _ => {
                let key = array.as_string::<i32>().value(row);
                let operator = matches!(form, Form::Get | Form::GetText);
                read::step(json, if operator { Step::Key(key) } else { Step::Either(key) })
            }
        };
    }
    Ok(at)
}
