//! The functions, and their calls with named arguments.
//!
//! | argument | accepted | when it is left out |
//! |---|---|---|
//! | text (1st), query (2nd) | texts | an error |
//! | `open`, `close` | texts that are put around a word | `'<b>'`, `'</b>'` |
//! | `words` (`snippet` only) | how many words, 1 to 1000 | 20 |
//! | `phrase`, `slop`, `fuzziness`, `prefix_length`, `language`, `stemming`, `stop_words` | as of `text_search` | |

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, StringViewBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectNamePart, Spanned, Value,
};
use serde_json::{Map, Value as Json};
use triune_common::Error;

use super::Marker;
use crate::desugar::named::{self, Given, string, wrong};
use crate::desugar::position_of;
use crate::text::analysis::{AnalysisOptions, Analyzer};
use crate::text::desugar::query_options;
use crate::text::query::Query;
use crate::text::rewrite;

static HIGHLIGHT: named::Signature = named::Signature {
    name: "highlight",
    arguments: &[
        "text",
        "query",
        "open",
        "close",
        "phrase",
        "slop",
        "fuzziness",
        "prefix_length",
        "operator",
        "language",
        "stemming",
        "stop_words",
    ],
    by_place: 2,
    usage: "highlight(column, 'words to mark' [, open => '<b>', close => '</b>', …])",
};

static SNIPPET: named::Signature = named::Signature {
    name: "snippet",
    arguments: &[
        "text",
        "query",
        "words",
        "open",
        "close",
        "phrase",
        "slop",
        "fuzziness",
        "prefix_length",
        "operator",
        "language",
        "stemming",
        "stop_words",
    ],
    by_place: 2,
    usage: "snippet(column, 'words to mark' [, words => 20, open => '<b>', close => '</b>', …])",
};

const WORDS: usize = 20;

/// Puts the named arguments of `highlight` and `snippet` into one: `highlight(text, query, '{…}')`.
///
/// # Errors
/// `Invalid`, with a position, for every argument that is unknown, doubled, missing or of the wrong kind.
pub fn desugar_call(function: &mut Function) -> triune_common::Result<()> {
    let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else { return Ok(()) };
    let Some(signature) =
        [&HIGHLIGHT, &SNIPPET].into_iter().find(|s| name.value.eq_ignore_ascii_case(s.name))
    else {
        return Ok(());
    };
    let place = position_of(function.name.span());
    let FunctionArguments::List(list) = &mut function.args else { return Ok(()) };
    let mut given = Given::sort(signature, std::mem::take(&mut list.args), place)?;
    let (text, _) = given.needed("text")?;
    let (query, _) = given.needed("query")?;
    let mut options = Map::new();
    for name in ["open", "close"] {
        if let Some((expr, place)) = given.take(name) {
            let text =
                string(&expr).ok_or_else(|| wrong(name, &expr, "a text in single quotes is", place))?;
            options.insert(name.to_owned(), Json::from(text));
        }
    }
    if let Some(words) = given.count("words", 1..=1000)? {
        options.insert("words".to_owned(), Json::from(words));
    }
    query_options(&mut given, &mut options)?;
    let mut args = vec![text, query];
    if !options.is_empty() {
        let options = Value::SingleQuotedString(Json::Object(options).to_string()).with_empty_span();
        args.push(Expr::Value(options));
    }
    list.args = args.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect();
    Ok(())
}

/// `highlight(text, query)` and `snippet(text, query)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct MarkFunc {
    snippet: bool,
    signature: Signature,
}

pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let function = |snippet| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(MarkFunc { snippet, signature }))
    };
    vec![function(false), function(true)]
}

impl ScalarUDFImpl for MarkFunc {
    fn name(&self) -> &str {
        if self.snippet { SNIPPET.name } else { HIGHLIGHT.name }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|f| f.is_nullable());
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8View, nullable)))
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        if !(2..=3).contains(&arg_types.len()) {
            return plan_err!("{} takes a text and a query", self.name());
        }
        for (place, data_type) in arg_types.iter().enumerate() {
            if !rewrite::is_text(data_type) && *data_type != DataType::Null {
                return Err(Error::invalid(format!(
                    "{}: argument {} is {data_type}, expected a text",
                    self.name(),
                    place + 1
                ))
                .into());
            }
        }
        let mut types = vec![DataType::Utf8View; 2];
        types.extend((arg_types.len() == 3).then_some(DataType::Utf8));
        Ok(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (Some(texts), Some(queries)) = (args.args.first(), args.args.get(1)) else {
            return Err(Error::internal(format!("{} was called without its arguments", self.name())).into());
        };
        let options = match args.args.get(2) {
            Some(ColumnarValue::Scalar(value)) => value.try_as_str().flatten().unwrap_or("{}").to_owned(),
            Some(ColumnarValue::Array(_)) => {
                return Err(Error::invalid(format!("{} takes two arguments by place", self.name()))
                    .with_hint(format!("the others have names: {}", SNIPPET.usage))
                    .into());
            }
            None => "{}".to_owned(),
        };
        let options: Json = serde_json::from_str(&options).map_err(|e| {
            Error::invalid(format!("{}: the third argument has no name", self.name()))
                .with_hint(format!("write {}", if self.snippet { SNIPPET.usage } else { HIGHLIGHT.usage }))
                .with_source(e)
        })?;
        let constant = matches!((texts, queries), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let text = |value: &ColumnarValue| {
            Ok::<_, datafusion::common::DataFusionError>(cast(&value.to_array(rows)?, &DataType::Utf8View)?)
        };
        let (texts, queries) = (text(texts)?, text(queries)?);
        let (texts, queries) = (texts.as_string_view(), queries.as_string_view());
        let words = options["words"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(WORDS);
        let (open, close) =
            (options["open"].as_str().unwrap_or("<b>"), options["close"].as_str().unwrap_or("</b>"));
        let (how, analysis) =
            (rewrite::query_options(&options), rewrite::analysis(&options, AnalysisOptions::default()));
        // Nearly always one query for all rows.
        let mut current: Option<(&str, Marker)> = None;
        let mut out = StringViewBuilder::with_capacity(rows);
        for row in 0..rows {
            if texts.is_null(row) || queries.is_null(row) {
                out.append_null();
                continue;
            }
            let query = queries.value(row);
            if current.as_ref().is_none_or(|(text, _)| *text != query) {
                let mut analyzer = Analyzer::new(&analysis)?;
                let parsed = Query::parse(query, &how, &mut analyzer)?;
                current = Some((query, Marker::new(parsed, analyzer, open, close)));
            }
            let Some((_, marker)) = &mut current else { continue };
            let text = texts.value(row);
            out.append_value(if self.snippet {
                marker.snippet(text, words)?
            } else {
                marker.highlight(text)?
            });
        }
        let array = out.finish();
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)),
            false => Ok(ColumnarValue::Array(Arc::new(array))),
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCS: LazyLock<[Documentation; 2]> = LazyLock::new(|| {
            let doc = |what: &str, syntax: &str, example: &str| {
                Documentation::builder(
                    datafusion::logical_expr::DocSection {
                        include: true,
                        label: "Search",
                        description: None,
                    },
                    what,
                    syntax,
                )
                .with_sql_example(example)
                .with_argument("text", "A text, usually a column that was searched.")
                .with_argument("query", "A query text as of text_search.")
                .build()
            };
            [
                doc(
                    "The text with the words of the query between two marks. NULL gives NULL.",
                    HIGHLIGHT.usage,
                    "> SELECT highlight('Solar panels', 'panel');\nSolar <b>panels</b>",
                ),
                doc(
                    "The part of the text that has most of the query's words, marked. NULL gives NULL.",
                    SNIPPET.usage,
                    "> SELECT snippet('a long text about panels', 'panel', words => 2);\n…about <b>panels</b>",
                ),
            ]
        });
        Some(&DOCS[usize::from(self.snippet)])
    }
}
