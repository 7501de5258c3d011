//! Values on their way into a column.
//!
//! ```sql
//! INSERT INTO docs (id, stars, embedding, at) VALUES ('7', 4.6, '[1, 2, 3]', '2026-01-31 12:00');
//! ```
//!
//! A value is converted to the column's type as an assignment does in PostgreSQL: texts are read, numbers are
//! checked for their range and rounded half away from zero where the column has fewer digits, vectors are checked for their
//! length. What cannot be converted is an error that names the column and the value.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Field, Float16Type, Float32Type, Float64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use triune_common::{Error, Result};
use triune_vector::types::{VectorType, array_to_vectors};

use crate::ddl::types::{Named, named};
use crate::types::sql_type_name;

/// An error and the row of the batch that it was found in.
#[derive(Debug)]
pub(crate) struct RowError {
    pub(crate) row: usize,
    pub(crate) error: Error,
}

/// Converts `values`, which have the field `from`, into what the column `to` keeps.
pub(crate) fn to_column(values: &ArrayRef, from: &Field, to: &Field) -> Result<ArrayRef, RowError> {
    convert(values, from, to).map_err(|_| first_failure(values, from, to))
}

/// Goes by halves to the first value that does not convert.
fn first_failure(values: &ArrayRef, from: &Field, to: &Field) -> RowError {
    let (mut start, mut len) = (0, values.len());
    while len > 1 {
        let half = len / 2;
        if convert(&values.slice(start, half), from, to).is_ok() {
            start += half;
            len -= half;
        } else {
            len = half;
        }
    }
    let one = values.slice(start, len);
    let error = match convert(&one, from, to) {
        Err(error) => wrong_value(&one, from, to, &error),
        Ok(_) => Error::internal(format!("the column \"{}\" could not be converted", to.name())),
    };
    RowError { row: start, error }
}

fn wrong_value(value: &ArrayRef, from: &Field, to: &Field, why: &Error) -> Error {
    const LONGEST: usize = 80;
    let mut text = ArrayFormatter::try_new(value, &FormatOptions::default())
        .ok()
        .filter(|_| !value.is_empty())
        .map_or_else(|| sql_type_name(from), |f| f.value(0).to_string());
    if let Some((at, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(at);
        text.push('…');
    }
    let text = if from.data_type().is_string() { format!("'{text}'") } else { text };
    let error = Error::invalid(format!(
        "cannot put {text} into the column \"{}\" of type {}",
        to.name(),
        sql_type_name(to)
    ));
    // Arrow says the same once more, in its own words.
    let arrows = ["Cannot cast", "Can't cast", "Cast error", "Parser error", "Error parsing"];
    match why.hint() {
        Some(hint) => error.with_hint(hint),
        None if arrows.iter().any(|a| why.message().starts_with(a)) => error,
        None => error.with_hint(why.message().to_owned()),
    }
}

fn convert(values: &ArrayRef, from: &Field, to: &Field) -> Result<ArrayRef> {
    if let Some(vector) = VectorType::from_field(to) {
        return array_to_vectors(values, from, vector);
    }
    let text = matches!(from.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    match named(to) {
        Some(Named::Uuid) => return uuids(values, named(from) == Some(Named::Uuid)),
        Some(Named::Json) => return jsons(values, from),
        None => {}
    }
    let wanted = to.data_type();
    if values.data_type() == wanted {
        return Ok(Arc::clone(values));
    }
    if from.data_type().is_nested() != wanted.is_nested() && !from.data_type().is_null() && !text {
        return Err(Error::invalid(format!("a {} is expected", sql_type_name(to))));
    }
    if wanted.is_string() && VectorType::from_field(from).is_some() {
        return vector_texts(values, from);
    }
    let values = match wanted {
        _ if wanted.is_integer() => whole(values, text)?,
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 if text => moments(values)?,
        _ if wanted.is_string() && crate::values::has_text(from.data_type()) => {
            Arc::new(crate::values::written(values)?)
        }
        _ => Arc::clone(values),
    };
    let options = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(&values, wanted, &options)?)
}

/// Rounds what has a fraction; a text that is a number with a fraction is rounded too.
fn whole(values: &ArrayRef, text: bool) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    Ok(match values.data_type() {
        DataType::Float64 => {
            Arc::new(values.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::round))
        }
        DataType::Float32 => {
            Arc::new(values.as_primitive::<Float32Type>().unary::<_, Float32Type>(f32::round))
        }
        DataType::Float16 => {
            let wide = cast(values, &DataType::Float32)?;
            let _ = values.as_primitive::<Float16Type>();
            Arc::new(wide.as_primitive::<Float32Type>().unary::<_, Float32Type>(f32::round))
        }
        DataType::Decimal128(..) | DataType::Decimal256(..) => {
            cast_with_options(values, &DataType::Decimal256(76, 0), &options)?
        }
        _ if text => {
            let texts = cast(values, &DataType::Utf8)?;
            let texts = texts.as_string::<i32>();
            if texts.iter().flatten().any(|t| t.contains(['.', 'e', 'E'])) {
                let numbers =
                    cast_with_options(&(Arc::new(texts.clone()) as ArrayRef), &DataType::Float64, &options)?;
                Arc::new(numbers.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::round))
            } else {
                let trimmed: StringArray = texts.iter().map(|t| t.map(str::trim)).collect();
                Arc::new(trimmed)
            }
        }
        _ => Arc::clone(values),
    })
}

/// Texts of moments, which may lack seconds.
fn moments(values: &ArrayRef) -> Result<ArrayRef> {
    let texts = cast(values, &DataType::Utf8)?;
    let texts = texts.as_string::<i32>();
    let read: StringArray = texts.iter().map(|t| t.map(crate::values::with_seconds)).collect();
    Ok(Arc::new(read))
}

fn vector_texts(values: &ArrayRef, from: &Field) -> Result<ArrayRef> {
    let Some(ty) = VectorType::from_field(from) else {
        return Err(Error::internal("a vector is no vector"));
    };
    let vectors = values.as_fixed_size_list();
    let text = |row| vectors.is_valid(row).then(|| triune_vector::types::print_text(vectors, row, ty));
    Ok(Arc::new((0..vectors.len()).map(text).collect::<StringArray>()))
}

fn uuids(values: &ArrayRef, known: bool) -> Result<ArrayRef> {
    let texts = cast(values, &DataType::Utf8)?;
    if known {
        return Ok(texts);
    }
    let texts = texts.as_string::<i32>();
    let normal = texts.iter().map(|t| t.map(crate::ddl::types::normal_uuid).transpose());
    Ok(Arc::new(normal.collect::<Result<StringArray>>()?))
}

fn jsons(values: &ArrayRef, from: &Field) -> Result<ArrayRef> {
    if !from.data_type().is_string() && !from.data_type().is_null() {
        return Err(Error::invalid(format!("a JSON text is expected, not a {}", sql_type_name(from))));
    }
    let texts = cast(values, &DataType::Utf8)?;
    if named(from) != Some(Named::Json) {
        texts.as_string::<i32>().iter().flatten().try_for_each(crate::ddl::types::check_json)?;
    }
    Ok(texts)
}
