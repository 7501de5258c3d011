//! ```sql
//! SELECT quote_ident(name), string_split(tags, ','), replace(x, '', '-') FROM t;
//! ```
//!
//! Texts. PostgreSQL's meaning where it has the function: `quote_ident`, `quote_literal`, `quote_nullable`
//! and `replace`, whose empty pattern changes nothing (DataFusion's puts the text between all
//! characters). DuckDB's: `string_split`, whose empty separator splits into characters, `len` of texts and lists,
//! `unicode`, `prefix`, `suffix`, and the distances of texts, which count characters.
//!
//! NULL in any argument gives NULL, but for `quote_nullable`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result;
use datafusion::logical_expr::ScalarUDF;
use triune_common::Error;

use crate::define::{define, each, each2, is_text, lists, text, text_list, texts};

/// Words that are no names without quotes in PostgreSQL 15.
const RESERVED: &str = " all analyse analyze and any array as asc asymmetric authorization between bigint binary bit \
    boolean both case cast char character check coalesce collate collation column concurrently constraint create \
    cross current_catalog current_date current_role current_schema current_time current_timestamp current_user dec \
    decimal default deferrable desc distinct do else end except exists extract false fetch float for foreign freeze \
    from full grant greatest group grouping having ilike in initially inner inout int integer intersect interval \
    into is isnull join lateral leading least left like limit localtime localtimestamp national natural nchar none \
    normalize not notnull null nullif numeric offset on only or order out outer overlaps overlay placing position \
    precision primary real references returning right row select session_user setof similar smallint some substring \
    symmetric table tablesample then time timestamp to trailing treat trim true union unique user using values \
    varchar variadic verbose when where window with xmlattributes xmlconcat xmlelement xmlexists xmlforest \
    xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable ";

pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        define("replace(text, from, to)", &[], texts::<3>, |_| DataType::Utf8, replace),
        define(
            "quote_ident(text)",
            &[],
            texts::<1>,
            |_| DataType::Utf8,
            |args| Ok(Arc::new(StringArray::from(each(args, |s| Ok(quoted_name(s)))?))),
        ),
        define(
            "quote_literal(value)",
            &[],
            any_as_text,
            |_| DataType::Utf8,
            |args| Ok(Arc::new(StringArray::from(each(args, |s| Ok(quoted_text(s)))?))),
        ),
        define(
            "quote_nullable(value)",
            &[],
            any_as_text,
            |_| DataType::Utf8,
            |args| {
                let all =
                    text(&args[0]).iter().map(|s| Some(s.map_or_else(|| "NULL".to_owned(), quoted_text)));
                Ok(Arc::new(all.collect::<StringArray>()))
            },
        ),
        define(
            "string_split(text, separator)",
            &["str_split", "split"],
            texts::<2>,
            |_| text_list(),
            string_split,
        ),
        define("len(text or list)", &[], text_or_list, |_| DataType::Int64, len),
        define(
            "unicode(text)",
            &["ord"],
            texts::<1>,
            |_| DataType::Int64,
            |args| {
                let all = each(args, |s| Ok(s.chars().next().map_or(-1, |c| i64::from(u32::from(c)))))?;
                Ok(Arc::new(Int64Array::from(all)))
            },
        ),
        define(
            "jaro_similarity(text, text)",
            &[],
            texts::<2>,
            |_| DataType::Float64,
            |args| Ok(Arc::new(Float64Array::from(each2(args, |a, b| Ok(similarity(a, b, strsim::jaro)))?))),
        ),
        define(
            "jaro_winkler_similarity(text, text)",
            &[],
            texts::<2>,
            |_| DataType::Float64,
            |args| {
                Ok(Arc::new(Float64Array::from(each2(args, |a, b| {
                    Ok(similarity(a, b, strsim::jaro_winkler))
                })?)))
            },
        ),
        define(
            "damerau_levenshtein(text, text)",
            &[],
            texts::<2>,
            |_| DataType::Int64,
            |args| {
                let all = each2(args, |a, b| Ok(count(strsim::damerau_levenshtein(a, b))))?;
                Ok(Arc::new(Int64Array::from(all)))
            },
        ),
        define(
            "hamming(text, text)",
            &["mismatches"],
            texts::<2>,
            |_| DataType::Int64,
            |args| {
                let all = each2(args, |a, b| match strsim::hamming(a, b) {
                    Ok(n) => Ok(count(n)),
                    Err(_) => Err(Error::invalid("hamming takes two texts of the same length").into()),
                })?;
                Ok(Arc::new(Int64Array::from(all)))
            },
        ),
        define(
            "isascii(text)",
            &["is_ascii"],
            texts::<1>,
            |_| DataType::Boolean,
            |args| Ok(Arc::new(BooleanArray::from(each(args, |s| Ok(s.is_ascii()))?))),
        ),
    ]
}

/// Two empty texts have nothing in common, as in DuckDB.
fn similarity(a: &str, b: &str, f: fn(&str, &str) -> f64) -> f64 {
    if a.is_empty() && b.is_empty() { 0.0 } else { f(a, b) }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// One value of any type that can be written as a text.
fn any_as_text(types: &[DataType]) -> Option<Vec<DataType>> {
    (types.len() == 1 && !types[0].is_nested()).then(|| vec![DataType::Utf8])
}

fn text_or_list(types: &[DataType]) -> Option<Vec<DataType>> {
    match types {
        [t] if is_text(t) => Some(vec![DataType::Utf8]),
        [DataType::List(_) | DataType::LargeList(_)] => Some(types.to_vec()),
        [DataType::FixedSizeList(item, _)] => Some(vec![DataType::List(Arc::clone(item))]),
        _ => None,
    }
}

fn replace(args: &[ArrayRef]) -> Result<ArrayRef> {
    let rows = text(&args[0]).iter().zip(text(&args[1]).iter()).zip(text(&args[2]).iter());
    let all = rows.map(|((s, from), to)| match (s?, from?, to?) {
        (s, "", _) => Some(s.to_owned()),
        (s, from, to) => Some(s.replace(from, to)),
    });
    Ok(Arc::new(all.collect::<StringArray>()))
}

/// The text as an SQL literal.
pub(crate) fn quoted_text(s: &str) -> String {
    let escaped = s.replace('\'', "''").replace('\\', "\\\\");
    let prefix = if s.contains('\\') { "E" } else { "" };
    format!("{prefix}'{escaped}'")
}

/// The text as an SQL name, in quotes if it needs them.
pub(crate) fn quoted_name(s: &str) -> String {
    let plain = s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && s.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    if plain && !RESERVED.contains(&format!(" {s} ")) {
        return s.to_owned();
    }
    format!("\"{}\"", s.replace('"', "\"\""))
}

/// A NULL separator, as in DuckDB, leaves one piece.
fn string_split(args: &[ArrayRef]) -> Result<ArrayRef> {
    let rows = text(&args[0]).iter().zip(text(&args[1]).iter());
    let all = rows.map(|(s, separator)| {
        s.map(|s| match separator {
            None => vec![Some(s.to_owned())],
            // Rust finds the empty text before and after each character.
            Some("") if s.is_empty() => vec![Some(String::new())],
            Some("") => s.chars().map(|c| Some(c.to_string())).collect(),
            Some(separator) => s.split(separator).map(|p| Some(p.to_owned())).collect(),
        })
    });
    Ok(lists(all.collect()))
}

fn len(args: &[ArrayRef]) -> Result<ArrayRef> {
    let array = &args[0];
    let lengths = match array.data_type() {
        DataType::List(_) | DataType::LargeList(_) => {
            let lengths = cast(&arrow::compute::kernels::length::length(array)?, &DataType::Int64)?;
            let lengths = lengths.as_primitive::<Int64Type>();
            lengths.iter().enumerate().map(|(i, n)| n.filter(|_| array.is_valid(i))).collect()
        }
        _ => text(array).iter().map(|s| s.map(|s| count(s.chars().count()))).collect::<Int64Array>(),
    };
    Ok(Arc::new(lengths))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PostgreSQL 15 answers.
    #[test]
    fn quotes_as_postgresql() {
        let names = [
            ("abc", "abc"),
            ("A b", "\"A b\""),
            ("a\"b", "\"a\"\"b\""),
            ("", "\"\""),
            ("select", "\"select\""),
            ("1a", "\"1a\""),
            ("été", "\"été\""),
        ];
        for (name, want) in names {
            assert_eq!(quoted_name(name), want);
        }
        for (value, want) in [("it's", "'it''s'"), ("a\\b", "E'a\\\\b'"), ("", "''")] {
            assert_eq!(quoted_text(value), want);
        }
    }
}
