use arrow::array::{Array, AsArray, FixedSizeListArray};
use arrow::datatypes::{DataType, Field, Float32Type, UInt8Type};
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::DataType as SqlType;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use half::f16;
use proptest::prelude::*;

use super::text::print_text;
use super::*;

fn ty(text: &str) -> VectorType {
    text.parse().unwrap()
}

fn read(text: &str, to: &str) -> FixedSizeListArray {
    match parse_text(text, ty(to)).unwrap() {
        ScalarValue::FixedSizeList(array) => array.as_ref().clone(),
        other => panic!("{other:?}"),
    }
}

fn failure(text: &str, to: &str) -> String {
    parse_text(text, ty(to)).unwrap_err().to_string()
}

#[test]
fn types_and_arrow_types() {
    for (text, arrow, size) in [
        ("VECTOR(384)", DataType::Float32, 384),
        ("HALFVEC(3)", DataType::Float16, 3),
        ("TINYVEC(65535)", DataType::Int8, 65_535),
        ("BITVEC(9)", DataType::UInt8, 2),
        ("BITVEC(65535)", DataType::UInt8, 8_192),
    ] {
        let ty = ty(text);
        assert_eq!(ty.to_string(), text);
        let field = ty.field("e", true);
        let DataType::FixedSizeList(item, n) = field.data_type() else { panic!() };
        assert_eq!(
            (item.data_type(), *n, item.name().as_str(), item.is_nullable()),
            (&arrow, size, "item", true)
        );
        assert_eq!(VectorType::from_field(&field), Some(ty));
        assert_eq!(field.metadata()["ARROW:extension:name"], ty.kind.extension_name());
        assert_eq!(field.metadata()["ARROW:extension:metadata"], format!("{{\"dims\":{}}}", ty.dims));
    }
}

#[test]
fn lists_without_metadata_are_vectors_too() {
    let list = |item: DataType, nullable, n| {
        DataType::FixedSizeList(Arc::new(Field::new("element", item, nullable)), n)
    };
    assert_eq!(VectorType::from_data_type(&list(DataType::Float32, false, 3)), Some(ty("VECTOR(3)")));
    assert_eq!(VectorType::from_data_type(&list(DataType::UInt8, true, 2)), Some(ty("BITVEC(16)")));
    assert_eq!(VectorType::from_data_type(&list(DataType::Float64, true, 3)), None);
    assert_eq!(VectorType::from_data_type(&list(DataType::Float32, true, 0)), None);
    assert_eq!(VectorType::from_data_type(&list(DataType::Float32, true, 65_536)), None);
    assert_eq!(VectorType::from_data_type(&DataType::new_list(DataType::Float32, true)), None);
}

#[test]
fn metadata_that_does_not_fit_is_not_believed() {
    let with = |name: &str, metadata: &str| {
        let field = Field::new("e", ty("BITVEC(16)").data_type(), true);
        field.with_metadata(
            [(EXTENSION_NAME.into(), name.into()), (EXTENSION_METADATA.into(), metadata.into())].into(),
        )
    };
    assert_eq!(VectorType::from_field(&with("triune.bitvec", "{ \"dims\" : 11 }")), Some(ty("BITVEC(11)")));
    for (name, metadata) in [
        ("triune.bitvec", "{\"dims\":3}"),
        ("triune.bitvec", "{\"dims\":0}"),
        ("triune.bitvec", "garbage"),
        ("triune.vector", "{\"dims\":11}"),
        ("arrow.uuid", ""),
    ] {
        assert_eq!(
            VectorType::from_field(&with(name, metadata)),
            Some(ty("BITVEC(16)")),
            "{name} {metadata}"
        );
    }
}

#[test]
fn type_names_and_lengths() {
    assert_eq!("vector( 3 )".parse::<VectorType>().unwrap(), ty("VECTOR(3)"));
    let failure = |text: &str| text.parse::<VectorType>().unwrap_err().to_string();
    assert_eq!(failure("VECTOR"), "VECTOR needs a number of dimensions, such as VECTOR(384)");
    for text in ["VECTOR(0)", "VECTOR(-1)", "VECTOR(x)", "VECTOR()", "VECTOR(65536)", "VECTOR(1.5)"] {
        assert_eq!(
            failure(text),
            format!("{text}: the number of dimensions must be a whole number from 1 to 65535")
        );
    }
    assert_eq!(
        failure("INTEGER"),
        "'INTEGER' is no vector type; there are VECTOR(n), HALFVEC(n), TINYVEC(n) and BITVEC(n)"
    );
}

#[test]
fn the_type_planner() {
    let plan = |sql: &str| {
        let parsed = Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).unwrap().parse_data_type().unwrap();
        VectorTypePlanner.plan_type_field(&parsed).map(|f| f.map(|f| f.as_ref().clone()))
    };
    for text in ["VECTOR(3)", "HALFVEC(4)", "TINYVEC(5)", "BITVEC(6)"] {
        assert_eq!(plan(&text.to_lowercase()).unwrap().unwrap(), ty(text).field("", true));
    }
    for other in ["INTEGER", "float[3]", "hstore", "other.vector(3)"] {
        assert!(plan(other).unwrap().is_none(), "{other}");
    }
    for (sql, part) in [
        ("VECTOR", "VECTOR needs a number of dimensions"),
        ("vector(0)", "VECTOR(0): the number of dimensions must be"),
        ("vector('x')", "the number of dimensions must be"),
        ("vector(1,2)", "VECTOR takes one number, its dimensions"),
    ] {
        let message = Error::from(plan(sql).unwrap_err()).to_string();
        assert!(message.contains(part), "{sql}: {message}");
    }
    let custom: SqlType = SqlType::Custom(
        vec![datafusion::sql::sqlparser::ast::Ident::new("vector")].into(),
        vec!["-1".into()],
    );
    assert!(VectorTypePlanner.plan_type_field(&custom).is_err());
}

#[test]
fn texts_of_floats() {
    let array = read(" [ 1, -2.5 ,3e2,+.5 ] ", "VECTOR(4)");
    assert_eq!(array.values().as_primitive::<Float32Type>().values(), &[1.0, -2.5, 300.0, 0.5]);
    assert_eq!(print_text(&array, 0, ty("VECTOR(4)")), "[1,-2.5,300,0.5]");
    assert_eq!(print_text(&read("[0.1,65504,1e-7]", "HALFVEC(3)"), 0, ty("HALFVEC(3)")), "[0.1,65504,1e-7]");
    assert_eq!(print_text(&read("[-128,127,1.0]", "TINYVEC(3)"), 0, ty("TINYVEC(3)")), "[-128,127,1]");
    assert_eq!(print_text(&read("[1e20,1e-20,-0]", "VECTOR(3)"), 0, ty("VECTOR(3)")), "[1e20,1e-20,-0]");
}

#[test]
fn texts_of_bits() {
    let array = read(" 010110101 ", "BITVEC(9)");
    assert_eq!(array.values().as_primitive::<UInt8Type>().values(), &[0b0101_1010, 0b1000_0000]);
    assert_eq!(print_text(&array, 0, ty("BITVEC(9)")), "010110101");
}

#[test]
fn texts_that_are_none() {
    for (text, to, want) in [
        ("", "VECTOR(3)", "an empty text is no VECTOR(3); a vector is written like '[1,2,3]'"),
        ("  ", "BITVEC(3)", "an empty text is no BITVEC(3); bits are written like '0101'"),
        (
            "1,2,3",
            "VECTOR(3)",
            "'1,2,3' is no VECTOR(3): expected '[' at character 1; a vector is written like '[1,2,3]'",
        ),
        (
            "{1,2}",
            "VECTOR(2)",
            "'{1,2}' is no VECTOR(2): expected '[' at character 1; a vector is written like '[1,2,3]'",
        ),
        ("[1,2", "VECTOR(2)", "'[1,2' is no VECTOR(2): expected ',' or ']' at character 5"),
        ("[1,,2]", "VECTOR(3)", "'[1,,2]' is no VECTOR(3): expected a number at character 4"),
        ("[1,2,]", "VECTOR(2)", "'[1,2,]' is no VECTOR(2): expected a number at character 6"),
        ("[1,2] x", "VECTOR(2)", "'[1,2] x' is no VECTOR(2): unexpected text after ']' at character 7"),
        ("[1, äb]", "VECTOR(2)", "'äb' at character 5 is no number"),
        ("[ä,1]", "VECTOR(2)", "'ä' at character 2 is no number"),
        ("[1,0x10]", "VECTOR(2)", "'0x10' at character 4 is no number"),
        ("[1,NaN]", "VECTOR(2)", "NaN at character 4 is not allowed in a vector"),
        ("[-inf]", "HALFVEC(1)", "infinity at character 2 is not allowed in a vector"),
        ("[nan]", "TINYVEC(1)", "NaN at character 2 is not allowed in a vector"),
        ("[]", "VECTOR(3)", "expected 3 dimensions for VECTOR(3), got 0"),
        ("[1,2]", "VECTOR(3)", "expected 3 dimensions for VECTOR(3), got 2"),
        ("[1,2]", "VECTOR(1)", "expected 1 dimension for VECTOR(1), got 2"),
        ("0101", "BITVEC(5)", "expected 5 dimensions for BITVEC(5), got 4"),
        (
            "01x1",
            "BITVEC(4)",
            "'01x1' is no BITVEC(4): 'x' at character 3 is no bit; bits are written like '0101'",
        ),
        (
            "[1,1e39]",
            "VECTOR(2)",
            "1e39 at character 4 is out of range for VECTOR, whose elements reach ±3.4e38",
        ),
        (
            "[70000]",
            "HALFVEC(1)",
            "70000 at character 2 is out of range for HALFVEC, whose elements reach ±65504",
        ),
        (
            "[1e400]",
            "HALFVEC(1)",
            "inf at character 2 is out of range for HALFVEC, whose elements reach ±65504",
        ),
        (
            "[128]",
            "TINYVEC(1)",
            "128 at character 2 is out of range for TINYVEC, whose elements are whole numbers from -128 to 127",
        ),
        (
            "[0.5]",
            "TINYVEC(1)",
            "0.5 at character 2 is no whole number; the elements of a TINYVEC are whole numbers from -128 to 127",
        ),
    ] {
        assert_eq!(failure(text, to), want, "{text:?} as {to}");
    }
}

#[test]
fn a_long_wrong_text_is_cut_in_the_message() {
    let long = format!("[{}", "1,".repeat(100_000));
    assert!(failure(&long, "VECTOR(3)").len() < 200);
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,40}", digits in "[\\[\\],0-9.eE+ -]{0,40}") {
        for to in ["VECTOR(2)", "HALFVEC(2)", "TINYVEC(2)", "BITVEC(2)"] {
            let _ = parse_text(&text, ty(to));
            let _ = parse_text(&digits, ty(to));
        }
    }

    #[test]
    fn what_is_written_reads_back(
        floats in prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::ZERO | prop::num::f32::SUBNORMAL, 1..20),
        halves in prop::collection::vec(any::<u16>().prop_map(f16::from_bits).prop_filter("finite", |h| h.is_finite()), 1..20),
        bits in "[01]{1,70}",
    ) {
        let texts = [
            (VectorKind::Vector, floats.len(), format!("{floats:?}")),
            (VectorKind::HalfVec, halves.len(), format!("{:?}", halves.iter().map(|h| h.to_f32()).collect::<Vec<_>>())),
            (VectorKind::BitVec, bits.len(), bits),
        ];
        for (kind, dims, text) in texts {
            let ty = VectorType::try_new(kind, dims).unwrap();
            let first = read(&text, &ty.to_string());
            let printed = print_text(&first, 0, ty);
            prop_assert_eq!(read(&printed, &ty.to_string()).values().to_data(), first.values().to_data(), "{} {}", text, printed);
        }
    }
}
