//! Arrow IPC: the file format (`.arrow`, Feather 2) and the stream format (`.arrows`), told apart by their first
//! bytes, whatever the name.
//!
//! ```text
//!  file:   ARROW1 ‖ batches … ‖ footer (schema, where the batches are) ‖ length ‖ ARROW1
//!                    └─ fetched one after the other, the next while this one is decoded; parts of a file possible
//!  stream: schema ‖ batches …   from start to end
//! ```
//!
//! Memory: two batches as they are in the file. Fields keep their metadata, so vectors come back as vectors.
//! What a broken file says about itself is checked before it is believed.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{FileDecoder, StreamDecoder, read_footer_length};
use arrow::ipc::{Block, root_as_footer};
use bytes::Bytes;
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::align::Aligner;
use crate::errors::{bad_file, of_file};
use crate::sample::contents;
use crate::source::{Batches, FileReader, ReadJob};

const MAGIC: &[u8] = b"ARROW1";
/// Length of the footer and the magic after it.
const TAIL: u64 = 10;
/// A schema in front of a stream is not longer than this.
const MAX_SCHEMA: usize = 64 << 20;

/// The schema of a file of either format.
pub(crate) async fn infer(
    store: &Arc<dyn ObjectStore>,
    meta: &ObjectMeta,
    name: &str,
) -> triune_common::Result<Schema> {
    let found = async {
        match is_file_format(store, meta).await? {
            true => Ok::<_, DataFusionError>(Footer::read(store, meta, name).await?.schema),
            false => stream_schema(store, &meta.location, name).await,
        }
    };
    let schema = found.await.map_err(|e| of_file(name, e))?;
    Ok(schema.as_ref().clone())
}

async fn is_file_format(store: &Arc<dyn ObjectStore>, meta: &ObjectMeta) -> Result<bool> {
    let start = store.get_range(&meta.location, 0..meta.size.min(MAGIC.len() as u64)).await?;
    Ok(start.as_ref() == MAGIC)
}

async fn stream_schema(store: &Arc<dyn ObjectStore>, path: &Path, name: &str) -> Result<SchemaRef> {
    let mut pieces = contents(store, path, FileCompressionType::UNCOMPRESSED, GetOptions::default()).await?;
    let mut decoder = StreamDecoder::new();
    let mut read = 0;
    while let Some(piece) = pieces.next().await.transpose()? {
        read += piece.len();
        let mut buffer = Buffer::from(piece);
        while !buffer.is_empty() && decoder.schema().is_none() {
            guarded(|| decoder.decode(&mut buffer))?;
        }
        if let Some(schema) = decoder.schema() {
            return Ok(schema);
        }
        if read > MAX_SCHEMA {
            break;
        }
    }
    Err(bad_file(name, "it is no Arrow file: neither the magic ARROW1 nor a stream's schema is at its start")
        .into())
}

/// Arrow's decoders assert what a sound file fulfils; a broken one must not end the process.
fn guarded<T>(work: impl FnOnce() -> std::result::Result<T, ArrowError>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => Ok(done?),
        Err(_) => Err(DataFusionError::from(ArrowError::IpcError("the file is corrupt".to_owned()))),
    }
}

/// What stands at the end of a file of the file format.
struct Footer {
    schema: SchemaRef,
    decoder: FileDecoder,
    dictionaries: Vec<Block>,
    batches: Vec<Block>,
}

impl Footer {
    async fn read(store: &Arc<dyn ObjectStore>, meta: &ObjectMeta, name: &str) -> Result<Self> {
        let size = meta.size;
        let torn =
            |what: &str| DataFusionError::from(bad_file(name, format!("the Arrow file is broken: {what}")));
        let head = MAGIC.len() as u64 + 2;
        if size < head + TAIL {
            return Err(torn("it ends before its footer"));
        }
        let tail = store.get_range(&meta.location, size - TAIL..size).await?;
        let tail: [u8; 10] = tail.as_ref().try_into().map_err(|_| torn("it ends before its footer"))?;
        let length =
            read_footer_length(tail).map_err(|_| torn("its end has no footer; it may have been cut off"))?;
        let length = length as u64;
        if length > size - head - TAIL {
            return Err(torn("its footer is longer than the file"));
        }
        let bytes = store.get_range(&meta.location, size - TAIL - length..size - TAIL).await?;
        let footer = root_as_footer(&bytes).map_err(|e| torn(&format!("its footer cannot be read ({e})")))?;
        let schema = footer.schema().ok_or_else(|| torn("its footer has no schema"))?;
        let schema: SchemaRef = Arc::new(guarded(|| Ok(fb_to_schema(schema)))?);
        let this = Self {
            decoder: FileDecoder::new(Arc::clone(&schema), footer.version()),
            dictionaries: footer.dictionaries().iter().flatten().copied().collect(),
            batches: footer.recordBatches().iter().flatten().copied().collect(),
            schema,
        };
        for block in this.dictionaries.iter().chain(&this.batches) {
            if block_range(block).is_none_or(|r| r.end > size) {
                return Err(torn("its footer points outside of the file"));
            }
        }
        Ok(this)
    }
}

fn block_range(block: &Block) -> Option<Range<u64>> {
    let start = u64::try_from(block.offset()).ok()?;
    let length = u64::try_from(block.metaDataLength()).ok()? + u64::try_from(block.bodyLength()).ok()?;
    Some(start..start.checked_add(length)?)
}

/// Reads the Arrow files of one table.
#[derive(Debug)]
pub(crate) struct ArrowReader;

impl FileReader for ArrowReader {
    fn name(&self) -> &'static str {
        "arrow"
    }

    fn splittable(&self) -> bool {
        true
    }

    fn read(&self, job: ReadJob) -> BoxFuture<'static, Result<Batches>> {
        async move {
            if is_file_format(&job.store, &job.file.object_meta).await? {
                read_file(job).await
            } else {
                read_stream(job).await
            }
        }
        .boxed()
    }
}

async fn read_file(job: ReadJob) -> Result<Batches> {
    let path = job.file.path().clone();
    let footer = Footer::read(&job.store, &job.file.object_meta, &job.name).await?;
    let projection: Vec<usize> =
        job.wanted.fields().iter().filter_map(|f| footer.schema.index_of(f.name()).ok()).collect();
    let projected = footer.schema.project(&projection)?;
    let mut decoder = footer.decoder.with_projection(projection);
    for block in &footer.dictionaries {
        let bytes = fetch(&job.store, &path, block).await?;
        guarded(|| decoder.read_dictionary(block, &bytes))?;
    }
    // A part of a file has the batches that begin in it.
    let part = job.file.range.clone();
    let mine: Vec<Block> = footer
        .batches
        .into_iter()
        .filter(|b| part.as_ref().is_none_or(|r| (r.start..r.end).contains(&b.offset())))
        .collect();
    let aligner = Aligner::new(&projected, Arc::clone(&job.wanted));
    let store = Arc::clone(&job.store);
    let scanned = job.scanned.clone();
    Ok(futures::stream::iter(mine)
        .map(move |block| {
            let store = Arc::clone(&store);
            let path = path.clone();
            async move { fetch(&store, &path, &block).await.map(|bytes| (block, bytes)) }
        })
        .buffered(2)
        .try_filter_map(move |(block, bytes)| {
            scanned.add(bytes.len());
            let decoded = guarded(|| decoder.read_record_batch(&block, &bytes));
            let aligned = decoded.and_then(|b| b.map(|b| Ok(aligner.apply(&b)?)).transpose());
            futures::future::ready(aligned)
        })
        .boxed())
}

async fn fetch(store: &Arc<dyn ObjectStore>, path: &Path, block: &Block) -> Result<Buffer> {
    let range = block_range(block).ok_or_else(|| ArrowError::IpcError("the file is corrupt".to_owned()))?;
    let bytes: Bytes = store.get_range(path, range).await?;
    Ok(Buffer::from(bytes))
}

async fn read_stream(job: ReadJob) -> Result<Batches> {
    // A stream is read from its start: the part with the first byte reads all of it.
    if job.file.range.as_ref().is_some_and(|r| r.start > 0) {
        return Ok(futures::stream::empty().boxed());
    }
    let pieces =
        contents(&job.store, job.file.path(), FileCompressionType::UNCOMPRESSED, GetOptions::default())
            .await?;
    struct Feed {
        pieces: futures::stream::BoxStream<'static, Result<Bytes>>,
        decoder: StreamDecoder,
        buffer: Buffer,
        aligner: Option<Aligner>,
        job: ReadJob,
    }
    let feed = Feed {
        pieces,
        decoder: StreamDecoder::new(),
        buffer: Buffer::from(Bytes::new()),
        aligner: None,
        job,
    };
    Ok(futures::stream::try_unfold(feed, |mut feed| async move {
        loop {
            if feed.buffer.is_empty() {
                match feed.pieces.next().await.transpose()? {
                    Some(piece) => {
                        feed.job.scanned.add(piece.len());
                        feed.buffer = Buffer::from(piece);
                    }
                    None => {
                        guarded(|| feed.decoder.finish())?;
                        return Ok(None);
                    }
                }
            }
            let decoded: Option<RecordBatch> = guarded(|| feed.decoder.decode(&mut feed.buffer))?;
            if let Some(batch) = decoded {
                let wanted = &feed.job.wanted;
                let aligner =
                    feed.aligner.get_or_insert_with(|| Aligner::new(&batch.schema(), Arc::clone(wanted)));
                return Ok(Some((aligner.apply(&batch)?, feed)));
            }
        }
    })
    .boxed())
}
