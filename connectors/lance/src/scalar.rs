//! Rows that meet conditions, from the `btree` and `bitmap` indexes of a dataset.
//!
//! ```sql
//! SELECT title FROM docs WHERE lang = 'en' AND stars BETWEEN 4 AND 5;   -- indexes on lang and stars: both are asked
//! ```
//!
//! Asked are conditions of a column and constants: `=`, `<`, `<=`, `>`, `>=`, `BETWEEN`, `IN`, `IS NULL` and
//! `LIKE 'prefix%'`, joined by AND. What is found is where the rows may be: the caller evaluates all conditions on
//! them again, so that an index can make an answer slow, not wrong. Rows of fragments that an index does not cover
//! are left to a scan.
//!
//! An index that cannot be read is noted as damaged and passed over.

use std::ops::Bound;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Like, Operator};
use lance::index::{DatasetIndexExt, DatasetIndexInternalExt};
use lance_index::metrics::NoOpMetricsCollector;
use lance_index::scalar::{SargableQuery, SearchResult};
use lance_table::format::IndexMetadata;
use roaring::{RoaringBitmap, RoaringTreemap};
use triune_common::{Result, boxed};

use crate::error::from_lance;
use crate::provider::LanceProvider;

/// See the module's description.
#[derive(Debug)]
pub struct IndexMatch {
    /// The indexes that were asked.
    pub indexes: Vec<String>,
    /// Addresses of rows that may meet the conditions, in order; masked ones are left out.
    pub rows: Vec<u64>,
    /// The rows that the indexes do not cover; `None`: they cover all.
    pub rest: Option<Arc<LanceProvider>>,
}

/// A condition that an index can be asked.
struct Probe {
    column: String,
    query: SargableQuery,
}

impl LanceProvider {
    /// Where the rows are that meet all of `filters`, if indexes know and there are at most `most` of them.
    ///
    /// Errors: none of an index, which is passed over instead.
    #[boxed]
    pub async fn match_indexes(&self, filters: &[Expr], most: u64) -> Result<Option<IndexMatch>> {
        let probes: Vec<Probe> =
            filters.iter().flat_map(split_conjunction).filter_map(|f| self.probe(f)).collect();
        if probes.is_empty() || self.table.stable_row_ids() {
            return Ok(None);
        }
        let dataset = self.dataset();
        let known = dataset.load_indices().await.map_err(from_lance)?;
        let mut found: Option<(RoaringTreemap, RoaringBitmap)> = None;
        let mut indexes = Vec::new();
        for probe in &probes {
            let Some(field) = dataset.schema().field(&probe.column) else { continue };
            let usable = |e: &&IndexMetadata| {
                e.fields.first() == Some(&field.id) && is_exact(e) && self.uses_index(&e.name)
            };
            let Some(name) = known.iter().find(usable).map(|e| e.name.clone()) else { continue };
            let segments = known.iter().filter(|e| e.name == name);
            let asked = Box::pin(self.ask(&probe.column, &probe.query, segments)).await;
            let (rows, covered) = match asked {
                Ok(Some(asked)) => asked,
                Ok(None) => continue,
                Err(e) => {
                    self.report_damaged(&name, &e);
                    continue;
                }
            };
            indexes.push(name);
            found = Some(match found {
                None => (rows, covered),
                Some((before, also)) => (before & rows, also & covered),
            });
        }
        let Some((rows, covered)) = found else { return Ok(None) };
        // Rows of fragments that only some of the indexes cover belong to the rest.
        let live: RoaringBitmap = self
            .table
            .fragments
            .iter()
            .filter_map(|f| u32::try_from(f.id).ok())
            .filter(|id| covered.contains(*id))
            .collect();
        if live.is_empty() {
            return Ok(None);
        }
        let mask = self.table.mask.as_ref();
        let mut kept = Vec::new();
        for address in rows {
            let fragment = (address >> 32) as u32;
            if live.contains(fragment) && !mask.is_some_and(|m| m.hides(address)) {
                if kept.len() as u64 >= most {
                    return Ok(None);
                }
                kept.push(address);
            }
        }
        let all = self.table.fragments.len() as u64 == live.len();
        let rest = if all { None } else { Some(self.without_fragments(&live)?) };
        Ok(Some(IndexMatch { indexes, rows: kept, rest }))
    }

    pub(crate) fn without_fragments(&self, fragments: &RoaringBitmap) -> Result<Arc<Self>> {
        let mut hidden = self.table.mask.as_ref().map(|m| m.rows().as_ref().clone()).unwrap_or_default();
        for fragment in &self.table.fragments {
            if u32::try_from(fragment.id).is_ok_and(|id| fragments.contains(id)) {
                let first = fragment.id << 32;
                hidden.insert_range(first..first + fragment.physical);
            }
        }
        self.with_mask(Arc::new(hidden))
    }

    /// The rows that the segments of an index find, and the fragments that they cover. `None` when the index
    /// cannot say which rows.
    async fn ask(
        &self,
        column: &str,
        query: &SargableQuery,
        segments: impl Iterator<Item = &IndexMetadata>,
    ) -> Result<Option<(RoaringTreemap, RoaringBitmap)>> {
        let dataset = self.dataset();
        let (mut rows, mut covered) = (RoaringTreemap::new(), RoaringBitmap::new());
        for segment in segments {
            let Some(bitmap) = &segment.fragment_bitmap else { return Ok(None) };
            let index = dataset
                .open_scalar_index(column, &segment.uuid, &NoOpMetricsCollector)
                .await
                .map_err(from_lance)?;
            let found = index.search(query, &NoOpMetricsCollector).await.map_err(from_lance)?;
            let (SearchResult::Exact(set) | SearchResult::AtMost(set)) = found else { return Ok(None) };
            let set = set.true_rows();
            let Some(addresses) = set.row_addrs() else { return Ok(None) };
            for address in addresses {
                let address = u64::from(address);
                if bitmap.contains((address >> 32) as u32) {
                    rows.insert(address);
                }
            }
            covered |= bitmap;
        }
        Ok(Some((rows, covered)))
    }

    /// What a condition asks of a column; `None` for other conditions.
    fn probe(&self, filter: &Expr) -> Option<Probe> {
        let column = |e: &Expr| match e {
            Expr::Column(c) => Some(c.name.clone()),
            _ => None,
        };
        let (name, query) = match filter {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let (name, value, op) = match (column(left), column(right)) {
                    (Some(name), None) => (name, right, *op),
                    (None, Some(name)) => (name, left, op.swap()?),
                    _ => return None,
                };
                let value = self.value(&name, value)?;
                let query = match op {
                    Operator::Eq => SargableQuery::Equals(value),
                    Operator::Lt => SargableQuery::Range(Bound::Unbounded, Bound::Excluded(value)),
                    Operator::LtEq => SargableQuery::Range(Bound::Unbounded, Bound::Included(value)),
                    Operator::Gt => SargableQuery::Range(Bound::Excluded(value), Bound::Unbounded),
                    Operator::GtEq => SargableQuery::Range(Bound::Included(value), Bound::Unbounded),
                    _ => return None,
                };
                (name, query)
            }
            Expr::Between(Between { expr, negated: false, low, high }) => {
                let name = column(expr)?;
                let (low, high) = (self.value(&name, low)?, self.value(&name, high)?);
                (name, SargableQuery::Range(Bound::Included(low), Bound::Included(high)))
            }
            Expr::InList(list) if !list.negated => {
                let name = column(&list.expr)?;
                let values =
                    list.list.iter().map(|e| self.value(&name, e)).collect::<Option<Vec<ScalarValue>>>()?;
                (name, SargableQuery::IsIn(values))
            }
            Expr::IsNull(inner) => (column(inner)?, SargableQuery::IsNull()),
            Expr::Like(Like {
                negated: false,
                expr,
                pattern,
                escape_char: None,
                case_insensitive: false,
            }) => {
                let name = column(expr)?;
                let prefix = match self.value(&name, pattern)? {
                    ScalarValue::Utf8(Some(text)) => text.strip_suffix('%')?.to_owned(),
                    _ => return None,
                };
                if prefix.is_empty() || prefix.contains(['%', '_', '\\']) {
                    return None;
                }
                (name, SargableQuery::LikePrefix(ScalarValue::Utf8(Some(prefix))))
            }
            _ => return None,
        };
        Some(Probe { column: name, query })
    }

    /// A constant of the column's own type that is not NULL and not NaN (of which indexes and conditions may
    /// think differently).
    fn value(&self, column: &str, expr: &Expr) -> Option<ScalarValue> {
        let Expr::Literal(value, _) = expr else { return None };
        let field = self.table.schema.field_with_name(column).ok()?;
        let fits = match value {
            ScalarValue::Float32(Some(v)) => !v.is_nan() && *v != 0.0,
            ScalarValue::Float64(Some(v)) => !v.is_nan() && *v != 0.0,
            other => !other.is_null(),
        };
        (fits && value.data_type() == *field.data_type()).then(|| value.clone())
    }
}

/// Whether it is an index that names rows, rather than places where they may be.
fn is_exact(entry: &IndexMetadata) -> bool {
    entry.index_details.as_ref().is_some_and(|d| {
        ["BTreeIndexDetails", "BitmapIndexDetails"].iter().any(|kind| d.type_url.ends_with(kind))
    })
}
