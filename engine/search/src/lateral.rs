//! A search per row, answered for all rows together:
//!
//! ```sql
//! SELECT q.id, v.title, v._distance
//! FROM queries q CROSS JOIN LATERAL vector_search(docs, embedding, q.vec, k => 5) v;
//!
//! SELECT q.id, v.title
//! FROM queries q LEFT JOIN LATERAL (
//!     SELECT d.title FROM docs d WHERE d.tenant = q.tenant ORDER BY d.embedding <=> q.vec LIMIT 5
//! ) v ON true
//! ```
//!
//! ```text
//!  Join                                     Projection: q.*, v.*
//!   TableScan: queries                ─►      LateralSearch: column=v.embedding, query=q.vec, k=5
//!   Subquery                                    TableScan: queries
//!    search whose query or whose                SubqueryAlias: v
//!    conditions name columns of q                 TableScan: docs
//! ```
//!
//! [`exec::LateralTopKExec`] gathers the query vectors of several thousand rows, passes once over the
//! searched table for all of them, and keeps `k` rows for each. `rewrite` finds the shapes. DataFusion has
//! no way to run a correlated `LIMIT`; what is not recognised here is an error.
//!
//! # Which conditions come before the top-k
//!
//! Those of the sub-query or the call itself: `where => …`, and the `WHERE` beside the `ORDER BY` inside of
//! `LATERAL (…)`, whether they name columns of the left side or not. Of the `WHERE` of the outer `SELECT`,
//! those that speak of the searched table alone, under a call of `vector_search` joined with CROSS or INNER
//! (the rule of all searches, see the crate's page). A condition of the outer `WHERE` that names both sides
//! (`v.tenant = q.tenant`) is applied to the rows found, and so is every condition above `LATERAL (SELECT …)`
//! or a LEFT JOIN: SQL says so.
//!
//! # Limits
//! Through an index go searches whose conditions are of the table alone. Conditions above the search inside of the
//! lateral sub-query, and `ON` conditions other than true, are refused with LEFT JOIN. What depends on a query
//! further out than the left side, and correlated sub-queries within the conditions, are refused.

pub mod exec;
pub(crate) mod kept;
pub mod node;
pub(crate) mod outer;
pub(crate) mod rewrite;

pub use exec::LateralTopKExec;
pub use node::LateralSearchNode;
