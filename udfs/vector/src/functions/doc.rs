//! What `SHOW FUNCTIONS` and the generated reference say about a function.

use datafusion::logical_expr::{DocSection, Documentation};

/// The section that all functions of this crate are listed in.
const SECTION: DocSection = DocSection {
    include: true,
    label: "Vector Functions",
    description: Some("Distances, norms and arithmetic of VECTOR, HALFVEC, TINYVEC and BITVEC"),
};

/// `arguments` are pairs of name and meaning; `example` is a statement and its result.
pub(crate) fn doc(
    description: &str,
    syntax: &str,
    example: &str,
    arguments: &[(&str, &str)],
) -> Documentation {
    let start = Documentation::builder(SECTION, description, syntax)
        .with_sql_example(format!("```sql\n{example}\n```"));
    arguments.iter().fold(start, |builder, (name, meaning)| builder.with_argument(*name, *meaning)).build()
}
