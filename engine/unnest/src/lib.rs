//! Sub-queries that speak of the query around them, as joins.
//!
//! ```sql
//! SELECT o.id, (SELECT max(p.price) FROM p WHERE p.day <= o.day) FROM o;
//! SELECT * FROM o WHERE EXISTS (SELECT 1 FROM p WHERE p.k = o.k AND EXISTS (SELECT 1 FROM q WHERE q.a > o.a));
//! SELECT * FROM o, LATERAL (SELECT price FROM p WHERE p.day <= o.day ORDER BY p.day DESC LIMIT 3) AS last_three;
//! ```
//!
//! DataFusion 54 turns such a sub-query into a join when equalities at its top connect it with the outer query. For all
//! others this crate does what Neumann and Kemper describe ("Unnesting Arbitrary Queries", BTW 2015):
//!
//! ```text
//!  outer ── (sub-query of outer.a)        outer ──────────── LEFT JOIN on a IS NOT DISTINCT FROM d ── value
//!                                           │                                │
//!                                           └─ DISTINCT a: the domain ── sub-query, of column d of the domain
//! ```
//!
//! The *domain* holds every combination of values that the sub-query asks the outer query for, once. It is joined to
//! the sub-query where that first speaks of them and is carried up through its operators (`push`): a grouping
//! groups by it too, a LIMIT counts per combination. What comes out is joined to the outer query (`attach`).
//!
//! * [`UnnestRule`] goes from the innermost sub-query outwards, so that one may speak of any query around it.
//! * What DataFusion can do is left to it; it is asked on a copy of the operator (`trial`).
//!
//! *Deviations* from the paper: the domain is always joined, never replaced by columns of the sub-query that are equal to
//! it; a domain with NULLs is joined as if NULL were a value, as there.
//!
//! *Cost*: the outer operators are computed twice, once for the domain.
//!
//! *Limits* (DataFusion's own error stands): outer columns that come from a volatile function; sub-queries in
//! conditions of joins; `IN` other than as a condition of its own; FULL JOIN, GROUPING SETS, DISTINCT ON, VALUES and recursion
//! that speak of outer columns.

mod attach;
mod domain;
mod push;
mod rule;
mod single_value;
mod trial;

pub use rule::UnnestRule;
