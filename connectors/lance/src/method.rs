//! `CREATE INDEX … USING method (column) WITH (parameter = value, …)`: methods, their parameters, and what is
//! taken where nothing is said.
//!
//! | method        | Lance's        | for                                                        |
//! |---------------|----------------|------------------------------------------------------------|
//! | `ivf_rq`      | IVF_RQ         | vectors; RaBitQ codes of a few bits a number (the default)  |
//! | `ivf_pq`      | IVF_PQ         | vectors; product quantisation                              |
//! | `ivf_sq`      | IVF_SQ         | vectors; eight bits a number                               |
//! | `ivf_flat`    | IVF_FLAT       | vectors as they are; bit vectors                           |
//! | `ivf_hnsw_sq` | IVF_HNSW_SQ    | vectors; a graph in each partition                         |
//! | `ivf_hnsw_pq` | IVF_HNSW_PQ    | the same over product codes                                |
//! | `hnsw`        | IVF_HNSW_SQ    | one graph over all rows                                    |
//! | `btree` …     | BTREE …        | conditions on other columns                                |
//! | `fulltext`    | INVERTED       | words in text, one Lance index for each column             |
//!
//! Parameters are kept under one canonical name each, as text that was checked here.

mod parameters;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use arrow::datatypes::{DataType, Field};
use serde::{Deserialize, Serialize};
use triune_common::names::did_you_mean;
use triune_common::{Error, Result};

pub use parameters::{Parameter, Role};

use crate::metric::LanceMetric;

/// How an index is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum IndexMethod {
    #[serde(rename = "ivf_rq")]
    IvfRq,
    #[serde(rename = "ivf_pq")]
    IvfPq,
    #[serde(rename = "ivf_sq")]
    IvfSq,
    #[serde(rename = "ivf_flat")]
    IvfFlat,
    #[serde(rename = "ivf_hnsw_sq")]
    IvfHnswSq,
    #[serde(rename = "ivf_hnsw_pq")]
    IvfHnswPq,
    /// One partition of `IvfHnswSq`.
    #[serde(rename = "hnsw")]
    Hnsw,
    #[serde(rename = "btree")]
    BTree,
    #[serde(rename = "bitmap")]
    Bitmap,
    #[serde(rename = "zonemap")]
    ZoneMap,
    #[serde(rename = "bloom")]
    Bloom,
    #[serde(rename = "ngram")]
    NGram,
    #[serde(rename = "fulltext")]
    FullText,
}

impl IndexMethod {
    pub const ALL: [Self; 13] = [
        Self::IvfRq,
        Self::IvfPq,
        Self::IvfSq,
        Self::IvfFlat,
        Self::IvfHnswSq,
        Self::IvfHnswPq,
        Self::Hnsw,
        Self::BTree,
        Self::Bitmap,
        Self::ZoneMap,
        Self::Bloom,
        Self::NGram,
        Self::FullText,
    ];

    /// The word in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::IvfRq => "ivf_rq",
            Self::IvfPq => "ivf_pq",
            Self::IvfSq => "ivf_sq",
            Self::IvfFlat => "ivf_flat",
            Self::IvfHnswSq => "ivf_hnsw_sq",
            Self::IvfHnswPq => "ivf_hnsw_pq",
            Self::Hnsw => "hnsw",
            Self::BTree => "btree",
            Self::Bitmap => "bitmap",
            Self::ZoneMap => "zonemap",
            Self::Bloom => "bloom",
            Self::NGram => "ngram",
            Self::FullText => "fulltext",
        }
    }

    /// Whether it is an index of vectors.
    pub fn is_vector(self) -> bool {
        !self.is_scalar() && self != Self::FullText
    }

    /// Whether it serves conditions on a column.
    pub fn is_scalar(self) -> bool {
        matches!(self, Self::BTree | Self::Bitmap | Self::ZoneMap | Self::Bloom | Self::NGram)
    }

    /// Whether its partitions hold a graph.
    pub fn has_graph(self) -> bool {
        matches!(self, Self::IvfHnswSq | Self::IvfHnswPq | Self::Hnsw)
    }

    /// The least rows of a table from which on it is built; fewer are compared one by one in no time.
    pub fn least_rows(self) -> u64 {
        if self.is_vector() { 256 } else { 1 }
    }

    /// What `CREATE INDEX ON t (column)` without `USING` takes: `ivf_rq` for vectors whose dimensions are a
    /// multiple of 8, `ivf_sq` for others, `ivf_flat` for bits, `btree` for the rest.
    pub fn default_for(field: &Field) -> Self {
        match field.data_type() {
            DataType::FixedSizeList(item, dims) => match item.data_type() {
                DataType::UInt8 | DataType::Int8 => Self::IvfFlat,
                _ if dims % 8 == 0 => Self::IvfRq,
                _ => Self::IvfSq,
            },
            _ => Self::BTree,
        }
    }

    /// Checks that the method can index a column of this type. Errors: invalid for another kind of column,
    /// unsupported where the method lacks it; the hint names a method that fits.
    pub fn check_column(self, field: &Field) -> Result<()> {
        let name = field.name();
        let unfit = |needs: &str| {
            Error::invalid(format!("the method {self} indexes {needs}, \"{name}\" is none"))
                .with_hint(format!("the default for it is USING {}", Self::default_for(field)))
        };
        let data_type = field.data_type();
        if self.is_vector() {
            let DataType::FixedSizeList(item, width) = data_type else { return Err(unfit("vectors")) };
            match item.data_type() {
                DataType::Float16 | DataType::Float32 | DataType::Float64 => {}
                DataType::UInt8 if self == Self::IvfFlat => {}
                DataType::UInt8 => return Err(unfit("vectors of numbers")),
                DataType::Int8 => {
                    return Err(Error::unsupported(format!(
                        "vectors of 8-bit numbers (\"{name}\") cannot be indexed yet"
                    ))
                    .with_hint("searches compare them one by one; a HALFVEC column can be indexed"));
                }
                _ => return Err(unfit("vectors")),
            }
            if self == Self::IvfRq && width % 8 != 0 {
                return Err(Error::invalid(format!(
                    "the method ivf_rq needs a multiple of 8 dimensions, \"{name}\" has {width}"
                ))
                .with_hint("use ivf_sq"));
            }
            return Ok(());
        }
        let text = matches!(data_type, DataType::Utf8 | DataType::LargeUtf8);
        match self {
            Self::FullText | Self::NGram if text => Ok(()),
            Self::FullText | Self::NGram => Err(unfit("text")),
            _ => {
                let plain =
                    text || matches!(
                        data_type,
                        DataType::Boolean
                            | DataType::Date32
                            | DataType::Date64
                            | DataType::Time32(_)
                            | DataType::Time64(_)
                            | DataType::Timestamp(..)
                            | DataType::Float32
                            | DataType::Float64
                    ) || data_type.is_integer();
                if plain { Ok(()) } else { Err(unfit("numbers, times, booleans and text")) }
            }
        }
    }

    /// The parameters that the method has.
    pub fn parameters(self) -> impl Iterator<Item = &'static Parameter> {
        parameters::ALL.iter().filter(move |p| p.methods.contains(&self))
    }

    fn parameter(self, given: &str) -> Result<&'static Parameter> {
        let wanted = given.to_ascii_lowercase();
        // One word may mean different things to different methods (`m`).
        if let Some(found) =
            self.parameters().find(|p| p.name == wanted || p.aliases.contains(&wanted.as_str()))
        {
            return Ok(found);
        }
        let names: Vec<&str> = self.parameters().map(|p| p.name).collect();
        let error = Error::invalid(format!("an index of the method {self} has no parameter \"{given}\""));
        let all = self.parameters().flat_map(|p| std::iter::once(p.name).chain(p.aliases.iter().copied()));
        let accepted = match names.is_empty() {
            true => "it has none".to_owned(),
            false => format!("it has {}", names.join(", ")),
        };
        Err(error.with_hint(match did_you_mean(&wanted, all) {
            Some(near) => format!("did you mean \"{near}\"? {accepted}"),
            None => accepted,
        }))
    }

    /// The name under which a parameter is kept. Errors: invalid for one that the method has not.
    pub fn canonical(self, given: &str) -> Result<&'static str> {
        self.parameter(given).map(|p| p.name)
    }

    /// Parameters under their canonical names with checked values; those of vectors with their metric.
    ///
    /// `metric` is what an operator class says. Errors: invalid for an unknown parameter, one that is given
    /// twice, a value that does not fit, and a metric that the column cannot have.
    pub fn check_parameters(
        self,
        field: &Field,
        given: &[(String, String)],
        metric: Option<LanceMetric>,
    ) -> Result<BTreeMap<String, String>> {
        let mut out = BTreeMap::new();
        for (name, value) in given {
            let parameter = self.parameter(name)?;
            if out.insert(parameter.name.to_owned(), parameter.check(value)?).is_some() {
                return Err(Error::invalid(format!("the parameter {} is given twice", parameter.name)));
            }
        }
        if self.is_vector() {
            self.settle_vector(field, &mut out, metric)?;
        }
        Ok(out)
    }

    fn settle_vector(
        self,
        field: &Field,
        out: &mut BTreeMap<String, String>,
        class: Option<LanceMetric>,
    ) -> Result<()> {
        let (bits, dims) = match field.data_type() {
            DataType::FixedSizeList(item, dims) => (item.data_type() == &DataType::UInt8, *dims),
            _ => (false, 0),
        };
        let given = out.get("metric").map(|m| m.parse::<LanceMetric>()).transpose()?;
        if let (Some(given), Some(class)) = (given, class)
            && given != class
        {
            return Err(Error::invalid(format!(
                "the parameter metric says {given}, the operator class {class}"
            )));
        }
        let metric = given.or(class).unwrap_or(if bits { LanceMetric::Hamming } else { LanceMetric::Cosine });
        if bits != (metric == LanceMetric::Hamming) {
            let name = field.name();
            return Err(match bits {
                true => Error::invalid(format!("bit vectors (\"{name}\") have the metric hamming only")),
                false => Error::invalid(format!("the metric hamming is of bit vectors, \"{name}\" is none")),
            });
        }
        out.insert("metric".to_owned(), metric.to_string());
        if let Some(parts) = out.get("num_sub_vectors").and_then(|n| n.parse::<i32>().ok())
            && (parts == 0 || dims % parts != 0)
        {
            return Err(Error::invalid(format!(
                "num_sub_vectors must divide the {dims} dimensions of \"{}\", {parts} does not",
                field.name()
            )));
        }
        Ok(())
    }
}

impl fmt::Display for IndexMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for IndexMethod {
    type Err = Error;

    /// Names are read in any case; `ivfflat` (pgvector's), `inverted` and `fts` are other words for methods.
    fn from_str(text: &str) -> Result<Self> {
        let wanted = text.to_ascii_lowercase();
        let wanted = match wanted.as_str() {
            "ivfflat" => "ivf_flat",
            "inverted" | "fts" => "fulltext",
            "bloomfilter" | "bloom_filter" => "bloom",
            "zone_map" => "zonemap",
            other => other,
        };
        if let Some(found) = Self::ALL.into_iter().find(|m| m.name() == wanted) {
            return Ok(found);
        }
        let names: Vec<&str> = Self::ALL.into_iter().map(Self::name).collect();
        let error = Error::invalid(format!("there is no index method \"{text}\""));
        let accepted = format!("there are {}", names.join(", "));
        Err(error.with_hint(match did_you_mean(wanted, names.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"? {accepted}"),
            None => accepted,
        }))
    }
}

/// The metric that an operator class of pgvector's names.
///
/// Errors: unsupported for the classes of L1 and Jaccard, invalid for words that are no class.
pub fn operator_class(name: &str) -> Result<LanceMetric> {
    const CLASSES: [(&str, LanceMetric); 8] = [
        ("vector_l2_ops", LanceMetric::L2),
        ("vector_cosine_ops", LanceMetric::Cosine),
        ("vector_ip_ops", LanceMetric::Dot),
        ("halfvec_l2_ops", LanceMetric::L2),
        ("halfvec_cosine_ops", LanceMetric::Cosine),
        ("halfvec_ip_ops", LanceMetric::Dot),
        ("bit_hamming_ops", LanceMetric::Hamming),
        ("bitvec_hamming_ops", LanceMetric::Hamming),
    ];
    let wanted = name.to_ascii_lowercase();
    if let Some((_, metric)) = CLASSES.iter().find(|(class, _)| *class == wanted) {
        return Ok(*metric);
    }
    let accepted = CLASSES.map(|(class, _)| class).join(", ");
    if matches!(wanted.as_str(), "vector_l1_ops" | "halfvec_l1_ops" | "bit_jaccard_ops")
        || wanted.starts_with("sparsevec_")
    {
        return Err(Error::unsupported(format!("the operator class {name} is not supported by any index"))
            .with_hint(format!("there are {accepted}; a search without an index compares by any metric")));
    }
    let error = Error::invalid(format!("there is no operator class \"{name}\""));
    Err(error.with_hint(match did_you_mean(&wanted, CLASSES.map(|(class, _)| class)) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("there are {accepted}"),
    }))
}

#[cfg(test)]
mod tests;
