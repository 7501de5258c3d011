//! The beginning of a text file, decompressed.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore};

/// A single record longer than this is not looked through to its end.
const MAX_HEAD: usize = 64 << 20;

pub(crate) struct Head {
    pub(crate) bytes: Vec<u8>,
    /// Whether this is the whole file.
    pub(crate) complete: bool,
}

/// The decompressed contents of an object, piece by piece.
pub(crate) async fn contents(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    compression: FileCompressionType,
    options: GetOptions,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    let stream = store.get_opts(path, options).await?.into_stream().map_err(DataFusionError::from).boxed();
    compression.convert_stream(stream)
}

/// Reads until `enough` says so of everything read so far, or to the end.
pub(crate) async fn read_head(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    compression: FileCompressionType,
    mut enough: impl FnMut(&[u8]) -> bool,
) -> Result<Head> {
    let mut stream = contents(store, path, compression, GetOptions::default()).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await.transpose()? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() >= MAX_HEAD || enough(&bytes) {
            return Ok(Head { bytes, complete: false });
        }
    }
    Ok(Head { bytes, complete: true })
}
