//! Several searches of one table, made into one list:
//!
//! ```sql
//! SELECT id, title, _score
//! FROM hybrid_search(docs, vector => $1, text => 'solar panel', fusion => 'rrf', k => 10) AS h
//! WHERE h.lang = 'en';
//!
//! SELECT id, _score
//! FROM rrf(vector_search(docs, title_vec, $1, k => 50), vector_search(docs, body_vec, $1, k => 50),
//!          text_search(docs, 'solar panel', k => 50), weights => [1, 1, 2], k => 10) AS h;
//! ```
//!
//! `hybrid_search` is `rrf` of a `vector_search` and a `text_search`; a `rrf` is a node over the searches that
//! it names, its parts:
//!
//! ```text
//! Sort: h._score DESC, fetch=10
//!   Fusion: rrf, key=[h.id], k=10
//!     Sort: h._distance, fetch=100         Sort: h._score DESC, …, fetch=100
//!       VectorSearch: column=h.embedding     TextSearch: columns=[h.title]
//!         Filter: h.lang = 'en'                Filter: h.lang = 'en'
//!           SubqueryAlias: h                     SubqueryAlias: h
//! ```
//!
//! Each part runs as it would alone, through an index where there is one, and its conditions come before its
//! top-k; the conditions of the statement go below every part. A row is known in several lists by its key:
//! the table's primary key, or `key => …`.
//!
//! | fusion | score of a row |
//! |---|---|
//! | `rrf` | Σ weight / (`rrf_k` + rank), the rank counted from 1 in each part that has the row |
//! | `weighted` | Σ weight · (how good the row is between the best and the worst row of the part: 1 to 0) |
//!
//! A part ranks its rows by its own score, rows of one score by their key.
//!
//! | part | what it does |
//! |---|---|
//! | `desugar` | the calls in `FROM` to a sub-query with a marker |
//! | `rewrite` | the marker to the node; which columns are the key |
//! | [`node`], [`exec`] | the fusion as a plan and as an operator |
//! | [`rank`] | lists of scores to one list |

pub(crate) mod desugar;
pub mod exec;
pub(crate) mod marker;
pub mod node;
pub mod rank;
pub(crate) mod rewrite;

/// The column that says why parts of a search with `fallback => 'text'` gave nothing.
pub const FALLBACK_COLUMN: &str = "_fallback";
