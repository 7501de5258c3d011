//! `metric => 'cosine'`: the distances and the names that they go by.

use std::fmt;
use std::str::FromStr;

use triune_common::{Error, Result};

use crate::types::VectorKind;

/// A distance: smaller is nearer. It is symmetric, so it does not matter which side is the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// `sqrt(Σ (a - b)²)`, the operator `<->`.
    L2,
    /// `1 - a·b / (|a| |b|)` between 0 and 2, the operator `<=>`. NaN when either vector is all zeros.
    Cosine,
    /// `-(a·b)`, the operator `<#>`.
    NegativeInnerProduct,
    /// `Σ |a - b|`, the operator `<+>`.
    L1,
    /// How many bits differ, the operator `<~>`. Only between `BITVEC`s.
    Hamming,
    /// `1 - |a ∧ b| / |a ∨ b|`, the operator `<%>`; 1 when no bit is set in both. Only between `BITVEC`s.
    Jaccard,
}

impl Metric {
    pub const ALL: [Self; 6] =
        [Self::L2, Self::Cosine, Self::NegativeInnerProduct, Self::L1, Self::Hamming, Self::Jaccard];

    /// The name that [`FromStr`] reads back and plans show.
    pub fn name(self) -> &'static str {
        match self {
            Self::L2 => "l2",
            Self::Cosine => "cosine",
            Self::NegativeInnerProduct => "inner_product",
            Self::L1 => "l1",
            Self::Hamming => "hamming",
            Self::Jaccard => "jaccard",
        }
    }

    /// Whether this metric is defined on vectors of this kind: bits have their own two.
    pub fn accepts(self, kind: VectorKind) -> bool {
        matches!(self, Self::Hamming | Self::Jaccard) == (kind == VectorKind::BitVec)
    }

    /// # Errors
    /// This metric is not defined on vectors of this kind; the message says which are.
    pub fn check(self, kind: VectorKind) -> Result<()> {
        if self.accepts(kind) {
            return Ok(());
        }
        let (name, kind_name) = (self.name(), kind.sql_name());
        Err(if kind == VectorKind::BitVec {
            Error::invalid(format!("the {name} metric is not defined on {kind_name}"))
                .with_hint("bits are compared by hamming or jaccard distance")
        } else {
            Error::invalid(format!("the {name} metric is defined on BITVEC only, got {kind_name}"))
                .with_hint("binary_quantize(v) makes a BITVEC of a vector")
        })
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = Error;

    /// Reads a name in any case: `l2`, `euclidean`, `cosine`, `dot`, `inner_product`, `ip`, `l1`,
    /// `manhattan`, `hamming`, `jaccard`.
    fn from_str(text: &str) -> Result<Self> {
        Ok(match text.trim().to_ascii_lowercase().as_str() {
            "l2" | "euclidean" => Self::L2,
            "cosine" => Self::Cosine,
            "dot" | "inner_product" | "ip" => Self::NegativeInnerProduct,
            "l1" | "manhattan" => Self::L1,
            "hamming" => Self::Hamming,
            "jaccard" => Self::Jaccard,
            _ => {
                return Err(Error::invalid(format!("unknown metric '{text}'")).with_hint(
                    "accepted are l2 (euclidean), cosine, inner_product (dot, ip), l1 (manhattan), hamming and jaccard",
                ));
            }
        })
    }
}
