//! Statements, parameters, transactions and ingest.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::PreparedStatement;
use arrow_flight::sql::{
    CommandStatementIngest, EndTransaction, ProstMessageExt, TableDefinitionOptions, TableExistsOption,
    TableNotExistOption,
};
use arrow_flight::{FlightData, FlightDescriptor};
use futures::TryStreamExt;
use prost::Message;
use tonic::transport::Channel;

use crate::served::{Client, Served, act, fetch, number, query, query_in, rows, text, update};

#[tokio::test]
async fn statements_give_rows_and_counts() {
    let served = Served::in_memory();
    let client = &mut served.client().await;
    assert_eq!(rows(client, "SELECT 1 AS a, 'x' AS b").await, ["1|x"]);
    assert_eq!(update(client, "CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT)").await, Ok(-1));
    assert_eq!(update(client, "INSERT INTO t VALUES (1, 'a'), (2, 'b')").await, Ok(2));
    // A driver that calls everything a query.
    let info = client.execute("INSERT INTO t VALUES (3, 'c')".to_owned(), None).await.unwrap();
    assert_eq!(info.total_records, 1);
    assert_eq!(number(client, "SELECT count(*) FROM t").await, 3, "before its result is fetched");
    assert_eq!(fetch(client, info.clone()).await.unwrap().num_rows(), 0);
    assert_eq!(fetch(client, info).await.unwrap().num_rows(), 0);
    assert_eq!(rows(client, "SELECT * FROM t ORDER BY id").await, ["1|a", "2|b", "3|c"]);
    // Rows that a write returns come once.
    let info =
        client.execute("DELETE FROM t WHERE id = 3 RETURNING id, name".to_owned(), None).await.unwrap();
    assert_eq!(text(&fetch(client, info.clone()).await.unwrap()), ["3|c"]);
    assert!(fetch(client, info).await.unwrap_err().contains("fetched already"));
    // Those of a query come as often as they are asked for.
    let info = client.execute("SELECT count(*) FROM t".to_owned(), None).await.unwrap();
    assert_eq!(text(&fetch(client, info.clone()).await.unwrap()), ["2"]);
    assert_eq!(update(client, "INSERT INTO t VALUES (4, 'd')").await, Ok(1));
    assert_eq!(text(&fetch(client, info).await.unwrap()), ["3"]);
    for (sql, state) in
        [("SELEC 1", "42601"), ("SELECT * FROM nowhere", "42P01"), ("INSERT INTO t VALUES (1, 'a')", "23000")]
    {
        let error = query(client, sql).await.unwrap_err();
        assert!(error.contains(&format!("SQLSTATE {state}")), "{error}");
    }
}

#[tokio::test]
async fn settings_and_temporary_tables_belong_to_a_session() {
    let served = Served::in_memory();
    let one = &mut served.logged_in("", "").await;
    let two = &mut served.client().await;
    update(one, "CREATE TEMP TABLE mine AS SELECT 7 AS x").await.unwrap();
    update(one, "SET timezone = 'Asia/Tokyo'").await.unwrap();
    assert_eq!(rows(one, "SELECT x FROM mine").await, ["7"]);
    assert!(query(two, "SELECT x FROM mine").await.unwrap_err().contains("mine"));
    let shown = rows(one, "SHOW timezone").await;
    assert!(shown[0].contains("Tokyo"), "{shown:?}");
    assert!(!rows(two, "SHOW timezone").await[0].contains("Tokyo"));
    // BEGIN by SQL.
    update(one, "CREATE TABLE t (id BIGINT PRIMARY KEY)").await.unwrap();
    update(one, "BEGIN").await.unwrap();
    update(one, "INSERT INTO t VALUES (1)").await.unwrap();
    assert_eq!(number(one, "SELECT count(*) FROM t").await, 1);
    assert_eq!(number(two, "SELECT count(*) FROM t").await, 0);
    update(one, "COMMIT").await.unwrap();
    assert_eq!(number(two, "SELECT count(*) FROM t").await, 1);
}

fn numbers(values: &[i64]) -> RecordBatch {
    RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(values.to_vec())) as _)]).unwrap()
}

fn pairs(values: &[(i64, &str)]) -> RecordBatch {
    let ids = Int64Array::from_iter_values(values.iter().map(|v| v.0));
    let names = StringArray::from_iter_values(values.iter().map(|v| v.1));
    RecordBatch::try_from_iter([("id", Arc::new(ids) as _), ("name", Arc::new(names) as _)]).unwrap()
}

async fn all(statement: &mut PreparedStatement<Channel>, client: &mut Client) -> Vec<String> {
    let info = statement.execute().await.expect("a result");
    text(&fetch(client, info).await.expect("rows"))
}

#[tokio::test]
async fn prepared_statements_are_described_and_bound() {
    let served = Served::in_memory();
    // Two clients of one session would need one token; one client lends its channel.
    let mut client = served.logged_in("", "").await;
    update(&mut client, "CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT, made TIMESTAMP, v VECTOR(3))")
        .await
        .unwrap();
    let mut insert = client.prepare("INSERT INTO t (id, name) VALUES (?, ?)".to_owned(), None).await.unwrap();
    let types: Vec<DataType> =
        insert.parameter_schema().unwrap().fields().iter().map(|f| f.data_type().clone()).collect();
    assert_eq!(types, [DataType::Int64, DataType::Utf8]);
    assert!(insert.dataset_schema().unwrap().fields().is_empty(), "what JDBC tells updates by");
    assert_eq!(number(&mut client, "SELECT count(*) FROM t").await, 0, "nothing is run");
    insert.set_parameters(pairs(&[(1, "a"), (2, "b"), (3, "c")])).unwrap();
    assert_eq!(insert.execute_update().await.unwrap(), 3);
    // All or none.
    insert.set_parameters(pairs(&[(4, "d"), (1, "again")])).unwrap();
    assert!(insert.execute_update().await.unwrap_err().to_string().contains("23000"));
    assert_eq!(number(&mut client, "SELECT count(*) FROM t").await, 3);
    insert.close().await.unwrap();

    let mut select = client.prepare("SELECT id, name FROM t WHERE id = $1".to_owned(), None).await.unwrap();
    assert_eq!(select.parameter_schema().unwrap().field(0).data_type(), &DataType::Int64);
    let names: Vec<String> =
        select.dataset_schema().unwrap().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["id", "name"]);
    select.set_parameters(numbers(&[2])).unwrap();
    assert_eq!(all(&mut select, &mut client).await, ["2|b"]);
    // Several rows of parameters: their results one after the other.
    select.set_parameters(numbers(&[3, 9, 1])).unwrap();
    assert_eq!(all(&mut select, &mut client).await, ["3|c", "1|a"]);
    // Parameters that do not fit.
    select.set_parameters(pairs(&[(1, "x")])).unwrap();
    assert!(select.execute().await.unwrap_err().to_string().contains("1 parameters"));

    let update =
        client.prepare("UPDATE t SET name = ?, v = ? WHERE made > ?".to_owned(), None).await.unwrap();
    let types: Vec<String> =
        update.parameter_schema().unwrap().fields().iter().map(|f| f.data_type().to_string()).collect();
    assert_eq!(types[0], "Utf8");
    assert!(types[1].starts_with("FixedSizeList") && types[2].starts_with("Timestamp"), "{types:?}");
    assert!(update.parameter_schema().is_ok());
    assert!(client.prepare("SELECT nothing FROM t".to_owned(), None).await.is_err());
}

#[tokio::test]
async fn transactions_by_id() {
    let served = Served::in_memory();
    let one = &mut served.logged_in("", "").await;
    let two = &mut served.logged_in("", "").await;
    update(one, "CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT)").await.unwrap();
    update(one, "INSERT INTO t VALUES (1, 0)").await.unwrap();
    // Two of one session, beside each other.
    let a = one.begin_transaction().await.unwrap();
    let b = one.begin_transaction().await.unwrap();
    one.execute_update("INSERT INTO t VALUES (2, 0)".to_owned(), Some(a.clone())).await.unwrap();
    assert_eq!(query_in(one, "SELECT * FROM t", Some(&a)).await.unwrap().num_rows(), 2);
    assert_eq!(query_in(one, "SELECT * FROM t", Some(&b)).await.unwrap().num_rows(), 1);
    assert_eq!(number(one, "SELECT count(*) FROM t").await, 1);
    one.end_transaction(a.clone(), EndTransaction::Commit).await.unwrap();
    assert_eq!(number(one, "SELECT count(*) FROM t").await, 2);
    assert_eq!(query_in(one, "SELECT * FROM t", Some(&b)).await.unwrap().num_rows(), 1, "one snapshot");
    one.end_transaction(b, EndTransaction::Rollback).await.unwrap();
    assert!(one.end_transaction(a.clone(), EndTransaction::Commit).await.is_err(), "it ends once");
    assert!(query_in(one, "SELECT 1", Some(&a)).await.is_err());
    // Another session's is nobody else's.
    let c = two.begin_transaction().await.unwrap();
    assert!(query_in(one, "SELECT 1", Some(&c)).await.unwrap_err().contains("no open transaction"));
    // First committer wins, and the other is told so in the way that drivers look for.
    let d = one.begin_transaction().await.unwrap();
    one.execute_update("UPDATE t SET n = 1 WHERE id = 1".to_owned(), Some(d.clone())).await.unwrap();
    two.execute_update("UPDATE t SET n = 2 WHERE id = 1".to_owned(), Some(c.clone())).await.unwrap();
    one.end_transaction(d, EndTransaction::Commit).await.unwrap();
    let lost = two.end_transaction(c, EndTransaction::Commit).await.unwrap_err().to_string();
    assert!(lost.contains("SQLSTATE 40001") && lost.contains("aborted"), "{lost}");
    assert_eq!(rows(two, "SELECT n FROM t WHERE id = 1").await, ["1"]);
}

#[tokio::test]
async fn savepoints_by_id() {
    use arrow_flight::sql::{
        ActionBeginSavepointRequest, ActionBeginSavepointResult, ActionEndSavepointRequest, Any,
    };
    let served = Served::in_memory();
    let client = &mut served.logged_in("", "").await;
    update(client, "CREATE TABLE t (id BIGINT PRIMARY KEY)").await.unwrap();
    let transaction = client.begin_transaction().await.unwrap();
    let insert = async |client: &mut Client, id: i64| {
        client
            .execute_update(format!("INSERT INTO t VALUES ({id})"), Some(transaction.clone()))
            .await
            .unwrap();
    };
    let savepoint = async |client: &mut Client| {
        let request =
            ActionBeginSavepointRequest { transaction_id: transaction.clone(), name: "s".to_owned() };
        let body = act(client, "BeginSavepoint", request.as_any().encode_to_vec()).await.unwrap();
        let any = Any::decode(body.as_slice()).unwrap();
        any.unpack::<ActionBeginSavepointResult>().unwrap().unwrap().savepoint_id
    };
    let end = async |client: &mut Client, savepoint_id: &bytes::Bytes, action: i32| {
        let request = ActionEndSavepointRequest { savepoint_id: savepoint_id.clone(), action };
        act(client, "EndSavepoint", request.as_any().encode_to_vec()).await
    };
    insert(client, 1).await;
    let outer = savepoint(client).await;
    insert(client, 2).await;
    let inner = savepoint(client).await;
    insert(client, 3).await;
    end(client, &inner, 1).await.expect("a release");
    end(client, &outer, 2).await.expect("a way back");
    insert(client, 4).await;
    assert!(end(client, &inner, 2).await.is_err(), "it is gone");
    assert!(end(client, &"nothing:here".into(), 2).await.is_err());
    client.end_transaction(transaction, EndTransaction::Commit).await.unwrap();
    assert_eq!(rows(client, "SELECT id FROM t ORDER BY id").await, ["1", "4"]);
}

fn ingest(
    table: &str,
    missing: TableNotExistOption,
    there: TableExistsOption,
    options: &[(&str, &str)],
) -> CommandStatementIngest {
    CommandStatementIngest {
        table_definition_options: Some(TableDefinitionOptions {
            if_not_exist: missing.into(),
            if_exists: there.into(),
        }),
        table: table.to_owned(),
        schema: None,
        catalog: None,
        temporary: false,
        transaction_id: None,
        options: options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<HashMap<_, _>>(),
    }
}

async fn send(
    client: &mut Client,
    command: CommandStatementIngest,
    batches: Vec<RecordBatch>,
) -> Result<i64, String> {
    let stream = futures::stream::iter(batches.into_iter().map(Ok::<_, FlightError>));
    client.execute_ingest(command, stream).await.map_err(|e| e.to_string())
}

#[tokio::test]
async fn bulk_ingest() {
    use TableExistsOption as There;
    use TableNotExistOption as Missing;
    let folder = tempfile::tempdir().unwrap();
    let served = Served::on(&folder.path().join("db"));
    let client = &mut served.logged_in("", "").await;
    let command = |missing, there, options: &[(&str, &str)]| ingest("My Table", missing, there, options);
    let refused = send(client, command(Missing::Fail, There::Append, &[]), vec![pairs(&[(1, "a")])]).await;
    assert!(refused.unwrap_err().contains("there is no table"));
    let made = send(
        client,
        command(Missing::Create, There::Fail, &[]),
        vec![pairs(&[(1, "a")]), pairs(&[(2, "b")])],
    )
    .await;
    assert_eq!(made, Ok(2));
    let refused = send(client, command(Missing::Create, There::Fail, &[]), vec![pairs(&[(1, "a")])]).await;
    assert!(refused.unwrap_err().contains("exists already"));
    assert_eq!(
        send(client, command(Missing::Fail, There::Append, &[]), vec![pairs(&[(3, "c")])]).await,
        Ok(1)
    );
    assert_eq!(rows(client, "SELECT * FROM \"My Table\" ORDER BY id").await, ["1|a", "2|b", "3|c"]);
    // A replacement that fails half-way leaves what was there.
    for mode in [There::Replace, There::Append] {
        let descriptor =
            FlightDescriptor::new_cmd(command(Missing::Create, mode, &[]).as_any().encode_to_vec());
        let batch = futures::stream::iter([Ok(pairs(&[(7, "x")]))]);
        let good = FlightDataEncoderBuilder::new().with_flight_descriptor(Some(descriptor)).build(batch);
        let mut messages: Vec<FlightData> = good.try_collect().await.unwrap();
        messages.push(FlightData::new().with_data_header(vec![7_u8; 40]));
        let torn = client.inner_mut().do_put(futures::stream::iter(messages)).await;
        assert!(torn.map(|_| ()).unwrap_err().message().contains("cannot be read"));
    }
    assert_eq!(number(client, "SELECT count(*) FROM \"My Table\"").await, 3);
    let key = [("triune.primary_key", "id")];
    let twice = vec![pairs(&[(1, "z"), (1, "y")])];
    assert!(send(client, command(Missing::Create, There::Replace, &key), twice).await.is_err());
    assert_eq!(rows(client, "SELECT * FROM \"My Table\" ORDER BY id").await, ["1|a", "2|b", "3|c"]);
    assert_eq!(
        send(client, command(Missing::Create, There::Replace, &key), vec![pairs(&[(1, "z"), (2, "y")])])
            .await,
        Ok(2)
    );
    assert_eq!(rows(client, "SELECT * FROM \"My Table\" ORDER BY id").await, ["1|z", "2|y"]);
    // By key.
    let refused =
        send(client, command(Missing::Fail, There::Append, &[]), vec![pairs(&[(3, "c"), (1, "again")])])
            .await;
    assert!(refused.unwrap_err().contains("23000"));
    assert_eq!(number(client, "SELECT count(*) FROM \"My Table\"").await, 2, "all or none");
    let upsert = [("triune.on_conflict", "update")];
    assert_eq!(
        send(client, command(Missing::Fail, There::Append, &upsert), vec![pairs(&[(2, "new"), (3, "c")])])
            .await,
        Ok(2)
    );
    let keep = [("triune.on_conflict", "nothing")];
    send(client, command(Missing::Fail, There::Append, &keep), vec![pairs(&[(2, "newer"), (4, "d")])])
        .await
        .unwrap();
    assert_eq!(rows(client, "SELECT * FROM \"My Table\" ORDER BY id").await, ["1|z", "2|new", "3|c", "4|d"]);
    assert!(
        send(client, command(Missing::Fail, There::Append, &[("speed", "9")]), vec![numbers(&[1])])
            .await
            .unwrap_err()
            .contains("speed")
    );
    // In a transaction.
    let transaction = client.begin_transaction().await.unwrap();
    let within = CommandStatementIngest {
        transaction_id: Some(transaction.clone()),
        ..command(Missing::Fail, There::Append, &[])
    };
    assert_eq!(send(client, within, vec![pairs(&[(5, "e")])]).await, Ok(1));
    assert_eq!(number(client, "SELECT count(*) FROM \"My Table\"").await, 4);
    client.end_transaction(transaction, EndTransaction::Rollback).await.unwrap();
    assert_eq!(number(client, "SELECT count(*) FROM \"My Table\"").await, 4);
    // Temporary.
    let temporary =
        CommandStatementIngest { temporary: true, ..ingest("scratch", Missing::Create, There::Append, &[]) };
    assert_eq!(send(client, temporary.clone(), vec![numbers(&[1, 2])]).await, Ok(2));
    assert_eq!(send(client, temporary, vec![numbers(&[3])]).await, Ok(1));
    assert_eq!(number(client, "SELECT sum(id) FROM scratch").await, 6);
    assert!(query(&mut served.client().await, "FROM scratch").await.is_err());
    // Many.
    let many: Vec<RecordBatch> =
        (0..20).map(|b| numbers(&(b * 10_000..(b + 1) * 10_000).collect::<Vec<_>>())).collect();
    assert_eq!(send(client, ingest("many", Missing::Create, There::Fail, &[]), many).await, Ok(200_000));
    assert_eq!(
        rows(client, "SELECT count(*), count(DISTINCT id), sum(id) FROM many").await,
        ["200000|200000|19999900000"]
    );
}
