//! Lists that drivers and BI tools read, in the form that they insist on.

use std::collections::BTreeSet;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, Schema, UInt32Type};
use arrow_flight::sql::{
    Any, Command, CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys,
    CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo,
};
use arrow_flight::{FlightInfo, IpcMessage};
use prost::Message;

use crate::served::{Client, Served, fetch, text, update};

fn command(info: &FlightInfo) -> Command {
    let ticket = info.endpoint[0].ticket.as_ref().expect("a ticket");
    let any = Any::decode(ticket.ticket.as_ref()).expect("a message");
    Command::try_from(any).expect("a command")
}

async fn with_tables(served: &Served) -> Client {
    let mut client = served.logged_in("", "").await;
    for sql in [
        "CREATE TABLE orders (b TEXT, a BIGINT, v VECTOR(4), tags TEXT[], PRIMARY KEY (a, b))",
        "CREATE TABLE other (x INT)",
        "CREATE VIEW latest AS SELECT a, b FROM orders",
        "CREATE TEMP TABLE scratch AS SELECT 1 AS one",
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.items (sku TEXT PRIMARY KEY)",
    ] {
        update(&mut client, sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    client
}

#[tokio::test]
async fn catalogs_schemas_and_tables() {
    let served = Served::in_memory();
    let mut client = with_tables(&served).await;
    let info = client.get_catalogs().await.unwrap();
    assert!(matches!(command(&info), Command::CommandGetCatalogs(_)), "what DBeaver reads a ticket as");
    assert_eq!(text(&fetch(&mut client, info).await.unwrap()), ["triune"]);

    let info = client
        .get_db_schemas(CommandGetDbSchemas { catalog: None, db_schema_filter_pattern: Some("s%".into()) })
        .await
        .unwrap();
    assert!(matches!(command(&info), Command::CommandGetDbSchemas(_)));
    assert_eq!(text(&fetch(&mut client, info).await.unwrap()), ["triune|shop", "triune|system"]);

    let list = |table: Option<&str>, types: &[&str], include_schema| CommandGetTables {
        catalog: None,
        db_schema_filter_pattern: None,
        table_name_filter_pattern: table.map(str::to_owned),
        table_types: types.iter().map(|t| (*t).to_owned()).collect(),
        include_schema,
    };
    let info = client.get_tables(list(None, &["TABLE", "VIEW", "LOCAL TEMPORARY"], false)).await.unwrap();
    assert!(matches!(command(&info), Command::CommandGetTables(_)));
    let batch = fetch(&mut client, info).await.unwrap();
    let names: Vec<String> = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["catalog_name", "db_schema_name", "table_name", "table_type"]);
    let mut found = text(&batch);
    found.sort();
    assert_eq!(
        found,
        [
            "triune|public|latest|VIEW",
            "triune|public|orders|TABLE",
            "triune|public|other|TABLE",
            "triune|public|scratch|LOCAL TEMPORARY",
            "triune|shop|items|TABLE"
        ]
    );
    let info = client.get_tables(list(Some("orders"), &[], true)).await.unwrap();
    let batch = fetch(&mut client, info).await.unwrap();
    assert_eq!(batch.num_rows(), 1);
    let message = IpcMessage(batch.column(4).as_binary::<i32>().value(0).to_vec().into());
    let schema = Schema::try_from(message).expect("a schema");
    let columns: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(columns, ["b", "a", "v", "tags"]);
    // A view's columns are found by planning it.
    let info = client.get_tables(list(Some("latest"), &["VIEW"], true)).await.unwrap();
    let batch = fetch(&mut client, info).await.unwrap();
    let message = IpcMessage(batch.column(4).as_binary::<i32>().value(0).to_vec().into());
    assert_eq!(Schema::try_from(message).unwrap().fields().len(), 2);
    // Another catalog's tables are none.
    let elsewhere = CommandGetTables { catalog: Some("other".into()), ..list(None, &[], false) };
    let info = client.get_tables(elsewhere).await.unwrap();
    assert_eq!(fetch(&mut client, info).await.unwrap().num_rows(), 0);

    let info = client.get_table_types().await.unwrap();
    assert_eq!(
        text(&fetch(&mut client, info).await.unwrap()),
        ["LOCAL TEMPORARY", "SYSTEM TABLE", "TABLE", "VIEW"]
    );
}

#[tokio::test]
async fn keys() {
    let served = Served::in_memory();
    let mut client = with_tables(&served).await;
    let of = |schema: Option<&str>, table: &str| CommandGetPrimaryKeys {
        catalog: None,
        db_schema: schema.map(str::to_owned),
        table: table.to_owned(),
    };
    let info = client.get_primary_keys(of(None, "orders")).await.unwrap();
    assert!(matches!(command(&info), Command::CommandGetPrimaryKeys(_)));
    let found = text(&fetch(&mut client, info).await.unwrap());
    assert_eq!(found, ["triune|public|orders|a|1|orders_pkey", "triune|public|orders|b|2|orders_pkey"]);
    let info = client.get_primary_keys(of(Some("shop"), "items")).await.unwrap();
    assert_eq!(fetch(&mut client, info).await.unwrap().num_rows(), 1);
    let info = client.get_primary_keys(of(Some("public"), "items")).await.unwrap();
    assert_eq!(fetch(&mut client, info).await.unwrap().num_rows(), 0);
    // Foreign keys: none, under the right columns.
    let (catalog, db_schema, table) = (None, None, "orders".to_owned());
    let infos = [
        client
            .get_imported_keys(CommandGetImportedKeys {
                catalog: catalog.clone(),
                db_schema: db_schema.clone(),
                table: table.clone(),
            })
            .await,
        client.get_exported_keys(CommandGetExportedKeys { catalog, db_schema, table }).await,
        client.get_cross_reference(CommandGetCrossReference::default()).await,
    ];
    for info in infos {
        let batch = fetch(&mut client, info.unwrap()).await.unwrap();
        assert_eq!((batch.num_rows(), batch.num_columns()), (0, 13));
        assert_eq!(batch.schema().field(8).name(), "key_sequence");
    }
}

#[tokio::test]
async fn what_the_server_can_do_is_told_completely() {
    let served = Served::in_memory();
    let mut client = served.logged_in("", "").await;
    let info = client.get_sql_info(vec![]).await.unwrap();
    let batch = fetch(&mut client, info).await.unwrap();
    let ids: BTreeSet<u32> = batch.column(0).as_primitive::<UInt32Type>().values().iter().copied().collect();
    let wanted: BTreeSet<u32> = (0..=11).chain([100, 101]).chain(500..=576).collect();
    let missing: Vec<_> = wanted.difference(&ids).collect();
    assert!(missing.is_empty(), "drivers fail without {missing:?}");
    let values = batch.column(1).as_any().downcast_ref::<arrow::array::UnionArray>().unwrap();
    for row in 0..values.len() {
        assert!(!values.value(row).is_null(0), "value {row}");
    }
    // Only those that were asked for.
    let info = client
        .get_sql_info(vec![
            arrow_flight::sql::SqlInfo::SqlKeywords,
            arrow_flight::sql::SqlInfo::FlightSqlServerName,
        ])
        .await
        .unwrap();
    let some = text(&fetch(&mut client, info).await.unwrap());
    assert_eq!(some.len(), 2);
    assert!(
        some.iter().any(|r| r.contains("Triune")) && some.iter().any(|r| r.contains("ILIKE")),
        "{some:?}"
    );

    let info = client.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: None }).await.unwrap();
    let batch = fetch(&mut client, info).await.unwrap();
    assert_eq!((batch.num_rows(), batch.num_columns()), (19, 19));
    let codes = batch.column(1).as_primitive::<Int32Type>().values().to_vec();
    assert!(codes.contains(&-5) && codes.contains(&93), "{codes:?}");
    let info = client.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: Some(12) }).await.unwrap();
    assert_eq!(fetch(&mut client, info).await.unwrap().num_rows(), 2);
}

/// What the JDBC driver (DBeaver, Tableau) sends from its connection to its first rows, and Grafana's plugin.
#[tokio::test]
async fn the_order_of_calls_of_known_tools() {
    let served = Served::in_memory();
    with_tables(&served).await;
    // JDBC: handshake, options, info, lists, and always a prepared statement.
    let mut jdbc = served.logged_in("", "").await;
    let info = jdbc.get_sql_info(vec![]).await.unwrap();
    fetch(&mut jdbc, info).await.unwrap();
    let info = jdbc.get_catalogs().await.unwrap();
    fetch(&mut jdbc, info).await.unwrap();
    let mut statement = jdbc.prepare("SELECT count(*) AS n FROM orders".to_owned(), None).await.unwrap();
    assert_eq!(statement.dataset_schema().unwrap().fields().len(), 1);
    let info = statement.execute().await.unwrap();
    assert_eq!(text(&fetch(&mut jdbc, info).await.unwrap()), ["0"]);
    statement.close().await.unwrap();
    for sql in ["SHOW TABLES", "EXPLAIN SELECT 1", "DESCRIBE orders"] {
        let statement = jdbc.prepare(sql.to_owned(), None).await.unwrap();
        assert!(
            !statement.dataset_schema().unwrap().fields().is_empty(),
            "{sql} gives rows, and JDBC must know"
        );
    }
    let mut insert = jdbc.prepare("INSERT INTO other VALUES (5)".to_owned(), None).await.unwrap();
    assert_eq!(insert.execute_update().await.unwrap(), 1, "no batch of parameters is no parameters");
    // Grafana: info of tables for its editor, then statements as they are.
    let mut grafana = served.client().await;
    let all = CommandGetTables { include_schema: false, ..CommandGetTables::default() };
    let info = grafana.get_tables(all).await.unwrap();
    fetch(&mut grafana, info).await.unwrap();
    let info = grafana.execute("SELECT now() AS time, count(*) FROM orders".to_owned(), None).await.unwrap();
    assert_eq!(fetch(&mut grafana, info).await.unwrap().num_rows(), 1);
}
