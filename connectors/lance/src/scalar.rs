//! Rows that may meet conditions, from the filter indexes of a dataset.
//!
//! ```sql
//! SELECT title FROM docs WHERE lang = 'en' AND stars BETWEEN 4 AND 5;   -- indexes on lang and stars: both are asked
//! SELECT title FROM docs WHERE title LIKE '%solar%';                    -- ngram: rows with its letters
//! ```
//!
//! | index | asked for conditions of a column and constants | says |
//! |---|---|---|
//! | `btree`, `bitmap` | `=`, `<`, `<=`, `>`, `>=`, `BETWEEN`, `IN`, `IS NULL`, `LIKE 'prefix%'` | which rows |
//! | `ngram` | `LIKE`, `contains`, `starts_with`, `ends_with`, `=` with three letters or more | rows that may |
//! | `bloom` | `=`, `IN`, `IS NULL` | stretches of rows that may |
//! | `zonemap` | as `btree` | stretches of rows that may |
//!
//! Conditions are joined by AND; of several indexes on a column the first of this list that can be asked is. What is
//! found is where the rows may be: the caller evaluates all conditions on
//! them again, so that an index can make an answer slow, not wrong. Rows of fragments that an index does not cover
//! are left to a scan.
//!
//! An index that cannot be read is noted as damaged and passed over.

mod conditions;

use std::sync::Arc;

use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::split_conjunction;
use lance::index::{DatasetIndexExt, DatasetIndexInternalExt};
use lance_index::metrics::NoOpMetricsCollector;
use lance_index::scalar::{AnyQuery, SearchResult};
use lance_table::format::IndexMetadata;
use roaring::{RoaringBitmap, RoaringTreemap};
use triune_common::{Result, boxed};

use crate::error::from_lance;
use crate::provider::LanceProvider;
use crate::scan::pieces::{Piece, ranges_of};
use conditions::{Kind, Probe};

/// Stretches shorter than this on average cost more to find than reading over them.
const LEAST_STRETCH: u64 = 256;

/// See the module's description.
#[derive(Debug)]
pub struct IndexMatch {
    /// The indexes that were asked.
    pub indexes: Vec<String>,
    /// Where the rows are.
    pub rows: MatchedRows,
}

/// The rows that may meet conditions.
#[derive(Debug)]
pub enum MatchedRows {
    /// Few: the addresses, in order; masked ones are left out. `rest` has the rows that the indexes do not cover;
    /// `None`: they cover all.
    Few { rows: Vec<u64>, rest: Option<Arc<LanceProvider>> },
    /// Stretches of rows; those that the indexes do not cover are among them.
    Stretches(RowStretches),
}

/// Some of the rows of a dataset, as stretches of them.
#[derive(Debug, Clone)]
pub struct RowStretches {
    pub(crate) pieces: Vec<Piece>,
    /// The indexes that have told them, for people.
    pub(crate) by: Arc<str>,
}

impl LanceProvider {
    /// Where the rows are that meet all of `filters`, if indexes know: at most `most` of them one by one, more if they
    /// lie together and are at most half of all rows.
    ///
    /// Errors: none of an index, which is passed over instead.
    #[boxed]
    pub async fn match_indexes(&self, filters: &[Expr], most: u64) -> Result<Option<IndexMatch>> {
        let probes: Vec<Probe> = filters
            .iter()
            .flat_map(split_conjunction)
            .filter_map(|f| Probe::of(f, &self.table.schema))
            .collect();
        if probes.is_empty() || self.table.stable_row_ids() {
            return Ok(None);
        }
        let dataset = self.dataset();
        let known = dataset.load_indices().await.map_err(from_lance)?;
        let mut found: Option<(RoaringTreemap, RoaringBitmap)> = None;
        let mut indexes: Vec<String> = Vec::new();
        for probe in &probes {
            let Some(field) = dataset.schema().field(&probe.column) else { continue };
            let of_column = known.iter().filter(|e| e.fields.first() == Some(&field.id));
            let usable = of_column.filter(|e| self.uses_index(&e.name));
            let best = usable
                .filter_map(|e| {
                    let kind = kind_of(e)?;
                    let queries = probe.queries(kind);
                    (!queries.is_empty()).then_some((kind, e.name.as_str(), queries))
                })
                .min_by_key(|(kind, _, _)| *kind);
            let Some((_, name, queries)) = best else { continue };
            for query in queries {
                let segments = known.iter().filter(|e| e.name == name);
                let asked = Box::pin(self.ask(&probe.column, query.as_ref(), segments)).await;
                let (rows, covered) = match asked {
                    Ok(Some(asked)) => asked,
                    Ok(None) => continue,
                    Err(e) => {
                        self.report_damaged(name, &e);
                        break;
                    }
                };
                if !indexes.iter().any(|i| i == name) {
                    indexes.push(name.to_owned());
                }
                found = Some(match found {
                    None => (rows, covered),
                    Some((before, also)) => (before & rows, also & covered),
                });
            }
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
        let there: u64 =
            rows.bitmaps().filter(|(id, _)| live.contains(*id)).map(|(_, rows)| rows.len()).sum();
        // Masked rows are taken off later; a few more of them do no harm.
        if there > most.saturating_mul(2) {
            let rows = self.stretches(&rows, &live, there, &indexes).map(MatchedRows::Stretches);
            return Ok(rows.map(|rows| IndexMatch { indexes, rows }));
        }
        let mut kept = Vec::new();
        for address in rows {
            if live.contains((address >> 32) as u32) && !mask.is_some_and(|m| m.hides(address)) {
                if kept.len() as u64 >= most {
                    return Ok(None);
                }
                kept.push(address);
            }
        }
        let all = self.table.fragments.len() as u64 == live.len();
        let rest = if all { None } else { Some(self.without_fragments(&live)?) };
        Ok(Some(IndexMatch { indexes, rows: MatchedRows::Few { rows: kept, rest } }))
    }

    /// Rows of `live` fragments as stretches, and all others; `None` where reading everything is as good.
    fn stretches(
        &self,
        rows: &RoaringTreemap,
        live: &RoaringBitmap,
        there: u64,
        indexes: &[String],
    ) -> Option<RowStretches> {
        let (mut pieces, mut count, mut covered) = (Vec::with_capacity(self.table.fragments.len()), 0, 0);
        for fragment in &self.table.fragments {
            let id = u32::try_from(fragment.id).ok()?;
            let ranges = if live.contains(id) {
                covered += fragment.physical;
                let of_fragment = rows.bitmaps().find(|(f, _)| *f == id).map(|(_, rows)| rows);
                let offsets = of_fragment.into_iter().flatten().map(u64::from);
                let ranges = ranges_of(offsets.take_while(|o| *o < fragment.physical), 0);
                count += ranges.len() as u64;
                ranges
            } else {
                std::iter::once(0..fragment.physical).collect()
            };
            if ranges.iter().any(|r| r.end > r.start) {
                pieces.push(Piece { fragment: fragment.id, ranges: ranges.into() });
            }
        }
        let worth = there <= covered / 2 && there >= count.saturating_mul(LEAST_STRETCH);
        worth.then(|| RowStretches { pieces, by: indexes.join("+").into() })
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
        query: &dyn AnyQuery,
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
            for (fragment, _) in set.iter().filter(|(fragment, _)| bitmap.contains(**fragment)) {
                let first = u64::from(*fragment) << 32;
                match set.get_fragment_bitmap(*fragment) {
                    Some(offsets) => rows |= RoaringTreemap::from_bitmaps([(*fragment, offsets.clone())]),
                    // All of them.
                    None => {
                        let physical = self.table.fragments.iter().find(|f| f.id == u64::from(*fragment));
                        rows.insert_range(first..first + physical.map_or(0, |f| f.physical));
                    }
                }
            }
            covered |= bitmap;
        }
        Ok(Some((rows, covered)))
    }
}

/// What kind of filter index it is.
fn kind_of(entry: &IndexMetadata) -> Option<Kind> {
    let details = entry.index_details.as_ref()?;
    let kinds = [
        ("BTreeIndexDetails", Kind::Rows),
        ("BitmapIndexDetails", Kind::Rows),
        ("NGramIndexDetails", Kind::Letters),
        ("BloomFilterIndexDetails", Kind::Bloom),
        ("ZoneMapIndexDetails", Kind::Zones),
    ];
    kinds.into_iter().find(|(name, _)| details.type_url.ends_with(name)).map(|(_, kind)| kind)
}
