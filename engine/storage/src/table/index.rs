//! What an index of a table is.
//!
//! ```sql
//! CREATE INDEX docs_embedding ON docs USING ivf_rq (embedding) WITH (metric = 'cosine', bits = 4);
//! CREATE INDEX docs_words ON docs USING fulltext (title, body) WITH (language = 'german');
//! ```
//!
//! The definition is all that has to be there. The index itself is a Lance index of the table's base, one for each
//! column: it may be missing (too few rows, lost, being built), and covers the rows of some fragments.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use triune_lance::{IndexMethod, IndexSpec, LanceMetric};

/// An index's definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexDef {
    pub name: String,
    pub method: IndexMethod,
    /// At least one; more than one for `fulltext` only.
    pub columns: Vec<String>,
    /// Parameters under their canonical names, as [`IndexMethod::check_parameters`] gives them; what is not in
    /// here has its default.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl IndexDef {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn method(&self) -> IndexMethod {
        self.method
    }

    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    pub fn options(&self) -> &BTreeMap<String, String> {
        &self.options
    }

    /// The metric of a vector index.
    pub fn metric(&self) -> Option<LanceMetric> {
        self.options.get("metric")?.parse().ok()
    }

    /// A parameter that is a number, where it was given: `nprobes`, `refine_factor`, `ef`, …
    pub fn number(&self, name: &str) -> Option<usize> {
        self.options.get(name)?.parse().ok()
    }

    /// The name of the Lance index for one of the columns: the index's own, with `:column` where it has several.
    pub fn lance_name(&self, column: &str) -> String {
        match self.columns.as_slice() {
            [_] => self.name.clone(),
            _ => format!("{}:{column}", self.name),
        }
    }

    /// The names of its Lance indexes, in the order of the columns.
    pub fn lance_names(&self) -> Vec<String> {
        self.columns.iter().map(|c| self.lance_name(c)).collect()
    }

    /// What is to be built.
    pub fn specs(&self) -> Vec<IndexSpec> {
        self.columns
            .iter()
            .map(|column| IndexSpec {
                name: self.lance_name(column),
                column: column.clone(),
                method: self.method,
                parameters: self.options.clone(),
            })
            .collect()
    }

    /// Whether an index that was built for `other` can serve this definition: all but the names and the parameters
    /// of searches are equal.
    pub fn is_built_like(&self, other: &Self) -> bool {
        let building = |def: &Self| -> BTreeMap<String, String> {
            let counts = |name: &str| {
                def.method.parameters().any(|p| p.name == name && p.role == triune_lance::method::Role::Build)
            };
            def.options.iter().filter(|(k, _)| counts(k)).map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        self.method == other.method && self.columns == other.columns && building(self) == building(other)
    }
}
