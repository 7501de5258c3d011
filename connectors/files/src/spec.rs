//! `CREATE EXTERNAL TABLE`, taken apart.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::SortExpr;

use crate::kind::FileKind;

/// What `CREATE EXTERNAL TABLE … STORED AS … LOCATION … OPTIONS …` says.
#[derive(Debug, Clone)]
pub struct ExternalTableSpec {
    /// As the user wrote them, or as URLs: files, folders, globs; all in one bucket.
    pub locations: Vec<String>,
    pub format: FileKind,
    /// The columns that were declared, partition columns among them or not; `None`: look into the files.
    pub columns: Option<SchemaRef>,
    /// `PARTITIONED BY (…)`, in the order of the folders. Empty: `key=value` folders are found by themselves.
    pub partition_columns: Vec<String>,
    /// `OPTIONS (…)`, names in any case.
    pub options: BTreeMap<String, String>,
    /// `WITH ORDER (…)`: orders that every file is known to be in. Taken on trust.
    pub order: Vec<Vec<SortExpr>>,
}

impl ExternalTableSpec {
    /// A table at one location, everything else found out.
    pub fn new(location: impl Into<String>, format: FileKind) -> Self {
        Self {
            locations: vec![location.into()],
            format,
            columns: None,
            partition_columns: Vec::new(),
            options: BTreeMap::new(),
            order: Vec::new(),
        }
    }

    #[must_use]
    pub fn with_option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.insert(name.into(), value.into());
        self
    }

    #[must_use]
    pub fn with_columns(mut self, columns: SchemaRef) -> Self {
        self.columns = Some(columns);
        self
    }
}
