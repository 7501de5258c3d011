//! `'[1, 2.5, -3e-2]'` ↔ vector, `'0101'` ↔ bits.
//!
//! Reading: square brackets around numbers with commas between, spaces anywhere; a `BITVEC` is its digits
//! `0` and `1` in order. Each error gives the place as a character of the text, counted from 1.
//! Writing: the shortest text that reads back to the same element.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float16Array, Float32Array, Int8Array, UInt8Array,
};
use arrow::datatypes::{Float16Type, Float32Type, Int8Type, UInt8Type};
use datafusion::scalar::ScalarValue;
use half::f16;
use triune_common::{Error, Result};

use super::{VectorKind, VectorType};

/// Reads a text as a vector of type `ty`: `parse_text("[1,2,3]", VECTOR(3))`.
///
/// # Errors
/// The text is empty or no vector, an element is no number, is NaN or infinite, lies beyond the range of
/// the element type, or there are more or fewer of them than `ty.dims`.
pub fn parse_text(text: &str, ty: VectorType) -> Result<ScalarValue> {
    let mut elements = Elements::with_capacity(ty, 1);
    elements.push_text(text)?;
    elements.finish(None).map(|array| ScalarValue::FixedSizeList(Arc::new(array)))
}

/// The elements of many vectors of one type, one after the other.
pub(crate) struct Elements {
    ty: VectorType,
    store: Store,
}

enum Store {
    Vector(Vec<f32>),
    HalfVec(Vec<f16>),
    TinyVec(Vec<i8>),
    BitVec(Vec<u8>),
}

impl Elements {
    pub(crate) fn with_capacity(ty: VectorType, rows: usize) -> Self {
        let n = ty.list_size() * rows;
        let store = match ty.kind {
            VectorKind::Vector => Store::Vector(Vec::with_capacity(n)),
            VectorKind::HalfVec => Store::HalfVec(Vec::with_capacity(n)),
            VectorKind::TinyVec => Store::TinyVec(Vec::with_capacity(n)),
            VectorKind::BitVec => Store::BitVec(Vec::with_capacity(n)),
        };
        Self { ty, store }
    }

    /// A row of zeros, which stands below a NULL.
    pub(crate) fn push_zeros(&mut self) {
        let n = self.ty.list_size();
        match &mut self.store {
            Store::Vector(v) => v.resize(v.len() + n, 0.0),
            Store::HalfVec(v) => v.resize(v.len() + n, f16::ZERO),
            Store::TinyVec(v) => v.resize(v.len() + n, 0),
            Store::BitVec(v) => v.resize(v.len() + n, 0),
        }
    }

    /// One vector read from a text.
    pub(crate) fn push_text(&mut self, text: &str) -> Result<()> {
        let ty = self.ty;
        match &mut self.store {
            Store::Vector(v) => read_list(text, ty, |t| read_float(t).map(|x| v.push(x))),
            Store::HalfVec(v) => {
                read_list(text, ty, |t| narrow_half(read_double(t)?, t.place).map(|x| v.push(x)))
            }
            Store::TinyVec(v) => read_list(text, ty, |t| {
                narrow_tiny(read_double(t)?, Rounding::Refuse, t.place).map(|x| v.push(x))
            }),
            Store::BitVec(v) => read_bits(text, ty, v),
        }
    }

    /// One vector of as many `values` as the type has dimensions; `round` says what becomes of fractions in a
    /// `TINYVEC`.
    ///
    /// # Errors
    /// A value is NULL (`None`), NaN, infinite or beyond the range of the element type.
    pub(crate) fn push_values(
        &mut self,
        values: impl Iterator<Item = Option<f64>>,
        round: Rounding,
    ) -> Result<()> {
        for (i, value) in values.enumerate() {
            let Some(value) = value else { return Err(null_element(i)) };
            let place = Place::Position(i + 1);
            if !value.is_finite() {
                return Err(Error::invalid(format!("{} {place} is not allowed in a vector", special(value))));
            }
            match &mut self.store {
                Store::Vector(v) => v.push(narrow_single(value, place)?),
                Store::HalfVec(v) => v.push(narrow_half(value, place)?),
                Store::TinyVec(v) => v.push(narrow_tiny(value, round, place)?),
                Store::BitVec(v) => {
                    if i % 8 == 0 {
                        v.push(0);
                    }
                    push_bit(v, i, value)?;
                }
            }
        }
        Ok(())
    }

    /// All rows as one array; `nulls` marks the rows that are NULL.
    pub(crate) fn finish(self, nulls: Option<arrow::buffer::NullBuffer>) -> Result<FixedSizeListArray> {
        let values: ArrayRef = match self.store {
            Store::Vector(v) => Arc::new(Float32Array::from(v)),
            Store::HalfVec(v) => Arc::new(Float16Array::from(v)),
            Store::TinyVec(v) => Arc::new(Int8Array::from(v)),
            Store::BitVec(v) => Arc::new(UInt8Array::from(v)),
        };
        Ok(FixedSizeListArray::try_new(self.ty.item(), self.ty.list_size() as i32, values, nulls)?)
    }
}

/// What becomes of a fraction that is put into a `TINYVEC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// An explicit cast rounds to the nearest whole number, halves to the even one.
    Nearest,
    /// A value that meets a `TINYVEC` column without a cast must be whole: rounding an embedding of
    /// numbers below 1 would silently give zeros.
    Refuse,
}

/// Where an element stands, for errors; counted only when it is shown.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// A text and a byte of it; shown as a character from 1.
    Text(&'a str, usize),
    /// An element of a list, from 1.
    Position(usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text, at) => write!(f, "at character {}", text[..*at].chars().count() + 1),
            Self::Position(n) => write!(f, "at position {n}"),
        }
    }
}

/// An element of a text and where it begins.
#[derive(Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    place: Place<'a>,
}

pub(crate) fn wrong_length(ty: VectorType, got: usize) -> Error {
    let unit = if ty.dims == 1 { "dimension" } else { "dimensions" };
    Error::invalid(format!("expected {} {unit} for {ty}, got {got}", ty.dims))
}

/// `index` counts from 0.
pub(crate) fn null_element(index: usize) -> Error {
    Error::invalid(format!("NULL at position {} of a vector; its elements must be numbers", index + 1))
}

fn special(value: f64) -> &'static str {
    if value.is_nan() { "NaN" } else { "infinity" }
}

fn space(c: char) -> bool {
    c.is_ascii_whitespace()
}

/// Splits `[a, b, c]` and hands each element to `push`.
fn read_list(text: &str, ty: VectorType, mut push: impl FnMut(Token<'_>) -> Result<()>) -> Result<()> {
    let hint = "a vector is written like '[1,2,3]'";
    let wrong = |what: &str, rest: &str| {
        let place = Place::Text(text, text.len() - rest.len());
        Error::invalid(format!("{} is no {ty}: {what} {place}", quoted(text)))
    };
    let lead = text.trim_start_matches(space);
    if lead.is_empty() {
        return Err(Error::invalid(format!("an empty text is no {ty}")).with_hint(hint));
    }
    let Some(mut rest) = lead.strip_prefix('[') else {
        return Err(wrong("expected '['", lead).with_hint(hint));
    };
    let mut count = 0;
    loop {
        rest = rest.trim_start_matches(space);
        let Some(end) = rest.find([',', ']']) else {
            return Err(wrong("expected ',' or ']'", ""));
        };
        let (element, after) = (rest[..end].trim_end_matches(space), &rest[end..]);
        let closed = after.starts_with(']');
        if element.is_empty() {
            // `[]` is a vector without elements, `[1,]` and `[,1]` are none.
            return Err(if closed && count == 0 {
                wrong_length(ty, 0)
            } else {
                wrong("expected a number", rest)
            });
        }
        count += 1;
        // More than the type allows is reported with the real number, without growing the store for it.
        if count <= ty.dims {
            push(Token { text: element, place: Place::Text(text, text.len() - rest.len()) })?;
        }
        rest = &after[1..];
        if closed {
            break;
        }
    }
    let tail = rest.trim_start_matches(space);
    if !tail.is_empty() {
        return Err(wrong("unexpected text after ']'", tail));
    }
    if count == ty.dims { Ok(()) } else { Err(wrong_length(ty, count)) }
}

fn read_bits(text: &str, ty: VectorType, out: &mut Vec<u8>) -> Result<()> {
    let trimmed = text.trim_matches(space);
    if trimmed.is_empty() {
        return Err(
            Error::invalid(format!("an empty text is no {ty}")).with_hint("bits are written like '0101'")
        );
    }
    if let Some((i, c)) = trimmed.char_indices().find(|(_, c)| !matches!(c, '0' | '1')) {
        let lead = text.len() - text.trim_start_matches(space).len();
        let place = Place::Text(text, lead + i);
        return Err(Error::invalid(format!("{} is no {ty}: '{c}' {place} is no bit", quoted(text)))
            .with_hint("bits are written like '0101'"));
    }
    if trimmed.len() != ty.dims {
        return Err(wrong_length(ty, trimmed.len()));
    }
    out.extend(trimmed.as_bytes().chunks(8).map(|chunk| {
        chunk.iter().enumerate().fold(0, |byte, (i, digit)| byte | ((digit - b'0') << (7 - i)))
    }));
    Ok(())
}

/// Sets bit `index` of the last vector in `bytes`, whose byte exists already.
fn push_bit(bytes: &mut [u8], index: usize, value: f64) -> Result<()> {
    let bit = match value {
        0.0 => 0,
        1.0 => 1,
        other => {
            return Err(Error::invalid(format!(
                "{other} at position {} is no bit; accepted are 0 and 1",
                index + 1
            )));
        }
    };
    if let Some(last) = bytes.last_mut() {
        *last |= bit << (7 - index % 8);
    }
    Ok(())
}

/// Parsed as the element type itself: by way of `f64` it would be rounded twice.
fn read_float(token: Token<'_>) -> Result<f32> {
    let Token { text, place } = token;
    match text.parse::<f32>() {
        Ok(v) if v.is_finite() => Ok(v),
        // Digits that end in infinity are too large; Rust's parser also reads `inf` and `nan`.
        Ok(_) if text.bytes().any(|b| b.is_ascii_digit()) => {
            Err(too_large(&short(text), VectorKind::Vector, place))
        }
        Ok(v) => Err(Error::invalid(format!("{} {place} is not allowed in a vector", special(f64::from(v))))),
        Err(_) => Err(Error::invalid(format!("{} {place} is no number", quoted(text)))),
    }
}

fn read_double(token: Token<'_>) -> Result<f64> {
    let Token { text, place } = token;
    match text.parse::<f64>() {
        // Too many digits may be infinite here, which the narrower element type refuses by its own range.
        Ok(v) if v.is_finite() || text.bytes().any(|b| b.is_ascii_digit()) => Ok(v),
        Ok(v) => Err(Error::invalid(format!("{} {place} is not allowed in a vector", special(v)))),
        Err(_) => Err(Error::invalid(format!("{} {place} is no number", quoted(text)))),
    }
}

fn too_large(shown: &str, kind: VectorKind, place: Place<'_>) -> Error {
    let range = match kind {
        VectorKind::Vector => "elements reach ±3.4e38",
        VectorKind::HalfVec => "elements reach ±65504",
        VectorKind::TinyVec => "elements are whole numbers from -128 to 127",
        VectorKind::BitVec => "elements are 0 and 1",
    };
    Error::invalid(format!("{shown} {place} is out of range for {}, whose {range}", kind.sql_name()))
}

fn narrow_single(value: f64, place: Place<'_>) -> Result<f32> {
    let narrow = value as f32;
    if narrow.is_finite() {
        Ok(narrow)
    } else {
        Err(too_large(&print_double(value), VectorKind::Vector, place))
    }
}

fn narrow_half(value: f64, place: Place<'_>) -> Result<f16> {
    let narrow = f16::from_f64(value);
    if narrow.is_finite() {
        Ok(narrow)
    } else {
        Err(too_large(&print_double(value), VectorKind::HalfVec, place))
    }
}

fn narrow_tiny(value: f64, round: Rounding, place: Place<'_>) -> Result<i8> {
    let whole = match round {
        Rounding::Nearest => value.round_ties_even(),
        Rounding::Refuse if value.fract() != 0.0 && value.is_finite() => {
            return Err(Error::invalid(format!(
                "{} {place} is no whole number; the elements of a TINYVEC are whole numbers from -128 to 127",
                print_double(value)
            )));
        }
        Rounding::Refuse => value,
    };
    if (-128.0..=127.0).contains(&whole) {
        Ok(whole as i8)
    } else {
        Err(too_large(&print_double(value), VectorKind::TinyVec, place))
    }
}

/// The text in quotes, cut when it is long.
fn quoted(text: &str) -> String {
    format!("'{}'", short(text))
}

fn short(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Row `row` of `vectors` as text: `[1,2.5,-3]`, or its digits for a `BITVEC` of `ty.dims` bits. The caller
/// has checked that the row is not NULL; elements that are NULL are written as `NULL`.
pub fn print_text(vectors: &FixedSizeListArray, row: usize, ty: VectorType) -> String {
    let values = vectors.value(row);
    let mut out = String::with_capacity(ty.dims * 8 + 2);
    if let Some(bytes) = values.as_primitive_opt::<UInt8Type>() {
        let bits = bytes.values().iter().flat_map(|byte| (0..8).map(move |i| byte >> (7 - i) & 1));
        out.extend(bits.take(ty.dims).map(|bit| if bit == 1 { '1' } else { '0' }));
        return out;
    }
    out.push('[');
    for i in 0..values.len() {
        if i > 0 {
            out.push(',');
        }
        if values.is_null(i) {
            out.push_str("NULL");
        } else if let Some(v) = values.as_primitive_opt::<Float32Type>() {
            out.push_str(&print_float(v.value(i)));
        } else if let Some(v) = values.as_primitive_opt::<Float16Type>() {
            out.push_str(&print_float(shortest_half(v.value(i))));
        } else if let Some(v) = values.as_primitive_opt::<Int8Type>() {
            // Writing to a String cannot fail.
            let _ = write!(out, "{}", v.value(i));
        }
    }
    out.push(']');
    out
}

/// The shortest text that reads back to the same number.
pub(crate) fn print_float(value: f32) -> String {
    let plain = value == 0.0 || !value.is_finite() || (1e-5..1e15).contains(&value.abs());
    if plain { format!("{value}") } else { format!("{value:e}") }
}

fn print_double(value: f64) -> String {
    let plain = value == 0.0 || !value.is_finite() || (1e-5..1e15).contains(&value.abs());
    if plain { format!("{value}") } else { format!("{value:e}") }
}

/// The number with the fewest digits that reads back to the same half: 0.1, not 0.099975586.
fn shortest_half(value: f16) -> f32 {
    let exact = f32::from(value);
    if exact.fract() == 0.0 {
        return exact; // 65504, not 65500
    }
    (0..6)
        .filter_map(|digits| format!("{exact:.digits$e}").parse::<f32>().ok())
        .find(|candidate| f16::from_f32(*candidate) == value)
        .unwrap_or(exact)
}
