//! One data page: its levels looked through, its values as bytes.
//!
//! ```text
//!  v1 (unpacked):  length, repetition levels │ length, definition levels │ values
//!  v2:             repetition levels │ definition levels │ values         lengths are in the header
//! ```

use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::Page;
use parquet::errors::{ParquetError, Result};

use super::runs::{Run, Runs, all_are, packed, zeros_every};
use super::shape::VectorColumn;

/// What a data page holds.
#[derive(Debug)]
pub(crate) enum Decoded {
    /// The elements, end to end, as they lie in memory.
    Values(Bytes),
    /// A NULL, or a list that is not full: not for this reader.
    Irregular,
}

fn broken(what: &str) -> ParquetError {
    ParquetError::General(format!("a page of vectors is damaged: {what}"))
}

/// Decodes a data page whose first value is at place `first` of the column chunk.
///
/// Plain values of the size that they have in memory are not copied.
///
/// # Errors
/// A page that is shorter than its header says, an index beyond the dictionary, an encoding that
/// [`super::shape`] does not let through.
pub(crate) fn decode(
    page: &Page,
    column: &VectorColumn,
    first: usize,
    dictionary: Option<&[u8]>,
) -> Result<Decoded> {
    let count = page.num_values() as usize;
    let (repetition, definition, values) = match page {
        Page::DataPage { buf, def_level_encoding, rep_level_encoding, .. } => {
            if *rep_level_encoding != Encoding::RLE || *def_level_encoding != Encoding::RLE {
                return Ok(Decoded::Irregular);
            }
            let (repetition, rest) = prefixed(buf)?;
            let (definition, rest) =
                if column.max_definition > 0 { prefixed(&rest)? } else { (Bytes::new(), rest) };
            (repetition, definition, rest)
        }
        Page::DataPageV2 { buf, num_nulls, def_levels_byte_len, rep_levels_byte_len, .. } => {
            if *num_nulls != 0 {
                return Ok(Decoded::Irregular);
            }
            let (r, d) = (*rep_levels_byte_len as usize, *def_levels_byte_len as usize);
            if buf.len() < r + d {
                return Err(broken("it ends in its levels"));
            }
            (buf.slice(..r), buf.slice(r..r + d), buf.slice(r + d..))
        }
        Page::DictionaryPage { .. } => return Err(broken("a dictionary is where values should be")),
    };
    let width = (u16::BITS - column.max_definition.leading_zeros()) as usize;
    if column.max_definition > 0 && !all_are(&definition, width, count, u32::from(column.max_definition))? {
        return Ok(Decoded::Irregular);
    }
    if !zeros_every(&repetition, count, first % column.dims, column.dims)? {
        return Ok(Decoded::Irregular);
    }
    let values = match page.encoding() {
        Encoding::PLAIN => plain(&values, column, count)?,
        Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY => {
            let dictionary = dictionary.ok_or_else(|| broken("its dictionary is missing"))?;
            indexed(&values, column, count, dictionary)?
        }
        Encoding::BYTE_STREAM_SPLIT => split_streams(&values, column, count)?,
        other => return Err(broken(&format!("its encoding {other} was not announced"))),
    };
    Ok(Decoded::Values(values))
}

/// The values of a dictionary page, as they lie in memory.
pub(crate) fn decode_dictionary(page: &Page, column: &VectorColumn) -> Result<Bytes> {
    plain(page.buffer(), column, page.num_values() as usize)
}

/// Levels with their length before them, and what is after them.
fn prefixed(buffer: &Bytes) -> Result<(Bytes, Bytes)> {
    let (length, _) = buffer.split_first_chunk::<4>().ok_or_else(|| broken("it ends before its levels"))?;
    let end = (u32::from_le_bytes(*length) as usize).saturating_add(4);
    if buffer.len() < end {
        return Err(broken("it ends in its levels"));
    }
    Ok((buffer.slice(4..end), buffer.slice(end..)))
}

fn plain(values: &Bytes, column: &VectorColumn, count: usize) -> Result<Bytes> {
    let (from, to) = (column.file_width, column.width);
    let length = count.checked_mul(from).filter(|l| *l <= values.len());
    let length = length.ok_or_else(|| broken("it ends in its values"))?;
    if from == to {
        return Ok(values.slice(..length));
    }
    let mut out = Vec::with_capacity(count * to);
    // Small integers are stored in four bytes, the lowest first.
    for value in values[..length].chunks_exact(from) {
        out.extend_from_slice(&value[..to]);
    }
    Ok(out.into())
}

fn indexed(values: &Bytes, column: &VectorColumn, count: usize, dictionary: &[u8]) -> Result<Bytes> {
    let size = column.width;
    let (bits, data) = values.split_first().ok_or_else(|| broken("it ends before its indexes"))?;
    let bits = usize::from(*bits);
    if bits > 32 {
        return Err(broken("its indexes have more than 32 bits"));
    }
    let value = |index: u32| {
        let start = index as usize * size;
        dictionary.get(start..start + size).ok_or_else(|| broken("an index is beyond the dictionary"))
    };
    let mut out = Vec::with_capacity(count * size);
    let mut runs = Runs::new(data, bits, count);
    while let Some(run) = runs.next_run()? {
        match run {
            Run::Repeated { value: index, count } => {
                let bytes = value(index)?;
                (0..count).for_each(|_| out.extend_from_slice(bytes));
            }
            Run::Packed { count, .. } if bits == 0 => {
                let bytes = value(0)?;
                (0..count).for_each(|_| out.extend_from_slice(bytes));
            }
            Run::Packed { bytes, count } => {
                for i in 0..count {
                    out.extend_from_slice(value(packed(bytes, bits, i))?);
                }
            }
        }
    }
    Ok(out.into())
}

/// All first bytes, then all second bytes, and so on.
fn split_streams(values: &Bytes, column: &VectorColumn, count: usize) -> Result<Bytes> {
    let width = column.file_width;
    let length = count.checked_mul(width).filter(|l| *l <= values.len());
    let length = length.ok_or_else(|| broken("it ends in its values"))?;
    let mut out = vec![0_u8; length];
    if count > 0 {
        for (k, stream) in values[..length].chunks_exact(count).enumerate() {
            for (to, byte) in out.chunks_exact_mut(width).zip(stream) {
                to[k] = *byte;
            }
        }
    }
    if width == column.width {
        return Ok(out.into());
    }
    plain(&out.into(), column, count)
}
