//! What a table is: columns, key, checks, options. Kept in the catalog as JSON.
//!
//! ```sql
//! CREATE TABLE docs (
//!     id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
//!     title TEXT NOT NULL DEFAULT 'untitled',
//!     stars INT CHECK (stars >= 0),
//!     embedding VECTOR(384))
//! WITH (retention = '7 days');
//! ```
//!
//! The *stored schema* of a table is its columns in order, then the hidden columns: `_rid` (UInt64) where there is
//! no primary key. Rows travel through transactions, WAL, hot store and base in the stored schema. Text is
//! `Utf8`, binary `Binary`, lists have nullable items called `item`: the types that Lance reads back.

mod index;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use triune_common::{Error, Result};

pub use index::IndexDef;
pub use triune_lance::IndexMethod;

use crate::key::{KeyCodec, RID};
use crate::stamp::{CommitTs, TableId};

/// A table's definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableDef {
    pub id: TableId,
    /// Grows with every change of the definition; a commit that was prepared under another one is refused.
    pub revision: u64,
    pub columns: Vec<ColumnDef>,
    /// Names of the key's columns, in the order of the clause; empty: the hidden `_rid`.
    #[serde(default)]
    pub primary_key: Vec<String>,
    /// Constraint name (`docs_stars_check`) and condition as SQL.
    #[serde(default)]
    pub checks: Vec<CheckDef>,
    /// Columns by which checkpoints and OPTIMIZE order the rows of the base.
    #[serde(default)]
    pub cluster_by: Vec<String>,
    #[serde(default)]
    pub comment: Option<String>,
    #[serde(default)]
    pub options: TableOptions,
    /// When the table was made; before that there is no version of it. Zero for tables of which nobody knows.
    #[serde(default, skip_serializing_if = "CommitTs::is_zero")]
    pub created: CommitTs,
    /// The highest column id given out.
    pub last_column: u32,
    /// In the order of their making.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<IndexDef>,
    /// Grows with every change of the indexes, which disturbs no transaction.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub index_revision: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnDef {
    /// Stays with the column when it is renamed; never given out again.
    pub id: u32,
    /// Name, stored type, nullability and extension metadata.
    #[serde(serialize_with = "write_field", deserialize_with = "read_field")]
    pub field: Field,
    /// The DEFAULT expression as SQL.
    #[serde(default)]
    pub default: Option<String>,
    #[serde(default)]
    pub identity: Option<Identity>,
    /// `GENERATED ALWAYS AS (expression) STORED`: the expression as SQL, over other columns of the row. The storage keeps
    /// its values like any others; who writes rows computes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated: Option<String>,
    #[serde(default)]
    pub comment: Option<String>,
}

/// `GENERATED … AS IDENTITY (START WITH … INCREMENT BY …)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// ALWAYS (a value of the user's is refused) or BY DEFAULT.
    pub always: bool,
    pub start: i64,
    pub increment: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckDef {
    pub name: String,
    pub sql: String,
}

/// `WITH (retention = '7 days', …)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TableOptions {
    /// How long superseded and deleted rows stay readable with AT, in seconds; 0: until the next checkpoint.
    pub retention_seconds: u64,
}

impl TableDef {
    /// The columns that a user sees.
    pub fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(|c| c.field.clone()).collect::<Vec<_>>()))
    }

    /// The user's columns as scans give them. All but those of the key are nullable: NOT NULL is a promise about
    /// new rows, and may be made and taken back without touching those that are there.
    pub fn scan_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.scan_fields()))
    }

    fn scan_fields(&self) -> Vec<Field> {
        let in_key = |name: &String| self.primary_key.contains(name);
        self.columns.iter().map(|c| c.field.clone().with_nullable(!in_key(c.field.name()))).collect()
    }

    /// The scan schema, then `_rid` where there is no primary key.
    pub fn stored_schema(&self) -> SchemaRef {
        let mut fields = self.scan_fields();
        if self.has_rid() {
            fields.push(Field::new(RID, DataType::UInt64, false));
        }
        Arc::new(Schema::new(fields))
    }

    /// Whether rows are told apart by a hidden number.
    pub fn has_rid(&self) -> bool {
        self.primary_key.is_empty()
    }

    /// The indexes on the table.
    pub fn indexes(&self) -> &[IndexDef] {
        &self.indexes
    }

    pub fn index(&self, name: &str) -> Option<&IndexDef> {
        self.indexes.iter().find(|i| i.name == name)
    }

    /// Whether it was made later than another definition of the same table.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.revision, self.index_revision) > (other.revision, other.index_revision)
    }

    pub fn column(&self, name: &str) -> Option<&ColumnDef> {
        self.columns.iter().find(|c| c.field.name() == name)
    }

    pub fn key_codec(&self) -> Result<KeyCodec> {
        let schema = self.stored_schema();
        let names: Vec<&str> =
            if self.has_rid() { vec![RID] } else { self.primary_key.iter().map(String::as_str).collect() };
        let columns = names.iter().map(|n| schema.index_of(n)).collect::<Result<Vec<_>, _>>()?;
        KeyCodec::try_new(&schema, columns)
    }
}

/// A field as the hexadecimal bytes of an Arrow IPC stream: the one lossless form that Arrow defines.
fn write_field<S: Serializer>(field: &Field, to: S) -> Result<S::Ok, S::Error> {
    use serde::ser::Error as _;
    let schema = Schema::new(vec![field.clone()]);
    let mut bytes = Vec::new();
    StreamWriter::try_new(&mut bytes, &schema).and_then(|mut w| w.finish()).map_err(S::Error::custom)?;
    to.serialize_str(&bytes.iter().map(|b| format!("{b:02x}")).collect::<String>())
}

fn read_field<'de, D: Deserializer<'de>>(from: D) -> Result<Field, D::Error> {
    use serde::de::Error as _;
    let text = String::deserialize(from)?;
    field_of_hex(&text).map_err(|e| D::Error::custom(e.message().to_owned()))
}

fn field_of_hex(text: &str) -> Result<Field> {
    let damaged = || Error::data("a column's type is damaged");
    let bytes = text
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|p| u8::from_str_radix(p, 16).ok()))
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(damaged)?;
    let reader = StreamReader::try_new(bytes.as_slice(), None)?;
    reader.schema().fields().first().map(|f| f.as_ref().clone()).ok_or_else(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_survives_json_with_types_and_metadata() {
        let vector = Field::new_fixed_size_list("v", Field::new("item", DataType::Float32, true), 3, true)
            .with_metadata([("ARROW:extension:name".to_owned(), "triune.vector".to_owned())].into());
        let column = |id, field| ColumnDef {
            id,
            field,
            default: None,
            identity: None,
            generated: None,
            comment: None,
        };
        let def = TableDef {
            id: TableId(7),
            revision: 3,
            columns: vec![column(1, Field::new("id", DataType::Int64, false)), column(2, vector)],
            primary_key: vec!["id".to_owned()],
            checks: vec![CheckDef { name: "c".to_owned(), sql: "id > 0".to_owned() }],
            cluster_by: vec![],
            comment: None,
            options: TableOptions::default(),
            last_column: 2,
            indexes: vec![],
            index_revision: 0,
            created: CommitTs::ZERO,
        };
        let json = serde_json::to_string(&def).unwrap();
        assert_eq!(serde_json::from_str::<TableDef>(&json).unwrap(), def);
        assert_eq!(def.key_codec().unwrap().columns(), [0]);
        let without = TableDef { primary_key: vec![], ..def };
        assert_eq!(without.stored_schema().field(2).name(), RID);
        assert_eq!(without.key_codec().unwrap().columns(), [2]);
    }
}
