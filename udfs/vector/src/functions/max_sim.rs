//! ```sql
//! CREATE TABLE pages (id BIGINT PRIMARY KEY, tokens VECTOR(128)[]);
//! SELECT id FROM pages ORDER BY max_sim(tokens, $1) DESC NULLS LAST LIMIT 10;
//! ```
//!
//! Late interaction: each vector of the query takes the greatest inner product with a vector of the document, and
//! `max_sim(document, query)` is the sum of these. Vectors of length 1 make it a sum of cosines.
//!
//! *Types*: two lists of `VECTOR(n)`, `HALFVEC(n)` or `TINYVEC(n)`, both of the same; `REAL`. *Nulls*: NULL gives NULL,
//! vectors in a list that are NULL are passed over, and without a vector on one of the sides it is NULL. *NaN*: an
//! element that is NaN makes the result NaN. *Cost*: an inner product for each pair of vectors. *Source*: ColBERT.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, Float32Array, ListArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
};
use triune_common::Error;

use super::args::{arity, result_field};
use super::doc::doc;
use super::{example, shared_methods, signature};
use crate::kernels::{Metric, PreparedQuery, VectorRows, check_dims};
use crate::types::{VectorKind, VectorType, type_name};

const NAME: &str = "max_sim";

/// The type of the vectors in a list.
fn item(index: usize, field: &Field) -> triune_common::Result<VectorType> {
    let found = match field.data_type() {
        DataType::List(item) => {
            VectorType::from_field(item).or_else(|| VectorType::from_data_type(item.data_type()))
        }
        _ => None,
    };
    found.filter(|ty| ty.kind != VectorKind::BitVec).ok_or_else(|| {
        Error::invalid(format!(
            "{NAME}: argument {} is {}, expected a list of vectors",
            index + 1,
            type_name(field)
        ))
        .with_hint("a column VECTOR(n)[] or ['[1,2]'::VECTOR(2), '[3,4]'::VECTOR(2)] is accepted")
    })
}

/// The type of all vectors.
fn items(fields: &[FieldRef]) -> triune_common::Result<VectorType> {
    let [document, query] = arity::<2>(NAME, fields)?;
    let (document, query) = (item(0, &document)?, item(1, &query)?);
    check_dims(query, document)?;
    if document.kind != query.kind {
        return Err(Error::invalid(format!("{NAME} compares {document} with {query}"))
            .with_hint("cast the vectors of one side to the type of the other"));
    }
    Ok(document)
}

/// `max_sim(document, query)`
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct MaxSimFunc {
    signature: Signature,
}

impl Default for MaxSimFunc {
    fn default() -> Self {
        let list = DataType::List(Arc::new(Field::new("item", example(VectorKind::Vector), true)));
        Self { signature: signature(&[&[list.clone(), list]]) }
    }
}

impl ScalarUDFImpl for MaxSimFunc {
    shared_methods!("max_sim");

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        items(args.arg_fields)?;
        // Empty lists give NULL as well.
        Ok(result_field(NAME, DataType::Float32, true))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ty = items(&args.arg_fields)?;
        let [document, query] = args.args.as_slice() else {
            return datafusion::common::internal_err!("max_sim was called without two arguments");
        };
        let all_constant = matches!((document, query), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
        let rows = if all_constant { 1 } else { args.number_rows };
        let array = |value: &ColumnarValue| match value {
            // One row: it is the same for all.
            ColumnarValue::Scalar(value) => value.to_array(),
            ColumnarValue::Array(array) => Ok(Arc::clone(array)),
        };
        let (documents, queries) = (array(document)?, array(query)?);
        let (Some(documents), Some(queries)) = (documents.as_list_opt::<i32>(), queries.as_list_opt::<i32>())
        else {
            return datafusion::common::internal_err!("max_sim was called without lists");
        };
        let found = max_sims(documents, queries, rows, ty)?;
        if all_constant {
            return Ok(ColumnarValue::Scalar(datafusion::scalar::ScalarValue::try_from_array(&found, 0)?));
        }
        Ok(ColumnarValue::Array(Arc::new(found)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOC: LazyLock<Documentation> = LazyLock::new(|| {
            doc(
                "The sum, over the vectors of the query, of the greatest inner product with a vector of the document",
                "max_sim(document, query)",
                "SELECT max_sim(['[1,0]'::VECTOR(2), '[0,1]'::VECTOR(2)], ['[3,4]'::VECTOR(2)]); -- 4.0",
                &[("document", "a list of vectors"), ("query", "a list of vectors of the same type")],
            )
        });
        Some(&DOC)
    }
}

/// A side of one row serves all rows.
fn max_sims(
    documents: &ListArray,
    queries: &ListArray,
    rows: usize,
    ty: VectorType,
) -> triune_common::Result<Float32Array> {
    let vectors = |list: &ListArray| {
        let values = list.values().as_fixed_size_list_opt().cloned();
        values.ok_or_else(|| Error::internal("the lists of max_sim hold no vectors"))
    };
    let (of_documents, of_queries) = (vectors(documents)?, vectors(queries)?);
    let checked = VectorRows::try_new(&of_documents, ty)?;
    let range = |list: &ListArray, row: usize| {
        let row = if list.len() == 1 { 0 } else { row };
        let offsets = list.value_offsets();
        list.is_valid(row).then(|| {
            usize::try_from(offsets[row]).unwrap_or(0)..usize::try_from(offsets[row + 1]).unwrap_or(0)
        })
    };
    let mut prepared: Option<(std::ops::Range<usize>, Vec<PreparedQuery>)> = None;
    let mut products = Vec::new();
    (0..rows)
        .map(|row| {
            let (Some(document), Some(query)) = (range(documents, row), range(queries, row)) else {
                return Ok(None);
            };
            if prepared.as_ref().is_none_or(|(of, _)| *of != query) {
                let each = query.clone().filter(|i| of_queries.is_valid(*i));
                let each =
                    each.map(|i| PreparedQuery::from_row(Metric::NegativeInnerProduct, &of_queries, i, ty));
                prepared = Some((query, each.collect::<triune_common::Result<_>>()?));
            }
            let Some((_, query)) = &prepared else { return Ok(None) };
            products.resize(document.len(), 0.0);
            let mut sum = 0.0_f64;
            let mut any = false;
            for one in query {
                checked.distances(one, document.clone(), &mut products)?;
                let mut best: Option<f32> = None;
                for (product, place) in products.iter().zip(document.clone()) {
                    if of_documents.is_valid(place) {
                        let product = -*product;
                        best = Some(match best {
                            Some(best) if best >= product || best.is_nan() => best,
                            _ => product,
                        });
                    }
                }
                if let Some(best) = best {
                    any = true;
                    sum += f64::from(best);
                }
            }
            #[expect(clippy::cast_possible_truncation, reason = "the result is single")]
            Ok(any.then_some(sum as f32))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use arrow::array::{FixedSizeListBuilder, Float32Builder, ListBuilder};
    use triune_common::SeededRng;

    use super::*;
    use crate::testing::{error, value};

    type Lists = Vec<Option<Vec<Option<[f32; 3]>>>>;

    fn random(rng: &SeededRng, rows: usize) -> Lists {
        let number = || rng.below(201) as f32 / 100.0 - 1.0;
        let vector = || (rng.below(7) > 0).then(|| [number(), number(), number()]);
        let list = || (rng.below(8) > 0).then(|| (0..rng.below(5)).map(|_| vector()).collect());
        (0..rows).map(|_| list()).collect()
    }

    fn array(lists: &Lists) -> ListArray {
        let mut builder = ListBuilder::new(FixedSizeListBuilder::new(Float32Builder::new(), 3));
        for list in lists {
            for vector in list.iter().flatten() {
                builder.values().values().append_slice(&vector.unwrap_or([9.0; 3]));
                builder.values().append(vector.is_some());
            }
            builder.append(list.is_some());
        }
        builder.finish()
    }

    fn oracle(
        document: Option<&Vec<Option<[f32; 3]>>>,
        query: Option<&Vec<Option<[f32; 3]>>>,
    ) -> Option<f64> {
        let (document, query): (Vec<_>, Vec<_>) =
            (document?.iter().flatten().collect(), query?.iter().flatten().collect());
        if document.is_empty() || query.is_empty() {
            return None;
        }
        let dot = |a: &[f32; 3], b: &[f32; 3]| {
            a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>()
        };
        Some(query.iter().map(|q| document.iter().map(|d| dot(d, q)).fold(f64::NEG_INFINITY, f64::max)).sum())
    }

    #[test]
    fn sums_are_those_of_two_loops() {
        for seed in 0..200 {
            let rng = SeededRng::new(seed);
            let rows = 1 + rng.below(20) as usize;
            let documents = random(&rng, rows);
            let queries = random(&rng, if seed % 2 == 0 { 1 } else { rows });
            let ty = VectorType::try_new(VectorKind::Vector, 3).unwrap();
            // A slice begins in the midst of the values.
            let (from, all) = (usize::from(rows > 1), array(&documents));
            let found = max_sims(
                &all.slice(from, rows - from),
                &array(&queries).slice(
                    if queries.len() > 1 { from } else { 0 },
                    if queries.len() > 1 { rows - from } else { 1 },
                ),
                rows - from,
                ty,
            )
            .unwrap();
            for row in from..rows {
                let query = if queries.len() == 1 { &queries[0] } else { &queries[row] };
                let wanted = oracle(documents[row].as_ref(), query.as_ref());
                let got = found.is_valid(row - from).then(|| f64::from(found.value(row - from)));
                let same = match (got, wanted) {
                    (Some(a), Some(b)) => (a - b).abs() < 1e-5,
                    (a, b) => a.is_none() && b.is_none(),
                };
                assert!(same, "seed {seed}, row {row}: {got:?} for {wanted:?}");
            }
        }
    }

    #[tokio::test]
    async fn in_statements() {
        let v = |t: &str| format!("to_vector('{t}', 'VECTOR(2)')");
        let sql = format!("SELECT max_sim([{}, {}], [{}])", v("[1,0]"), v("[0,1]"), v("[3,4]"));
        assert_eq!(value(&sql).await, "4.0");
        let sql = format!("SELECT max_sim([{}], [to_vector('[1]', 'VECTOR(1)')])", v("[1,0]"));
        assert!(error(&sql).await.contains("dimensions"));
        assert!(error("SELECT max_sim([1, 2], [3])").await.contains("expected a list of vectors"));
    }
}
