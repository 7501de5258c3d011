//! One segment of a full-text index: its files.
//!
//! | file | |
//! |---|---|
//! | `metadata.lance` | how words are made, which parts there are |
//! | `part_<n>_tokens.lance` | the words, each with its number |
//! | `part_<n>_docs.lance` | by document: address of the row, words of its text |
//! | `part_<n>_invert.lance` | by word: documents and how often they have it |

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arrow::array::{AsArray, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{Float32Type, UInt32Type, UInt64Type};
use futures::{StreamExt, TryStreamExt};
use lance::Dataset;
use lance::dataset::index::LanceIndexStoreExt;
use lance_core::ROW_ID;
use lance_index::scalar::inverted::{
    INVERT_LIST_FILE, LENGTH_COL, MAX_SCORE_COL, METADATA_FILE, NUM_TOKEN_COL, POSTING_BLOCK_SIZE_KEY,
    POSTING_COL, POSTING_TAIL_CODEC_FIXED32_V1, POSTING_TAIL_CODEC_KEY, POSTING_TAIL_CODEC_VARINT_DELTA_V1,
    PostingList, PostingTailCodec, TOKEN_COL, TOKEN_ID_COL, TOKEN_SET_FORMAT_KEY, TOKENS_FILE, TokenSet,
    TokenSetFormat,
};
use lance_index::scalar::lance_format::LanceIndexStore;
use lance_index::scalar::{IndexReader, IndexStore, InvertedIndexParams};
use lance_table::format::IndexMetadata;
use roaring::RoaringBitmap;
use tokio::sync::OnceCell;
use triune_common::{Error, ErrorKind, Result};

use super::{TextColumn, TextPosting, TextWords, masked_of};
use crate::error;
use crate::mask::RowMask;

/// Posting lists that are read at once.
const READS: usize = 8;
/// Documents in a block of a posting list, where its file does not say.
const USUAL_BLOCK: usize = 128;

/// See the module.
#[derive(Debug)]
pub(super) struct Segment {
    /// Fragments that it covers and the dataset has.
    fragments: RoaringBitmap,
    store: Arc<LanceIndexStore>,
    partitions: Vec<u64>,
    format: TokenSetFormat,
    parts: OnceCell<Vec<Part>>,
}

/// A word and its posting list.
pub(super) struct List {
    part: usize,
    word: String,
    rows: RecordBatch,
}

impl Segment {
    /// Reads the parameters, nothing else. Errors: not-found and data for files that are missing or are not what
    /// they should be; unsupported for a format that is not known.
    pub(super) async fn open(
        dataset: &Dataset,
        entry: &IndexMetadata,
        fragments: RoaringBitmap,
    ) -> Result<(Self, InvertedIndexParams)> {
        let store = LanceIndexStore::from_dataset_for_existing(dataset, entry).await.map_err(of_file)?;
        let metadata = store.open_index_file(METADATA_FILE).await.map_err(of_file)?;
        let metadata = &metadata.schema().metadata;
        let missing = |what: &str| Error::data(format!("the full-text index {} has no {what}", entry.name));
        let broken =
            |e| Error::data(format!("the full-text index {} cannot be read", entry.name)).with_source(e);
        let params = metadata.get("params").ok_or_else(|| missing("parameters"))?;
        let params: InvertedIndexParams = serde_json::from_str(params).map_err(broken)?;
        let partitions = metadata.get("partitions").ok_or_else(|| missing("parts"))?;
        let partitions: Vec<u64> = serde_json::from_str(partitions).map_err(broken)?;
        let format = match metadata.get(TOKEN_SET_FORMAT_KEY) {
            Some(name) => name.parse().map_err(of_file)?,
            None => TokenSetFormat::Arrow,
        };
        let (store, parts) = (Arc::new(store), OnceCell::new());
        Ok((Self { fragments, store, partitions, format, parts }, params))
    }

    async fn parts(&self) -> Result<&[Part]> {
        let read = || async {
            let mut parts = Vec::with_capacity(self.partitions.len());
            for id in &self.partitions {
                parts.push(Part::open(self.store.as_ref(), *id, self.format).await?);
            }
            Ok::<_, Error>(parts)
        };
        Ok(self.parts.get_or_try_init(read).await?)
    }

    /// The posting lists of the words that are wanted, as they are in the files.
    pub(super) async fn lists(&self, words: &TextWords) -> Result<Vec<List>> {
        let parts = self.parts().await?;
        let mut wanted: Vec<(usize, String, u32)> = Vec::new();
        for (place, part) in parts.iter().enumerate() {
            let exact = words.exact.iter().filter_map(|w| Some((w.clone(), part.tokens.get(w)?)));
            let mut tokens: BTreeMap<String, u32> = exact.collect();
            if let Some(similar) = &words.similar {
                let all = part.words()?;
                let (names, ids) =
                    (all.column(0).as_string::<i32>(), all.column(1).as_primitive::<UInt32Type>());
                let found = names.iter().zip(ids.values()).filter_map(|(n, id)| Some((n?, *id)));
                tokens.extend(found.filter(|(n, _)| similar(n)).map(|(n, id)| (n.to_owned(), id)));
            }
            wanted.extend(tokens.into_iter().map(|(word, id)| (place, word, id)));
        }
        let reads = wanted.into_iter().map(|(place, word, id)| {
            let reader = Arc::clone(&parts[place].postings);
            async move {
                let at = id as usize;
                let columns = [POSTING_COL, MAX_SCORE_COL, LENGTH_COL];
                let rows = reader.read_range(at..at + 1, Some(&columns)).await.map_err(of_file)?;
                Ok::<_, Error>(List { part: place, word, rows })
            }
        });
        // In a list of their own: borrowed closures in streams trouble the compiler.
        let reads: Vec<_> = reads.collect();
        futures::stream::iter(reads).buffered(READS).try_collect().await
    }

    /// Adds what the lists say of rows in `covered` fragments that no mask hides, and the counts of all such rows.
    ///
    /// # Errors
    /// Data for lists that name documents that there are not. Panics over bytes that are no list.
    pub(super) fn add(
        &self,
        lists: Vec<List>,
        covered: &RoaringBitmap,
        mask: Option<&RowMask>,
        out: &mut TextColumn,
    ) -> Result<()> {
        let Some(parts) = self.parts.get() else {
            return Err(Error::internal("the parts of a full-text index were not read"));
        };
        let fragments = &self.fragments & covered;
        for part in parts {
            let (texts, words) = part.visible(&fragments, mask);
            out.texts += texts;
            out.words += words;
        }
        for List { part, word, rows } in lists {
            let rows = parts[part].rows(&rows, &fragments, mask)?;
            out.found.entry(word).or_default().extend(rows);
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> usize {
        self.parts.get().map_or(0, |parts| parts.iter().map(Part::bytes).sum())
    }
}

/// A part of a segment, with a dictionary of its own.
struct Part {
    tokens: TokenSet,
    dictionary_bytes: usize,
    /// Word and number, in columns; made when somebody asks for similar words.
    words: OnceLock<RecordBatch>,
    /// By document.
    addresses: ScalarBuffer<u64>,
    lengths: ScalarBuffer<u32>,
    /// Documents in the order of addresses, where that is another one.
    order: Option<Vec<u32>>,
    /// By fragment: documents and their words.
    totals: BTreeMap<u32, (u64, u64)>,
    postings: Arc<dyn IndexReader>,
    codec: PostingTailCodec,
    block: usize,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part")
            .field("words", &self.tokens.len())
            .field("documents", &self.addresses.len())
            .finish_non_exhaustive()
    }
}

impl Part {
    async fn open(store: &dyn IndexStore, id: u64, format: TokenSetFormat) -> Result<Self> {
        let name = |file: &str| format!("part_{id}_{file}");
        let tokens = store.open_index_file(&name(TOKENS_FILE)).await.map_err(of_file)?;
        let dictionary_bytes = usize::try_from(tokens.file_size_bytes().unwrap_or(0)).unwrap_or(0);
        let tokens = TokenSet::load(tokens, format).await.map_err(of_file)?;
        let docs = store.open_index_file(&name("docs.lance")).await.map_err(of_file)?;
        let docs =
            docs.read_range(0..docs.num_rows(), Some(&[ROW_ID, NUM_TOKEN_COL])).await.map_err(of_file)?;
        let broken =
            || Error::data(format!("the documents of part {id} of a full-text index are of other types"));
        let addresses = docs.column_by_name(ROW_ID).and_then(|c| c.as_primitive_opt::<UInt64Type>());
        let lengths = docs.column_by_name(NUM_TOKEN_COL).and_then(|c| c.as_primitive_opt::<UInt32Type>());
        let addresses = addresses.ok_or_else(broken)?.values().clone();
        let lengths = lengths.ok_or_else(broken)?.values().clone();
        let order = (!addresses.windows(2).all(|w| w[0] < w[1])).then(|| {
            let mut order: Vec<u32> = (0..u32::try_from(addresses.len()).unwrap_or(u32::MAX)).collect();
            order.sort_unstable_by_key(|doc| addresses[*doc as usize]);
            order
        });
        let mut totals: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        let mut last: Option<(u32, (u64, u64))> = None;
        for (address, length) in addresses.iter().zip(lengths.iter()) {
            let fragment = (address >> 32) as u32;
            match &mut last {
                Some((at, sum)) if *at == fragment => *sum = (sum.0 + 1, sum.1 + u64::from(*length)),
                _ => {
                    add_to(&mut totals, last.take());
                    last = Some((fragment, (1, u64::from(*length))));
                }
            }
        }
        add_to(&mut totals, last);
        let postings = store.open_index_file(&name(INVERT_LIST_FILE)).await.map_err(of_file)?;
        let unknown = |what: &str| Error::unsupported(format!("{what} of a full-text index is not known"));
        if postings.schema().field(POSTING_COL).is_none() {
            return Err(unknown("the first format"));
        }
        let metadata = &postings.schema().metadata;
        let codec = match metadata.get(POSTING_TAIL_CODEC_KEY).map(|c| c.trim()) {
            None | Some(POSTING_TAIL_CODEC_FIXED32_V1) => PostingTailCodec::Fixed32,
            Some(POSTING_TAIL_CODEC_VARINT_DELTA_V1) => PostingTailCodec::VarintDelta,
            Some(other) => return Err(unknown(&format!("the code {other}"))),
        };
        let block = match metadata.get(POSTING_BLOCK_SIZE_KEY) {
            None => USUAL_BLOCK,
            Some(size) => size.parse().map_err(|_| unknown(&format!("the block size {size}")))?,
        };
        if postings.num_rows() != tokens.len() {
            return Err(Error::data(format!(
                "part {id} of a full-text index has {} words and {} lists",
                tokens.len(),
                postings.num_rows()
            )));
        }
        let words = OnceLock::new();
        Ok(Self {
            tokens,
            dictionary_bytes,
            words,
            addresses,
            lengths,
            order,
            totals,
            postings,
            codec,
            block,
        })
    }

    fn words(&self) -> Result<&RecordBatch> {
        if let Some(words) = self.words.get() {
            return Ok(words);
        }
        let words = self.tokens.clone().to_batch(TokenSetFormat::Arrow).map_err(of_file)?;
        let schema = words.schema();
        let places = [schema.index_of(TOKEN_COL)?, schema.index_of(TOKEN_ID_COL)?];
        let words = words.project(&places)?;
        Ok(self.words.get_or_init(|| words))
    }

    /// How many texts of these fragments no mask hides, and how many words they have.
    fn visible(&self, fragments: &RoaringBitmap, mask: Option<&RowMask>) -> (u64, u64) {
        let of_fragments = self.totals.iter().filter(|(fragment, _)| fragments.contains(**fragment));
        let (mut texts, mut words) = of_fragments.fold((0, 0), |sum, (_, n)| (sum.0 + n.0, sum.1 + n.1));
        let mut from = 0;
        for (fragment, rows) in masked_of(mask, fragments) {
            if !self.totals.contains_key(&fragment) {
                continue;
            }
            for row in rows {
                let address = u64::from(fragment) << 32 | u64::from(row);
                // Masked rows come in the order of addresses, and so do the documents here.
                from = self.first_from(from, address);
                if self.nth(from).is_some_and(|doc| self.addresses[doc] == address) {
                    texts -= 1;
                    words -= self.nth(from).map_or(0, |doc| u64::from(self.lengths[doc]));
                }
            }
        }
        (texts, words)
    }

    /// The document that is `n`th by address.
    fn nth(&self, n: usize) -> Option<usize> {
        match &self.order {
            Some(order) => order.get(n).map(|doc| *doc as usize),
            None => (n < self.addresses.len()).then_some(n),
        }
    }

    /// The first place from `from` on whose address is not before `address`; near ones are found sooner.
    fn first_from(&self, from: usize, address: u64) -> usize {
        let before = |n: usize| self.nth(n).is_some_and(|doc| self.addresses[doc] < address);
        let (mut low, mut step) = (from, 1);
        while before(low + step - 1) {
            low += step;
            step *= 2;
        }
        let mut high = (low + step - 1).min(self.addresses.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if before(middle) { low = middle + 1 } else { high = middle }
        }
        low
    }

    fn rows(
        &self,
        list: &RecordBatch,
        fragments: &RoaringBitmap,
        mask: Option<&RowMask>,
    ) -> Result<Vec<TextPosting>> {
        let broken = || Error::data("a list of a full-text index is not what it should be");
        let score = list.column_by_name(MAX_SCORE_COL).and_then(|c| c.as_primitive_opt::<Float32Type>());
        let length = list.column_by_name(LENGTH_COL).and_then(|c| c.as_primitive_opt::<UInt32Type>());
        let (Some(score), Some(length), 1) = (score, length, list.num_rows()) else { return Err(broken()) };
        let (score, length) = (Some(score.value(0)), Some(length.value(0)));
        let list = PostingList::from_batch_with_tail_codec(list, score, length, self.codec, self.block)
            .map_err(of_file)?;
        let mut out = Vec::with_capacity(list.len());
        let mut last = (u32::MAX, false);
        for (doc, count, _) in list.iter() {
            let doc = usize::try_from(doc).ok().filter(|d| *d < self.addresses.len()).ok_or_else(broken)?;
            let address = self.addresses[doc];
            let fragment = (address >> 32) as u32;
            if last.0 != fragment {
                last = (fragment, fragments.contains(fragment));
            }
            if last.1 && !mask.is_some_and(|m| m.hides(address)) {
                out.push(TextPosting { address, count, length: self.lengths[doc] });
            }
        }
        Ok(out)
    }

    fn bytes(&self) -> usize {
        let words = self.words.get().map_or(0, RecordBatch::get_array_memory_size);
        let order = self.order.as_ref().map_or(0, |o| o.len() * 4);
        self.dictionary_bytes + words + order + self.addresses.len() * 8 + self.lengths.len() * 4
    }
}

/// An error of a file of an index: what it holds is nobody's input.
fn of_file(error: lance::Error) -> Error {
    let error = error::from_lance(error);
    match error.kind() {
        ErrorKind::Invalid => Error::data(error.message().to_owned()).with_source(error),
        _ => error,
    }
}

fn add_to(totals: &mut BTreeMap<u32, (u64, u64)>, part: Option<(u32, (u64, u64))>) {
    if let Some((fragment, (texts, words))) = part {
        let sum = totals.entry(fragment).or_default();
        *sum = (sum.0 + texts, sum.1 + words);
    }
}
