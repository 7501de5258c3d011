//! The store of one bucket: each request goes out with the secret that covers its path.
//!
//! DataFusion knows stores by scheme and host only, so a secret that is for a part of a bucket can be
//! chosen no earlier than here.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    RenameOptions, Result, UploadPart,
};
use url::Url;

use crate::errors::{Place, explain};
use crate::registry::Shared;

/// Requests in flight when many objects are deleted.
const DELETES_AT_ONCE: usize = 16;

#[derive(Clone)]
pub(crate) struct RoutedStore {
    shared: Arc<Shared>,
    base: Url,
    key: String,
}

impl RoutedStore {
    pub(crate) fn new(shared: Arc<Shared>, base: Url, key: String) -> Self {
        Self { shared, base, key }
    }

    /// Builds the client for the top of the bucket, to fail early when it cannot be built at all.
    pub(crate) fn check(&self) -> triune_common::Result<()> {
        self.shared.client(&self.base, &self.key, "").map(|_| ())
    }

    fn client(&self, path: &Path) -> Result<(Arc<dyn ObjectStore>, Place)> {
        self.shared
            .client(&self.base, &self.key, path.as_ref())
            .map_err(|e| StoreError::Generic { store: "store", source: Box::new(e) })
    }

    fn prefix(prefix: Option<&Path>) -> Path {
        prefix.cloned().unwrap_or_default()
    }
}

#[async_trait]
impl ObjectStore for RoutedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let (client, place) = self.client(location)?;
        client
            .put_opts(location, payload, opts)
            .await
            .map_err(|e| explain(e, &place, "write", location.as_ref()))
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let (client, place) = self.client(location)?;
        match client.put_multipart_opts(location, opts).await {
            Ok(inner) => {
                Ok(Box::new(RoutedUpload { inner, place: Arc::new(place), location: location.clone() }))
            }
            Err(e) => Err(explain(e, &place, "write", location.as_ref())),
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (client, place) = self.client(location)?;
        let mut result = client
            .get_opts(location, options)
            .await
            .map_err(|e| explain(e, &place, "read", location.as_ref()))?;
        // A local file stays a file, so that readers may use it directly.
        if let GetResultPayload::Stream(stream) = result.payload {
            let location = location.clone();
            result.payload = GetResultPayload::Stream(
                stream.map_err(move |e| explain(e, &place, "read", location.as_ref())).boxed(),
            );
        }
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (client, place) = self.client(location)?;
        client.get_ranges(location, ranges).await.map_err(|e| explain(e, &place, "read", location.as_ref()))
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .map(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    let (client, place) = this.client(&location)?;
                    client
                        .delete(&location)
                        .await
                        .map_err(|e| explain(e, &place, "delete", location.as_ref()))?;
                    Ok(location)
                }
            })
            .buffered(DELETES_AT_ONCE)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let at = Self::prefix(prefix);
        match self.client(&at) {
            Ok((client, place)) => {
                client.list(prefix).map_err(move |e| explain(e, &place, "list", at.as_ref())).boxed()
            }
            Err(e) => futures::stream::once(futures::future::ready(Err(e))).boxed(),
        }
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let at = Self::prefix(prefix);
        match self.client(&at) {
            Ok((client, place)) => client
                .list_with_offset(prefix, offset)
                .map_err(move |e| explain(e, &place, "list", at.as_ref()))
                .boxed(),
            Err(e) => futures::stream::once(futures::future::ready(Err(e))).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let at = Self::prefix(prefix);
        let (client, place) = self.client(&at)?;
        client.list_with_delimiter(prefix).await.map_err(|e| explain(e, &place, "list", at.as_ref()))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        // The target's rights decide; a secret for the source alone could not write there.
        let (client, place) = self.client(to)?;
        client.copy_opts(from, to, options).await.map_err(|e| explain(e, &place, "copy to", to.as_ref()))
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let (client, place) = self.client(to)?;
        client.rename_opts(from, to, options).await.map_err(|e| explain(e, &place, "rename to", to.as_ref()))
    }
}

impl fmt::Display for RoutedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)
    }
}

impl fmt::Debug for RoutedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RoutedStore").field(&self.key).finish()
    }
}

#[derive(Debug)]
struct RoutedUpload {
    inner: Box<dyn MultipartUpload>,
    place: Arc<Place>,
    location: Path,
}

#[async_trait]
impl MultipartUpload for RoutedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let place = Arc::clone(&self.place);
        let location = self.location.clone();
        self.inner
            .put_part(data)
            .map(move |r| r.map_err(|e| explain(e, &place, "write", location.as_ref())))
            .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.inner.complete().await.map_err(|e| explain(e, &self.place, "write", self.location.as_ref()))
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await.map_err(|e| explain(e, &self.place, "delete", self.location.as_ref()))
    }
}
