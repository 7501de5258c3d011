//! A store that stops answering ends in an error, in bounded time.
//!
//! ```text
//!  request ──▶ [ first byte of the answer within `stall`; within `upload` when something is sent ]
//!          ◀── [ every further piece within `stall` ]      else HttpErrorKind::Timeout, which is retried
//! ```
//!
//! A limit on the whole request cannot tell a large object on a slow line from a dead server; this one
//! only counts silence. After `retries` attempts, or `retry_for` altogether, the error is final.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService, ReqwestConnector, SpawnedReqwestConnector,
};
use tokio::runtime::Handle;
use tokio::time::Sleep;

/// The server was silent for longer than it may.
#[derive(Debug)]
pub(crate) struct Stalled(Duration);

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer for {:?}", self.0)
    }
}

impl std::error::Error for Stalled {}

fn stalled(limit: Duration) -> HttpError {
    HttpError::new(HttpErrorKind::Timeout, Stalled(limit))
}

/// Makes HTTP clients whose requests run on `io`, when given, and are bounded.
#[derive(Debug, Clone)]
pub(crate) struct BoundedConnector {
    pub(crate) io: Option<Handle>,
    pub(crate) stall: Duration,
    pub(crate) upload: Duration,
}

impl HttpConnector for BoundedConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = match &self.io {
            Some(io) => SpawnedReqwestConnector::new(io.clone()).connect(options)?,
            None => ReqwestConnector::default().connect(options)?,
        };
        Ok(HttpClient::new(BoundedService { inner, stall: self.stall, upload: self.upload }))
    }
}

#[derive(Debug)]
struct BoundedService {
    inner: HttpClient,
    stall: Duration,
    upload: Duration,
}

#[async_trait]
impl HttpService for BoundedService {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let limit = if request.body().content_length() > 0 { self.upload } else { self.stall };
        let response =
            tokio::time::timeout(limit, self.inner.execute(request)).await.map_err(|_| stalled(limit))??;
        let (parts, body) = response.into_parts();
        Ok(HttpResponse::from_parts(
            parts,
            HttpResponseBody::new(BoundedBody { inner: body, limit: self.stall, timer: None }),
        ))
    }
}

/// An answer whose pieces each have to come in time. The clock runs only while a piece is waited for: a
/// reader that pauses does not fail the request.
struct BoundedBody {
    inner: HttpResponseBody,
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Body for BoundedBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            this.timer = None;
            return Poll::Ready(frame);
        }
        let limit = this.limit;
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => {
                this.timer = None;
                Poll::Ready(Some(Err(stalled(limit))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
