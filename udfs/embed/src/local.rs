//! A model of a folder, run on the processor.
//!
//! ```text
//!  texts ─▶ tokens, cut at the model's length ─▶ batches of texts with equally many tokens ─▶ BERT ─▶ pooling ─▶ norm
//! ```
//!
//! Only texts with equally many tokens share a batch: nothing is padded, so no work is done for padding, and a vector does
//! not depend on what else was in its batch. A batch has at most [`BATCH_TOKENS`] tokens; its memory is taken from the
//! pool before it begins. As many batches are computed at once as there are threads.

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use futures::{StreamExt, TryStreamExt};
use tokenizers::{Tokenizer, TruncationParams};
use triune_common::{Error, ErrorKind, Result, boxed};

use crate::Embedding;
use crate::folder::{self, Folder, Pooling};
use crate::workers::Workers;

/// Tokens of a batch: enough for the matrices to be large, few enough to stop soon.
const BATCH_TOKENS: usize = 1024;

/// Texts that are made tokens at once.
const TOKENIZED_TEXTS: usize = 256;

/// Weights and tokenizer of a BERT.
pub struct LocalModel {
    bert: BertModel,
    config: Config,
    tokenizer: Tokenizer,
    pooling: Pooling,
    normalise: bool,
    max_tokens: usize,
    workers: Workers,
    pool: Arc<dyn MemoryPool>,
    /// What the weights take.
    _memory: MemoryReservation,
}

impl std::fmt::Debug for LocalModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalModel")
            .field("dimension", &self.config.hidden_size)
            .field("pooling", &self.pooling)
            .field("normalise", &self.normalise)
            .field("max_tokens", &self.max_tokens)
            .finish_non_exhaustive()
    }
}

fn of_candle(what: &str, e: &candle_core::Error) -> Error {
    // A trace of calls may follow.
    let text = e.to_string();
    Error::data(format!("{what}: {}", text.lines().next().unwrap_or_default()))
}

fn reserve(memory: &MemoryReservation, bytes: usize, what: &str) -> Result<()> {
    memory.try_grow(bytes).map_err(|e| {
        Error::new(
            ErrorKind::Resources,
            format!("{what} needs {bytes} bytes, more than there is memory for: {e}"),
        )
        .with_hint("raise memory_limit")
    })
}

impl LocalModel {
    /// Loads a folder (see the table in `folder.rs`), on the threads of `workers`.
    ///
    /// Errors: those of the folder's files; out of resources where the pool has no room for the weights.
    #[boxed]
    pub async fn open(path: &Path, workers: &Workers, pool: &Arc<dyn MemoryPool>) -> Result<Self> {
        let (path, own, pool) = (path.to_owned(), workers.clone(), Arc::clone(pool));
        workers.run(move || Self::load(&path, own, pool)).await
    }

    fn load(path: &Path, workers: Workers, pool: Arc<dyn MemoryPool>) -> Result<Self> {
        let Folder { config, tokenizer, weights, pooling, normalise, max_tokens } = Folder::open(path)?;
        let size = std::fs::metadata(&weights)
            .map_err(|e| Error::new(ErrorKind::Unavailable, format!("{}: {e}", weights.display())))?
            .len();
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let memory = MemoryConsumer::new("weights of a model").register(&pool);
        // The file, and its numbers as 32-bit floats: twice as many where it has 16-bit ones.
        reserve(&memory, size.saturating_mul(3), "loading the weights")?;
        let what = || format!("the weights in {}", weights.display());
        let data = folder::read(&weights)?;
        let variables = VarBuilder::from_buffered_safetensors(data, DType::F32, &Device::Cpu)
            .map_err(|e| of_candle(&what(), &e))?;
        let bert = BertModel::load(variables, &config).map_err(|e| of_candle(&what(), &e))?;
        memory.resize(size);
        let mut tokenizer = Tokenizer::from_bytes(folder::read(&tokenizer)?)
            .map_err(|e| Error::data(format!("{}: {e}", tokenizer.display())))?;
        let truncation = TruncationParams { max_length: max_tokens, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|e| {
            Error::data(format!("the tokenizer cannot cut texts at {max_tokens} tokens: {e}"))
        })?;
        tokenizer.with_padding(None);
        Ok(Self { bert, config, tokenizer, pooling, normalise, max_tokens, workers, pool, _memory: memory })
    }

    pub fn dimension(&self) -> usize {
        self.config.hidden_size
    }

    /// A vector for each text, in their order. A text is cut at the model's length.
    #[boxed]
    pub async fn embed(self: Arc<Self>, texts: &[Arc<str>]) -> Result<Vec<Embedding>> {
        let mut vectors: Vec<Option<Embedding>> = vec![None; texts.len()];
        // What is waiting to be computed is ids of tokens, a few bytes for each of a text's.
        let mut waiting: Vec<(usize, Vec<u32>)> = Vec::with_capacity(texts.len());
        for (n, chunk) in texts.chunks(TOKENIZED_TEXTS).enumerate() {
            let (own, chunk) = (Arc::clone(&self), chunk.to_vec());
            let tokens = self.workers.run(move || own.tokens(&chunk)).await?;
            let first = n * TOKENIZED_TEXTS;
            waiting.extend(tokens.into_iter().enumerate().map(|(i, ids)| (first + i, ids)));
        }
        let batches = batches(waiting);
        let computed = futures::stream::iter(batches)
            .map(|batch| Arc::clone(&self).compute(batch))
            .buffer_unordered(self.workers.count());
        let mut computed = std::pin::pin!(computed);
        while let Some((places, numbers)) = computed.try_next().await? {
            for (place, vector) in places.into_iter().zip(numbers.chunks(self.dimension())) {
                vectors[place] = Some(vector.into());
            }
        }
        vectors.into_iter().collect::<Option<Vec<_>>>().ok_or_else(|| Error::internal("a text has no vector"))
    }

    fn tokens(&self, texts: &[Arc<str>]) -> Result<Vec<Vec<u32>>> {
        let encode = |text: &Arc<str>| {
            let encoded = self.tokenizer.encode_fast(text.as_ref(), true);
            let encoded = encoded.map_err(|e| Error::data(format!("a text cannot be made tokens: {e}")))?;
            let mut ids = encoded.get_ids().to_vec();
            if ids.is_empty() {
                // A tokenizer without tokens at the ends, and an empty text.
                ids.push(u32::try_from(self.config.pad_token_id).unwrap_or_default());
            }
            Ok(ids)
        };
        texts.iter().map(encode).collect()
    }

    /// Computes a batch; the places of its texts and the numbers of their vectors.
    async fn compute(self: Arc<Self>, batch: Batch) -> Result<(Vec<usize>, Vec<f32>)> {
        let memory = MemoryConsumer::new("a batch of texts").register(&self.pool);
        reserve(&memory, self.bytes_of(&batch), "embedding a batch of texts")?;
        let own = Arc::clone(&self);
        let places = batch.places.clone();
        let numbers = self.workers.run(move || {
            let numbers = own.forward(batch).map_err(|e| of_candle("a model cannot be computed", &e));
            drop(memory);
            numbers
        });
        Ok((places, numbers.await?))
    }

    /// Upper bound of what a batch takes at one time.
    fn bytes_of(&self, batch: &Batch) -> usize {
        let Config { hidden_size, intermediate_size, num_attention_heads, .. } = &self.config;
        let (texts, length) = (batch.places.len(), batch.length);
        let by_token = 8 * hidden_size + 3 * intermediate_size;
        let by_pair = 4 * num_attention_heads * length;
        texts * length * (by_token + by_pair) * size_of::<f32>()
    }

    fn forward(&self, batch: Batch) -> candle_core::Result<Vec<f32>> {
        let (texts, length) = (batch.places.len(), batch.length);
        let ids = Tensor::from_vec(batch.ids, (texts, length), &Device::Cpu)?;
        let types = ids.zeros_like()?;
        let tokens = self.bert.forward(&ids, &types, None)?;
        let pooled = match self.pooling {
            Pooling::Mean => (tokens.sum(1)? / length as f64)?,
            Pooling::MeanSqrt => (tokens.sum(1)? / (length as f64).sqrt())?,
            Pooling::First => tokens.narrow(1, 0, 1)?.squeeze(1)?,
            Pooling::Max => tokens.max(1)?,
        };
        let mut numbers = pooled.contiguous()?.flatten_all()?.to_vec1::<f32>()?;
        if self.normalise {
            numbers.chunks_mut(self.dimension()).for_each(normalise);
        }
        Ok(numbers)
    }
}

/// Makes a vector's length 1; zero stays zero.
fn normalise(vector: &mut [f32]) {
    let square: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    let length = square.sqrt().max(1e-12);
    for x in vector {
        *x = (f64::from(*x) / length) as f32;
    }
}

/// Texts with equally many tokens.
#[derive(Debug)]
struct Batch {
    places: Vec<usize>,
    /// The ids of all, one text after the other.
    ids: Vec<u32>,
    length: usize,
}

/// The longest texts first: a batch that is too large for the memory fails before the others are computed.
fn batches(mut texts: Vec<(usize, Vec<u32>)>) -> Vec<Batch> {
    texts.sort_by_key(|(place, ids)| (std::cmp::Reverse(ids.len()), *place));
    let mut made: Vec<Batch> = Vec::new();
    for (place, ids) in texts {
        let length = ids.len();
        match made.last_mut() {
            Some(last) if last.length == length && last.ids.len() + length <= BATCH_TOKENS => {
                last.places.push(place);
                last.ids.extend(ids);
            }
            _ => made.push(Batch { places: vec![place], ids, length }),
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_texts_of_one_length() {
        let texts: Vec<(usize, Vec<u32>)> =
            (0..600).map(|n| (n, vec![u32::try_from(n).unwrap(); 2 + n % 7 * 100])).collect();
        let made = batches(texts.clone());
        let mut seen = vec![false; texts.len()];
        for batch in &made {
            assert!(batch.ids.len() <= BATCH_TOKENS);
            assert_eq!(batch.ids.len(), batch.places.len() * batch.length);
            for (place, ids) in batch.places.iter().zip(batch.ids.chunks(batch.length)) {
                assert_eq!(ids, texts[*place].1);
                assert!(!std::mem::replace(&mut seen[*place], true));
            }
        }
        assert!(seen.iter().all(|s| *s));
        assert!(made.len() < 450, "{}", made.len());
        assert!(made.windows(2).all(|w| w[0].length >= w[1].length));
    }

    #[test]
    fn a_vector_of_zeros_stays_one() {
        let mut zero = [0.0; 3];
        normalise(&mut zero);
        assert_eq!(zero, [0.0; 3]);
        let mut some = [3.0, 0.0, 4.0];
        normalise(&mut some);
        assert_eq!(some, [0.6, 0.0, 0.8]);
    }
}
