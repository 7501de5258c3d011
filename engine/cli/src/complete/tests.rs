use super::*;
use crate::catalog::{ColumnEntry, FunctionEntry};

fn table(schema: &str, name: &str, columns: &[(&str, &str)]) -> TableEntry {
    TableEntry {
        schema: schema.into(),
        name: name.into(),
        kind: "table".into(),
        columns: columns
            .iter()
            .map(|(n, t)| ColumnEntry {
                name: (*n).into(),
                data_type: (*t).into(),
                nullable: true,
                default: None,
                comment: None,
            })
            .collect(),
        notes: vec![],
        statement: None,
    }
}

fn function(name: &str, kind: &str) -> FunctionEntry {
    FunctionEntry {
        name: name.into(),
        kind: kind.into(),
        signature: format!("{name}(any)"),
        description: String::new(),
    }
}

fn catalog() -> Catalog {
    Catalog {
        tables: vec![
            table(
                "main",
                "packages",
                &[("name", "VARCHAR"), ("embedding", "VECTOR(384)"), ("Stars", "BIGINT")],
            ),
            table("main", "events", &[("package", "VARCHAR"), ("ts", "TIMESTAMP")]),
            table("main", "Order Items", &[("id", "BIGINT")]),
        ],
        functions: vec![
            function("count", "aggregate"),
            function("cosine_distance", "scalar"),
            function("vector_search", "table"),
        ],
    }
}

fn list(folder: &str) -> Vec<(String, bool)> {
    match folder {
        "" => vec![("data".into(), true), ("demo.sql".into(), false), (".hidden".into(), false)],
        "data/" => vec![("packages.parquet".into(), false), ("events.parquet".into(), false)],
        _ => Vec::new(),
    }
}

/// Candidates at the `|` of the text.
fn at(marked: &str) -> Completions {
    let cursor = marked.find('|').unwrap();
    let text = marked.replace('|', "");
    complete(&text, cursor, &catalog(), &list)
}

#[test]
fn tables_after_from() {
    assert_eq!(at("SELECT * FROM pa|").texts(), ["packages"]);
    assert_eq!(at("SELECT * FROM PACK|").texts(), ["packages"]);
    assert_eq!(at("SELECT * FROM |").texts(), ["packages", "events", "\"Order Items\"", "vector_search("]);
    assert_eq!(at("SELECT * FROM packages p JOIN ev|").texts(), ["events"]);
    assert_eq!(at("SELECT * FROM packages, e|").texts(), ["events"]);
    assert_eq!(at("SELECT * FROM ord|").texts(), ["\"Order Items\""]);
    assert_eq!(at("SELECT * FROM \"O|").texts(), ["\"Order Items\""]);
    assert_eq!(at("SELECT * FROM vec|").texts(), ["vector_search("]);
    assert_eq!(at("INSERT INTO e|").texts(), ["events"]);
    assert_eq!(at("summarize pa|").texts(), ["packages"]);
}

#[test]
fn columns_of_the_statements_tables_come_first() {
    let found = at("SELECT na| FROM packages");
    assert_eq!(found.texts()[0], "name");
    assert_eq!(found.candidates[0].detail, "VARCHAR");
    // `package` is a column of another table, and is not offered.
    assert!(!at("SELECT pack| FROM packages").texts().contains(&"package"));
    assert_eq!(at("SELECT * FROM packages WHERE st|").texts()[0], "\"Stars\"");
    // Nothing named yet: columns of all tables.
    assert!(at("SELECT pack|").texts().contains(&"package"));
    // Another statement's tables do not count.
    assert!(!at("SELECT * FROM events; SELECT ts| FROM packages").texts().contains(&"ts"));
}

#[test]
fn members() {
    assert_eq!(at("SELECT p.| FROM packages AS p").texts(), ["name", "embedding", "\"Stars\""]);
    assert_eq!(at("SELECT p.em| FROM packages p, events e").texts(), ["embedding"]);
    assert_eq!(at("SELECT e.t| FROM packages p JOIN events e ON true").texts(), ["ts"]);
    assert_eq!(at("SELECT events.p| FROM events").texts(), ["package"]);
    assert_eq!(at("SELECT * FROM main.pa|").texts(), ["packages"]);
    assert_eq!(at("SELECT zzz.| FROM events").texts(), Vec::<&str>::new());
}

#[test]
fn keywords_follow_the_typed_case() {
    assert_eq!(at("sel|").texts(), ["select"]);
    assert_eq!(at("SEL|").texts(), ["SELECT"]);
    assert!(at("|").texts().contains(&"SELECT"));
    assert_eq!(at("SELECT 1; desc|").texts(), ["describe"]);
    let found = at("SELECT * FROM packages wher|");
    assert_eq!(found.texts(), ["where"]);
    assert!(found.candidates[0].space);
}

#[test]
fn functions_bring_their_parenthesis() {
    assert_eq!(at("SELECT cosi| FROM packages").texts(), ["cosine_distance("]);
    assert_eq!(at("SELECT COUN|").texts(), ["count("]);
}

#[test]
fn types_after_a_cast() {
    assert_eq!(at("SELECT '[1]'::vec|").texts(), ["vector"]);
}

#[test]
fn nothing_in_comments_and_numbers() {
    assert_eq!(at("SELECT 1 -- fro|").texts(), Vec::<&str>::new());
    assert_eq!(at("SELECT 12|").texts(), Vec::<&str>::new());
    assert_eq!(at("SELECT $$ fro|").texts(), Vec::<&str>::new());
}

#[test]
fn files_inside_quotes() {
    let found = at("SELECT * FROM 'da|");
    assert_eq!(found.texts(), ["data/"]);
    assert_eq!((found.start, found.end), (15, 17));
    assert_eq!(at("SELECT * FROM 'data/p|").texts(), ["data/packages.parquet"]);
    assert_eq!(at("SELECT * FROM '|").texts(), ["data/", "demo.sql"]);
    assert_eq!(at("SELECT * FROM '.h|").texts(), [".hidden"]);
}

#[test]
fn commands_and_their_arguments() {
    assert_eq!(at("\\ti|").texts(), ["\\timing"]);
    assert_eq!(at(".ta|").texts(), [".tables"]);
    assert!(at("\\|").texts().contains(&"\\watch"));
    assert!(!at("\\|").texts().contains(&".tables"));
    assert_eq!(at("\\d pack|").texts(), ["packages"]);
    assert_eq!(at("\\timing |").texts(), ["on", "off"]);
    assert_eq!(at(".mode j|").texts(), ["json"]);
    assert_eq!(at("\\i de|").texts(), ["demo.sql"]);
    assert_eq!(at(".read 'data/e|").texts(), ["data/events.parquet"]);
    assert_eq!(at("\\h cos|").texts(), ["cosine_distance"]);
    assert_eq!(at("SELECT 1;\n\\dt ev|").texts(), ["events"]);
}

#[test]
fn the_cursor_may_stand_anywhere() {
    let text = "SELECT p.name, 'ä' FROM packages p; \\d x -- ü";
    for cursor in (0..=text.len()).filter(|i| text.is_char_boundary(*i)) {
        let found = complete(text, cursor, &catalog(), &list);
        assert!(found.start <= found.end && found.end == cursor && text.is_char_boundary(found.start));
    }
}
