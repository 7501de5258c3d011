//! A server for a test: this test binary, started again as `triune serve`.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int64Type};
use arrow::util::display::array_value_to_string;
use arrow_flight::FlightInfo;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use tonic::transport::{Channel, Endpoint};

const CHILD: &str = "TRIUNE_SERVE_CHILD";

/// What the started process does: the command line, as the binary `triune` runs it.
#[test]
fn serve_child() {
    let Ok(words) = std::env::var(CHILD) else { return };
    let words = std::iter::once("triune").chain(words.split('\n'));
    let cli = triune_cli::args::Cli::try_from_words(words).expect("a command line");
    std::process::exit(i32::from(triune_cli::run(cli)));
}

pub(crate) type Client = FlightSqlServiceClient<Channel>;

pub(crate) struct Served {
    child: Child,
    pub(crate) url: String,
    pub(crate) address: SocketAddr,
    /// Empty where HTTP is not spoken.
    pub(crate) http: String,
    /// What it said before it listened.
    pub(crate) said: Vec<String>,
    output: BufReader<std::process::ChildStdout>,
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(words: &[&str]) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "served::serve_child", "--nocapture", "--test-threads=1"])
        .env(CHILD, words.join("\n"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the server starts")
}

/// A server that must not start: what it says on its way out.
pub(crate) fn refused(words: &[&str]) -> String {
    let output = start(&[&["serve"], words].concat()).wait_with_output().expect("an end");
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

impl Served {
    /// `triune serve --listen 127.0.0.1:0 …`
    pub(crate) fn new(words: &[&str]) -> Self {
        let mut child = start(&[&["serve", "--listen", "127.0.0.1:0"], words].concat());
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut said = Vec::new();
        loop {
            let mut line = String::new();
            if output.read_line(&mut line).expect("a line") == 0 {
                let rest = child.wait_with_output().expect("an end");
                panic!("the server ended: {said:?} {}", String::from_utf8_lossy(&rest.stderr));
            }
            if let Some((_, url)) = line.trim().split_once("listening on ") {
                let url = url.to_owned();
                let address = url.rsplit("//").next().expect("an address").parse().expect("an address");
                let mut http = String::new();
                if !words.contains(&"--no-http") {
                    output.read_line(&mut http).expect("a line");
                    http = http.trim().strip_prefix("and on ").expect("an address").to_owned();
                }
                return Self { child, url, address, http, said, output };
            }
            said.push(line);
        }
    }

    pub(crate) fn in_memory() -> Self {
        Self::new(&[])
    }

    pub(crate) fn on(folder: &Path) -> Self {
        Self::new(&[folder.to_str().expect("a path")])
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Endpoint::new(format!("http://{}", self.address)).expect("an endpoint");
        endpoint.connect().await.expect("a connection")
    }

    pub(crate) async fn client(&self) -> Client {
        FlightSqlServiceClient::new(self.channel().await)
    }

    pub(crate) async fn logged_in(&self, user: &str, password: &str) -> Client {
        let mut client = self.client().await;
        client.handshake(user, password).await.expect("a log-in");
        client
    }

    pub(crate) fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        // SAFETY: a signal to the process that this test started and has not waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Waits for the end and gives the rest of the output.
    pub(crate) fn ended(&mut self) -> (bool, String) {
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.output, &mut rest).expect("the output");
        (self.child.wait().expect("an end").success(), rest)
    }

    /// Bytes of memory that the process holds.
    pub(crate) fn resident(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a status");
        let line = text.lines().find(|l| l.starts_with("VmRSS:")).expect("a size");
        line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a number") * 1024
    }
}

pub(crate) async fn fetch(client: &mut Client, info: FlightInfo) -> Result<RecordBatch, String> {
    let schema = info.clone().try_decode_schema().expect("a schema");
    let ticket = info.endpoint[0].ticket.clone().expect("a ticket");
    let stream = client.do_get(ticket).await.map_err(|e| e.to_string())?;
    let batches: Vec<RecordBatch> = stream.try_collect().await.map_err(|e| e.to_string())?;
    if let Some(first) = batches.first() {
        assert_eq!(*first.schema(), schema, "what was announced and what came");
    }
    Ok(concat_batches(&schema.into(), &batches).expect("batches of one schema"))
}

pub(crate) async fn query_in(
    client: &mut Client,
    sql: &str,
    transaction: Option<&bytes::Bytes>,
) -> Result<RecordBatch, String> {
    let info = client.execute(sql.to_owned(), transaction.cloned()).await.map_err(|e| e.to_string())?;
    fetch(client, info).await
}

pub(crate) async fn query(client: &mut Client, sql: &str) -> Result<RecordBatch, String> {
    query_in(client, sql, None).await
}

pub(crate) async fn update(client: &mut Client, sql: &str) -> Result<i64, String> {
    client.execute_update(sql.to_owned(), None).await.map_err(|e| e.to_string())
}

/// Rows as text, `1|a` each.
pub(crate) fn text(batch: &RecordBatch) -> Vec<String> {
    let cell = |c: &dyn Array, row: usize| array_value_to_string(c, row).expect("a value");
    (0..batch.num_rows())
        .map(|row| batch.columns().iter().map(|c| cell(c.as_ref(), row)).collect::<Vec<_>>().join("|"))
        .collect()
}

pub(crate) async fn rows(client: &mut Client, sql: &str) -> Vec<String> {
    text(&query(client, sql).await.unwrap_or_else(|e| panic!("{sql}: {e}")))
}

pub(crate) async fn number(client: &mut Client, sql: &str) -> i64 {
    let batch = query(client, sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let column = arrow::compute::cast(batch.column(0), &DataType::Int64).expect("a number");
    column.as_primitive::<Int64Type>().value(0)
}

pub(crate) async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..200 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} did not happen within ten seconds");
}

/// Actions that the library's client has no methods for.
pub(crate) async fn act(client: &mut Client, kind: &str, body: Vec<u8>) -> Result<Vec<u8>, tonic::Status> {
    let token = client.token().cloned().expect("a log-in");
    let mut request = tonic::Request::new(arrow_flight::Action::new(kind, body));
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let mut answer = client.inner_mut().do_action(request).await?.into_inner();
    Ok(answer.try_next().await?.map(|r| r.body.to_vec()).unwrap_or_default())
}
