//! From an index's parameters to Lance's, with defaults from the column and the number of rows.
//!
//! | parameter         | where nothing is said                                                           |
//! |-------------------|---------------------------------------------------------------------------------|
//! | `metric`          | cosine; hamming for bit vectors                                                 |
//! | `num_partitions`  | rows / 4096 for `ivf_rq` and `ivf_flat`, rows / 8192 for `ivf_pq` and `ivf_sq`,   |
//! |                   | rows / 2²⁰ for graphs; at least 1, at most 4096                                  |
//! | `num_bits`        | 5 for `ivf_rq`, 8 else                                                          |
//! | `num_sub_vectors` | the largest divisor of the dimensions up to an eighth of them, or up to 8         |
//! | `m`, `ef_construction` | 20, 150                                                                    |
//! | `sample_rate`, `max_iterations` | 256, 50                                                           |

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use lance::Dataset;
use lance::index::vector::VectorIndexParams;
use lance_index::scalar::{BuiltinIndexType, InvertedIndexParams, ScalarIndexParams};
use lance_index::vector::bq::RQBuildParams;
use lance_index::vector::hnsw::builder::HnswBuildParams;
use lance_index::vector::ivf::IvfBuildParams;
use lance_index::vector::pq::PQBuildParams;
use lance_index::vector::sq::builder::SQBuildParams;
use lance_index::{IndexParams, IndexType};
use triune_common::{Error, Result};

use super::{IndexSpec, index_type};
use crate::error::from_lance;
use crate::method::IndexMethod;
use crate::metric::LanceMetric;

/// Partitions are not made more than this by themselves.
const MOST_PARTITIONS: u64 = 4096;

pub(super) fn of(dataset: &Dataset, spec: &IndexSpec) -> Result<(IndexType, Box<dyn IndexParams>)> {
    let column = dataset
        .schema()
        .field(&spec.column)
        .ok_or_else(|| Error::internal(format!("there is no column \"{}\" to index", spec.column)))?;
    let params: Box<dyn IndexParams> = match spec.method {
        IndexMethod::BTree => Box::new(ScalarIndexParams::for_builtin(BuiltinIndexType::BTree)),
        IndexMethod::Bitmap => Box::new(ScalarIndexParams::for_builtin(BuiltinIndexType::Bitmap)),
        IndexMethod::NGram => Box::new(ScalarIndexParams::for_builtin(BuiltinIndexType::NGram)),
        IndexMethod::ZoneMap => {
            let mut json = serde_json::Map::new();
            if let Some(rows) = number(&spec.parameters, "rows_per_zone")? {
                json.insert("rows_per_zone".to_owned(), rows.into());
            }
            Box::new(with(BuiltinIndexType::ZoneMap, json))
        }
        IndexMethod::Bloom => {
            let mut json = serde_json::Map::new();
            if let Some(items) = number(&spec.parameters, "number_of_items")? {
                json.insert("number_of_items".to_owned(), items.into());
            }
            if let Some(p) = spec.parameters.get("probability").and_then(|p| p.parse::<f64>().ok()) {
                json.insert("probability".to_owned(), p.into());
            }
            Box::new(with(BuiltinIndexType::BloomFilter, json))
        }
        IndexMethod::FullText => Box::new(inverted_params(&spec.parameters)?),
        _ => {
            let dims = match column.data_type() {
                DataType::FixedSizeList(_, dims) => usize::try_from(dims).unwrap_or(0),
                other => {
                    return Err(Error::internal(format!("a vector index of a column of type {other}")));
                }
            };
            let rows: u64 = dataset.fragments().iter().map(|f| f.physical_rows.unwrap_or(0) as u64).sum();
            Box::new(vector(spec, dims, rows)?)
        }
    };
    Ok((index_type(spec.method), params))
}

fn with(kind: BuiltinIndexType, json: serde_json::Map<String, serde_json::Value>) -> ScalarIndexParams {
    let params = ScalarIndexParams::for_builtin(kind);
    if json.is_empty() { params } else { params.with_params(&serde_json::Value::Object(json)) }
}

fn number(parameters: &BTreeMap<String, String>, name: &str) -> Result<Option<u64>> {
    parameters
        .get(name)
        .map(|text| {
            text.parse()
                .map_err(|_| Error::data(format!("the index parameter {name} is no number: '{text}'")))
        })
        .transpose()
}

fn size(parameters: &BTreeMap<String, String>, name: &str) -> Result<Option<usize>> {
    Ok(number(parameters, name)?.and_then(|n| usize::try_from(n).ok()))
}

/// How many partitions an index over so many rows gets where nothing is said.
pub(crate) fn default_partitions(method: IndexMethod, rows: u64) -> u64 {
    let target = match method {
        IndexMethod::IvfRq | IndexMethod::IvfFlat => 4096,
        IndexMethod::IvfPq | IndexMethod::IvfSq => 8192,
        _ => 1 << 20,
    };
    (rows / target).clamp(1, MOST_PARTITIONS)
}

fn sub_vectors(dims: usize) -> usize {
    let most = (dims / 8).max(dims.min(8)).max(1);
    (1..=most).rev().find(|n| dims.is_multiple_of(*n)).unwrap_or(1)
}

fn vector(spec: &IndexSpec, dims: usize, rows: u64) -> Result<VectorIndexParams> {
    let given = &spec.parameters;
    let metric: LanceMetric = match given.get("metric") {
        Some(text) => text.parse()?,
        None => LanceMetric::Cosine,
    };
    let metric = metric.to_lance();
    let partitions = match spec.method {
        IndexMethod::Hnsw => 1,
        method => number(given, "num_partitions")?.unwrap_or_else(|| default_partitions(method, rows)),
    };
    // No more partitions than there is something to put into.
    let partitions = usize::try_from(partitions.min((rows / 2).max(1))).unwrap_or(1);
    let mut ivf = IvfBuildParams::new(partitions);
    let sample = size(given, "sample_rate")?;
    let iterations = size(given, "max_iterations")?;
    ivf.sample_rate = sample.unwrap_or(ivf.sample_rate);
    ivf.max_iters = iterations.unwrap_or(ivf.max_iters);
    let pq = || -> Result<PQBuildParams> {
        let mut pq = PQBuildParams {
            num_sub_vectors: size(given, "num_sub_vectors")?.unwrap_or_else(|| sub_vectors(dims)),
            num_bits: size(given, "num_bits")?.unwrap_or(8),
            ..PQBuildParams::default()
        };
        pq.sample_rate = sample.unwrap_or(pq.sample_rate);
        pq.max_iters = iterations.unwrap_or(pq.max_iters);
        Ok(pq)
    };
    let sq = || SQBuildParams { sample_rate: sample.unwrap_or(256), ..SQBuildParams::default() };
    let hnsw = || -> Result<HnswBuildParams> {
        let mut hnsw = HnswBuildParams::default();
        hnsw.m = size(given, "m")?.unwrap_or(hnsw.m);
        hnsw.ef_construction = size(given, "ef_construction")?.unwrap_or(hnsw.ef_construction);
        Ok(hnsw)
    };
    Ok(match spec.method {
        IndexMethod::IvfPq => VectorIndexParams::with_ivf_pq_params(metric, ivf, pq()?),
        IndexMethod::IvfSq => VectorIndexParams::with_ivf_sq_params(metric, ivf, sq()),
        IndexMethod::IvfRq => {
            let bits = number(given, "num_bits")?.and_then(|b| u8::try_from(b).ok()).unwrap_or(5);
            VectorIndexParams::with_ivf_rq_params(metric, ivf, RQBuildParams::new(bits))
        }
        IndexMethod::IvfHnswSq | IndexMethod::Hnsw => {
            VectorIndexParams::with_ivf_hnsw_sq_params(metric, ivf, hnsw()?, sq())
        }
        IndexMethod::IvfHnswPq => VectorIndexParams::with_ivf_hnsw_pq_params(metric, ivf, hnsw()?, pq()?),
        _ => VectorIndexParams::with_ivf_flat_params(metric, ivf),
    })
}

/// Lance's parameters of a full-text index.
///
/// Where nothing is said: English, stemming and stop words on, lower case, without accents, tokens of up to 40
/// bytes, positions kept (phrases need them).
pub fn inverted_params(parameters: &BTreeMap<String, String>) -> Result<InvertedIndexParams> {
    let flag = |name: &str, otherwise: bool| parameters.get(name).map_or(otherwise, |v| v == "true");
    let tokenizer = parameters.get("tokenizer").map_or("simple", String::as_str);
    let mut language = parameters.get("language").map_or("english", String::as_str).to_owned();
    if let Some(first) = language.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    // Words of programs are no words of a language.
    let prose = tokenizer != "code";
    let params = InvertedIndexParams::default()
        .base_tokenizer(tokenizer.to_owned())
        .language(&language)
        .map_err(from_lance)?
        .stem(flag("stemming", prose))
        .remove_stop_words(flag("stop_words", prose))
        .lower_case(flag("lower_case", true))
        .ascii_folding(flag("ascii_folding", true))
        .with_position(flag("positions", true))
        .max_token_length(Some(size(parameters, "max_token_length")?.unwrap_or(40)));
    Ok(params)
}
