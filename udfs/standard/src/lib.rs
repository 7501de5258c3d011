//! Functions that users of PostgreSQL and DuckDB expect under these names.
//!
//! ```sql
//! SELECT mod(n, 3), quote_ident(name), regexp_split_to_array(tags, ','), typeof(x) FROM t;
//! ```
//!
//! | module | functions |
//! |---|---|
//! | [`text`] | quoting, splitting, lengths and distances of texts |
//! | [`regexes`] | regular expressions |
//! | [`math`] | numbers |
//! | [`date_format`] | times as texts and back, by formats |
//! | [`dates`] | differences of times, times from parts |
//! | [`parts`] | parts of times and intervals |
//! | [`zones`] | times in zones |
//! | [`operators`] | operators between dates, times and intervals, and some that DataFusion lacks |
//! | [`macros`] | functions that are other expressions |
//! | [`lists`] | elements of lists |
//! | [`info`] | names of types, of the database and of its version |
//!
//! Where DataFusion has a function whose answer is another one, the function here takes its place; where it has the
//! function under another name, it gets the name as well. Meanings are PostgreSQL's, and DuckDB's where PostgreSQL has
//! no such function; each module says where it deviates. `docs/functions.md` lists them for users. The crate performs no
//! I/O and reads no clock.

pub mod date_format;
pub mod dates;
mod define;
pub mod info;
pub mod lists;
pub mod macros;
pub mod math;
mod moments;
pub mod operators;
pub mod parts;
pub mod regexes;
pub mod text;
pub mod zones;

use std::sync::Arc;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

pub use info::NameOf;
pub use macros::desugar;
pub use operators::StandardExprPlanner;

/// Names for functions that are there: the function, more names.
const SCALAR_ALIASES: [(&str, &[&str]); 7] = [
    ("starts_with", &["prefix"]),
    ("ends_with", &["suffix"]),
    ("ceil", &["ceiling"]),
    ("upper", &["ucase"]),
    ("lower", &["lcase"]),
    ("levenshtein", &["editdist3"]),
    ("uuid", &["gen_random_uuid"]),
];

/// The same for aggregates.
const AGGREGATE_ALIASES: [(&str, &[&str]); 7] = [
    ("var", &["variance"]),
    ("bool_and", &["every"]),
    ("array_agg", &["list"]),
    ("string_agg", &["group_concat", "listagg"]),
    ("approx_distinct", &["approx_count_distinct"]),
    ("approx_percentile_cont", &["approx_quantile"]),
    ("covar_samp", &["covariance"]),
];

/// The scalar functions of this crate. `existing` finds those that a session has already, `name_of` names types.
pub fn scalar_functions(
    existing: &dyn Fn(&str) -> Option<Arc<ScalarUDF>>,
    name_of: NameOf,
) -> Vec<Arc<ScalarUDF>> {
    let mut all = text::functions();
    all.extend(regexes::functions());
    all.extend(math::functions());
    all.extend(info::functions(name_of));
    all.extend(dates::functions());
    all.extend(date_format::functions(existing));
    all.extend(existing("date_part").map(|inner| parts::date_part(&inner)));
    all.push(zones::timezone());
    all.extend(lists::functions(existing));
    for (name, more) in SCALAR_ALIASES {
        all.extend(existing(name).map(|f| Arc::new(f.as_ref().clone().with_aliases(more.iter().copied()))));
    }
    all
}

/// The aggregate functions of this crate.
pub fn aggregate_functions(existing: &dyn Fn(&str) -> Option<Arc<AggregateUDF>>) -> Vec<Arc<AggregateUDF>> {
    let mut all = Vec::new();
    for (name, more) in AGGREGATE_ALIASES {
        all.extend(existing(name).map(|f| Arc::new(f.as_ref().clone().with_aliases(more.iter().copied()))));
    }
    all
}

/// What calls of aggregates of this crate may be called, those that become other expressions too.
pub fn aggregate_names() -> impl Iterator<Item = &'static str> {
    let aliases = AGGREGATE_ALIASES.iter().flat_map(|(_, more)| more.iter().copied());
    aliases.chain(macros::AGGREGATES)
}
