//! ```sql
//! COPY (SELECT …) TO 'out.csv.gz' (HEADER true, DELIM ';');
//! COPY t TO 's3://lake/t/' (FORMAT parquet, COMPRESSION 'zstd(9)', PARTITION_BY …);
//! ```
//!
//! The format is `FORMAT`'s, else the name's. A name that ends in a slash is a folder of files, one for each core;
//! any other is one file. CSV and JSON files are compressed when their names say so.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::file_options::file_type::FileType;
use datafusion::datasource::file_format::arrow::ArrowFormatFactory;
use datafusion::datasource::file_format::csv::CsvFormatFactory;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::json::JsonFormatFactory;
use datafusion::datasource::file_format::parquet::ParquetFormatFactory;
use datafusion::datasource::file_format::{FileFormatFactory, format_as_file_type};
use triune_common::{Error, Result};
use triune_object_store::{location_text, parse_location};
use url::Url;

use crate::kind::{FileKind, compression_of_path, is_tab_separated, kind_of_path};
use crate::options::write_options;
use crate::pattern::is_glob;

/// Where and how `COPY … TO` writes: the parts of DataFusion's `LogicalPlan::Copy`.
#[derive(Clone)]
pub struct CopyTarget {
    pub url: Url,
    pub kind: FileKind,
    /// For `CopyTo::file_type`.
    pub file_type: Arc<dyn FileType>,
    /// For `CopyTo::options`.
    pub options: HashMap<String, String>,
}

impl std::fmt::Debug for CopyTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyTarget")
            .field("url", &self.url.as_str())
            .field("kind", &self.kind)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl CopyTarget {
    /// For `CopyTo::output_url`: a URL, so that DataFusion sees no globs in it.
    pub fn output_url(&self) -> String {
        self.url.to_string()
    }
}

/// Works out the target of `COPY … TO 'path' (options)`.
///
/// `format` is the word after `FORMAT` or `STORED AS`; it may also be among the options. `partitioned` says that
/// there is a `PARTITIONED BY`, for which the target is a folder.
///
/// # Errors
/// A name and options that do not tell the format, an unknown format or option, a glob, a server that cannot be
/// written to.
pub fn copy_target(
    path: &str,
    format: Option<&str>,
    options: impl IntoIterator<Item = (String, String)>,
    partitioned: bool,
) -> Result<CopyTarget> {
    let (formats, options): (Vec<_>, Vec<_>) =
        options.into_iter().partition(|(k, _)| k.eq_ignore_ascii_case("format"));
    let format = match (format, formats.as_slice()) {
        (None, [(_, only)]) => Some(only.as_str()),
        (given, []) => given,
        _ => return Err(Error::invalid("FORMAT is given twice")),
    };
    let mut url = parse_location(path)?;
    let shown = location_text(&url);
    if matches!(url.scheme(), "http" | "https") {
        return Err(Error::unsupported(format!("\"{shown}\" cannot be written"))
            .with_hint("write to a local path, s3://, gs:// or az://"));
    }
    let name = url.path().trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
    if name.is_empty() && !url.path().ends_with('/') {
        return Err(Error::invalid(format!("\"{shown}\" names no file")));
    }
    if is_glob(&name) && path.contains(['*', '?']) {
        return Err(Error::invalid(format!("\"{shown}\" is a pattern")).with_hint("name the file to write"));
    }
    let kind = match format {
        Some(word) => word.parse::<FileKind>()?,
        None => kind_of_path(&name).ok_or_else(|| {
            Error::invalid(format!("the name \"{shown}\" does not tell the format to write"))
                .with_hint("end it in .parquet, .csv, .json or .arrow, or say (FORMAT parquet)")
        })?,
    };
    let mut options = write_options(kind, options)?;
    if matches!(kind, FileKind::Csv | FileKind::Json) {
        let by_name = compression_of_path(&name);
        if by_name != FileCompressionType::UNCOMPRESSED {
            options
                .entry("format.compression".to_owned())
                .or_insert_with(|| by_name.get_variant().to_string());
        }
    }
    if kind == FileKind::Csv
        && (is_tab_separated(&name) || format.is_some_and(|f| f.eq_ignore_ascii_case("tsv")))
    {
        options.entry("format.delimiter".to_owned()).or_insert_with(|| "\t".to_owned());
    }
    if kind == FileKind::Csv {
        options.entry("format.has_header".to_owned()).or_insert_with(|| "true".to_owned());
    }
    let folder = partitioned
        || url.path().ends_with('/')
        || options.get("single_file_output").is_some_and(|single| single == "false");
    if folder {
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        if options.get("single_file_output").is_some_and(|single| single == "true") {
            return Err(Error::invalid(format!("\"{shown}\" is a folder and single_file_output is true")));
        }
    }
    options.insert("single_file_output".to_owned(), (!folder).to_string());
    let factory: Arc<dyn FileFormatFactory> = match kind {
        FileKind::Parquet => Arc::new(ParquetFormatFactory::new()),
        FileKind::Csv => Arc::new(CsvFormatFactory::new()),
        FileKind::Json => Arc::new(JsonFormatFactory::new()),
        FileKind::Arrow => {
            // The factory takes none; what is left are the writer's own.
            Arc::new(ArrowFormatFactory::new())
        }
    };
    Ok(CopyTarget { url, kind, file_type: format_as_file_type(factory), options })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str, format: Option<&str>, options: &[(&str, &str)]) -> Result<CopyTarget> {
        copy_target(path, format, options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())), false)
    }

    #[test]
    fn the_name_or_the_option_tells_the_format() {
        let t = target("/t/x.csv.gz", None, &[("delim", ";")]).unwrap();
        assert_eq!(t.kind, FileKind::Csv);
        assert_eq!(t.options["format.compression"], "GZIP");
        assert_eq!(t.options["format.delimiter"], ";");
        assert_eq!(t.options["single_file_output"], "true");
        let t = target("/t/x", None, &[("FORMAT", "parquet"), ("compression", "snappy")]).unwrap();
        assert_eq!((t.kind, t.options["format.compression"].as_str()), (FileKind::Parquet, "snappy"));
        assert_eq!(t.options["single_file_output"], "true");
        let t = target("/t/x/", Some("json"), &[]).unwrap();
        assert_eq!(t.options["single_file_output"], "false");
        assert_eq!(target("/t/x.tsv", None, &[]).unwrap().options["format.delimiter"], "\t");
        assert_eq!(target("/t/a b.parquet", None, &[]).unwrap().output_url(), "file:///t/a%20b.parquet");
    }

    #[test]
    fn what_cannot_be_written_is_said() {
        let e =
            |path, format, options: &[(&str, &str)]| target(path, format, options).unwrap_err().to_string();
        assert!(e("/t/x", None, &[]).contains("does not tell the format"));
        assert!(e("/t/x", Some("xlsx"), &[]).contains("accepted are parquet"));
        assert!(e("/t/x.xlsx", None, &[]).contains("does not tell the format"));
        assert!(e("/t/*.csv", None, &[]).contains("is a pattern"));
        assert!(e("https://h/x.csv", None, &[]).contains("cannot be written"));
        assert!(e("/t/x.csv", None, &[("hedaer", "1")]).contains("did you mean header?"));
        assert!(e("/t/x.csv", None, &[("sample_size", "1")]).contains("for reading"));
        assert!(e("/t/x.csv", Some("csv"), &[("format", "csv")]).contains("given twice"));
        assert!(e("ftp://h/x.csv", None, &[]).contains("unknown scheme"));
    }
}
