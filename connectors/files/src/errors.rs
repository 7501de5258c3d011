//! Errors of readers, with the file in them.
//!
//! ```text
//! error[bad data]: "/data/b.csv", line 3: the row has 4 fields, the header has 3
//! ```

use datafusion::common::DataFusionError;
use object_store::path::Path;
use triune_common::{Error, ErrorKind};
use triune_object_store::find_error;
use url::Url;

/// The error of a query over files as ours: one that we raised ourselves is found at any depth (below
/// Parquet's, Arrow's and `object_store`'s wrappers, and in errors that several partitions share); the rest
/// is sorted by kind.
pub fn explain_read_error(error: DataFusionError) -> Error {
    let found = find_error(&error).or_else(|| match &error {
        // A shared error names the sharer's source only.
        DataFusionError::Shared(inner) => find_error(inner.as_ref()),
        _ => None,
    });
    match found {
        // The position, if any, is in the wrappers: `Error::from` digs it out together with ours.
        Some(ours) if ours.position().is_some() => ours,
        Some(ours) => {
            let outer = Error::from(error);
            ours.at(outer.position())
        }
        None => Error::from(error),
    }
}

/// `error`, said of a file. Ours stay as they are: they name what they speak of.
pub(crate) fn of_file(file: &str, error: DataFusionError) -> Error {
    if let Some(ours) = find_error(&error) {
        return ours;
    }
    let plain = Error::from(error);
    let kind = match plain.kind() {
        // What a parser calls a wrong argument is a wrong file.
        ErrorKind::Invalid | ErrorKind::Syntax | ErrorKind::Internal => ErrorKind::Data,
        other => other,
    };
    Error::new(kind, format!("\"{file}\": {}", plain.message()))
}

pub(crate) fn bad_file(file: &str, what: impl std::fmt::Display) -> Error {
    Error::data(format!("\"{file}\": {what}"))
}

/// How messages name an object of the store at `base`: a local path, or a URL.
pub(crate) fn file_name(base: &Url, path: &Path) -> String {
    match base.scheme() {
        "file" => format!("/{path}"),
        _ => format!("{}/{path}", base.as_str().trim_end_matches('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn ours_is_found_wherever_it_is() {
        let ours = || Error::new(ErrorKind::Permission, "no");
        let store = object_store::Error::Generic { store: "S3", source: Box::new(ours()) };
        let parquet = parquet::errors::ParquetError::External(Box::new(store));
        let df = DataFusionError::ParquetError(Box::new(parquet));
        assert_eq!(explain_read_error(df).kind(), ErrorKind::Permission);
        let df = DataFusionError::Shared(Arc::new(DataFusionError::from(ours()).context("while reading")));
        assert_eq!(explain_read_error(df).message(), "no");
        let df = DataFusionError::Execution("division by zero".into());
        assert_eq!(explain_read_error(df).message(), "division by zero");
    }

    #[test]
    fn files_are_named_once() {
        let arrow = arrow::error::ArrowError::ParseError("bad int".into());
        let named = of_file("/x.csv", DataFusionError::from(arrow));
        assert_eq!((named.kind(), named.message()), (ErrorKind::Data, "\"/x.csv\": bad int"));
        let again = of_file("/x.csv", DataFusionError::from(named));
        assert_eq!(again.message(), "\"/x.csv\": bad int");
    }
}
