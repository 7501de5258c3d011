//! The same files in a bucket, on a real S3 server on loopback.

use std::sync::Arc;
use std::time::Duration;

use datafusion::prelude::SessionConfig;
use triune_common::ErrorKind;
use triune_files::{ExternalTableSpec, FileKind};
use triune_object_store::{Environment, Redacted, SecretSpec, StoreLimits, StoreRegistry};

use crate::s3_server::{Fault, FaultyS3, KEY_ID, REGION, S3Server, SECRET};
use crate::support::Fixture;

fn secret(name: &str, endpoint: &str, scope: &str) -> SecretSpec {
    let given = [
        ("type", "s3"),
        ("key_id", KEY_ID),
        ("secret", SECRET),
        ("region", REGION),
        ("endpoint", endpoint),
        ("use_ssl", "false"),
        ("scope", scope),
    ];
    SecretSpec::from_options(name, given.map(|(k, v)| (k.to_owned(), Redacted::from(v))).to_vec()).unwrap()
}

const FAST: StoreLimits = StoreLimits {
    connect: Duration::from_secs(2),
    stall: Duration::from_secs(1),
    upload: Duration::from_secs(20),
    request: Duration::from_secs(60),
    retries: 1,
    retry_for: Duration::from_secs(5),
};

fn fixture(registry: &Arc<StoreRegistry>) -> Fixture {
    Fixture::on(Arc::clone(registry), SessionConfig::new().with_target_partitions(4))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_is_like_a_folder() {
    let server = S3Server::start().unwrap();
    server.create_bucket("lake").unwrap();
    let registry = StoreRegistry::with_settings(None, FAST, Environment::default());
    registry.put_secret(secret("work", &server.address().to_string(), "s3://lake"));
    let f = fixture(&registry);

    let rows =
        "SELECT value AS id, concat('n', CAST(value AS VARCHAR)) AS name FROM generate_series(1, 50000)";
    for name in ["a b#1.parquet", "x.csv", "x.csv.gz", "x.ndjson", "x.arrow"] {
        let url = format!("s3://lake/d/{name}");
        f.copy_to(rows, &url, &[], &[]).await.unwrap();
        f.table(&ExternalTableSpec::new(&url, triune_files::kind_of_path(name).unwrap())).await.unwrap();
        assert_eq!(
            f.rows("SELECT count(*), sum(id), max(name) FROM t WHERE id > 10").await.unwrap(),
            ["49990|1250024945|n9999"],
            "{name}"
        );
    }
    // Folders, globs, partitions.
    let sql = "SELECT value AS v, value % 3 AS k FROM generate_series(1, 9)";
    f.copy_to(sql, "s3://lake/p/", &[("format", "parquet")], &["k"]).await.unwrap();
    f.table(&ExternalTableSpec::new("s3://lake/p/", FileKind::Parquet)).await.unwrap();
    assert_eq!(f.rows("SELECT sum(v) FROM t WHERE k = 0").await.unwrap(), ["18"]);
    f.table(&ExternalTableSpec::new("s3a://lake/p/k=[12]/*.parquet", FileKind::Parquet)).await.unwrap();
    assert_eq!(f.rows("SELECT sum(v) FROM t").await.unwrap(), ["27"]);
    // What is missing is named.
    for (url, part) in [
        ("s3://lake/none.csv", "\"s3://lake/none.csv\" does not exist"),
        ("s3://lake/none/*.csv", "no file matches"),
    ] {
        let e = f.open(&ExternalTableSpec::new(url, FileKind::Csv)).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotFound, "{e}");
        assert!(e.message().contains(part), "{e}");
    }
    registry.put_secret(secret("other", &server.address().to_string(), "s3://nowhere"));
    let e = f.open(&ExternalTableSpec::new("s3://nowhere/x.csv", FileKind::Csv)).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound, "{e}");
    assert!(e.message().contains("s3://nowhere"), "{e}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_refuses_or_falls_silent() {
    let server = S3Server::start().unwrap();
    server.create_bucket("lake").unwrap();
    let registry = StoreRegistry::with_settings(None, FAST, Environment::default());
    registry.put_secret(secret("work", &server.address().to_string(), "s3://lake"));
    let f = fixture(&registry);
    let rows = "SELECT value AS id, random() AS r FROM generate_series(1, 200000)";
    f.copy_to(rows, "s3://lake/x.parquet", &[], &[]).await.unwrap();
    f.copy_to(rows, "s3://lake/x.csv", &[], &[]).await.unwrap();

    let refusing = FaultyS3::start(&server, Fault::Forbid).unwrap();
    registry.put_secret(secret("work", &refusing.address().to_string(), "s3://lake"));
    for (url, kind) in [("s3://lake/x.parquet", FileKind::Parquet), ("s3://lake/*.csv", FileKind::Csv)] {
        let e = f.open(&ExternalTableSpec::new(url, kind)).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Permission, "{e}");
        assert!(e.message().contains("bucket s3://lake") && e.message().contains("secret \"work\""), "{e}");
        assert!(!e.to_string().contains(SECRET) && !e.to_string().contains(KEY_ID), "{e}");
    }

    // It answers while the table is opened, and stops in the middle of the data.
    for (url, kind) in [("s3://lake/x.parquet", FileKind::Parquet), ("s3://lake/x.csv", FileKind::Csv)] {
        registry.put_secret(secret("work", &server.address().to_string(), "s3://lake"));
        f.table(&ExternalTableSpec::new(url, kind)).await.unwrap();
        let silent = FaultyS3::start(&server, Fault::SilentAfter(200_000)).unwrap();
        registry.put_secret(secret("work", &silent.address().to_string(), "s3://lake"));
        let reading = f.batches("SELECT sum(id), sum(r) FROM t");
        let e = tokio::time::timeout(Duration::from_secs(20), reading).await.expect("bounded").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
        assert!(e.message().contains("s3://lake/x"), "{e}");
    }
}
