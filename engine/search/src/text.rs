//! Full-text search:
//!
//! ```sql
//! SELECT id, title, _score
//! FROM text_search(docs, 'solar "power station" -nuclear', columns => ['title', 'body'], k => 5) AS s
//! WHERE s.lang = 'en'
//! ```
//!
//! | part | what it does |
//! |---|---|
//! | [`analysis`] | texts to words, by Lance's tokenizer |
//! | [`query`] | the query text to clauses: words, phrases, `+` and `-` |
//! | [`bm25`] | which rows match, and their scores |
//! | `desugar` | the call in `FROM` to a sub-query with a marker |
//! | `highlight` | the functions that show where a text has the words of a query |
//! | [`node`], [`exec`], [`indexed`] | the search as a plan and as operators |
//!
//! # What is scored
//!
//! ```text
//! score(row, column) = Σ over the query's words w of   idf(w) · tf · (k1 + 1) / (tf + k1 · (1 − b + b · dl / avgdl))
//! idf(w)             = ln(1 + (N − n + 0.5) / (n + 0.5))                                   k1 = 1.2, b = 0.75
//! ```
//!
//! N is the number of rows of the table whose column has a word, n those of them with this word, `tf` how
//! often the row's text has it, `dl` the words of the text, `avgdl` their mean: Lance's formula. N, n and
//! avgdl are of *all* rows of the table that the statement sees, whatever its conditions are, so a row has
//! the same score under every filter. A row's score is the best of its columns' scores.
//!
//! # How it runs
//!
//! Through full-text indexes of the searched columns ([`indexed`]), or, where they cannot be used, over every row
//! ([`exec`]): twice, once the text columns only, for N, n and avgdl, and once, after the conditions, for the rows.
//! Neither is approximate, and both give the same.

pub mod analysis;
pub mod bm25;
pub(crate) mod desugar;
pub mod exec;
pub(crate) mod highlight;
pub mod indexed;
pub(crate) mod marker;
pub mod node;
pub mod query;
pub(crate) mod rewrite;

/// The column that a text search adds to the columns of its table.
pub const SCORE_COLUMN: &str = "_score";
