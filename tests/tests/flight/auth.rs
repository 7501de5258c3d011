//! Users, roles, tokens, TLS.

use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::served::{Client, Served, number, query, refused, rows, text, update};

/// A server with users, and the password of its admin.
pub(crate) fn with_users(words: &[&str]) -> (Served, String) {
    let served = Served::new(&[&["--auth"], words].concat());
    let said = served.said.join("");
    let password =
        said.split("with the password ").nth(1).and_then(|r| r.split(' ').next()).expect("a password");
    let password = password.to_owned();
    (served, password)
}

async fn fails(client: &mut Client, sql: &str) -> String {
    match client.execute(sql.to_owned(), None).await {
        Err(e) => e.to_string(),
        Ok(info) => crate::served::fetch(client, info).await.expect_err(sql),
    }
}

#[test]
fn other_machines_need_tls() {
    let said = refused(&["--listen", "0.0.0.0:0"]);
    assert!(said.contains("permission denied") && said.contains("--insecure"), "{said}");
}

#[tokio::test]
async fn nobody_comes_in_without_a_password() {
    let (served, password) = with_users(&[]);
    let mut client = served.client().await;
    for sql in ["SELECT 1", "CREATE USER me PASSWORD 'long enough'"] {
        assert!(fails(&mut client, sql).await.contains("28000"));
    }
    assert!(client.get_catalogs().await.is_err());
    assert!(client.begin_transaction().await.is_err());
    client.set_token("0123456789abcdef".to_owned());
    assert!(fails(&mut client, "SELECT 1").await.contains("28000"));
    client.clear_token();
    let wrong = client.handshake("admin", "wrong").await.unwrap_err().to_string();
    let unknown = client.handshake("nobody", "wrong").await.unwrap_err().to_string();
    assert!(wrong.contains("user name or the password"), "{wrong}");
    assert_eq!(wrong, unknown, "nobody learns who exists");
    let mut admin = served.logged_in("admin", &password).await;
    assert_eq!(rows(&mut admin, "SELECT 1").await, ["1"]);
    // A request with its credentials in itself.
    let mut basic = served.client().await;
    // admin:wrong
    basic.set_header("authorization", "Basic YWRtaW46d3Jvbmc=");
    assert!(fails(&mut basic, "SELECT 1").await.contains("28000"));
}

#[tokio::test]
async fn roles() {
    let (served, password) = with_users(&[]);
    let mut admin = served.logged_in("admin", &password).await;
    for sql in [
        "CREATE TABLE t (id BIGINT PRIMARY KEY)",
        "CREATE USER w PASSWORD 'password of w' ROLE writer",
        "CREATE USER r PASSWORD 'password of r'",
    ] {
        update(&mut admin, sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    let mut writer = served.logged_in("w", "password of w").await;
    let mut reader = served.logged_in("r", "password of r").await;
    assert_eq!(update(&mut writer, "INSERT INTO t VALUES (1)").await, Ok(1));
    assert_eq!(number(&mut reader, "SELECT count(*) FROM t").await, 1);
    update(&mut reader, "CREATE TEMP TABLE mine AS SELECT 5 AS x").await.unwrap();
    update(&mut reader, "INSERT INTO mine VALUES (6)").await.unwrap();
    for sql in [
        "INSERT INTO t VALUES (2)",
        "WITH x AS (SELECT 1) DELETE FROM t",
        "UPDATE t SET id = 3",
        "TRUNCATE t",
        "DROP TABLE t",
        "CREATE TABLE u (x INT)",
        "CREATE VIEW v AS SELECT 1",
        "EXPLAIN ANALYZE DELETE FROM t",
        "PREPARE p AS DELETE FROM t",
        "CHECKPOINT",
        "COPY (SELECT 1) TO 'must-not-exist.csv'",
        "CREATE USER x PASSWORD 'long enough'",
        "ALTER USER r ROLE admin",
        "ALTER USER admin PASSWORD 'long enough'",
        "CREATE TOKEN x FOR admin",
        "SHOW USERS",
        "SHOW SECRETS",
        "FROM '/etc/passwd'",
        "SELECT * FROM '/etc/passwd.csv'",
    ] {
        let error = fails(&mut reader, sql).await;
        assert!(error.contains("42501"), "{sql}: {error}");
    }
    for sql in [
        "CREATE EXTERNAL TABLE e STORED AS CSV LOCATION '/etc/passwd'",
        "COPY t FROM '/etc/passwd' (FORMAT csv)",
        "CREATE VIEW v AS SELECT * FROM '/etc/passwd.csv'",
        "CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
        "DROP USER admin",
    ] {
        let error = fails(&mut writer, sql).await;
        assert!(error.contains("42501"), "{sql}: {error}");
    }
    assert_eq!(rows(&mut admin, "SELECT id FROM t").await, ["1"]);
    // Prepared statements and ingest go the same way.
    assert!(reader.prepare("DELETE FROM t".to_owned(), None).await.is_err());
    assert!(reader.execute_update("DELETE FROM t".to_owned(), None).await.is_err());
    // One's own password; a new role holds at once; a dropped user is out at once.
    update(&mut reader, "ALTER USER r PASSWORD 'another password'").await.unwrap();
    served.logged_in("r", "another password").await;
    update(&mut admin, "ALTER USER r ROLE writer").await.unwrap();
    assert_eq!(update(&mut reader, "INSERT INTO t VALUES (2)").await, Ok(1));
    update(&mut admin, "DROP USER r").await.unwrap();
    assert!(fails(&mut reader, "SELECT 1").await.contains("28000"));
    // Nobody locks everybody out.
    assert!(fails(&mut admin, "ALTER USER admin ROLE reader").await.contains("no admin"));
    assert!(fails(&mut admin, "DROP USER admin").await.contains("no admin"));
}

#[tokio::test]
async fn tokens() {
    let (served, password) = with_users(&[]);
    let mut admin = served.logged_in("admin", &password).await;
    update(&mut admin, "CREATE USER r PASSWORD 'password of r'").await.unwrap();
    let made = text(&query(&mut admin, "CREATE TOKEN nightly FOR r EXPIRES IN '30 days'").await.unwrap());
    let token = made[0].split('|').next().unwrap().to_owned();
    assert!(token.starts_with("triune_"));
    let mut client = served.client().await;
    client.set_token(token.clone());
    assert_eq!(rows(&mut client, "SELECT 1").await, ["1"]);
    assert!(fails(&mut client, "CREATE TABLE t (x INT)").await.contains("42501"));
    let mut forged = served.client().await;
    forged.set_token(format!("{}0", &token[..token.len() - 1]));
    let forged_is_right = token.ends_with('0');
    assert!(forged_is_right || fails(&mut forged, "SELECT 1").await.contains("28000"));
    let shown = rows(&mut admin, "SHOW TOKENS").await.join("\n");
    assert!(shown.contains("nightly") && !shown.contains(&token[10..40]), "{shown}");
    // One that ends.
    let made = text(&query(&mut admin, "CREATE TOKEN short FOR r EXPIRES IN '1 second'").await.unwrap());
    let mut short = served.client().await;
    short.set_token(made[0].split('|').next().unwrap().to_owned());
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let error = fails(&mut short, "SELECT 1").await;
    assert!(error.contains("expired") && error.contains("28000"), "{error}");
    update(&mut admin, "DROP TOKEN nightly").await.unwrap();
    assert!(fails(&mut client, "SELECT 1").await.contains("28000"));
}

#[tokio::test]
async fn failed_log_ins_slow_down() {
    let (served, password) = with_users(&[]);
    let mut client = served.client().await;
    let began = Instant::now();
    for _ in 0..5 {
        assert!(client.handshake("admin", "wrong").await.is_err());
    }
    assert!(began.elapsed() >= Duration::from_millis(100 + 200 + 400 + 800), "{:?}", began.elapsed());
    // Somebody else does not wait for it.
    let began = Instant::now();
    assert!(client.handshake("somebody", "wrong").await.is_err());
    assert!(began.elapsed() < Duration::from_millis(1500));
    client.handshake("admin", &password).await.expect("the right one, after its wait");
}

#[tokio::test]
async fn nothing_secret_is_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("db");
    let (served, password) = with_users(&[place.to_str().unwrap()]);
    let mut admin = served.logged_in("admin", &password).await;
    for sql in [
        "CREATE USER a PASSWORD 'hunter2hunter2' ROLE nothing",
        "CREATE USER a 'hunter2hunter2'",
        "CREATE USER a PASSWORD 'hunter2hunter2' 'hunter2hunter2'",
        "EXPLAIN CREATE USER a PASSWORD 'hunter2hunter2'",
        "ALTER USER nobody PASSWORD 'hunter2hunter2'",
        "CREATE USER a PASSWORD 'hunter'",
    ] {
        let error = fails(&mut admin, sql).await;
        assert!(!error.contains("hunter"), "{error}");
    }
    update(&mut admin, "CREATE USER a PASSWORD 'hunter2hunter2'").await.unwrap();
    let made = text(&query(&mut admin, "CREATE TOKEN k FOR a").await.unwrap());
    let secret = made[0].split('|').next().unwrap().rsplit('_').next().unwrap().to_owned();
    let catalog = std::fs::read_to_string(place.join("catalog.json")).expect("the catalog");
    assert!(catalog.contains("argon2id") && !catalog.contains("hunter") && !catalog.contains(&password));
    assert!(!catalog.contains(&secret));
}

pub(crate) struct Certificates {
    pub(crate) authority: String,
    /// A certificate and its key.
    pub(crate) server: (String, String),
    client: (String, String),
}

pub(crate) fn certificates() -> Certificates {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let signed = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let cert =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        (cert.pem(), key.serialize_pem())
    };
    Certificates { authority: authority.pem(), server: signed("localhost"), client: signed("somebody") }
}

#[tokio::test]
async fn tls_and_mutual_tls() {
    // Dependencies bring two; whoever asks first chooses.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let made = certificates();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (cert, key) = (file("cert.pem", &made.server.0), file("key.pem", &made.server.1));
    let authority = file("ca.pem", &made.authority);
    let trusting = || {
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&made.authority)).domain_name("localhost")
    };
    let connect = async |served: &Served, tls: ClientTlsConfig| {
        let endpoint = Endpoint::new(format!("https://{}", served.address)).unwrap().tls_config(tls).unwrap();
        let mut client = Client::new(endpoint.connect().await.map_err(|e| format!("{e:?}"))?);
        query(&mut client, "SELECT 1").await
    };
    let served = Served::new(&["--tls-cert", &cert, "--tls-key", &key]);
    assert!(served.url.starts_with("grpc+tls://"));
    assert_eq!(text(&connect(&served, trusting()).await.unwrap()), ["1"]);
    let stranger = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&certificates().authority))
        .domain_name("localhost");
    assert!(connect(&served, stranger).await.is_err());
    let plain = Endpoint::new(format!("http://{}", served.address)).unwrap().connect().await;
    match plain {
        Err(_) => {}
        Ok(channel) => assert!(query(&mut Client::new(channel), "SELECT 1").await.is_err()),
    }
    let mutual = Served::new(&["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &authority]);
    assert!(connect(&mutual, trusting()).await.is_err());
    let known = trusting().identity(Identity::from_pem(&made.client.0, &made.client.1));
    assert_eq!(text(&connect(&mutual, known).await.unwrap()), ["1"]);
    let said = refused(&["--tls-cert", &cert, "--tls-key", &authority]);
    assert!(said.contains("certificate or its key"), "{said}");
}
