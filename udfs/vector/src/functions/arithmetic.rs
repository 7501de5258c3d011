//! ```sql
//! SELECT a + b, a - b, a * b FROM pairs;      -- vector_add, vector_sub, vector_mul
//! SELECT embedding - '[1,2,3]' FROM docs;
//! ```
//!
//! Element by element, both vectors of as many dimensions. *Input*: vectors of numbers; a list or text beside
//! one takes its type. *Output*: of the kind of both, of the wider kind where they differ (`TINYVEC` <
//! `HALFVEC` < `VECTOR`). *Nulls*: NULL where a side is NULL; a NULL element is an error. *NaN*: a NaN or
//! infinite element stays one. *Errors*: dimensions that differ, bits, and a result that leaves the range of
//! the element type although both elements were finite, as in pgvector.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float16Array, Float32Array, Int8Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, FieldRef, Float16Type, Float32Type, Int8Type};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature,
};
use half::f16;
use triune_common::Error;

use super::args::{Meeting, Side, any_nullable, arity, constant, meet};
use super::doc::doc;
use super::{example, signature};
use crate::types::convert::check_elements;
use crate::types::text::print_float;
use crate::types::{VectorKind, VectorType, type_name};

/// `+`, `-` or `*`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Arithmetic {
    Add,
    Sub,
    Mul,
}

impl Arithmetic {
    fn name(self) -> &'static str {
        match self {
            Self::Add => "vector_add",
            Self::Sub => "vector_sub",
            Self::Mul => "vector_mul",
        }
    }

    fn sign(self) -> char {
        match self {
            Self::Add => '+',
            Self::Sub => '-',
            Self::Mul => '*',
        }
    }

    fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
        }
    }
}

/// One of the three functions.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct ArithmeticFunc {
    op: Arithmetic,
    signature: Signature,
}

impl ArithmeticFunc {
    fn new(op: Arithmetic) -> Self {
        let vector = example(VectorKind::Vector);
        Self { op, signature: signature(&[&[vector.clone(), vector]]) }
    }

    pub(crate) fn all() -> Vec<Self> {
        [Arithmetic::Add, Arithmetic::Sub, Arithmetic::Mul].into_iter().map(Self::new).collect()
    }

    pub(crate) fn call(op: Arithmetic, left: Expr, right: Expr) -> Expr {
        ScalarUDF::new_from_impl(Self::new(op)).call(vec![left, right])
    }

    /// The type that both sides are brought to.
    fn common(&self, fields: &[FieldRef]) -> triune_common::Result<VectorType> {
        let name = self.op.name();
        let [left, right] = arity::<2>(name, fields)?;
        let ty = match meet(name, &left, &right)? {
            Meeting::Vectors(a, b) if a.kind == VectorKind::HalfVec => b,
            Meeting::Vectors(a, _) => a,
            Meeting::Lists => {
                let (l, r) = (type_name(&left), type_name(&right));
                return Err(Error::invalid(format!("{name}({l}, {r}): one side must be a vector"))
                    .with_hint("cast one side: [1,2,3]::VECTOR(3)"));
            }
        };
        if ty.kind == VectorKind::BitVec {
            return Err(Error::invalid(format!("{name} is not defined on {ty}")));
        }
        Ok(ty)
    }
}

/// Row `i` of the result is `op` of row `i` of both sides; a constant side is its row 0 for all of them.
fn elementwise<T: Copy, R>(
    a: (&[T], bool),
    b: (&[T], bool),
    dims: usize,
    rows: usize,
    mut op: impl FnMut(usize, T, T) -> triune_common::Result<R>,
) -> triune_common::Result<Vec<R>> {
    let mut out = Vec::with_capacity(rows * dims);
    for row in 0..rows {
        let start = |is_constant: bool| if is_constant { 0 } else { row * dims };
        let (x, y) = (&a.0[start(a.1)..][..dims], &b.0[start(b.1)..][..dims]);
        for (i, (x, y)) in x.iter().zip(y).enumerate() {
            out.push(op(row * dims + i, *x, *y)?);
        }
    }
    Ok(out)
}

fn compute(
    op: Arithmetic,
    left: &Side,
    right: &Side,
    ty: VectorType,
    rows: usize,
) -> triune_common::Result<FixedSizeListArray> {
    let (a, a_constant) = parts(left);
    let (b, b_constant) = parts(right);
    check_elements(a)?;
    check_elements(b)?;
    let spread = |array: &FixedSizeListArray, is_constant: bool| match (array.nulls(), is_constant) {
        (Some(nulls), true) if nulls.is_null(0) => Some(NullBuffer::new_null(rows)),
        (_, true) => None,
        (nulls, false) => nulls.cloned(),
    };
    let nulls = NullBuffer::union(spread(a, a_constant).as_ref(), spread(b, b_constant).as_ref());
    let dims = ty.dims;
    // What lies below a NULL row is arbitrary and must not raise an error.
    let counts = |at: usize| nulls.as_ref().is_none_or(|n| n.is_valid(at / dims));
    let overflow = |at: usize, x: f64, y: f64| {
        let (sign, position) = (op.sign(), at % dims + 1);
        let (x, y) = (print_float(x as f32), print_float(y as f32));
        Error::invalid(format!("{x} {sign} {y} at position {position} is out of range for {ty}"))
    };
    let (av, bv) = (a.values(), b.values());
    let values: ArrayRef = match ty.kind {
        VectorKind::Vector => {
            let (x, y) =
                (av.as_primitive::<Float32Type>().values(), bv.as_primitive::<Float32Type>().values());
            Arc::new(Float32Array::from(elementwise(
                (x, a_constant),
                (y, b_constant),
                dims,
                rows,
                |at, x, y| {
                    let (x, y) = (f64::from(x), f64::from(y));
                    let z = op.apply(x, y) as f32;
                    if z.is_infinite() && x.is_finite() && y.is_finite() && counts(at) {
                        return Err(overflow(at, x, y));
                    }
                    Ok(z)
                },
            )?))
        }
        VectorKind::HalfVec => {
            let (x, y) =
                (av.as_primitive::<Float16Type>().values(), bv.as_primitive::<Float16Type>().values());
            Arc::new(Float16Array::from(elementwise(
                (x, a_constant),
                (y, b_constant),
                dims,
                rows,
                |at, x, y| {
                    let (x, y) = (f64::from(x), f64::from(y));
                    let z = f16::from_f64(op.apply(x, y));
                    if z.is_infinite() && x.is_finite() && y.is_finite() && counts(at) {
                        return Err(overflow(at, x, y));
                    }
                    Ok(z)
                },
            )?))
        }
        VectorKind::TinyVec => {
            let (x, y) = (av.as_primitive::<Int8Type>().values(), bv.as_primitive::<Int8Type>().values());
            Arc::new(Int8Array::from(elementwise(
                (x, a_constant),
                (y, b_constant),
                dims,
                rows,
                |at, x, y| {
                    let (x, y) = (f64::from(x), f64::from(y));
                    let z = op.apply(x, y);
                    if !(-128.0..=127.0).contains(&z) && counts(at) {
                        return Err(overflow(at, x, y));
                    }
                    Ok(z as i8)
                },
            )?))
        }
        VectorKind::BitVec => return Err(Error::internal("bits were added")),
    };
    Ok(FixedSizeListArray::try_new(ty.item(), ty.list_size() as i32, values, nulls)?)
}

fn parts(side: &Side) -> (&FixedSizeListArray, bool) {
    match side {
        Side::Constant(array) => (array, true),
        Side::Column(array) => (array, false),
    }
}

impl ScalarUDFImpl for ArithmeticFunc {
    fn name(&self) -> &str {
        self.op.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(arg_types.to_vec())
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        datafusion::common::internal_err!("{} needs the fields of its arguments", self.op.name())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let ty = self.common(args.arg_fields)?;
        Ok(Arc::new(ty.field(self.op.name(), any_nullable(args.arg_fields))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ty = self.common(&args.arg_fields)?;
        let ([left, right], [left_field, right_field]) = (args.args.as_slice(), args.arg_fields.as_slice())
        else {
            return datafusion::common::internal_err!("{} was called without two arguments", self.op.name());
        };
        let (a, b) = (Side::try_new(left, left_field, ty)?, Side::try_new(right, right_field, ty)?);
        let is_constant = matches!((&a, &b), (Side::Constant(_), Side::Constant(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let array: ArrayRef = Arc::new(compute(self.op, &a, &b, ty, rows)?);
        if is_constant { constant(&array) } else { Ok(ColumnarValue::Array(array)) }
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCS: LazyLock<[Documentation; 3]> = LazyLock::new(|| {
            let arguments = [
                ("left", "A VECTOR, HALFVEC or TINYVEC; a list or text beside one."),
                ("right", "The same; it must have as many dimensions."),
            ];
            [
                doc(
                    "Sum of two vectors, element by element; the operator `+`. NULL where a side is NULL.",
                    "vector_add(left, right)",
                    "> SELECT '[1,2]'::VECTOR(2) + '[3,4]';\n[4.0, 6.0]",
                    &arguments,
                ),
                doc(
                    "Difference of two vectors, element by element; the operator `-`. NULL where a side is NULL.",
                    "vector_sub(left, right)",
                    "> SELECT '[1,2]'::VECTOR(2) - '[3,4]';\n[-2.0, -2.0]",
                    &arguments,
                ),
                doc(
                    "Product of two vectors, element by element; the operator `*`. NULL where a side is NULL.",
                    "vector_mul(left, right)",
                    "> SELECT '[1,2]'::VECTOR(2) * '[3,4]';\n[3.0, 8.0]",
                    &arguments,
                ),
            ]
        });
        Some(match self.op {
            Arithmetic::Add => &DOCS[0],
            Arithmetic::Sub => &DOCS[1],
            Arithmetic::Mul => &DOCS[2],
        })
    }
}
