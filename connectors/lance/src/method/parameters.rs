//! The parameters of index methods: names, other names, values.

use triune_common::names::did_you_mean;
use triune_common::{Error, Result};

use super::IndexMethod;
use super::IndexMethod::{
    Bloom, FullText, Hnsw, IvfFlat, IvfHnswPq, IvfHnswSq, IvfPq, IvfRq, IvfSq, ZoneMap,
};

/// When a parameter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// While the index is built: changing it builds the index again.
    Build,
    /// While it is searched, where the search does not say: changing it costs nothing.
    Search,
}

/// A parameter of some methods.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Under this name it is kept.
    pub name: &'static str,
    /// What other systems call it.
    pub aliases: &'static [&'static str],
    pub role: Role,
    pub(super) methods: &'static [IndexMethod],
    values: Values,
}

#[derive(Debug, Clone, Copy)]
enum Values {
    Whole(u64, u64),
    Share,
    Flag,
    Choice(&'static [&'static str]),
    Metric,
}

const VECTOR: &[IndexMethod] = &[IvfRq, IvfPq, IvfSq, IvfFlat, IvfHnswSq, IvfHnswPq, Hnsw];
const PARTITIONED: &[IndexMethod] = &[IvfRq, IvfPq, IvfSq, IvfFlat, IvfHnswSq, IvfHnswPq];
const QUANTISED: &[IndexMethod] = &[IvfRq, IvfPq, IvfSq, IvfHnswSq, IvfHnswPq, Hnsw];
const GRAPH: &[IndexMethod] = &[IvfHnswSq, IvfHnswPq, Hnsw];

/// The languages that words can be reduced to their stems in.
const LANGUAGES: &[&str] = &[
    "arabic",
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "greek",
    "hungarian",
    "italian",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "spanish",
    "swedish",
    "tamil",
    "turkish",
];

const fn of(
    name: &'static str,
    aliases: &'static [&'static str],
    role: Role,
    methods: &'static [IndexMethod],
    values: Values,
) -> Parameter {
    Parameter { name, aliases, role, methods, values }
}

pub(super) const ALL: &[Parameter] = &[
    of("metric", &["distance", "distance_type", "metric_type"], Role::Build, VECTOR, Values::Metric),
    of(
        "num_partitions",
        &["lists", "nlist", "partitions"],
        Role::Build,
        PARTITIONED,
        Values::Whole(1, 65_536),
    ),
    of("num_bits", &["bits", "nbits"], Role::Build, &[IvfRq], Values::Whole(1, 9)),
    of("num_bits", &["bits", "nbits"], Role::Build, &[IvfPq, IvfHnswPq], Values::Choice(&["4", "8"])),
    of("num_bits", &["bits", "nbits"], Role::Build, &[IvfSq, IvfHnswSq, Hnsw], Values::Choice(&["8"])),
    of("num_sub_vectors", &["sub_vectors", "m"], Role::Build, &[IvfPq], Values::Whole(1, 65_535)),
    of("num_sub_vectors", &["sub_vectors"], Role::Build, &[IvfHnswPq], Values::Whole(1, 65_535)),
    of("m", &["max_connections"], Role::Build, GRAPH, Values::Whole(2, 256)),
    of("ef_construction", &["efc", "construction_ef"], Role::Build, GRAPH, Values::Whole(4, 10_000)),
    of("sample_rate", &[], Role::Build, VECTOR, Values::Whole(2, 65_536)),
    of("max_iterations", &["max_iters", "iterations"], Role::Build, VECTOR, Values::Whole(1, 10_000)),
    of("nprobes", &["probes", "nprobe"], Role::Search, PARTITIONED, Values::Whole(1, 65_536)),
    of("refine_factor", &["refine"], Role::Search, QUANTISED, Values::Whole(1, 1_000)),
    of("ef", &["ef_search"], Role::Search, GRAPH, Values::Whole(1, 100_000)),
    of("rows_per_zone", &["zone_size"], Role::Build, &[ZoneMap], Values::Whole(64, 1 << 20)),
    of("number_of_items", &["items"], Role::Build, &[Bloom], Values::Whole(64, 1 << 20)),
    of("probability", &["fpp", "false_positive_rate"], Role::Build, &[Bloom], Values::Share),
    of("language", &[], Role::Build, &[FullText], Values::Choice(LANGUAGES)),
    of("stemming", &["stem"], Role::Build, &[FullText], Values::Flag),
    of("stop_words", &["remove_stop_words"], Role::Build, &[FullText], Values::Flag),
    of("positions", &["with_position", "with_positions"], Role::Build, &[FullText], Values::Flag),
    of("lower_case", &["lowercase"], Role::Build, &[FullText], Values::Flag),
    of("ascii_folding", &[], Role::Build, &[FullText], Values::Flag),
    of(
        "tokenizer",
        &["base_tokenizer"],
        Role::Build,
        &[FullText],
        Values::Choice(&["simple", "whitespace", "raw", "icu", "code"]),
    ),
    of("max_token_length", &[], Role::Build, &[FullText], Values::Whole(1, 65_536)),
];

impl Parameter {
    /// The value as it is kept. Errors: invalid, saying what is accepted.
    pub(super) fn check(&self, value: &str) -> Result<String> {
        let name = self.name;
        let wrong = |accepted: String| {
            Error::invalid(format!("'{value}' is no value for the parameter {name}"))
                .with_hint(format!("it takes {accepted}"))
        };
        let low = value.trim().to_ascii_lowercase();
        match self.values {
            Values::Whole(least, most) => match low.parse::<u64>() {
                Ok(n) if (least..=most).contains(&n) => Ok(n.to_string()),
                _ => Err(wrong(format!("a whole number from {least} to {most}"))),
            },
            Values::Share => match low.parse::<f64>() {
                Ok(p) if p > 0.0 && p < 1.0 => Ok(p.to_string()),
                _ => Err(wrong("a number between 0 and 1".to_owned())),
            },
            Values::Flag => match low.as_str() {
                "true" | "on" | "yes" | "1" => Ok("true".to_owned()),
                "false" | "off" | "no" | "0" => Ok("false".to_owned()),
                _ => Err(wrong("true or false".to_owned())),
            },
            Values::Choice(all) => {
                if all.contains(&low.as_str()) {
                    return Ok(low);
                }
                let accepted = all.join(", ");
                Err(wrong(match did_you_mean(&low, all.iter().copied()) {
                    Some(near) => format!("{accepted}; did you mean {near}?"),
                    None => accepted,
                }))
            }
            Values::Metric => match low.parse::<crate::metric::LanceMetric>() {
                Ok(metric) => Ok(metric.to_string()),
                Err(_) if matches!(low.as_str(), "l1" | "manhattan" | "jaccard") => Err(Error::unsupported(
                    format!("no index has the metric {value}"),
                )
                .with_hint(
                    "there are cosine, l2, dot and hamming; a search without an index compares by any metric",
                )),
                Err(_) => Err(wrong("cosine, l2, dot or hamming".to_owned())),
            },
        }
    }
}
