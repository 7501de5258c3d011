//! What full-text indexes know of words: which rows have them, how often, and how long the texts are.
//!
//! ```text
//!  word ──▶ token ──▶ posting list: document, count  ──▶ address of the row, count, words of the text
//!           (one dictionary for each part of a segment)       without masked rows and fragments that are gone
//! ```
//!
//! Lance's own search gives scores by the numbers of its index: deleted rows count in them, rows beyond the index do
//! not, and each segment has its own. So the files are read here, and whoever asks counts what is visible and scores
//! by that. Texts without a word are not documents of an index.
//!
//! *Cost*: dictionary and documents of an index are read once for each version (12 bytes a row and the dictionary),
//! a posting list for each word and search. *Limits*: rows are known by their addresses, so a dataset with stable row
//! ids, deletions of its own or a history of deferred remapping has no such indexes; indexes of Lance's first format
//! (of 2024) are refused.

mod segment;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use datafusion::common::runtime::SpawnedTask;
use lance::index::DatasetIndexExt;
use lance_index::scalar::InvertedIndexParams;
use lance_table::format::IndexMetadata;
use roaring::RoaringBitmap;
use serde_json::Value;
use triune_common::{Error, ErrorKind, Result, boxed};

use crate::error::from_lance;
use crate::mask::RowMask;
use crate::provider::LanceProvider;
use segment::Segment;

/// The name that Lance gives to a history of moved rows.
const MOVED_ROWS: &str = "__lance_frag_reuse";

/// One Lance index of a text column, over all its segments.
#[derive(Debug)]
pub(crate) struct TextIndex {
    name: String,
    /// How its words are made: [`InvertedIndexParams`] as JSON.
    words: Value,
    segments: Vec<Segment>,
    /// Fragments of the dataset that it covers.
    covered: RoaringBitmap,
}

/// The full-text indexes of some columns, for the rows that a provider shows.
#[derive(Clone)]
pub struct TextIndexes {
    provider: LanceProvider,
    /// One for each column.
    indexes: Vec<Arc<TextIndex>>,
    /// Fragments that all of them cover.
    covered: Arc<RoaringBitmap>,
    rest: Option<Arc<LanceProvider>>,
}

/// Whether a word is looked for.
pub type WordTest = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// Which words are looked for.
pub struct TextWords {
    /// These.
    pub exact: Vec<String>,
    /// And all of which this is true; every word of the index is shown to it.
    pub similar: Option<WordTest>,
}

impl fmt::Debug for TextWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextWords")
            .field("exact", &self.exact)
            .field("similar", &self.similar.is_some())
            .finish()
    }
}

/// What an index knows of the visible rows of one column.
#[derive(Debug, Clone, Default)]
pub struct TextColumn {
    /// Texts that have a word.
    pub texts: u64,
    /// Words of all of them.
    pub words: u64,
    /// The rows that have a word, by word, in the order of addresses.
    pub found: BTreeMap<String, Vec<TextPosting>>,
}

/// A row that has a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextPosting {
    /// The fragment's id times 2³² plus the row's place in it.
    pub address: u64,
    /// How often the text has the word.
    pub count: u32,
    /// All words of the text.
    pub length: u32,
}

impl LanceProvider {
    /// The full-text indexes of all these columns whose words are made as `words` says; else why there are none.
    ///
    /// Reads the parameters of indexes, once for each version. An index that cannot be read is noted as damaged and
    /// passed over. Errors: not-found for an unknown column.
    #[boxed]
    pub async fn text_indexes(
        &self,
        columns: &[String],
        words: &InvertedIndexParams,
    ) -> Result<std::result::Result<TextIndexes, String>> {
        let dataset = self.dataset();
        let known = dataset.load_indices().await.map_err(from_lance)?;
        let plain = !self.table.stable_row_ids()
            && dataset.fragments().iter().all(|f| f.deletion_file.is_none() && f.overlays.is_empty())
            && !known.iter().any(|e| e.name == MOVED_ROWS);
        if !plain {
            return Ok(Err("the dataset has stable row ids or deletions of its own".to_owned()));
        }
        let wanted = analysis_of(words)?;
        let mut indexes = Vec::with_capacity(columns.len());
        for column in columns {
            crate::index::check_column(&self.table.schema, column)?;
            let id = dataset.schema().field(column).map(|f| f.id);
            let mut names: Vec<&str> = Vec::new();
            for entry in known.iter().filter(|e| e.fields.first().copied() == id && is_text(e)) {
                if self.uses_index(&entry.name) && !names.contains(&entry.name.as_str()) {
                    names.push(&entry.name);
                }
            }
            let mut why = format!("no full-text index on {column} is ready");
            let mut found = None;
            for name in names {
                match self.text_index(name, &known).await {
                    Ok(index) if index.words == wanted => found = Some(index),
                    Ok(_) => why = format!("the words of index {} are others", plain_name(name)),
                    Err(e) => {
                        why = format!("index {} cannot be read: {}", plain_name(name), e.message());
                        self.report_damaged(name, &e);
                    }
                }
                if found.is_some() {
                    break;
                }
            }
            match found {
                Some(index) => indexes.push(index),
                None => return Ok(Err(why)),
            }
        }
        let Some(first) = indexes.first() else { return Ok(Err("no column is searched".to_owned())) };
        let covered = indexes.iter().skip(1).fold(first.covered.clone(), |all, i| all & &i.covered);
        if covered.is_empty() {
            return Ok(Err(format!("index {} covers no rows", plain_name(&first.name))));
        }
        let all = self.table.fragments.len() as u64 == covered.len();
        let rest = if all { None } else { Some(self.without_fragments(&covered)?).filter(|r| r.rows() > 0) };
        Ok(Ok(TextIndexes { provider: self.clone(), indexes, covered: Arc::new(covered), rest }))
    }

    async fn text_index(&self, name: &str, known: &[IndexMetadata]) -> Result<Arc<TextIndex>> {
        if let Some(index) = self.table.text_indexes.lock().get(name) {
            return Ok(Arc::clone(index));
        }
        let dataset = self.dataset();
        let live: RoaringBitmap =
            self.table.fragments.iter().filter_map(|f| u32::try_from(f.id).ok()).collect();
        let (mut segments, mut words, mut covered) = (Vec::new(), None, RoaringBitmap::new());
        for entry in known.iter().filter(|e| e.name == name) {
            let Some(bitmap) = &entry.fragment_bitmap else {
                return Err(Error::unsupported(format!("index {name} does not say what it covers")));
            };
            let fragments = bitmap & &live;
            if fragments.is_empty() {
                continue;
            }
            let (segment, params) = Segment::open(dataset, entry, fragments.clone()).await?;
            let params = analysis_of(&params)?;
            if words.get_or_insert_with(|| params.clone()) != &params {
                return Err(Error::data(format!("the segments of index {name} make words in two ways")));
            }
            covered |= fragments;
            segments.push(segment);
        }
        let words = words.unwrap_or(Value::Null);
        let index = Arc::new(TextIndex { name: name.to_owned(), words, segments, covered });
        self.table.text_indexes.lock().insert(name.to_owned(), Arc::clone(&index));
        Ok(index)
    }
}

impl fmt::Debug for TextIndexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextIndexes").field("names", &self.names()).finish_non_exhaustive()
    }
}

impl TextIndexes {
    /// The indexes as statements call them.
    pub fn names(&self) -> String {
        let mut names: Vec<&str> = self.indexes.iter().map(|i| plain_name(&i.name)).collect();
        names.dedup();
        names.join("+")
    }

    /// The rows that not all of the indexes cover; `None`: they cover all.
    pub fn rest(&self) -> Option<&Arc<LanceProvider>> {
        self.rest.as_ref()
    }

    /// The rows that the provider shows, those of [`Self::rest`] too.
    pub fn provider(&self) -> &LanceProvider {
        &self.provider
    }

    /// Notes that the indexes cannot be read: they are passed over until they were built again.
    pub fn report_damaged(&self, why: &Error) {
        self.indexes.iter().for_each(|i| self.provider.report_damaged(&i.name, why));
    }

    /// What the indexes know of the covered rows that the provider shows, for each column.
    ///
    /// Errors: of reading; data for an index that holds what it cannot.
    #[boxed]
    pub async fn read(&self, words: TextWords) -> Result<Vec<TextColumn>> {
        let words = Arc::new(words);
        let mut out = Vec::with_capacity(self.indexes.len());
        for index in &self.indexes {
            let mut lists = Vec::new();
            for segment in &index.segments {
                lists.push(segment.lists(&words).await?);
            }
            let (index, covered) = (Arc::clone(index), Arc::clone(&self.covered));
            let mask = self.provider.table.mask.clone();
            // Decoding computes, and panics over bytes that are not a posting list.
            let decoded = SpawnedTask::spawn_blocking(move || {
                let mut column = TextColumn::default();
                for (segment, lists) in index.segments.iter().zip(lists) {
                    segment.add(lists, &covered, mask.as_deref(), &mut column)?;
                }
                column.found.values_mut().for_each(|rows| rows.sort_unstable_by_key(|r| r.address));
                column.found.retain(|_, rows| !rows.is_empty());
                Ok::<_, Error>(column)
            });
            out.push(match decoded.join().await {
                Ok(column) => column?,
                Err(e) if e.is_panic() => {
                    return Err(Error::data(format!("index {} is damaged", self.names())));
                }
                Err(_) => return Err(Error::new(ErrorKind::Cancelled, "a text search was cancelled")),
            });
        }
        Ok(out)
    }

    /// Bytes that dictionaries and documents take, as far as they were read.
    pub fn bytes(&self) -> usize {
        self.indexes.iter().flat_map(|i| &i.segments).map(Segment::bytes).sum()
    }
}

impl LanceProvider {
    /// Bytes that are held of each full-text index that was read.
    pub fn text_index_bytes(&self) -> BTreeMap<String, usize> {
        let open = self.table.text_indexes.lock();
        let bytes = |i: &Arc<TextIndex>| i.segments.iter().map(Segment::bytes).sum();
        open.iter().map(|(name, index)| (name.clone(), bytes(index))).collect()
    }
}

/// The rows of a mask that an index counts, by fragment.
fn masked_of<'a>(
    mask: Option<&'a RowMask>,
    covered: &'a RoaringBitmap,
) -> impl Iterator<Item = (u32, &'a RoaringBitmap)> {
    mask.into_iter().flat_map(|m| m.rows().bitmaps()).filter(|(fragment, _)| covered.contains(*fragment))
}

/// What of the parameters decides about words.
fn analysis_of(params: &InvertedIndexParams) -> Result<Value> {
    let broken = |e| Error::internal("the parameters of a full-text index are no JSON").with_source(e);
    let mut all = serde_json::to_value(params).map_err(broken)?;
    if let Some(map) = all.as_object_mut() {
        map.remove("with_position");
        map.remove("block_size");
        // Texts are the only documents here, whether it was said or seen.
        if map.get("lance_tokenizer").is_none_or(|t| t.is_null() || t == "text") {
            map.remove("lance_tokenizer");
        }
        if map.get("stem") == Some(&Value::Bool(false))
            && map.get("remove_stop_words") == Some(&Value::Bool(false))
        {
            map.remove("language");
        }
    }
    Ok(all)
}

fn is_text(entry: &IndexMetadata) -> bool {
    entry.index_details.as_ref().is_some_and(|d| d.type_url.ends_with("InvertedIndexDetails"))
}

/// An index of several columns is several of Lance's: `words:title`.
fn plain_name(name: &str) -> &str {
    name.split(':').next().unwrap_or(name)
}
