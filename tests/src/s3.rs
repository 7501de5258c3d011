//! A real S3 server on loopback, and one that misbehaves.
//!
//! ```no_run
//! let s3 = triune_tests::s3::S3Server::start()?;      // moto, from .venv at the root of the repository
//! s3.create_bucket("lake")?;
//! let sql = s3.create_secret_sql("test");             // CREATE SECRET test (TYPE s3, ENDPOINT '127.0.0.1:…', …)
//! # Ok::<(), String>(())
//! ```
//!
//! The server keeps its objects in memory, checks conditions (`If-None-Match: *`, which Lance's commits need),
//! answers ranges and multipart uploads, and takes any key. It ends with the value, by its process id. A server
//! that is not installed is an error with the line that installs it, never a skipped test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// The key id and secret that tests use; the server takes any.
pub const KEY_ID: &str = "test-key-id";
pub const SECRET: &str = "test-secret-value";
pub const REGION: &str = "us-east-1";

const START_WITHIN: Duration = Duration::from_secs(60);

/// A running server; dropping it ends the process.
#[derive(Debug)]
pub struct S3Server {
    child: Child,
    address: SocketAddr,
}

/// The Python that tests run servers with: `TRIUNE_TEST_PYTHON`, or that of `.venv`.
pub fn python() -> Result<PathBuf, String> {
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = package.ancestors().find(|a| a.join("Cargo.lock").exists()).unwrap_or(&package);
    let usual = root.join(".venv").join("bin").join("python");
    let python = std::env::var_os("TRIUNE_TEST_PYTHON").map_or(usual, PathBuf::from);
    if python.exists() {
        return Ok(python);
    }
    Err(format!("there is no {}; {INSTALL}", python.display()))
}

const INSTALL: &str = "install the S3 server of the tests with: \
    python3 -m venv .venv && .venv/bin/pip install -r tests/requirements.txt";

impl S3Server {
    /// Starts a server on a free port and waits until it answers.
    ///
    /// # Errors
    /// It is not installed (with the line that installs it), or does not answer within a minute.
    pub fn start() -> Result<Self, String> {
        let mut child = Command::new(python()?)
            .args(["-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"])
            .env_remove("MOTO_PORT")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("the S3 server does not start: {e}; {INSTALL}"))?;
        let Some(log) = child.stderr.take() else { return Err("the S3 server has no log".to_owned()) };
        // The log is read to its end, or the server would wait for room in the pipe.
        let (found, address) = mpsc::channel();
        std::thread::spawn(move || {
            let mut told = String::new();
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                match line
                    .split("Running on http://")
                    .nth(1)
                    .and_then(|a| a.trim().parse::<SocketAddr>().ok())
                {
                    Some(at) => drop(found.send(Ok(at))),
                    None if told.len() < 4_000 => told = told + &line + "\n",
                    None => {}
                }
            }
            drop(found.send(Err(told)));
        });
        let address = match address.recv_timeout(START_WITHIN) {
            Ok(Ok(address)) => address,
            Ok(Err(log)) => {
                drop(child.wait());
                return Err(format!("the S3 server ended at once: {log}\n{INSTALL}"));
            }
            Err(_) => {
                drop(child.kill());
                drop(child.wait());
                return Err("the S3 server did not answer within a minute".to_owned());
            }
        };
        let this = Self { child, address };
        this.request("GET", "/moto-api/", &[])?;
        Ok(this)
    }

    /// `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// # Errors
    /// The server's answer when it is not 200; names have at least three letters.
    pub fn create_bucket(&self, name: &str) -> Result<(), String> {
        self.request("PUT", &format!("/{name}"), &[]).map(drop)
    }

    /// Puts an object, unsigned.
    ///
    /// # Errors
    /// The server's answer when it is not 200.
    pub fn put(&self, bucket: &str, key: &str, body: &[u8]) -> Result<(), String> {
        self.request("PUT", &format!("/{bucket}/{key}"), body).map(drop)
    }

    /// The variables that point a process to this server.
    pub fn environment(&self) -> Vec<(String, String)> {
        environment_of(self.address)
    }

    /// `CREATE SECRET name (…)` for every bucket of this server.
    pub fn create_secret_sql(&self, name: &str) -> String {
        create_secret_sql(name, self.address, "")
    }

    fn request(&self, method: &str, path: &str, body: &[u8]) -> Result<String, String> {
        let failed = |e: std::io::Error| format!("{method} {path}: {e}");
        let mut stream = TcpStream::connect(self.address).map_err(failed)?;
        stream.set_read_timeout(Some(START_WITHIN)).map_err(failed)?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).map_err(failed)?;
        stream.write_all(body).map_err(failed)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map_err(failed)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        if answer.split(' ').nth(1) == Some("200") {
            Ok(answer)
        } else {
            Err(format!("{method} {path}: {answer}"))
        }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `AWS_…` for a server at `address`.
pub fn environment_of(address: SocketAddr) -> Vec<(String, String)> {
    [
        ("AWS_ACCESS_KEY_ID", KEY_ID.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_ENDPOINT_URL", format!("http://{address}")),
    ]
    .map(|(k, v)| (k.to_owned(), v))
    .to_vec()
}

/// `CREATE SECRET` for a server at `address`, for the URLs that begin with `scope` (empty: all of S3).
pub fn create_secret_sql(name: &str, address: SocketAddr, scope: &str) -> String {
    let scope = if scope.is_empty() { String::new() } else { format!(", SCOPE '{scope}'") };
    format!(
        "CREATE SECRET {name} (TYPE s3, KEY_ID '{KEY_ID}', SECRET '{SECRET}', REGION '{REGION}', \
         ENDPOINT '{address}', USE_SSL false, URL_STYLE 'path'{scope})"
    )
}

/// How a [`FaultyS3`] misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Every request is answered 403 AccessDenied.
    Forbid,
    /// Answers are those of the server behind until so many bytes were sent; then there is silence, on all
    /// connections, but none is closed.
    SilentAfter(u64),
}

/// Stands between a client and an [`S3Server`].
#[derive(Debug)]
pub struct FaultyS3 {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    requests: Arc<AtomicU64>,
}

impl FaultyS3 {
    /// # Errors
    /// No port on loopback is free.
    pub fn start(behind: &S3Server, fault: Fault) -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| format!("no port is free: {e}"))?;
        let address = listener.local_addr().map_err(|e| format!("no port is free: {e}"))?;
        let ended = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(AtomicU64::new(0));
        let (to, end, count) = (behind.address, Arc::clone(&ended), Arc::clone(&requests));
        let left = Arc::new(AtomicU64::new(match fault {
            Fault::SilentAfter(bytes) => bytes,
            Fault::Forbid => 0,
        }));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let (left, end) = (Arc::clone(&left), Arc::clone(&end));
                std::thread::spawn(move || match fault {
                    Fault::Forbid => forbid(client),
                    Fault::SilentAfter(_) => relay(client, to, &left, &end),
                });
            }
        });
        Ok(Self { address, ended, requests })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections so far.
    pub fn connections(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for FaultyS3 {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections.
        drop(TcpStream::connect(self.address));
    }
}

fn forbid(mut client: TcpStream) {
    let body =
        "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    let answer = format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut buffer = [0; 16 * 1024];
    if matches!(client.read(&mut buffer), Ok(n) if n > 0) {
        drop(client.write_all(answer.as_bytes()));
        drop(client.shutdown(Shutdown::Write));
        // What was sent is read before the connection closes, or the answer might be lost.
        while matches!(client.read(&mut buffer), Ok(n) if n > 0) {}
    }
}

fn relay(client: TcpStream, to: SocketAddr, left: &AtomicU64, end: &AtomicBool) {
    let Ok(server) = TcpStream::connect(to) else { return };
    let (Ok(mut from_client), Ok(mut to_server)) = (client.try_clone(), server.try_clone()) else { return };
    std::thread::spawn(move || {
        drop(std::io::copy(&mut from_client, &mut to_server));
        drop(to_server.shutdown(Shutdown::Write));
    });
    let (mut server, mut client) = (server, client);
    let mut buffer = [0; 4096];
    loop {
        let Ok(read) = server.read(&mut buffer) else { return };
        if read == 0 {
            drop(client.shutdown(Shutdown::Both));
            return;
        }
        let allowed = left.load(Ordering::SeqCst).min(read as u64);
        left.fetch_sub(allowed, Ordering::SeqCst);
        if client.write_all(&buffer[..usize::try_from(allowed).unwrap_or(0)]).is_err() {
            return;
        }
        if allowed < read as u64 {
            // Silent, and open, for as long as the test lasts.
            while !end.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(50));
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use datafusion::object_store::aws::AmazonS3Builder;
    use datafusion::object_store::path::Path;
    use datafusion::object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
    use futures::TryStreamExt;

    /// The server does what the engine needs of S3, so that a test on it says something about S3.
    #[tokio::test]
    async fn the_server_knows_ranges_conditions_and_parts() {
        let server = S3Server::start().unwrap();
        server.create_bucket("lake").unwrap();
        let store = AmazonS3Builder::new()
            .with_endpoint(server.endpoint())
            .with_allow_http(true)
            .with_bucket_name("lake")
            .with_region(REGION)
            .with_access_key_id(KEY_ID)
            .with_secret_access_key(SECRET)
            .build()
            .unwrap();
        let path = Path::from("a/x.txt");
        store.put(&path, "hello world".into()).await.unwrap();
        assert_eq!(store.get_range(&path, 6..11).await.unwrap().as_ref(), b"world");
        assert_eq!(store.head(&path).await.unwrap().size, 11);

        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let second = store.put_opts(&path, "other".into(), create.clone()).await;
        assert!(matches!(second, Err(Error::AlreadyExists { .. })), "{second:?}");
        store.put_opts(&Path::from("a/new"), "first".into(), create).await.unwrap();

        let large = Path::from("a/large");
        let mut upload = store.put_multipart(&large).await.unwrap();
        upload.put_part(vec![1_u8; 6 << 20].into()).await.unwrap();
        upload.put_part(vec![2_u8; 100].into()).await.unwrap();
        upload.complete().await.unwrap();
        assert_eq!(store.head(&large).await.unwrap().size, (6 << 20) + 100);
        assert_eq!(store.get_range(&large, (6 << 20) - 1..(6 << 20) + 1).await.unwrap().as_ref(), [1, 2]);

        let mut names: Vec<String> = store
            .list(Some(&Path::from("a")))
            .map_ok(|m| m.location.to_string())
            .try_collect()
            .await
            .unwrap();
        names.sort();
        assert_eq!(names, ["a/large", "a/new", "a/x.txt"]);
        store.delete(&path).await.unwrap();
        assert!(matches!(store.head(&path).await, Err(Error::NotFound { .. })));
    }
}
