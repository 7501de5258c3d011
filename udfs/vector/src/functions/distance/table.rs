//! The distance functions: names, aliases, documentation.

use std::collections::HashMap;
use std::sync::LazyLock;

use datafusion::logical_expr::Documentation;

use super::{DistanceFunc, Form};
use crate::functions::doc::doc;
use crate::kernels::Metric;

struct Row {
    name: &'static str,
    /// pgvector's and DuckDB's other names for the same.
    aliases: &'static [&'static str],
    metric: Metric,
    form: Form,
    description: &'static str,
    example: &'static str,
}

const ROWS: [Row; 8] = [
    Row {
        name: "l2_distance",
        aliases: &["array_distance", "list_distance"],
        metric: Metric::L2,
        form: Form::Distance,
        description: "Euclidean distance, the square root of the sum of squared differences. Also the operator \
                      `<->`. NULL where a side is NULL, NaN where an element is NaN.",
        example: "> SELECT l2_distance('[0,0]'::VECTOR(2), '[3,4]');\n5.0",
    },
    Row {
        name: "cosine_distance",
        aliases: &["array_cosine_distance", "list_cosine_distance"],
        metric: Metric::Cosine,
        form: Form::Distance,
        description: "Cosine distance, 1 minus the cosine of the angle: 0 for the same direction, 1 for a right \
                      angle, 2 for opposite directions. Also the operator `<=>`. NULL where a side is NULL, NaN \
                      where a side is all zeros or has a NaN.",
        example: "> SELECT cosine_distance('[1,0]'::VECTOR(2), '[0,1]');\n1.0",
    },
    Row {
        name: "cosine_similarity",
        aliases: &["array_cosine_similarity", "list_cosine_similarity"],
        metric: Metric::Cosine,
        form: Form::OneMinus,
        description: "Cosine of the angle between two vectors, from -1 to 1. NULL where a side is NULL, NaN \
                      where a side is all zeros or has a NaN.",
        example: "> SELECT cosine_similarity('[1,0]'::VECTOR(2), '[1,0]');\n1.0",
    },
    Row {
        name: "inner_product",
        aliases: &[
            "dot_product",
            "array_inner_product",
            "array_dot_product",
            "list_inner_product",
            "list_dot_product",
        ],
        metric: Metric::NegativeInnerProduct,
        form: Form::Negated,
        description: "Inner product, the sum of the products of the elements. NULL where a side is NULL, NaN \
                      where an element is NaN.",
        example: "> SELECT inner_product('[1,2]'::VECTOR(2), '[3,4]');\n11.0",
    },
    Row {
        name: "negative_inner_product",
        aliases: &[
            "vector_negative_inner_product",
            "array_negative_inner_product",
            "array_negative_dot_product",
            "list_negative_inner_product",
            "list_negative_dot_product",
        ],
        metric: Metric::NegativeInnerProduct,
        form: Form::Distance,
        description: "Inner product with its sign changed, so that the most similar comes first in ascending \
                      order. Also the operator `<#>`. NULL where a side is NULL, NaN where an element is NaN.",
        example: "> SELECT negative_inner_product('[1,2]'::VECTOR(2), '[3,4]');\n-11.0",
    },
    Row {
        name: "l1_distance",
        aliases: &["array_l1_distance"],
        metric: Metric::L1,
        form: Form::Distance,
        description: "Manhattan distance, the sum of the absolute differences. Also the operator `<+>`. NULL \
                      where a side is NULL, NaN where an element is NaN.",
        example: "> SELECT l1_distance('[0,0]'::VECTOR(2), '[3,4]');\n7.0",
    },
    Row {
        name: "hamming_distance",
        aliases: &[],
        metric: Metric::Hamming,
        form: Form::Distance,
        description: "Number of bits in which two BITVECs differ. Also the operator `<~>`. NULL where a side is \
                      NULL.",
        example: "> SELECT hamming_distance('0101'::BITVEC(4), '0110');\n2.0",
    },
    Row {
        name: "jaccard_distance",
        aliases: &[],
        metric: Metric::Jaccard,
        form: Form::Distance,
        description: "1 minus the bits that are set in both BITVECs over those set in either; 1 when none is \
                      set in both. Also the operator `<%>`. NULL where a side is NULL.",
        example: "> SELECT jaccard_distance('0101'::BITVEC(4), '0110');\n0.6666667",
    },
];

fn func(row: &Row) -> DistanceFunc {
    DistanceFunc::new(row.name, row.aliases, row.metric, row.form)
}

pub(super) fn all() -> Vec<DistanceFunc> {
    ROWS.iter().map(func).collect()
}

pub(super) fn of_metric(metric: Metric) -> DistanceFunc {
    let row = match metric {
        Metric::L2 => &ROWS[0],
        Metric::Cosine => &ROWS[1],
        Metric::NegativeInnerProduct => &ROWS[4],
        Metric::L1 => &ROWS[5],
        Metric::Hamming => &ROWS[6],
        Metric::Jaccard => &ROWS[7],
    };
    debug_assert!(row.metric == metric && row.form == Form::Distance);
    func(row)
}

pub(super) fn documentation(name: &str) -> Option<&'static Documentation> {
    static DOCS: LazyLock<HashMap<&'static str, Documentation>> = LazyLock::new(|| {
        let arguments = [
            ("left", "A vector, a list of numbers, or a text such as '[1,2,3]' beside a vector."),
            ("right", "The same; it must have as many dimensions."),
        ];
        let document = |row: &Row| {
            (row.name, doc(row.description, &format!("{}(left, right)", row.name), row.example, &arguments))
        };
        ROWS.iter().map(document).collect()
    });
    DOCS.get(name)
}
