//! What is asked of a search, apart from the table, the column and the query.
//!
//! The syntax tree can carry it into DataFusion's planner only as an expression, so it travels as the
//! JSON text of the marker function's last argument (see [`crate::desugar`]), with the places in the
//! statement that later errors point at:
//!
//! ```json
//! {"at": {"call": [1, 15], "k": [1, 42]}, "exact": true, "metric": "l2", "nprobes": 24, "per": ["lang"], "refine_factor": 2}
//! ```

use serde_json::{Map, Value, json};
use triune_common::{Error, Position, Result};
use triune_vector::kernels::Metric;

/// The options of a search that were written down; what was not is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchOptions {
    /// As the user spelt it; checked to name a metric.
    pub metric: Option<String>,
    /// How many partitions of an index are read.
    pub nprobes: Option<u32>,
    /// How many times `k` candidates of a quantised index are compared again by their full vectors.
    pub refine_factor: Option<u32>,
    /// Whether an index must not be used.
    pub exact: bool,
    /// The columns whose values make the groups of which each has its own k rows; none is one group.
    pub per: Vec<String>,
    /// How much rows that are found are to differ.
    pub diversity: Option<Diversity>,
    /// Whether a query that is NULL is left to the fusion that the search is a part of.
    pub optional: bool,
    /// Where in the statement the arguments are.
    pub places: Places,
}

/// How much the rows that are found are to differ from each other, between 0 (not asked for) and 1; in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Diversity(u32);

impl Diversity {
    const ONE: u32 = 1_000_000;

    /// `None` for what is not between 0 and 1.
    pub fn new(share: f64) -> Option<Self> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and a million"
        )]
        (0.0..=1.0).contains(&share).then(|| Self((share * f64::from(Self::ONE)).round() as u32))
    }

    /// Between 0 and 1.
    pub fn share(self) -> f64 {
        f64::from(self.0) / f64::from(Self::ONE)
    }
}

/// Where in the statement the call and its arguments begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Places {
    pub call: Option<Position>,
    pub column: Option<Position>,
    pub query: Option<Position>,
    pub k: Option<Position>,
    pub metric: Option<Position>,
}

impl SearchOptions {
    /// The text that [`SearchOptions::from_json`] reads.
    pub fn to_json(&self) -> String {
        let mut object = Map::new();
        let mut at = Map::new();
        for (name, place) in self.places.named() {
            if let Some(p) = place {
                at.insert(name.to_owned(), json!([p.line, p.column]));
            }
        }
        // In the order of the alphabet, in which some builds of the JSON library keep objects anyway.
        if !at.is_empty() {
            object.insert("at".to_owned(), Value::Object(at));
        }
        if self.exact {
            object.insert("exact".to_owned(), json!(true));
        }
        if let Some(Diversity(millionths)) = self.diversity {
            object.insert("diversity".to_owned(), json!(millionths));
        }
        if let Some(metric) = &self.metric {
            object.insert("metric".to_owned(), json!(metric));
        }
        if let Some(nprobes) = self.nprobes {
            object.insert("nprobes".to_owned(), json!(nprobes));
        }
        if self.optional {
            object.insert("optional".to_owned(), json!(true));
        }
        if !self.per.is_empty() {
            object.insert("per".to_owned(), json!(self.per));
        }
        if let Some(refine_factor) = self.refine_factor {
            object.insert("refine_factor".to_owned(), json!(refine_factor));
        }
        Value::Object(object).to_string()
    }

    /// Reads what [`SearchOptions::to_json`] wrote; anything else is a defect of ours, or somebody
    /// calling the marker function by hand.
    pub fn from_json(text: &str) -> Result<Self> {
        let broken = || Error::internal(format!("the options of a search are not readable: {text}"));
        let value: Value = serde_json::from_str(text).map_err(|e| broken().with_source(e))?;
        let object = value.as_object().ok_or_else(broken)?;
        let number = |name: &str| match object.get(name) {
            None => Ok(None),
            Some(v) => v.as_u64().and_then(|n| u32::try_from(n).ok()).map(Some).ok_or_else(broken),
        };
        let place = |name: &str| {
            let pair = object.get("at")?.get(name)?.as_array()?;
            Some(Position::new(pair.first()?.as_u64()?, pair.get(1)?.as_u64()?))
        };
        Ok(Self {
            metric: match object.get("metric") {
                None => None,
                Some(v) => Some(v.as_str().ok_or_else(broken)?.to_owned()),
            },
            nprobes: number("nprobes")?,
            refine_factor: number("refine_factor")?,
            exact: object.get("exact").and_then(Value::as_bool).unwrap_or(false),
            per: match object.get("per") {
                None => Vec::new(),
                Some(v) => {
                    let names = v.as_array().ok_or_else(broken)?.iter();
                    names.map(|n| n.as_str().map(str::to_owned).ok_or_else(broken)).collect::<Result<_>>()?
                }
            },
            diversity: number("diversity")?.map(Diversity),
            optional: object.get("optional").and_then(Value::as_bool).unwrap_or(false),
            places: Places {
                call: place("call"),
                column: place("column"),
                query: place("query"),
                k: place("k"),
                metric: place("metric"),
            },
        })
    }
}

impl Places {
    fn named(&self) -> [(&'static str, Option<Position>); 5] {
        [
            ("call", self.call),
            ("column", self.column),
            ("k", self.k),
            ("metric", self.metric),
            ("query", self.query),
        ]
    }
}

/// What is asked of a search, checked and complete.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SearchSpec {
    /// How many rows; 1 to [`crate::MAX_K`].
    pub k: usize,
    /// By which distance.
    pub metric: Metric,
    /// How many partitions of an index are read; the index decides when it is `None`.
    pub nprobes: Option<u32>,
    /// How many times `k` candidates of a quantised index are compared again by their full vectors.
    pub refine_factor: Option<u32>,
    /// Whether an index must not be used.
    pub exact: bool,
    /// What becomes of rows without a distance.
    pub missing: Missing,
    /// How much the rows that are found are to differ.
    pub diversity: Option<Diversity>,
}

/// What becomes of rows without a distance: their vector is NULL, or the distance is not a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Missing {
    /// They are not results: `vector_search`.
    LeftOut,
    /// They come after all others, first those that are not a number, then NULLs, where there are fewer
    /// than k others: `ORDER BY … LIMIT k`.
    Last,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_back_as_they_went() {
        let all = SearchOptions {
            metric: Some("L2".into()),
            nprobes: Some(24),
            refine_factor: Some(2),
            exact: true,
            per: vec!["a".to_owned(), "b c".to_owned()],
            diversity: Diversity::new(0.3),
            optional: true,
            places: Places {
                call: Some(Position::new(3, 14)),
                k: Some(Position::new(4, 1)),
                ..Places::default()
            },
        };
        assert_eq!(SearchOptions::from_json(&all.to_json()).unwrap(), all);
        let none = SearchOptions::default();
        assert_eq!(none.to_json(), "{}");
        assert_eq!(SearchOptions::from_json("{}").unwrap(), none);
    }

    #[test]
    fn broken_options_are_an_internal_error() {
        for text in ["", "[]", "{\"nprobes\": -1}", "{\"metric\": 3}", "{"] {
            let e = SearchOptions::from_json(text).unwrap_err();
            assert_eq!(e.kind(), triune_common::ErrorKind::Internal, "{text}");
        }
    }
}
