//! Which secret is taken, and how failures look; loopback only.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use datafusion::execution::object_store::ObjectStoreRegistry;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use triune_common::{Error, ErrorKind};
use url::Url;

use super::{StoreLimits, StoreRegistry};
use crate::{Environment, Redacted, SecretSpec, find_error};

const FAST: StoreLimits = StoreLimits {
    connect: Duration::from_secs(1),
    stall: Duration::from_millis(300),
    upload: Duration::from_millis(300),
    request: Duration::from_secs(20),
    retries: 1,
    retry_for: Duration::from_secs(3),
};

fn secret(name: &str, given: &[(&str, &str)]) -> SecretSpec {
    SecretSpec::from_options(name, given.iter().map(|(k, v)| ((*k).to_owned(), Redacted::from(*v))).collect())
        .unwrap()
}

fn registry(variables: &[(&str, &str)]) -> Arc<StoreRegistry> {
    StoreRegistry::with_settings(None, FAST, variables.iter().copied().collect::<Environment>())
}

fn store(registry: &StoreRegistry, url: &str) -> Arc<dyn ObjectStore> {
    registry.get_store(&Url::parse(url).unwrap()).unwrap()
}

fn ours(error: &object_store::Error) -> Error {
    find_error(error).unwrap_or_else(|| panic!("not explained: {error}"))
}

/// Answers every connection with what `answer` makes of the request's head; `None` ends in silence.
fn serve(answer: impl Fn(&str) -> (String, bool) + Send + Sync + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut buffer = [0; 4096];
                while !head.windows(4).any(|w| w == b"\r\n\r\n") {
                    match client.read(&mut buffer) {
                        Ok(n) if n > 0 => head.extend_from_slice(&buffer[..n]),
                        _ => return,
                    }
                }
                let (text, close) = answer(&String::from_utf8_lossy(&head));
                let _ = client.write_all(text.as_bytes());
                if !close {
                    std::thread::sleep(Duration::from_secs(30));
                }
            });
        }
    });
    (address, count)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}", body.len())
}

fn s3_at(address: SocketAddr, name: &str, more: &[(&str, &str)]) -> SecretSpec {
    let endpoint = address.to_string();
    let mut given = vec![
        ("TYPE", "s3"),
        ("KEY_ID", "AKIAX"),
        ("SECRET", "hunter2"),
        ("ENDPOINT", endpoint.as_str()),
        ("USE_SSL", "false"),
    ];
    given.extend_from_slice(more);
    secret(name, &given)
}

#[test]
fn the_longest_scope_wins_then_the_first_name() {
    let r = registry(&[]);
    let s3 = |scope: &'static str| vec![("TYPE", "s3"), ("SCOPE", scope)];
    r.put_secret(secret("b", &s3("s3://lake")));
    r.put_secret(secret("a", &s3("s3://lake")));
    r.put_secret(secret("raw", &s3("s3://lake/raw")));
    r.put_secret(secret("all", &[("TYPE", "s3")]));
    r.put_secret(secret("web", &[("TYPE", "http"), ("BEARER_TOKEN", "t")]));
    let chosen = |url: &str| r.secret_for(&Url::parse(url).unwrap()).map(|s| s.name.clone());
    assert_eq!(chosen("s3://lake/raw/x").as_deref(), Some("raw"));
    assert_eq!(chosen("s3://lake/rawer/x").as_deref(), Some("a"));
    assert_eq!(chosen("s3a://other/x").as_deref(), Some("all"));
    assert_eq!(chosen("https://h/x").as_deref(), Some("web"));
    assert_eq!(chosen("gs://lake/x"), None);
    assert_eq!(chosen("file:///x"), None);
    let e = r.drop_secret("rwa").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
    assert!(e.to_string().contains("did you mean \"raw\"?"), "{e}");
    r.drop_secret("raw").unwrap();
    assert_eq!(chosen("s3://lake/raw/x").as_deref(), Some("a"));
    assert_eq!(r.secrets().len(), 4);
}

#[tokio::test]
async fn each_path_is_asked_with_its_own_secret_and_changes_count_at_once() {
    // The key id is part of the signature's header.
    let (address, _) = serve(|head| {
        let key =
            head.split("Credential=").nth(1).and_then(|c| c.split('/').next()).unwrap_or("none").to_owned();
        (answer("200 OK", "Last-Modified: Tue, 03 Nov 2026 10:00:00 GMT\r\nETag: \"e\"\r\n", &key), true)
    });
    let r = registry(&[]);
    let endpoint = address.to_string();
    let with = |name: &str, key: &str, scope: &str| {
        secret(
            name,
            &[
                ("TYPE", "s3"),
                ("KEY_ID", key),
                ("SECRET", "x"),
                ("ENDPOINT", &endpoint),
                ("USE_SSL", "false"),
                ("SCOPE", scope),
            ],
        )
    };
    r.put_secret(with("wide", "WIDE", "s3://lake"));
    r.put_secret(with("narrow", "NARROW", "s3://lake/raw"));
    let s = store(&r, "s3://lake/raw/a.parquet");
    let read = async |path: &str| {
        String::from_utf8(s.get(&Path::from(path)).await.unwrap().bytes().await.unwrap().to_vec()).unwrap()
    };
    assert_eq!(read("raw/a").await, "NARROW");
    assert_eq!(read("other").await, "WIDE");
    r.put_secret(with("narrow", "CHANGED", "s3://lake/raw"));
    assert_eq!(read("raw/a").await, "CHANGED");
    r.drop_secret("narrow").unwrap();
    assert_eq!(read("raw/a").await, "WIDE");
}

#[tokio::test]
async fn the_environment_is_used_without_a_secret() {
    let (address, _) = serve(|head| {
        let key =
            head.split("Credential=").nth(1).and_then(|c| c.split('/').next()).unwrap_or("none").to_owned();
        (answer("200 OK", "Last-Modified: Tue, 03 Nov 2026 10:00:00 GMT\r\n", &key), true)
    });
    let endpoint = format!("http://{address}");
    let r = registry(&[
        ("AWS_ACCESS_KEY_ID", "FROMENV"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("AWS_ENDPOINT_URL", &endpoint),
        ("AWS_PAGER", "less"),
    ]);
    let got = store(&r, "s3://lake/").get(&Path::from("x")).await.unwrap().bytes().await.unwrap();
    assert_eq!(got.as_ref(), b"FROMENV");
}

#[tokio::test]
async fn a_refusal_names_bucket_and_secret_but_no_value() {
    let body = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message><AWSAccessKeyId>AKIAX</AWSAccessKeyId></Error>";
    let (address, count) = serve(move |_| (answer("403 Forbidden", "", body), true));
    let r = registry(&[]);
    r.put_secret(s3_at(address, "work", &[]));
    let s = store(&r, "s3://lake/");
    for error in [
        s.get(&Path::from("a/b")).await.map(drop).unwrap_err(),
        s.list(Some(&Path::from("a"))).try_collect::<Vec<_>>().await.map(drop).unwrap_err(),
        s.put(&Path::from("a/b"), "x".into()).await.map(drop).unwrap_err(),
    ] {
        let e = ours(&error);
        assert_eq!(e.kind(), ErrorKind::Permission, "{e}");
        assert!(e.message().contains("s3://lake") && e.message().contains("secret \"work\""), "{e}");
        assert!(e.message().contains("AccessDenied"), "{e}");
        let everything = format!("{error} {error:?} {e:?}");
        assert!(!everything.contains("AKIAX") && !everything.contains("hunter2"), "{everything}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 3, "a refusal is not retried");
}

#[tokio::test]
async fn nothing_there_is_not_found() {
    let (address, _) =
        serve(|_| (answer("404 Not Found", "", "<Error><Code>NoSuchKey</Code></Error>"), true));
    let r = registry(&[]);
    r.put_secret(s3_at(address, "work", &[]));
    let error = store(&r, "s3://lake/").get(&Path::from("a b")).await.map(drop).unwrap_err();
    assert!(matches!(error, object_store::Error::NotFound { .. }), "{error:?}");
    assert_eq!(ours(&error).message(), "\"s3://lake/a b\" does not exist");

    let (address, _) =
        serve(|_| (answer("404 Not Found", "", "<Error><Code>NoSuchBucket</Code></Error>"), true));
    r.put_secret(s3_at(address, "work", &[]));
    let s = store(&r, "s3://lake/");
    let error = s.list(None).try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(ours(&error).kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(ours(&error).message(), "bucket s3://lake does not exist");
}

#[tokio::test]
async fn silence_ends_in_bounded_time() {
    // Before the answer.
    let (address, count) = serve(|_| (String::new(), false));
    let r = registry(&[]);
    r.put_secret(s3_at(address, "work", &[]));
    let s = store(&r, "s3://lake/");
    let path = Path::from("x");
    let silent = s.get(&path);
    let error =
        tokio::time::timeout(Duration::from_secs(8), silent).await.expect("bounded").map(drop).unwrap_err();
    let e = ours(&error);
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
    assert!(e.message().contains("stopped answering") && e.message().contains("s3://lake/x"), "{e}");
    assert_eq!(count.load(Ordering::SeqCst), 2, "one retry");

    // In the middle of the answer.
    let (address, _) = serve(|_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nLast-Modified: Tue, 03 Nov 2026 10:00:00 GMT\r\n\
                    ETag: \"e\"\r\n\r\nfirst bytes";
        (head.to_owned(), false)
    });
    r.put_secret(s3_at(address, "work", &[]));
    let reading = async { s.get(&Path::from("x")).await.unwrap().bytes().await };
    let error = tokio::time::timeout(Duration::from_secs(8), reading).await.expect("bounded").unwrap_err();
    assert_eq!(ours(&error).kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let r = registry(&[]);
    r.put_secret(s3_at(port, "work", &[]));
    let error = store(&r, "s3://lake/").head(&Path::from("x")).await.unwrap_err();
    let e = ours(&error);
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
    assert!(e.message().contains("cannot be reached"), "{e}");
}

#[tokio::test]
async fn headers_of_an_http_secret_are_sent() {
    let (address, _) = serve(|head| {
        let sent = head
            .lines()
            .find(|l| l.to_ascii_lowercase().starts_with("authorization"))
            .unwrap_or("none")
            .to_owned();
        (answer("200 OK", "Last-Modified: Tue, 03 Nov 2026 10:00:00 GMT\r\n", &sent), true)
    });
    let r = registry(&[]);
    r.put_secret(secret("web", &[("TYPE", "http"), ("BEARER_TOKEN", "t0ken")]));
    let s = store(&r, &format!("http://{address}/"));
    let got = s.get(&Path::from("x.csv")).await.unwrap().bytes().await.unwrap();
    assert!(String::from_utf8_lossy(&got).ends_with("Bearer t0ken"));
    let error = s.get_range(&Path::from("x.csv"), 0..1).await.unwrap_err();
    assert!(ours(&error).message().contains("cannot send parts"), "{error}");
}

#[tokio::test]
async fn requests_may_run_on_another_runtime() {
    let (address, _) =
        serve(|_| (answer("200 OK", "Last-Modified: Tue, 03 Nov 2026 10:00:00 GMT\r\n", "x"), true));
    let io = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let r = StoreRegistry::with_settings(Some(io.handle().clone()), FAST, Environment::default());
    r.put_secret(s3_at(address, "work", &[]));
    let got = store(&r, "s3://lake/").get(&Path::from("x")).await.unwrap().bytes().await.unwrap();
    assert_eq!(got.as_ref(), b"x");
    io.shutdown_background();
}

#[tokio::test]
async fn local_files_and_unknown_schemes() {
    let r = registry(&[]);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a b%#.txt"), "x").unwrap();
    let path = Path::from_filesystem_path(dir.path().join("a b%#.txt")).unwrap();
    let s = store(&r, "file:///");
    assert_eq!(s.get(&path).await.unwrap().bytes().await.unwrap().as_ref(), b"x");
    let missing = Path::from_absolute_path(dir.path().join("none")).unwrap();
    let error = s.get(&missing).await.map(drop).unwrap_err();
    assert_eq!(ours(&error).message(), format!("\"{}/none\" does not exist", dir.path().display()));
    let e = Error::from(r.get_store(&Url::parse("ftp://h/x").unwrap()).unwrap_err());
    assert!(e.to_string().contains("s3://"), "{e}");
}

#[test]
fn a_secret_that_cannot_work_is_said_at_once() {
    let r = registry(&[]);
    r.put_secret(secret("g", &[("TYPE", "gcs"), ("SERVICE_ACCOUNT_PATH", "/nowhere/key.json")]));
    let e = Error::from(r.get_store(&Url::parse("gs://lake/").unwrap()).unwrap_err());
    assert!(e.message().contains("gs://lake"), "{e}");
    let e = Error::from(registry(&[]).get_store(&Url::parse("az://lake/").unwrap()).unwrap_err());
    assert!(e.to_string().contains("CREATE SECRET"), "{e}");
}

#[test]
fn lance_gets_the_same_credentials() {
    let r = registry(&[
        ("AWS_ACCESS_KEY_ID", "FROMENV"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("AWS_DEFAULT_REGION", "eu-west-1"),
    ]);
    let url = |text: &str| Url::parse(text).unwrap();
    assert!(r.lance_options(&url("file:///x")).unwrap().is_empty());
    let options = r.lance_options(&url("s3://lake/t.lance")).unwrap();
    assert_eq!(options["aws_access_key_id"], "FROMENV");
    assert_eq!(options["aws_region"], "eu-west-1");
    assert_eq!(options["client_max_retries"], "1");
    r.put_secret(secret(
        "work",
        &[
            ("TYPE", "s3"),
            ("KEY_ID", "K"),
            ("SECRET", "S"),
            ("REGION", "us-east-2"),
            ("ENDPOINT", "127.0.0.1:9000"),
            ("USE_SSL", "false"),
            ("URL_STYLE", "vhost"),
        ],
    ));
    let options = r.lance_options(&url("s3://lake/t.lance")).unwrap();
    assert_eq!(options["aws_access_key_id"], "K");
    assert_eq!(options["aws_endpoint"], "http://lake.127.0.0.1:9000");
    assert_eq!(options["aws_allow_http"], "true");
    assert_eq!(options["aws_virtual_hosted_style_request"], "true");
    assert!(!format!("{r:?}").contains("FROMENV"));
    for refused in ["gs://lake/t.lance", "az://c/t.lance", "https://h/t.lance"] {
        assert_eq!(r.lance_options(&url(refused)).unwrap_err().kind(), ErrorKind::Unsupported);
    }
    let mixed = registry(&[("AWS_SESSION_TOKEN", "T")]);
    mixed.put_secret(secret("work", &[("TYPE", "s3"), ("KEY_ID", "K"), ("SECRET", "S")]));
    assert!(mixed.lance_options(&url("s3://lake/t")).unwrap_err().message().contains("AWS_SESSION_TOKEN"));
}
