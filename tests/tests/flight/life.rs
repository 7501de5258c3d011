//! Idle sessions, graceful stops, killed processes.

use std::collections::BTreeSet;
use std::time::Duration;

use arrow_flight::sql::EndTransaction;
use datafusion::common::runtime::SpawnedTask;
use futures::TryStreamExt;

use crate::served::{Served, number, query, rows, until, update};

#[tokio::test]
async fn an_idle_session_ends_and_is_rolled_back() {
    let served = Served::new(&["--idle-timeout", "1"]);
    let mut client = served.logged_in("", "").await;
    update(&mut client, "CREATE TABLE t (id BIGINT PRIMARY KEY)").await.unwrap();
    let transaction = client.begin_transaction().await.unwrap();
    client.execute_update("INSERT INTO t VALUES (1)".to_owned(), Some(transaction.clone())).await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let error = client.end_transaction(transaction, EndTransaction::Commit).await.unwrap_err().to_string();
    assert!(error.contains("28000"), "{error}");
    assert_eq!(number(&mut served.client().await, "SELECT count(*) FROM t").await, 0);
}

#[tokio::test]
async fn a_lost_connection_ends_its_session() {
    let served = Served::in_memory();
    let mut keeper = served.client().await;
    update(&mut keeper, "CREATE TABLE t (id BIGINT PRIMARY KEY)").await.unwrap();
    let mut client = served.client().await;
    update(&mut client, "BEGIN").await.unwrap();
    update(&mut client, "INSERT INTO t VALUES (1)").await.unwrap();
    drop(client);
    // The row's key is free again: nobody's transaction holds it.
    until("the end of the session", async || update(&mut keeper, "INSERT INTO t VALUES (1)").await == Ok(1))
        .await;
    assert_eq!(number(&mut keeper, "SELECT count(*) FROM t").await, 1);
}

#[tokio::test]
async fn a_stop_drains_and_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("db");
    let mut served = Served::on(&place);
    let mut client = served.client().await;
    update(&mut client, "CREATE TABLE t (id BIGINT PRIMARY KEY)").await.unwrap();
    update(&mut client, "INSERT INTO t VALUES (1), (2)").await.unwrap();
    let slow = "SELECT count(*) AS n, sum(x % 7) AS s FROM range(100000000) AS t(x)";
    let info = client.execute(slow.to_owned(), None).await.unwrap();
    let stream = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    let fetching = SpawnedTask::spawn(stream.try_collect::<Vec<_>>());
    tokio::time::sleep(Duration::from_millis(100)).await;
    served.signal(libc::SIGTERM);
    let batches = fetching.join().await.unwrap().expect("what runs is finished");
    assert_eq!(batches.iter().map(|b| b.num_rows()).sum::<usize>(), 1);
    drop(client);
    let (well, rest) = served.ended();
    assert!(well && rest.contains("stopped"), "{rest}");
    let again = Served::on(&place);
    assert_eq!(rows(&mut again.client().await, "SELECT id FROM t ORDER BY id").await, ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_nothing_that_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("db");
    let mut served = Served::on(&place);
    update(&mut served.client().await, "CREATE TABLE t (id BIGINT PRIMARY KEY, writer BIGINT)")
        .await
        .unwrap();
    let mut acknowledged = BTreeSet::new();
    for life in 0..4 {
        let mut writers = Vec::new();
        for writer in 0..4_i64 {
            let mut client = served.client().await;
            writers.push(SpawnedTask::spawn(async move {
                let mut mine = Vec::new();
                for n in 0.. {
                    let id = (life * 1_000_000 + n) * 4 + writer;
                    match update(&mut client, &format!("INSERT INTO t VALUES ({id}, {writer})")).await {
                        Ok(_) => mine.push(id),
                        Err(_) => break,
                    }
                }
                mine
            }));
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
        served.signal(libc::SIGKILL);
        let mut under_way = 0;
        for writer in writers {
            acknowledged.extend(writer.join().await.unwrap());
            under_way += 1;
        }
        served = Served::on(&place);
        let found = rows(&mut served.client().await, "SELECT id FROM t").await;
        let found: BTreeSet<i64> = found.iter().map(|r| r.parse().unwrap()).collect();
        let lost: Vec<_> = acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "{lost:?}");
        let more = found.difference(&acknowledged).count();
        assert!(more <= under_way * (life as usize + 1), "{more} rows that nobody was told of");
    }
    assert!(acknowledged.len() > 50, "{}", acknowledged.len());
    assert!(query(&mut served.client().await, "SELECT 1").await.is_ok());
}
