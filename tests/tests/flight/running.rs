//! Statements that take long: cancelled, out of time, without a reader, with a slow one.

use std::time::{Duration, Instant};

use arrow_flight::{CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo, Ticket};
use futures::{StreamExt, TryStreamExt};
use prost::Message;

use crate::served::{Client, Served, act, fetch, number, query, text, until, update};

/// Gives no row for minutes.
const ENDLESS: &str =
    "SELECT count(*) FROM range(10000000) AS a(x), range(10000000) AS b(y) WHERE x * y % 7 = 3";
/// Gives rows for ever.
const FLOOD: &str = "SELECT x, x * 2 AS y, x * 3 AS z FROM range(2000000000) AS t(x)";

async fn cancel(client: &mut Client, info: &FlightInfo) -> Result<CancelStatus, String> {
    let request = CancelFlightInfoRequest::new(info.clone()).encode_to_vec();
    let answer = act(client, "CancelFlightInfo", request).await.map_err(|e| e.to_string())?;
    let status = CancelFlightInfoResult::decode(answer.as_slice()).expect("an answer").status;
    Ok(CancelStatus::try_from(status).expect("a status"))
}

fn ticket(info: &FlightInfo) -> Ticket {
    info.endpoint[0].ticket.clone().expect("a ticket")
}

#[tokio::test]
async fn a_running_query_is_cancelled_by_another_call() {
    let served = Served::in_memory();
    let mut client = served.logged_in("", "").await;
    let info = client.execute(ENDLESS.to_owned(), None).await.unwrap();
    let mut stream = client.do_get(ticket(&info)).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(300), stream.next()).await.is_err(), "it runs");
    assert_eq!(cancel(&mut client, &info).await, Ok(CancelStatus::Cancelled));
    let began = Instant::now();
    let error = stream.try_collect::<Vec<_>>().await.unwrap_err().to_string();
    assert!(error.contains("cancelled") && error.contains("57014"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(1));
    // One that nobody fetched, one that is over, and one that is nobody's.
    let info = client.execute(ENDLESS.to_owned(), None).await.unwrap();
    assert_eq!(cancel(&mut client, &info).await, Ok(CancelStatus::Cancelled));
    assert!(cancel(&mut client, &info).await.is_err());
    assert!(cancel(&mut client, &FlightInfo::new()).await.is_err());
    assert_eq!(number(&mut client, "SELECT 1").await, 1);
}

#[tokio::test]
async fn a_lost_clients_query_ends_within_a_second() {
    let served = Served::in_memory();
    let mut client = served.logged_in("", "").await;
    let mut watcher = served.client().await;
    watcher.set_token(client.token().unwrap().clone());
    let info = client.execute(ENDLESS.to_owned(), None).await.unwrap();
    let mut stream = client.do_get(ticket(&info)).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(300), stream.next()).await.is_err(), "it runs");
    drop(stream);
    drop(client);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let gone = cancel(&mut watcher, &info).await;
    assert!(gone.as_ref().is_err_and(|e| e.contains("no such statement")), "{gone:?}");
}

#[tokio::test]
async fn time_limits() {
    let served = Served::new(&["--query-timeout", "0.5"]);
    let mut client = served.client().await;
    let began = Instant::now();
    let error = query(&mut client, ENDLESS).await.unwrap_err();
    assert!(error.contains("DeadlineExceeded") || error.contains("time limit"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
    // Also a statement that has no result to fetch; nothing of it stays.
    update(&mut client, "CREATE TABLE t (x BIGINT)").await.unwrap();
    let error = update(&mut client, "INSERT INTO t SELECT count(*) FROM range(10000000) AS a(x), range(10000000) AS b(y) WHERE x * y % 7 = 3").await.unwrap_err();
    assert!(error.contains("time limit"), "{error}");
    assert_eq!(number(&mut client, "SELECT count(*) FROM t").await, 0);
    // The client's own time.
    let patient = Served::in_memory();
    let channel = tonic::transport::Endpoint::new(format!("http://{}", patient.address))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut raw = arrow_flight::flight_service_client::FlightServiceClient::new(channel);
    let mut client = patient.client().await;
    let info = client.execute(ENDLESS.to_owned(), None).await.unwrap();
    let mut request = tonic::Request::new(ticket(&info));
    request.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
    // Only the server looks at a header that is set so.
    let stream = raw.do_get(request).await.unwrap().into_inner();
    let status = stream.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "{status}");
}

#[tokio::test]
async fn a_client_that_stops_reading_holds_little_memory() {
    let served = Served::in_memory();
    let mut client = served.client().await;
    let info = client.execute(FLOOD.to_owned(), None).await.unwrap();
    let mut stream = client.do_get(ticket(&info)).await.unwrap();
    for _ in 0..50 {
        stream.next().await.expect("a batch").expect("rows");
    }
    let before = served.resident();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let grown = served.resident().saturating_sub(before);
    assert!(grown < 50 << 20, "{grown} bytes more while nobody reads");
    // Others go on, and so does it.
    assert_eq!(number(&mut served.client().await, "SELECT 41 + 1").await, 42);
    let began = Instant::now();
    let mut rows = 0;
    while began.elapsed() < Duration::from_secs(2) {
        rows += stream.next().await.expect("a batch").expect("rows").num_rows();
    }
    assert!(rows > 100_000, "{rows}");
    let grown = served.resident().saturating_sub(before);
    assert!(grown < 100 << 20, "{grown} bytes more after {rows} rows");
}

#[tokio::test]
async fn compressed_bodies() {
    let served = Served::new(&["--compression", "zstd"]);
    let mut client = served.client().await;
    let sql = "SELECT x, x % 10 AS y, repeat('ab', 20) AS s FROM range(50000) AS t(x)";
    let wanted = number(&mut client, "SELECT sum(x) FROM range(50000) AS t(x)").await;
    let mut sizes = Vec::new();
    for compression in ["none", "lz4", "zstd"] {
        let info = client.execute(sql.to_owned(), None).await.unwrap();
        let mut request = tonic::Request::new(ticket(&info));
        request.metadata_mut().insert("x-triune-compression", compression.parse().unwrap());
        let messages: Vec<_> =
            client.inner_mut().do_get(request).await.unwrap().into_inner().try_collect().await.unwrap();
        sizes.push(messages.iter().map(|m| m.data_body.len()).sum::<usize>());
        let batches = arrow_flight::utils::flight_data_to_batches(&messages).unwrap();
        let sum: i64 = batches
            .iter()
            .map(|b| {
                let x = arrow::compute::cast(b.column(0), &arrow::datatypes::DataType::Int64).unwrap();
                arrow::compute::sum(arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(&x))
                    .unwrap_or(0)
            })
            .sum();
        assert_eq!(sum, wanted, "{compression}");
    }
    assert!(sizes[1] * 2 < sizes[0] && sizes[2] * 2 < sizes[0], "{sizes:?}");
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    assert_eq!(text(&fetch(&mut client, info).await.unwrap()).len(), 50_000);
    until("a refusal", async || {
        let info = client.execute("SELECT 1".to_owned(), None).await.unwrap();
        let mut request = tonic::Request::new(ticket(&info));
        request.metadata_mut().insert("x-triune-compression", "rar".parse().unwrap());
        client.inner_mut().do_get(request).await.is_err_and(|s| s.message().contains("rar"))
    })
    .await;
}
