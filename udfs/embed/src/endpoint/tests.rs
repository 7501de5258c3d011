use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use triune_common::ManualClock;

use super::*;

#[derive(Debug)]
struct Key(&'static str);

impl Credentials for Key {
    fn headers(&self) -> Result<Vec<(String, String)>> {
        Ok(vec![("Authorization".to_owned(), format!("Bearer {}", self.0))])
    }
}

/// Moves a clock instead of waiting.
#[derive(Debug, Default)]
struct Skip {
    clock: Arc<ManualClock>,
    waited: Mutex<Vec<Duration>>,
}

#[async_trait]
impl Pause for Skip {
    async fn pause(&self, time: Duration) {
        self.waited.lock().push(time);
        self.clock.advance(time);
    }
}

/// Answers requests on loopback: `answer` gets the number of the request and its texts.
async fn serve(
    answer: impl Fn(usize, Vec<String>) -> (u16, &'static str, String) + Send + Sync + 'static,
) -> (Url, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/v1/embeddings", listener.local_addr().unwrap())).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (log, number) = (Arc::clone(&seen), AtomicUsize::new(0));
    // It ends with the test's runtime.
    #[expect(clippy::disallowed_methods, reason = "a server of a test")]
    tokio::task::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            let (head, length) = loop {
                let mut part = [0; 4096];
                let n = stream.read(&mut part).await.unwrap();
                bytes.extend_from_slice(&part[..n]);
                if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                    let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
                    let length = head.lines().find_map(|l| {
                        l.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
                    });
                    break (head, at + 4 + length.unwrap());
                }
            };
            while bytes.len() < length {
                let mut part = [0; 4096];
                let n = stream.read(&mut part).await.unwrap();
                bytes.extend_from_slice(&part[..n]);
            }
            let body = String::from_utf8_lossy(&bytes[head.len() + 4..]).into_owned();
            let json: serde_json::Value = serde_json::from_str(&body).unwrap();
            let texts = json["input"].as_array().unwrap().iter().map(|t| t.as_str().unwrap().to_owned());
            log.lock().push(format!("{head}\n{body}"));
            let (status, header, body) = answer(number.fetch_add(1, Ordering::SeqCst), texts.collect());
            let answer = format!(
                "HTTP/1.1 {status} X\r\n{header}content-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (url, seen)
}

fn vectors(texts: &[String]) -> String {
    // In another order than they were asked for.
    let items: Vec<String> = texts
        .iter()
        .enumerate()
        .rev()
        .map(|(i, t)| format!(r#"{{"object":"embedding","index":{i},"embedding":[{}, 0.5]}}"#, t.len()))
        .collect();
    format!(r#"{{"object":"list","data":[{}],"model":"m"}}"#, items.join(","))
}

async fn open(url: Url, change: impl FnOnce(&mut EndpointOptions)) -> (Result<Endpoint>, Arc<Skip>) {
    let mut options = EndpointOptions::new(url);
    options.dimension = Some(2);
    change(&mut options);
    let skip = Arc::new(Skip::default());
    let clock = Arc::clone(&skip.clock) as Arc<dyn Clock>;
    let key = Arc::new(Key("sk-very-secret"));
    (Endpoint::open(options, key, clock, Arc::clone(&skip) as Arc<dyn Pause>).await, skip)
}

fn texts(n: usize) -> Vec<Arc<str>> {
    (0..n).map(|i| Arc::from("x".repeat(i % 9))).collect()
}

#[tokio::test]
async fn batches_come_back_in_order() {
    let (url, seen) = serve(|_, texts| (200, "", vectors(&texts))).await;
    let (endpoint, skip) = open(url, |o| {
        o.batch = 7;
        o.model = Some("small".to_owned());
        o.dimension = None;
    })
    .await;
    let endpoint = endpoint.unwrap();
    assert_eq!(endpoint.dimension(), 2);
    let asked = texts(50);
    let found = endpoint.embed(&asked).await.unwrap();
    assert_eq!(found.len(), 50);
    for (text, vector) in asked.iter().zip(&found) {
        assert_eq!(vector.as_ref(), [text.len() as f32, 0.5]);
    }
    let seen = seen.lock();
    assert_eq!(seen.len(), 1 + 8, "one to find the dimension, then 50 in sevens");
    assert!(seen.iter().all(|r| r.contains("authorization: Bearer sk-very-secret")), "{}", seen[0]);
    assert!(seen.iter().all(|r| r.contains(r#""model":"small""#)));
    assert!(skip.waited.lock().is_empty());
}

#[tokio::test]
async fn a_busy_server_is_asked_again_until_patience_ends() {
    let (url, _) = serve(|n, texts| match n {
        0 => (429, "retry-after: 7\r\n", String::new()),
        1 => (503, "", "overloaded".to_owned()),
        2 => (500, "", String::new()),
        _ => (200, "", vectors(&texts)),
    })
    .await;
    let (endpoint, skip) = open(url, |_| {}).await;
    assert_eq!(endpoint.unwrap().embed(&texts(3)).await.unwrap().len(), 3);
    let waited: Vec<f64> = skip.waited.lock().iter().map(Duration::as_secs_f64).collect();
    assert_eq!(waited, [7.0, 1.0, 2.0]);

    let (url, seen) = serve(|_, _| (503, "", r#"{"error": {"message": "try later"}}"#.to_owned())).await;
    let (endpoint, skip) = open(url, |o| o.patience = Duration::from_secs(20)).await;
    let error = endpoint.unwrap().embed(&texts(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().ends_with("answers 503: try later"), "{error}");
    assert!(skip.clock.elapsed() <= Duration::from_secs(20));
    assert_eq!(seen.lock().len(), 6, "after 0.5, 1, 2, 4 and 8 seconds");
}

#[tokio::test]
async fn what_cannot_be_right_is_not_asked_again() {
    let cases: [(u16, &str, ErrorKind, &str); 7] = [
        (
            401,
            r#"{"error": {"message": "wrong key sk-very-secret"}}"#,
            ErrorKind::Permission,
            "wrong key ***",
        ),
        (400, "no such model", ErrorKind::Invalid, "no such model"),
        (302, "", ErrorKind::Invalid, "answers 302"),
        (200, "hello", ErrorKind::Data, "OpenAI's format"),
        (200, r#"{"data": []}"#, ErrorKind::Data, "fewer than 1 vectors"),
        (200, r#"{"data": [{"index": 0, "embedding": [1]}]}"#, ErrorKind::Data, "1 dimensions instead of 2"),
        (200, r#"{"data": [{"index": 1, "embedding": [1, 2]}]}"#, ErrorKind::Data, "text 1 of 1"),
    ];
    for (status, body, kind, says) in cases {
        let (url, seen) =
            serve(move |_, _| (status, "location: http://127.0.0.1:1/\r\n", body.to_owned())).await;
        let (endpoint, skip) = open(url, |_| {}).await;
        let error = endpoint.unwrap().embed(&texts(1)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(says), "{error}");
        assert!(!error.to_string().contains("sk-very-secret"), "{error}");
        assert_eq!(seen.lock().len(), 1);
        assert!(skip.waited.lock().is_empty());
    }
}

#[tokio::test]
async fn an_answer_without_end_and_no_server_at_all() {
    let (url, _) = serve(|_, _| (200, "", "9".repeat(5 << 20))).await;
    let (endpoint, _) = open(url, |_| {}).await;
    let error = endpoint.unwrap().embed(&texts(1)).await.unwrap_err();
    assert!(error.message().contains("an answer of more than"), "{error}");

    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (endpoint, skip) = open(Url::parse(&format!("http://me:secret@{free}/")).unwrap(), |o| {
        o.patience = Duration::from_secs(3)
    })
    .await;
    let error = endpoint.unwrap().embed(&texts(1)).await.unwrap_err();
    assert_eq!(error.message(), format!("the model at http://{free}/ cannot be reached"));
    assert_eq!(skip.waited.lock().len(), 2);
}
