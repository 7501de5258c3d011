//! ```sql
//! SELECT embed(title, 'minilm') FROM docs;
//! SELECT embed('a question');                 -- where there is one model
//! ```
//!
//! `embed(text [, model])` gives a `VECTOR(n)`, n being the model's number of dimensions; NULL gives NULL. The model's name
//! must be a text that is written out.
//!
//! The planner puts an operator below that waits for the values of a batch of rows. It is called volatile although it is
//! not, so that no rule moves it into a scan or computes it while planning.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, FixedSizeListArray, Float32Array, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use async_trait::async_trait;
use datafusion::common::utils::take_function_args;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TypeSignature, Volatility,
};
use triune_common::{Error, ErrorKind, Result};
use triune_vector::types::{VectorKind, VectorType};

use crate::{Embedding, Model};

/// The function's name.
pub const EMBED: &str = "embed";

/// Where models are looked up.
#[async_trait]
pub trait ModelSource: Debug + Send + Sync {
    /// The number of dimensions of a model's vectors; `None` is the only model that there is.
    ///
    /// Errors: not found; invalid where none is named and there are several.
    fn dimension(&self, name: Option<&str>) -> Result<usize>;

    /// The model, loaded.
    async fn open(&self, name: Option<&str>) -> Result<Arc<Model>>;

    /// What the rows of a result are charged to.
    fn memory(&self) -> Result<Arc<dyn MemoryPool>>;
}

/// `embed` over the models of a source.
pub fn embed_function(models: Arc<dyn ModelSource>) -> Arc<ScalarUDF> {
    Arc::new(AsyncScalarUDF::new(Arc::new(EmbedFunc::new(models))).into_scalar_udf())
}

#[derive(Debug)]
struct EmbedFunc {
    signature: Signature,
    models: Arc<dyn ModelSource>,
    documentation: Documentation,
}

// Calls are the same when they ask the same models, which a session has one set of.
impl PartialEq for EmbedFunc {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.models, &other.models)
    }
}

impl Eq for EmbedFunc {}

impl Hash for EmbedFunc {
    fn hash<H: Hasher>(&self, state: &mut H) {
        EMBED.hash(state);
    }
}

impl EmbedFunc {
    fn new(models: Arc<dyn ModelSource>) -> Self {
        let documentation = Documentation::builder(
            datafusion::logical_expr::scalar_doc_sections::DOC_SECTION_OTHER,
            "The vector that an embedding model gives for a text.",
            "embed(text [, model])",
        )
        .with_sql_example("SELECT embed('time series databases', 'minilm')")
        .with_argument("text", "The text; NULL gives NULL.")
        .with_argument("model", "The name of a model of CREATE MODEL; may be left out where there is one.")
        .build();
        // The name of the model stays as it is written: a cast around it would hide it.
        let texts = [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View, DataType::Null];
        let forms = texts
            .into_iter()
            .flat_map(|text| [vec![text.clone()], vec![text, DataType::Utf8]].map(TypeSignature::Exact));
        let signature = Signature::one_of(forms.collect(), Volatility::Volatile);
        Self { signature, models, documentation }
    }
}

fn invalid(message: impl Into<String>) -> DataFusionError {
    Error::invalid(message).into()
}

impl ScalarUDFImpl for EmbedFunc {
    fn name(&self) -> &str {
        EMBED
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Err(Error::internal("the type of embed() depends on its model").into())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        let name = match args.scalar_arguments.get(1) {
            None => None,
            Some(Some(value)) => match value.try_as_str() {
                Some(Some(name)) => Some(name),
                _ => return Err(invalid("embed(): the model's name is NULL")),
            },
            Some(None) => {
                return Err(invalid("embed(): the model's name must be a text that is written out"));
            }
        };
        let dimension = self.models.dimension(name)?;
        let vector = VectorType::try_new(VectorKind::Vector, dimension)?;
        // A list of this type is a VECTOR(n) by itself; the operator that waits would lose a field's metadata.
        Ok(Arc::new(Field::new(EMBED, vector.data_type(), true)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Err(Error::internal("embed() waits for its values").into())
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for EmbedFunc {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let name = match args.args.get(1) {
            None => None,
            Some(ColumnarValue::Scalar(value)) => value.try_as_str().flatten().map(str::to_owned),
            Some(ColumnarValue::Array(_)) => {
                return Err(invalid("embed(): the model's name must be a text that is written out"));
            }
        };
        let Some(text) = args.args.first() else {
            let [_] = take_function_args(EMBED, &args.args)?;
            return Err(invalid("embed() takes a text"));
        };
        let model = self.models.open(name.as_deref()).await?;
        let wanted = args.return_field.data_type();
        let (texts, scalar): (ArrayRef, bool) = match text {
            ColumnarValue::Array(texts) => (cast(texts, &DataType::Utf8)?, false),
            ColumnarValue::Scalar(value) => (cast(&value.to_array()?, &DataType::Utf8)?, true),
        };
        let texts = texts.as_string::<i32>();
        let texts: Vec<Option<&str>> = texts.iter().collect();
        let memory = MemoryConsumer::new("embeddings").register(&self.models.memory()?);
        memory.try_grow(texts.len() * model.dimension() * size_of::<f32>()).map_err(|e| {
            Error::new(ErrorKind::Resources, format!("there is no memory for {} vectors: {e}", texts.len()))
        })?;
        let found = model.embed(&texts).await?;
        let array = array_of(&found, wanted)?;
        if scalar {
            return Ok(ColumnarValue::Array(
                datafusion::common::ScalarValue::try_from_array(&array, 0)?
                    .to_array_of_size(args.number_rows)?,
            ));
        }
        Ok(ColumnarValue::Array(array))
    }
}

/// The vectors as a column of a type that was planned.
fn array_of(found: &[Option<Embedding>], wanted: &DataType) -> Result<ArrayRef> {
    let DataType::FixedSizeList(item, size) = wanted else {
        return Err(Error::internal(format!("embed() was planned as {wanted}")));
    };
    let dimension = usize::try_from(*size).unwrap_or_default();
    if found.iter().all(Option::is_none) {
        return Ok(new_null_array(wanted, found.len()));
    }
    let mut numbers = Vec::with_capacity(found.len() * dimension);
    for vector in found {
        match vector {
            Some(vector) if vector.len() == dimension => numbers.extend_from_slice(vector),
            Some(vector) => {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!(
                        "the model gives {} dimensions, it had {dimension} when the statement was planned",
                        vector.len()
                    ),
                ));
            }
            None => numbers.resize(numbers.len() + dimension, 0.0),
        }
    }
    let nulls: NullBuffer = found.iter().map(Option::is_some).collect::<Vec<bool>>().into();
    let item: Arc<Field> = Arc::clone(item);
    Ok(Arc::new(FixedSizeListArray::try_new(
        item,
        *size,
        Arc::new(Float32Array::from(numbers)),
        Some(nulls),
    )?))
}
