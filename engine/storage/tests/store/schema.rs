use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::prelude::SessionContext;
use triune_common::ErrorKind;
use triune_storage::store::{Fill, SchemaChange};
use triune_storage::table::ColumnDef;

use super::support::*;

/// The table's rows as text, by id.
async fn rows_of(store: &std::sync::Arc<triune_storage::store::Store>) -> Vec<String> {
    let provider = store.begin().provider(KEYED).expect("a provider");
    let frame = SessionContext::new().read_table(provider).expect("a table");
    let batches = frame.collect().await.expect("rows");
    let mut lines = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch.columns().iter().map(|c| ("c", std::sync::Arc::clone(c))).collect();
        for row in 0..batch.num_rows() {
            let values: Vec<String> = columns
                .iter()
                .map(|(_, c)| arrow::util::display::array_value_to_string(c, row).expect("text"))
                .collect();
            lines.push(values.join("|"));
        }
    }
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_follow_their_definition_through_restarts() {
    let (place, store) = Place::create().await;
    let t = store.begin();
    t.insert(KEYED, rows(KEYED, &[(1, 10), (2, 20)])).await.unwrap();
    t.commit(true).await.unwrap();
    store.checkpoint().await.unwrap();
    let (old, racing) = (store.begin(), store.begin());
    racing.insert(KEYED, rows(KEYED, &[(9, 90)])).await.unwrap();

    let mut def = definition(KEYED, &["id"]);
    def.revision = 2;
    def.last_column = 4;
    def.columns.push(ColumnDef {
        id: 4,
        field: Field::new("extra", DataType::Int64, true),
        default: None,
        identity: None,
        generated: None,
        comment: None,
    });
    let add =
        SchemaChange::AddColumn { name: "extra".into(), fill: Fill::Value(ScalarValue::Int64(Some(7))) };
    store.alter_table(def.clone(), add).await.unwrap();
    assert_eq!(rows_of(&store).await, ["1|10|s10|7", "2|20|s20|7"]);
    assert_eq!(seen(&old, KEYED).await.len(), 2, "a snapshot keeps its columns");
    assert_eq!(racing.commit(true).await.unwrap_err().kind(), ErrorKind::Conflict);

    def.revision = 3;
    def.columns[1].field = Field::new("w", DataType::Utf8, true);
    def.columns.remove(2);
    let rename = SchemaChange::RenameColumn { from: "v".into(), to: "w".into() };
    store.alter_table(def.clone(), rename).await.unwrap();
    assert_eq!(rows_of(&store).await, ["1|10|7", "2|20|7"]);
    drop((old, store));

    // The catalog was never told: the storage knows better.
    let store = place.open().await;
    assert_eq!(store.definition(KEYED).unwrap().revision, 3);
    assert_eq!(rows_of(&store).await, ["1|10|7", "2|20|7"]);
    let found = store.begin().get(KEYED, &keys(&[2])).await.unwrap();
    assert_eq!(found.column(0).as_primitive::<Int64Type>().value(0), 2);

    def.revision = 4;
    def.columns[1].field = Field::new("w", DataType::Date32, true);
    let retype = SchemaChange::RetypeColumn { name: "w".into() };
    let e = store.alter_table(def, retype).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Invalid, "{e}");
    assert!(e.message().contains("\"w\""), "{e}");
    assert_eq!(rows_of(&store).await, ["1|10|7", "2|20|7"], "a change that fails changes nothing");
    let t = store.begin();
    t.delete(KEYED, &keys(&[1])).await.unwrap();
    t.commit(true).await.expect("the table takes commits again");
    assert_eq!(rows_of(&store).await, ["2|20|7"]);
    store.vacuum(KEYED).await.unwrap();
    let folders: Vec<_> = std::fs::read_dir(place.folder.path().join("tables"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(folders.contains(&"1.3".to_owned()), "{folders:?}");
    assert_eq!(rows_of(&store).await, ["2|20|7"]);
}
