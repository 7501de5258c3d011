//! Which expressions are distances: `ORDER BY embedding <=> $1 LIMIT 10` asks for a search.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::{Alias, ScalarFunction};

use crate::functions::distance::{DistanceFunc, Form};
use crate::kernels::Metric;

/// A call of one of our distance functions.
#[derive(Debug, Clone, Copy)]
pub struct DistanceCall<'a> {
    pub metric: Metric,
    /// The side that reads columns; the left one when both do.
    pub column: &'a Expr,
    /// The other side: a constant, a parameter, an outer column, or a column as well.
    pub query: &'a Expr,
}

/// The distance that `expr` computes, through aliases: ascending order means nearest first.
///
/// Functions are known by their type and not by their name, so a user's function that happens to be called
/// `l2_distance` is none. `None` also when neither side reads a column.
pub fn distance_call(expr: &Expr) -> Option<DistanceCall<'_>> {
    call_in(expr, |form| form == Form::Distance)
}

/// As [`distance_call`] for `cosine_similarity` and `inner_product`: *descending* order of the expression is
/// ascending order of the distance by the metric that is returned.
pub fn similarity_call(expr: &Expr) -> Option<DistanceCall<'_>> {
    call_in(expr, |form| form != Form::Distance)
}

fn call_in(expr: &Expr, wanted: impl Fn(Form) -> bool) -> Option<DistanceCall<'_>> {
    let mut expr = expr;
    while let Expr::Alias(Alias { expr: inner, .. }) = expr {
        expr = inner;
    }
    let Expr::ScalarFunction(ScalarFunction { func, args }) = expr else { return None };
    let distance = func.inner().downcast_ref::<DistanceFunc>().filter(|f| wanted(f.form()))?;
    let [left, right] = args.as_slice() else { return None };
    let (column, query) = match (reads_columns(left), reads_columns(right)) {
        (true, _) => (left, right),
        (false, true) => (right, left),
        (false, false) => return None,
    };
    Some(DistanceCall { metric: distance.metric(), column, query })
}

/// Outer columns of a correlated query do not count: they are constants to its rows.
fn reads_columns(expr: &Expr) -> bool {
    let mut found = false;
    // The closure never fails.
    let _ = expr.apply(|e| {
        found |= matches!(e, Expr::Column(_));
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{ScalarUDF, col, lit};

    use super::*;

    fn call(name: &str, args: Vec<Expr>) -> Expr {
        let functions = crate::scalar_functions();
        functions.iter().find(|f| f.name() == name).unwrap().call(args)
    }

    #[test]
    fn finds_the_column_on_either_side() {
        for args in [vec![col("e"), lit("[1]")], vec![lit("[1]"), col("e")]] {
            let expr = call("cosine_distance", args).alias("d");
            let found = distance_call(&expr).unwrap();
            assert_eq!((found.metric, found.column, found.query), (Metric::Cosine, &col("e"), &lit("[1]")));
        }
        let both = call("l2_distance", vec![col("a"), col("b")]);
        assert_eq!(distance_call(&both).map(|c| c.column), Some(&col("a")));
        assert!(distance_call(&call("l2_distance", vec![lit("[1]"), lit("[2]")])).is_none());
    }

    #[test]
    fn similarities_are_not_distances() {
        let similar = call("inner_product", vec![col("e"), lit("[1]")]);
        assert!(distance_call(&similar).is_none());
        assert_eq!(similarity_call(&similar).map(|c| c.metric), Some(Metric::NegativeInnerProduct));
        assert!(similarity_call(&call("l2_distance", vec![col("e"), lit("[1]")])).is_none());
    }

    #[test]
    fn a_function_of_the_same_name_is_none() {
        let other: ScalarUDF = datafusion::functions_nested::distance::array_distance_udf().as_ref().clone();
        assert!(distance_call(&other.call(vec![col("a"), col("b")])).is_none());
    }
}
