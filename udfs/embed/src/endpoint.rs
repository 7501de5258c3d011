//! A server that speaks OpenAI's embeddings format.
//!
//! ```text
//! POST https://api.openai.com/v1/embeddings            {"model": "m", "input": ["a", "b"], "encoding_format": "float"}
//!   ◀── {"data": [{"index": 0, "embedding": [0.1, …]}, {"index": 1, "embedding": […]}], …}
//! ```
//!
//! Texts go in batches, a few at a time. Each request is bounded in time and its answer in size. A server that says 429 or
//! 5xx, or cannot be reached, is asked again after a pause (the one that it names in `Retry-After`, else twice as long each
//! time) until [`EndpointOptions::patience`] is over; one that cannot be reached at all is tried three times. Redirects are not followed: the key is for the server that was named.
//! No error shows the key.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use serde::{Deserialize, Serialize};
use triune_common::{Clock, Error, ErrorKind, Result, boxed};
use url::Url;

use crate::Embedding;

/// Who asks. Asked for each request, so that a changed secret counts at once.
pub trait Credentials: Debug + Send + Sync {
    /// Headers of the request, such as `Authorization`.
    fn headers(&self) -> Result<Vec<(String, String)>>;
}

/// How a pause is made.
#[async_trait]
pub trait Pause: Debug + Send + Sync {
    async fn pause(&self, time: Duration);
}

/// Waits as long as it is told.
#[derive(Debug, Default)]
pub struct SystemPause {}

#[async_trait]
impl Pause for SystemPause {
    async fn pause(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// A server's address and limits.
#[derive(Debug, Clone)]
pub struct EndpointOptions {
    pub url: Url,
    /// What the server calls the model.
    pub model: Option<String>,
    /// `None`: what a first request finds.
    pub dimension: Option<usize>,
    /// For one request, from connecting to the answer's last byte.
    pub timeout: Duration,
    /// For one batch with all its attempts.
    pub patience: Duration,
    /// Texts in one request.
    pub batch: usize,
}

impl EndpointOptions {
    pub fn new(url: Url) -> Self {
        Self {
            url,
            model: None,
            dimension: None,
            timeout: Duration::from_secs(30),
            patience: Duration::from_secs(60),
            batch: 64,
        }
    }
}

/// Bytes of text in one request, unless one text alone has more.
const REQUEST_BYTES: usize = 256 << 10;

/// Requests on their way at one time.
const AT_ONCE: usize = 4;

/// How often a server is tried that cannot be reached at all.
const REACHED_FOR: usize = 3;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A model behind a server.
#[derive(Debug)]
pub struct Endpoint {
    options: EndpointOptions,
    dimension: usize,
    credentials: Arc<dyn Credentials>,
    client: Client,
    clock: Arc<dyn Clock>,
    pause: Arc<dyn Pause>,
}

#[derive(Serialize)]
struct Request<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    input: &'a [Arc<str>],
    encoding_format: &'static str,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    index: usize,
    embedding: Vec<f32>,
}

/// Why a request failed, and whether it may be asked again.
struct Failed {
    error: Error,
    again: bool,
    /// Whether there was no answer of any kind.
    silent: bool,
    after: Option<Duration>,
}

impl Failed {
    fn finally(error: Error) -> Self {
        Self { error, again: false, silent: false, after: None }
    }
}

impl Endpoint {
    /// An endpoint; where no dimension is given, the server is asked for one text's vector.
    #[boxed]
    pub async fn open(
        options: EndpointOptions,
        credentials: Arc<dyn Credentials>,
        clock: Arc<dyn Clock>,
        pause: Arc<dyn Pause>,
    ) -> Result<Self> {
        if !matches!(options.url.scheme(), "http" | "https") {
            return Err(Error::invalid(format!("a model is asked for over HTTP, not at {}", options.url)));
        }
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(options.timeout)
            .connect_timeout(options.timeout.min(Duration::from_secs(10)))
            .build()
            .map_err(|e| Error::internal(format!("no HTTP client can be made: {}", e.without_url())))?;
        let dimension = options.dimension;
        let mut this = Self { options, dimension: dimension.unwrap_or(0), credentials, client, clock, pause };
        if dimension.is_none() {
            let probe: Arc<str> = Arc::from("dimension");
            let vectors = this.batch(std::slice::from_ref(&probe)).await?;
            this.dimension = vectors.first().map_or(0, |v| v.len());
        }
        Ok(this)
    }

    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// A vector for each text, in their order.
    #[boxed]
    pub async fn embed(&self, texts: &[Arc<str>]) -> Result<Vec<Embedding>> {
        // Each is a type of its own: the compiler would ask too much of one over all lifetimes.
        let asked: Vec<BoxFuture<'_, Result<Vec<Embedding>>>> =
            self.parts(texts).into_iter().map(|part| self.batch(part).boxed()).collect();
        let parts: Vec<Vec<Embedding>> = futures::stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// Texts that go together.
    fn parts<'a>(&self, texts: &'a [Arc<str>]) -> Vec<&'a [Arc<str>]> {
        let (mut parts, mut start, mut bytes) = (Vec::new(), 0, 0);
        for (at, text) in texts.iter().enumerate() {
            if at > start && (at - start >= self.options.batch.max(1) || bytes + text.len() > REQUEST_BYTES) {
                parts.push(&texts[start..at]);
                (start, bytes) = (at, 0);
            }
            bytes += text.len();
        }
        if start < texts.len() {
            parts.push(&texts[start..]);
        }
        parts
    }

    /// One batch, with all its attempts.
    async fn batch(&self, texts: &[Arc<str>]) -> Result<Vec<Embedding>> {
        let begun = self.clock.elapsed();
        let mut pause = FIRST_PAUSE;
        let mut silent = 0;
        loop {
            let failed = match self.attempt(texts).await {
                Ok(vectors) => return Ok(vectors),
                Err(failed) => failed,
            };
            let wait = failed.after.unwrap_or(pause);
            let spent = self.clock.elapsed().saturating_sub(begun);
            silent = if failed.silent { silent + 1 } else { 0 };
            if !failed.again || silent >= REACHED_FOR || spent + wait > self.options.patience {
                return Err(failed.error);
            }
            self.pause.pause(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&self, texts: &[Arc<str>]) -> Result<Vec<Embedding>, Failed> {
        let headers = self.credentials.headers().map_err(Failed::finally)?;
        let secrets: Vec<String> = headers.iter().map(|(_, value)| value.clone()).collect();
        let request =
            Request { model: self.options.model.as_deref(), input: texts, encoding_format: "float" };
        let sent = self.client.post(self.options.url.clone()).headers(header_map(&headers)?).json(&request);
        let response = sent.send().await.map_err(|e| self.unreachable(&e))?;
        let status = response.status();
        if !status.is_success() {
            return Err(self.refused(status, response, &secrets).await);
        }
        let body = self.body(response, texts.len()).await?;
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|e| self.wrong(&format!("no embeddings in OpenAI's format: {e}")))?;
        self.vectors(answer, texts.len())
    }

    fn vectors(&self, answer: Answer, texts: usize) -> Result<Vec<Embedding>, Failed> {
        let mut vectors: Vec<Option<Embedding>> = vec![None; texts];
        for Item { index, embedding } in answer.data {
            let expected = if self.dimension == 0 { embedding.len() } else { self.dimension };
            if embedding.len() != expected || embedding.is_empty() {
                return Err(self.wrong(&format!("{} dimensions instead of {expected}", embedding.len())));
            }
            if embedding.iter().any(|x| !x.is_finite()) {
                return Err(self.wrong("a vector with a number that is none"));
            }
            match vectors.get_mut(index) {
                Some(place @ None) => *place = Some(embedding.into()),
                _ => {
                    return Err(
                        self.wrong(&format!("a vector for text {index} of {texts}, once more or too many"))
                    );
                }
            }
        }
        let all: Option<Vec<Embedding>> = vectors.into_iter().collect();
        all.ok_or_else(|| self.wrong(&format!("fewer than {texts} vectors")))
    }

    /// Reads an answer that is as long as it may be and no longer.
    async fn body(&self, mut response: Response, texts: usize) -> Result<Vec<u8>, Failed> {
        // A number takes some twenty characters, and a server may say more besides.
        let dimension = if self.dimension == 0 { triune_vector::types::MAX_DIMS } else { self.dimension };
        let most = (1 << 20) + texts * (dimension * 32 + 1024);
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|e| self.unreachable(&e))? {
            if body.len() + part.len() > most {
                return Err(self.wrong(&format!("an answer of more than {most} bytes")));
            }
            body.extend_from_slice(&part);
        }
        Ok(body)
    }

    fn place(&self) -> String {
        // A user's name and password may be in it.
        let mut url = self.options.url.clone();
        let _ = url.set_password(None);
        let _ = url.set_username("");
        url.set_query(None);
        url.to_string()
    }

    fn wrong(&self, what: &str) -> Failed {
        Failed::finally(Error::data(format!("the model at {} answered with {what}", self.place())))
    }

    fn unreachable(&self, e: &reqwest::Error) -> Failed {
        let what = if e.is_timeout() {
            format!("did not answer within {:?}", self.options.timeout)
        } else if e.is_connect() {
            "cannot be reached".to_owned()
        } else {
            "broke the connection off".to_owned()
        };
        let error = Error::new(ErrorKind::Unavailable, format!("the model at {} {what}", self.place()));
        Failed { error, again: true, silent: true, after: None }
    }

    async fn refused(&self, status: StatusCode, response: Response, secrets: &[String]) -> Failed {
        let after = response
            .headers()
            .get("retry-after")
            .and_then(|v| v.to_str().ok()?.trim().parse::<u64>().ok())
            .map(Duration::from_secs);
        let said = match self.body(response, 0).await {
            Ok(body) => message_of(&body, secrets),
            Err(_) => String::new(),
        };
        let again = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
        let kind = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::Permission,
            StatusCode::NOT_FOUND => ErrorKind::NotFound,
            _ if again => ErrorKind::Unavailable,
            _ => ErrorKind::Invalid,
        };
        let said = if said.is_empty() { said } else { format!(": {said}") };
        let error =
            Error::new(kind, format!("the model at {} answers {}{said}", self.place(), status.as_u16()));
        Failed { error, again, silent: false, after }
    }
}

fn header_map(headers: &[(String, String)]) -> Result<HeaderMap, Failed> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        // The value is not in the message.
        let wrong = || {
            Failed::finally(Error::invalid(format!("the header {name} has a value that HTTP cannot send")))
        };
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        map.insert(key, value);
    }
    Ok(map)
}

/// What a server says of an error, short and without anything that was secret.
fn message_of(body: &[u8], secrets: &[String]) -> String {
    const LONGEST: usize = 200;
    let text = String::from_utf8_lossy(body);
    let json: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let said = json.as_ref().and_then(|j| {
        let error = j.get("error").unwrap_or(j);
        error.get("message").unwrap_or(error).as_str()
    });
    let mut said = said.map_or_else(|| text.trim().to_owned(), str::to_owned);
    for secret in secrets {
        // `Bearer …`: servers repeat what follows.
        for part in secret.split_whitespace().filter(|p| p.len() > 6) {
            said = said.replace(part, "***");
        }
    }
    let said: String = said.split_whitespace().collect::<Vec<_>>().join(" ");
    match said.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &said[..at]),
        None => said,
    }
}

#[cfg(test)]
mod tests;
