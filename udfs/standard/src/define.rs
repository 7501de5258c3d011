//! How most functions of this crate are written down: what they take, what they give, and a kernel over arrays.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use triune_common::Error;

/// The types that arguments of these types are cast to; `None` if there is no such form of the function.
pub(crate) type Takes = fn(&[DataType]) -> Option<Vec<DataType>>;
/// The type of the result for arguments of these types, which `Takes` has let through.
pub(crate) type Gives = fn(&[DataType]) -> DataType;
/// The function over arrays of one length; constants are arrays as well.
pub(crate) type Run = fn(&[ArrayRef]) -> Result<ArrayRef>;

/// A function by its parts; see [`define`].
#[derive(Clone)]
struct Defined {
    name: &'static str,
    usage: &'static str,
    aliases: Vec<String>,
    signature: Signature,
    takes: Takes,
    gives: Gives,
    run: Run,
}

/// A function from how it is written (`left(text, count)`), its other names, and its three parts.
pub(crate) fn define(
    usage: &'static str,
    aliases: &[&str],
    takes: Takes,
    gives: Gives,
    run: Run,
) -> Arc<ScalarUDF> {
    let name = usage.split_once('(').map_or(usage, |(name, _)| name);
    let aliases = aliases.iter().map(|a| (*a).to_owned()).collect();
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(Defined { name, usage, aliases, signature, takes, gives, run }))
}

/// Names are unique, so they stand for the rest.
impl PartialEq for Defined {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Defined {}

impl Hash for Defined {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Debug for Defined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Defined").field("usage", &self.usage).finish_non_exhaustive()
    }
}

/// What is said when no form of a function fits.
pub(crate) fn no_form(name: &str, types: &[DataType], usage: &str) -> Error {
    let types: Vec<String> = types.iter().map(ToString::to_string).collect();
    Error::invalid(format!("no form of {name} takes ({})", types.join(", ")))
        .with_hint(format!("write {usage}"))
}

impl ScalarUDFImpl for Defined {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// What does not fit is left as it is, and told by `return_field_from_args`, whose errors keep their kind.
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        Ok((self.takes)(types).unwrap_or_else(|| types.to_vec()))
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match (self.takes)(types) {
            Some(taken) => Ok((self.gives)(&taken)),
            None => Err(no_form(self.name, types, self.usage).into()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        over_arrays(&args, self.run)
    }
}

/// Runs a kernel over arguments made arrays; a constant result stays one.
pub(crate) fn over_arrays(
    args: &ScalarFunctionArgs,
    run: impl Fn(&[ArrayRef]) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    let scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
    let rows = if scalar { 1 } else { args.number_rows };
    let arrays = args.args.iter().map(|a| a.to_array(rows)).collect::<Result<Vec<_>>>()?;
    let result = run(&arrays)?;
    if scalar {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
    }
    Ok(ColumnarValue::Array(result))
}

/// A function of DataFusion's under another name.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Renamed {
    name: &'static str,
    aliases: Vec<String>,
    inner: Arc<ScalarUDF>,
}

pub(crate) fn renamed(name: &'static str, aliases: &[&str], inner: &Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    let aliases = aliases.iter().map(|a| (*a).to_owned()).collect();
    Arc::new(ScalarUDF::new_from_impl(Renamed { name, aliases, inner: Arc::clone(inner) }))
}

impl ScalarUDFImpl for Renamed {
    fn name(&self) -> &str {
        self.name
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
        Ok(Arc::new(Field::clone(&field).with_name(self.name)))
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.simplify(args, info)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.inner.invoke_with_args(args)
    }

    fn evaluate_bounds(&self, inputs: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// Whether values of a type are texts, or all NULL.
pub(crate) fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

/// Whether values of a type are numbers, or all NULL.
pub(crate) fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric() || data_type.is_null()
}

/// `N` texts.
pub(crate) fn texts<const N: usize>(types: &[DataType]) -> Option<Vec<DataType>> {
    (types.len() == N && types.iter().all(is_text)).then(|| vec![DataType::Utf8; N])
}

/// `N` numbers, computed as doubles.
pub(crate) fn doubles<const N: usize>(types: &[DataType]) -> Option<Vec<DataType>> {
    (types.len() == N && types.iter().all(is_number)).then(|| vec![DataType::Float64; N])
}

/// `N` integers.
pub(crate) fn integers<const N: usize>(types: &[DataType]) -> Option<Vec<DataType>> {
    let all = types.iter().all(|t| t.is_integer() || t.is_null());
    (types.len() == N && all).then(|| vec![DataType::Int64; N])
}

/// Texts, of which the first must and the others may be given, then integers likewise: `pattern` has `t` for a
/// text and `i` for an integer; a capital letter is one that may be left out.
pub(crate) fn mixed(types: &[DataType], pattern: &str) -> Option<Vec<DataType>> {
    let least = pattern.bytes().take_while(u8::is_ascii_lowercase).count();
    if types.len() < least || types.len() > pattern.len() {
        return None;
    }
    types
        .iter()
        .zip(pattern.bytes())
        .map(|(t, p)| match p.to_ascii_lowercase() {
            b't' => is_text(t).then_some(DataType::Utf8),
            _ => (t.is_integer() || t.is_null()).then_some(DataType::Int64),
        })
        .collect()
}

/// A list of texts.
pub(crate) fn text_list() -> DataType {
    DataType::new_list(DataType::Utf8, true)
}

/// An argument that `Takes` has made a text.
pub(crate) fn text(array: &ArrayRef) -> &StringArray {
    array.as_string::<i32>()
}

/// Rows of one text.
pub(crate) fn each<T>(args: &[ArrayRef], f: impl Fn(&str) -> Result<T>) -> Result<Vec<Option<T>>> {
    text(&args[0]).iter().map(|s| s.map(&f).transpose()).collect()
}

/// Rows of two texts; NULL where either is.
pub(crate) fn each2<T>(
    args: &[ArrayRef],
    mut f: impl FnMut(&str, &str) -> Result<T>,
) -> Result<Vec<Option<T>>> {
    let pairs = text(&args[0]).iter().zip(text(&args[1]).iter());
    pairs.map(|(a, b)| a.zip(b).map(|(a, b)| f(a, b)).transpose()).collect()
}

/// Rows of lists of texts.
pub(crate) fn lists(rows: Vec<Option<Vec<Option<String>>>>) -> ArrayRef {
    let mut builder = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new())
        .with_field(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    for row in rows {
        match row {
            Some(items) => {
                items.into_iter().for_each(|i| builder.values().append_option(i));
                builder.append(true);
            }
            None => builder.append(false),
        }
    }
    Arc::new(builder.finish())
}

/// Whether any of the arguments is NULL in a row.
pub(crate) fn any_null(args: &[ArrayRef], row: usize) -> bool {
    args.iter().any(|a| a.is_null(row))
}
