//! HTTP: statements, errors, log-ins, foreign pages, metrics.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow::ipc::reader::StreamReader;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::auth::{certificates, with_users};
use crate::served::{Served, number, refused, until, update};

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")))
}

async fn ask(served: &Served, sql: &str) -> (StatusCode, Value) {
    answer(client().post(format!("{}/query", served.http)).body(sql.to_owned())).await
}

async fn send(served: &Served, format: &str, sql: &str) -> Response {
    let url = format!("{}/query?format={format}", served.http);
    client().post(url).body(sql.to_owned()).send().await.unwrap()
}

async fn get(served: &Served, path: &str) -> (StatusCode, String) {
    let response = client().get(format!("{}{path}", served.http)).send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

#[tokio::test]
async fn rows_in_every_format() {
    let served = Served::in_memory();
    let (status, made) =
        ask(&served, "CREATE TABLE t AS SELECT i AS id, 'n,' || i AS name FROM range(3) r(i)").await;
    assert_eq!((status, &made["rows_affected"]), (StatusCode::OK, &json!(3)), "{made}");
    let (_, rows) =
        ask(&served, "SELECT id, name, NULL AS n, [0.5, 1]::VECTOR(2) AS v FROM t ORDER BY id").await;
    assert_eq!(rows["rows"][1], json!([1, "n,1", null, [0.5, 1.0]]));
    assert_eq!(rows["row_count"], 3);
    assert_eq!(rows["columns"][3], json!({"name": "v", "type": "VECTOR(2)", "nullable": false}));
    let text = async |format: &str| {
        let response = send(&served, format, "SELECT id, name FROM t ORDER BY id LIMIT 2").await;
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        (kind, response.text().await.unwrap())
    };
    let (kind, csv) = text("csv").await;
    assert_eq!(csv, "id,name\n0,\"n,0\"\n1,\"n,1\"\n");
    assert!(kind.starts_with("text/csv"), "{kind}");
    assert_eq!(text("tsv").await.1, "id\tname\n0\tn,0\n1\tn,1\n");
    assert_eq!(text("ndjson").await.1, "{\"id\":0,\"name\":\"n,0\"}\n{\"id\":1,\"name\":\"n,1\"}\n");
    // No rows are an answer too, with its columns.
    let (_, none) = ask(&served, "SELECT id FROM t WHERE id > 9").await;
    assert_eq!((&none["rows"], &none["columns"][0]["name"]), (&json!([]), &json!("id")));
    let bytes = send(&served, "arrow", "SELECT id FROM t ORDER BY id").await.bytes().await.unwrap();
    let batches: Vec<_> = StreamReader::try_new(bytes.as_ref(), None).unwrap().map(Result::unwrap).collect();
    let ids: Vec<i64> =
        batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    assert_eq!(ids, [0, 1, 2]);
}

#[tokio::test]
async fn many_rows_are_all_there() {
    let served = Served::in_memory();
    let sql = "SELECT i AS id, 'row ' || i AS name FROM range(300000) r(i)";
    let (_, all) = ask(&served, sql).await;
    let ids: Vec<u64> = all["rows"].as_array().unwrap().iter().map(|r| r[0].as_u64().unwrap()).collect();
    assert_eq!((ids.len(), ids.iter().sum::<u64>()), (300_000, 299_999 * 150_000));
    assert_eq!(all["row_count"], 300_000);
    let lines = send(&served, "ndjson", sql).await.text().await.unwrap();
    assert_eq!(lines.lines().count(), 300_000);
    assert!(lines.lines().all(|l| serde_json::from_str::<Value>(l).is_ok()));
}

#[tokio::test]
async fn parameters() {
    let served = Served::in_memory();
    let url = format!("{}/query", served.http);
    let run = async |body: Value| answer(client().post(&url).json(&body)).await;
    let sql = "SELECT $1 + 1 AS n, $2 AS t, l2_distance([0, 0]::VECTOR(2), $3) AS d";
    let (_, rows) = run(json!({ "sql": sql, "params": [41, "x'; DROP TABLE t", [3, 4.0]] })).await;
    assert_eq!(rows["rows"], json!([[42, "x'; DROP TABLE t", 5.0]]), "{rows}");
    let (_, rows) =
        run(json!({ "sql": "SELECT $b AS c, $a AS d", "params": { "a": "x", "b": [1, 2] } })).await;
    assert_eq!(rows["rows"], json!([[[1, 2], "x"]]), "{rows}");
    let (status, error) = run(json!({ "sql": "SELECT $1", "params": [] })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{error}");
    let (status, error) = run(json!({ "sequel": "SELECT 1" })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(error["error"]["message"].as_str().unwrap().contains("\"sequel\""), "{error}");
}

#[tokio::test]
async fn errors_have_a_status_and_a_place() {
    let served = Served::in_memory();
    ask(&served, "CREATE TABLE t (id INT PRIMARY KEY)").await;
    ask(&served, "INSERT INTO t VALUES (1)").await;
    for (sql, status, state) in [
        ("SELEC 1", 400, "42601"),
        ("SELECT * FROM nowhere", 404, "42P01"),
        ("CREATE TABLE t (id INT)", 409, "42P07"),
        ("INSERT INTO t VALUES (1)", 422, "23000"),
        ("SELECT 1/0", 400, "22000"),
    ] {
        let (got, body) = ask(&served, sql).await;
        assert_eq!(
            (got.as_u16(), body["error"]["sqlstate"].as_str().unwrap()),
            (status, state),
            "{sql}: {body}"
        );
    }
    let (_, body) = ask(&served, "SELECT *\nFROM nowhere").await;
    assert_eq!((&body["error"]["line"], &body["error"]["column"]), (&json!(2), &json!(6)), "{body}");
    for sql in ["BEGIN", "COMMIT", "SET threads = 1", "PREPARE p AS SELECT 1", "CREATE TEMP TABLE x (a INT)"]
    {
        let (status, body) = ask(&served, sql).await;
        assert_eq!(status, StatusCode::NOT_IMPLEMENTED, "{sql}: {body}");
    }
    let (status, body) = get(&served, "/nothing").await;
    assert!(status == StatusCode::NOT_FOUND && body.contains("/queries"), "{body}");
    let (status, body) = get(&served, "/query").await;
    assert!(status == StatusCode::METHOD_NOT_ALLOWED && body.contains("GET"), "{body}");
    let big = "x".repeat(65 << 20);
    let (status, body) = ask(&served, &big).await;
    assert!(status == StatusCode::PAYLOAD_TOO_LARGE && body.to_string().contains("at most"), "{body}");
}

/// Rows, and then an error that only the last of them meets.
const LATE: &str = "SELECT 1 / (999999 - i) AS x FROM range(1000000) r(i)";

#[tokio::test]
async fn an_error_after_rows_is_seen() {
    let served = Served::in_memory();
    let (status, body) = ask(&served, LATE).await;
    let late = if status == StatusCode::OK { &body["error"] } else { &body["error"]["sqlstate"] };
    assert!(!late.is_null() && body.get("row_count").is_none(), "{status}");
    let response = send(&served, "csv", LATE).await;
    assert!(
        response.status() != StatusCode::OK || response.text().await.is_err(),
        "a whole answer of half the rows"
    );
}

const LONG: &str =
    "SELECT sum(a.i * b.i) FROM range(1000000) a(i), range(1000000) b(i) WHERE (a.i * b.i) % 7 = 3";

#[tokio::test]
async fn a_statement_is_looked_at_and_cancelled() {
    let served = Arc::new(Served::in_memory());
    let running = tokio::spawn({
        let served = Arc::clone(&served);
        async move { ask(&served, LONG).await }
    });
    let mut id = None;
    until("the statement runs", async || {
        let list: Value = serde_json::from_str(&get(&served, "/queries").await.1).unwrap();
        let list = list["queries"].as_array().unwrap();
        id = list.iter().find(|q| q["status"] == "running").and_then(|q| q["id"].as_u64());
        id.is_some()
    })
    .await;
    let url = format!("{}/query/{}", served.http, id.unwrap());
    let (_, one) = answer(client().get(&url)).await;
    assert_eq!((&one["text"], &one["kind"]), (&json!(LONG), &json!("query")));
    let cancelled = Instant::now();
    let (status, _) = answer(client().delete(&url)).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let (status, body) = running.await.unwrap();
    assert!(cancelled.elapsed() < Duration::from_secs(2), "{:?}", cancelled.elapsed());
    assert_eq!((status, &body["error"]["sqlstate"]), (StatusCode::REQUEST_TIMEOUT, &json!("57014")));
    let (status, one) = answer(client().delete(&url)).await;
    assert_eq!((status, &one["status"]), (StatusCode::CONFLICT, &json!("cancelled")));
    let (status, _) = answer(client().get(format!("{}/query/999999", served.http))).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn time_limits_and_lost_clients_end_a_statement() {
    let served = Served::in_memory();
    let mut flight = served.client().await;
    let running =
        "SELECT count(*) FROM system.queries WHERE status = 'running' AND text LIKE 'SELECT sum(a%'";
    let begun = Instant::now();
    let (status, body) = answer(client().post(format!("{}/query?timeout=0.5", served.http)).body(LONG)).await;
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT, "{body}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    until("the end of one that took too long", async || number(&mut flight, running).await == 0).await;
    let lost = client().post(format!("{}/query", served.http)).body(LONG).timeout(Duration::from_millis(700));
    assert!(lost.send().await.is_err());
    until("the end of one whose client went", async || number(&mut flight, running).await == 0).await;
}

#[tokio::test]
async fn a_client_that_stops_reading_holds_little() {
    let served = Served::in_memory();
    let address = served.http.trim_start_matches("http://").to_owned();
    let sql = "SELECT i, repeat('x', 1000) AS t FROM range(3000000) r(i)";
    let mut stream = TcpStream::connect(&address).unwrap();
    write!(stream, "POST /query HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n{sql}", sql.len())
        .unwrap();
    let mut some = [0; 1000];
    stream.read_exact(&mut some).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(served.resident() < 1 << 30, "{} bytes for 3 GB of rows", served.resident());
    // Others are served meanwhile.
    assert_eq!(ask(&served, "SELECT 1").await.1["rows"], json!([[1]]));
}

#[tokio::test]
async fn nonsense_is_answered_or_dropped() {
    let served = Served::in_memory();
    let address = served.http.trim_start_matches("http://").to_owned();
    let long = format!("GET / HTTP/1.1\r\nhost: {address}\r\nx: {}\r\n\r\n", "x".repeat(1 << 20));
    for bytes in
        ["\0\u{1}\u{2}\r\n\r\n", "GET\r\n\r\n", "POST /query HTTP/1.1\r\ncontent-length: x\r\n\r\n", &long]
    {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        // It may have hung up before everything was sent.
        let _ = stream.write_all(bytes.as_bytes());
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        let text = String::from_utf8_lossy(&text);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
    let bad = client().post(format!("{}/query", served.http)).body(vec![0xff, 0xfe]);
    assert_eq!(answer(bad).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(ask(&served, "SELECT 1").await.0, StatusCode::OK);
}

#[tokio::test]
async fn log_ins() {
    let (served, password) = with_users(&[]);
    let url = |path: &str| format!("{}{path}", served.http);
    let (status, body) = ask(&served, "SELECT 1").await;
    assert_eq!((status, &body["error"]["sqlstate"]), (StatusCode::UNAUTHORIZED, &json!("28000")));
    for path in ["/queries", "/query/1", "/metrics"] {
        assert_eq!(get(&served, path).await.0, StatusCode::UNAUTHORIZED, "{path}");
    }
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(get(&served, path).await.0, StatusCode::OK, "{path}");
    }
    let wrong = client().post(url("/query")).basic_auth("admin", Some("wrong")).body("SELECT 1");
    assert_eq!(answer(wrong).await.0, StatusCode::UNAUTHORIZED);
    let as_admin =
        |sql: &'static str| client().post(url("/query")).basic_auth("admin", Some(&password)).body(sql);
    assert_eq!(answer(as_admin("SELECT 1")).await.1["rows"], json!([[1]]));
    answer(as_admin("CREATE USER rita PASSWORD 'long enough'")).await;
    answer(as_admin("CREATE TABLE t (id INT)")).await;
    let (status, login) = answer(client().post(url("/login")).basic_auth("rita", Some("long enough"))).await;
    assert_eq!((status, &login["role"]), (StatusCode::OK, &json!("reader")));
    let token = login["token"].as_str().unwrap().to_owned();
    let as_rita = |sql: &'static str| client().post(url("/query")).bearer_auth(&token).body(sql);
    assert_eq!(answer(as_rita("SELECT count(*) FROM t")).await.1["rows"], json!([[0]]));
    assert_eq!(answer(as_rita("INSERT INTO t VALUES (1)")).await.0, StatusCode::FORBIDDEN);
    // What others ran is not for a reader's eyes, nor for a reader's hands.
    let (_, list) = answer(client().get(url("/queries")).bearer_auth(&token)).await;
    assert!(list["queries"].as_array().unwrap().iter().all(|q| q["principal"] == "rita"), "{list}");
    assert_eq!(answer(client().get(url("/query/1")).bearer_auth(&token)).await.0, StatusCode::NOT_FOUND);
    assert_eq!(answer(client().delete(url("/query/1")).bearer_auth(&token)).await.0, StatusCode::NOT_FOUND);
    let gone = client().delete(url("/login")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    assert_eq!(answer(as_rita("SELECT 1")).await.0, StatusCode::UNAUTHORIZED);
    // A token for programs.
    let (_, made) = answer(as_admin("CREATE TOKEN nightly FOR rita EXPIRES IN '1 day'")).await;
    let mut token = made["rows"][0].as_array().unwrap().iter().filter_map(Value::as_str);
    let token = token.rfind(|t| t.starts_with("triune_")).unwrap().to_owned();
    let asked = client().post(url("/query")).bearer_auth(&token).body("SELECT count(*) FROM t");
    assert_eq!(answer(asked).await.0, StatusCode::OK);
    let texts =
        answer(client().get(url("/queries")).basic_auth("admin", Some(&password))).await.1.to_string();
    assert!(!texts.contains("long enough") && !texts.contains(&token), "{texts}");
}

#[tokio::test]
async fn pages_from_elsewhere_are_refused() {
    let served = Served::in_memory();
    let run = |name: &'static str, value: String| {
        answer(client().post(format!("{}/query", served.http)).header(name, value).body("SELECT 1"))
    };
    let own = served.http.clone();
    let port = own.rsplit(':').next().unwrap().to_owned();
    for (name, value) in [
        ("origin", "https://evil.example".to_owned()),
        ("origin", "null".to_owned()),
        ("sec-fetch-site", "cross-site".to_owned()),
        ("sec-fetch-site", "same-site".to_owned()),
        ("host", format!("evil.example:{port}")),
    ] {
        assert_eq!(run(name, value.clone()).await.0, StatusCode::FORBIDDEN, "{name}: {value}");
    }
    for (name, value) in
        [("origin", own), ("sec-fetch-site", "same-origin".to_owned()), ("host", format!("localhost:{port}"))]
    {
        assert_eq!(run(name, value.clone()).await.0, StatusCode::OK, "{name}: {value}");
    }
}

#[tokio::test]
async fn metrics_count() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::on(folder.path());
    let mut flight = served.client().await;
    update(&mut flight, "CREATE TABLE t (id INT PRIMARY KEY, v VECTOR(2))").await.unwrap();
    update(&mut flight, "INSERT INTO t VALUES (1, '[1,2]'), (2, '[3,4]')").await.unwrap();
    update(&mut flight, "CREATE INDEX near ON t USING ivf_flat (v) WITH (lists = 1)").await.unwrap();
    ask(&served, "SELECT * FROM t").await;
    ask(&served, "SELECT * FROM nowhere").await;
    let (status, text) = get(&served, "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    let value = |line: &str| -> f64 {
        let found = text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("{line} in {text}")).parse().unwrap()
    };
    assert_eq!(value("triune_statement_seconds_count{kind=\"query\",status=\"done\"}"), 1.0);
    assert_eq!(value("triune_statement_seconds_count{kind=\"query\",status=\"failed\"}"), 1.0);
    assert_eq!(value("triune_statement_errors_total{kind=\"not found\"}"), 1.0);
    assert_eq!(value("triune_statement_seconds_count{kind=\"write\",status=\"done\"}"), 1.0);
    assert_eq!(value("triune_connections{protocol=\"flight\"}"), 1.0);
    assert!(value("triune_connections_accepted_total{protocol=\"http\"}") >= 3.0);
    assert!(value("triune_wal_bytes") > 0.0 && value("triune_memory_limit_bytes") > 0.0);
    let rows = |state: &str| {
        value(&format!("triune_index_rows{{schema=\"public\",table=\"t\",index=\"near\",state=\"{state}\"}}"))
    };
    assert_eq!(rows("indexed") + rows("unindexed") + rows("hot"), 2.0);
    assert!(text.contains("triune_cache_hits_total{cache=\"metadata\"}"), "{text}");
    assert!(text.ends_with("# EOF\n"));
    let page = include_str!("../../../docs/metrics.md");
    for line in text.lines().filter_map(|l| l.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        assert!(page.contains(&format!("| `{name}` | {kind} |")), "{line}");
    }
    // A name with a quote in it is a label with a quote in it.
    update(&mut flight, "ALTER INDEX near RENAME TO \"ne\"\"ar\"").await.unwrap();
    assert!(get(&served, "/metrics").await.1.contains("index=\"ne\\\"ar\""));
}

#[tokio::test]
async fn a_stop_lets_answers_end() {
    let mut served = Served::in_memory();
    let sql = "SELECT count(*) FROM range(30000) a(i), range(30000) b(i) WHERE (a.i * b.i) % 7 = 3";
    let running = tokio::spawn(answer(client().post(format!("{}/query", served.http)).body(sql)));
    until("the statement runs", async || get(&served, "/queries").await.1.contains("\"running\"")).await;
    served.signal(libc::SIGTERM);
    let (status, body) = running.await.unwrap();
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(served.ended().0);
}

#[tokio::test]
async fn tls() {
    let folder = tempfile::tempdir().unwrap();
    let made = certificates();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (certificate, key) = (path("cert.pem", &made.server.0), path("key.pem", &made.server.1));
    let served = Served::new(&["--tls-cert", &certificate, "--tls-key", &key]);
    let port: u16 = served.http.rsplit(':').next().unwrap().parse().unwrap();
    assert!(served.http.starts_with("https://"), "{}", served.http);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut roots = rustls::RootCertStore::empty();
    let authority = rustls::pki_types::CertificateDer::from_pem_slice(made.authority.as_bytes()).unwrap();
    roots.add(authority).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let mut session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut over_tls = rustls::Stream::new(&mut session, &mut stream);
    over_tls
        .write_all(b"GET /health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    let _ = over_tls.read_to_string(&mut text);
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("ready"), "{text}");
    let in_clear = client().get(format!("http://127.0.0.1:{port}/health/live")).send().await;
    assert!(in_clear.is_err());
}

#[test]
fn addresses() {
    let said = refused(&["--listen", "127.0.0.1:0", "--http", "0.0.0.0:0"]);
    assert!(said.contains("--insecure"), "{said}");
    let said = refused(&["--listen", "127.0.0.1:65535"]);
    assert!(said.contains("--no-http"), "{said}");
    let served = Served::new(&["--no-http"]);
    assert_eq!(served.http, "");
}
