use super::*;

fn vector(item: DataType, dims: i32) -> Field {
    Field::new_fixed_size_list("v", Field::new("item", item, true), dims, true)
}

fn given(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn names_are_read_and_wrong_ones_explained() {
    for method in IndexMethod::ALL {
        assert_eq!(method.name().to_uppercase().parse::<IndexMethod>().unwrap(), method);
        let json = serde_json::to_string(&method).unwrap();
        assert_eq!(json, format!("\"{method}\""));
    }
    assert_eq!("ivfflat".parse::<IndexMethod>().unwrap(), IndexMethod::IvfFlat);
    let wrong = "ivf_pg".parse::<IndexMethod>().unwrap_err();
    assert!(wrong.hint().unwrap().starts_with("did you mean \"ivf_pq\"?"), "{wrong:?}");
}

#[test]
fn parameters_have_one_name() {
    let field = vector(DataType::Float32, 16);
    let out = IndexMethod::IvfPq
        .check_parameters(&field, &given(&[("LISTS", "12"), ("m", "4"), ("bits", "8")]), None)
        .unwrap();
    let want = [("metric", "cosine"), ("num_bits", "8"), ("num_partitions", "12"), ("num_sub_vectors", "4")];
    assert!(out.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(want));
    let twice = given(&[("lists", "12"), ("nlist", "13")]);
    assert!(IndexMethod::IvfPq.check_parameters(&field, &twice, None).is_err());
    let unknown = IndexMethod::Hnsw.check_parameters(&field, &given(&[("ef_constructon", "9")]), None);
    assert!(unknown.unwrap_err().hint().unwrap().contains("\"ef_construction\""));
    let m = IndexMethod::Hnsw.check_parameters(&field, &given(&[("m", "16")]), None).unwrap();
    assert_eq!(m.get("m").map(String::as_str), Some("16"));
}

#[test]
fn metrics_fit_columns_and_classes() {
    let field = vector(DataType::Float32, 16);
    let bits = vector(DataType::UInt8, 16);
    let class = operator_class("vector_l2_ops").unwrap();
    let out = IndexMethod::IvfRq.check_parameters(&field, &[], Some(class)).unwrap();
    assert_eq!(out["metric"], "l2");
    let clash = given(&[("metric", "dot")]);
    assert!(IndexMethod::IvfRq.check_parameters(&field, &clash, Some(class)).is_err());
    assert_eq!(IndexMethod::IvfFlat.check_parameters(&bits, &[], None).unwrap()["metric"], "hamming");
    assert!(IndexMethod::IvfFlat.check_parameters(&bits, &[], Some(class)).is_err());
    assert!(operator_class("vector_l1_ops").is_err());
    assert!(IndexMethod::IvfRq.check_column(&vector(DataType::Float32, 12)).is_err());
    assert!(IndexMethod::IvfRq.check_column(&bits).is_err());
    assert!(IndexMethod::BTree.check_column(&field).is_err());
    assert!(IndexMethod::FullText.check_column(&Field::new("a", DataType::Int64, true)).is_err());
}
