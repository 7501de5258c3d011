//! ```sql
//! SELECT doc -> 'author' ->> 'name', doc #>> '{tags,0}', doc -> 'tags' -> -1 FROM t WHERE doc ? 'author';
//! ```
//!
//! | typed | function | gives |
//! |---|---|---|
//! | `j -> 'key'`, `j -> 2`, `j -> -1` | `json_get` | the member or element, as JSON |
//! | `j ->> 'key'`, `j ->> 2` | `json_get_text` | the same as text: a string without its quotes |
//! | `j #> '{a,0,b}'`, `j #>> '{a,0,b}'` | `json_extract_path`, `json_extract_path_text` | the value at the end of a path |
//! | `j ? 'key'` | `json_has_key` | whether an object has the key, or an array the string |
//! |  | `json_typeof`, `json_array_length`, `json_object_keys` | |
//!
//! PostgreSQL's meaning: what is not there is NULL (a key of an array, an index past the end, a member of a
//! number), a negative index counts from the end, of two members with one key the last counts, and JSON's
//! `null` is JSON under `->` and NULL under `->>`. In a path a number is an index of an array and a key of an
//! object. `json_object_keys` differs: it gives a list, in the order of the text, not a set of rows.
//!
//! Any text may stand on the left, not only a column of type JSON. Text that is no JSON is an error, unless
//! it is NULL. A document is checked whole (serde_json, which builds nothing for that) and then read where it
//! stands, so numbers keep their spelling; the cost is two passes over it for each operator.

mod function;
mod planner;
mod read;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

pub(crate) use planner::JsonExprPlanner;

/// Every function of the table above.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    function::Form::ALL.into_iter().map(function::JsonFunc::udf).collect()
}
