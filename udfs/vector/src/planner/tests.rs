use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{col, lit};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use triune_common::Error;

use super::*;
use crate::distance_call;

fn schema() -> DFSchema {
    let ty = |text: &str| text.parse::<VectorType>().unwrap();
    let fields = vec![
        ty("VECTOR(3)").field("v", true),
        ty("BITVEC(3)").field("b", true),
        Field::new("l", DataType::new_list(DataType::Float64, true), true),
        Field::new("n", DataType::Int64, true),
    ];
    DFSchema::try_from(Schema::new(fields)).unwrap()
}

fn plan(op: BinaryOperator, left: Expr, right: Expr) -> Result<Option<Expr>, String> {
    match VectorExprPlanner.plan_binary_op(RawBinaryExpr { op, left, right }, &schema()) {
        Ok(PlannerResult::Planned(expr)) => Ok(Some(expr)),
        Ok(PlannerResult::Original(_)) => Ok(None),
        Err(e) => Err(Error::from(e).to_string()),
    }
}

fn custom(name: &str) -> BinaryOperator {
    BinaryOperator::Custom(name.to_owned())
}

fn parameter(field: Option<FieldRef>) -> Expr {
    Expr::Placeholder(Placeholder::new_with_field("$1".to_owned(), field))
}

#[test]
fn every_operator_becomes_its_function() {
    for (op, column, metric) in [
        (BinaryOperator::LtDashGt, "v", Metric::L2),
        (BinaryOperator::Spaceship, "v", Metric::Cosine),
        (custom("<#>"), "v", Metric::NegativeInnerProduct),
        (custom("<+>"), "v", Metric::L1),
        (custom("<~>"), "b", Metric::Hamming),
        (custom("<%>"), "b", Metric::Jaccard),
    ] {
        let text = if column == "v" { "[1,2,3]" } else { "101" };
        for (left, right) in [(col(column), lit(text)), (lit(text), col(column))] {
            let planned = plan(op.clone(), left, right).unwrap().unwrap();
            let call = distance_call(&planned).unwrap();
            assert_eq!((call.metric, call.column), (metric, &col(column)), "{op}");
            // The text has become a vector of the column's type, with its metadata.
            let Expr::Literal(value, Some(metadata)) = call.query else { panic!("{op}: {}", call.query) };
            assert!(matches!(value, datafusion::scalar::ScalarValue::FixedSizeList(_)));
            assert_eq!(metadata.inner()["ARROW:extension:metadata"], "{\"dims\":3}");
        }
    }
}

#[test]
fn operators_with_a_schema() {
    for (name, metric) in [("<->", Metric::L2), ("<=>", Metric::Cosine)] {
        let op = BinaryOperator::PGCustomBinaryOperator(vec!["public".to_owned(), name.to_owned()]);
        let planned = plan(op, col("v"), lit("[1,2,3]")).unwrap().unwrap();
        assert_eq!(distance_call(&planned).map(|call| call.metric), Some(metric));
    }
}

#[test]
fn a_spaceship_between_scalars_stays_equality() {
    for (left, right) in
        [(col("n"), lit(1)), (lit("a"), lit("b")), (col("l"), col("l")), (parameter(None), parameter(None))]
    {
        assert_eq!(plan(BinaryOperator::Spaceship, left, right), Ok(None));
    }
    assert!(plan(BinaryOperator::Spaceship, col("v"), col("l")).unwrap().is_some());
}

#[test]
fn a_parameter_gets_the_type_of_the_vector() {
    let planned = plan(BinaryOperator::Spaceship, col("v"), parameter(None)).unwrap().unwrap();
    let Expr::Placeholder(Placeholder { field: Some(field), .. }) = distance_call(&planned).unwrap().query
    else {
        panic!("{planned}")
    };
    assert_eq!(VectorType::from_field(field), "VECTOR(3)".parse().ok());
    // A type that the statement gave is kept.
    let own: FieldRef = Arc::new(Field::new("", DataType::new_list(DataType::Float64, true), true));
    let planned =
        plan(BinaryOperator::LtDashGt, parameter(Some(Arc::clone(&own))), col("v")).unwrap().unwrap();
    assert_eq!(distance_call(&planned).unwrap().query, &parameter(Some(own)));
}

#[test]
fn arithmetic_between_vectors_only() {
    for op in [BinaryOperator::Plus, BinaryOperator::Minus, BinaryOperator::Multiply] {
        assert!(plan(op.clone(), col("v"), col("v")).unwrap().is_some());
        assert!(plan(op.clone(), lit("[1,2,3]"), col("v")).unwrap().is_some());
        assert!(plan(op.clone(), col("v"), parameter(None)).unwrap().is_some());
        assert_eq!(plan(op.clone(), col("v"), col("n")), Ok(None));
        assert_eq!(plan(op.clone(), col("l"), col("l")), Ok(None));
        assert_eq!(plan(op, col("n"), lit(1)), Ok(None));
    }
    assert_eq!(plan(BinaryOperator::Divide, col("v"), col("v")), Ok(None));
}

#[test]
fn errors_come_with_the_plan() {
    assert_eq!(
        plan(custom("<+>"), col("n"), lit("[1]")),
        Err("the operator <+> needs a vector, got BIGINT and VARCHAR; cast a side: '[1,2,3]'::VECTOR(3)"
            .to_owned())
    );
    assert_eq!(
        plan(BinaryOperator::LtDashGt, col("v"), lit("[1,2]")),
        Err("expected 3 dimensions for VECTOR(3), got 2".to_owned())
    );
    assert_eq!(
        plan(custom("<~>"), col("b"), lit("[1,2]")),
        Err("'[1,2]' is no BITVEC(3): '[' at character 1 is no bit; bits are written like '0101'".to_owned())
    );
    assert_eq!(plan(custom("@@"), col("v"), col("v")), Ok(None));
}

/// A sum of ten thousand terms asks for no more types than it has terms.
#[test]
fn long_sums_stay_linear() {
    let schema = schema();
    let mut sum = lit(1i64);
    for _ in 0..10_000 {
        let raw = RawBinaryExpr { op: BinaryOperator::Plus, left: sum, right: lit(1i64) };
        let PlannerResult::Original(raw) = VectorExprPlanner.plan_binary_op(raw, &schema).unwrap() else {
            panic!()
        };
        sum = raw.left + raw.right;
    }
    // Dropping a chain of this depth would overflow the stack of a test's thread.
    std::mem::forget(sum);
}
