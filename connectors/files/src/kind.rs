//! `'x.csv.gz'` is a CSV file, compressed with gzip.

use std::fmt;
use std::str::FromStr;

use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use triune_common::names::did_you_mean;
use triune_common::{Error, Result};

/// The file formats that tables can be stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    Parquet,
    Csv,
    Json,
    Arrow,
}

impl FileKind {
    pub const ALL: [Self; 4] = [Self::Parquet, Self::Csv, Self::Json, Self::Arrow];

    /// The word after `STORED AS`, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Arrow => "arrow",
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FileKind {
    type Err = Error;

    /// Also takes `tsv`, `ndjson`, `jsonl`, `ipc` and `feather`.
    fn from_str(text: &str) -> Result<Self> {
        let lower = text.to_ascii_lowercase();
        of_extension(&lower).filter(|_| !matches!(lower.as_str(), "pq" | "parq" | "tab")).ok_or_else(|| {
            let e = Error::invalid(format!("file format \"{text}\" is unknown"));
            let accepted = "accepted are parquet, csv, json and arrow";
            match did_you_mean(&lower, Self::ALL.iter().map(|k| k.name())) {
                Some(near) => e.with_hint(format!("did you mean {near}? {accepted}")),
                None => e.with_hint(accepted),
            }
        })
    }
}

fn of_extension(extension: &str) -> Option<FileKind> {
    Some(match extension {
        "parquet" | "parq" | "pq" => FileKind::Parquet,
        "csv" | "tsv" | "tab" => FileKind::Csv,
        "json" | "ndjson" | "jsonl" => FileKind::Json,
        "arrow" | "arrows" | "ipc" | "feather" => FileKind::Arrow,
        _ => return None,
    })
}

/// `a/b.CSV.gz` → (`csv`, gzip).
fn extension_and_compression(path: &str) -> (String, FileCompressionType) {
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let (stem, compression) = match name.rsplit_once('.') {
        Some((stem, "gz" | "gzip")) => (stem, FileCompressionType::GZIP),
        Some((stem, "zst" | "zstd")) => (stem, FileCompressionType::ZSTD),
        Some((stem, "bz2")) => (stem, FileCompressionType::BZIP2),
        Some((stem, "xz")) => (stem, FileCompressionType::XZ),
        _ => (name.as_str(), FileCompressionType::UNCOMPRESSED),
    };
    let extension = stem.rsplit_once('.').map(|(_, e)| e.to_owned()).unwrap_or_default();
    (extension, compression)
}

/// The format by the name's extension, a compression's extension aside; `None` for a folder or a foreign name.
pub fn kind_of_path(path: &str) -> Option<FileKind> {
    let (extension, compression) = extension_and_compression(path);
    let kind = of_extension(&extension)?;
    // Parquet and Arrow compress inside.
    let text = matches!(kind, FileKind::Csv | FileKind::Json);
    (text || compression == FileCompressionType::UNCOMPRESSED).then_some(kind)
}

pub(crate) fn compression_of_path(path: &str) -> FileCompressionType {
    extension_and_compression(path).1
}

/// Whether values are separated by tabs, going by the name.
pub(crate) fn is_tab_separated(path: &str) -> bool {
    matches!(extension_and_compression(path).0.as_str(), "tsv" | "tab")
}

/// Whether the text in `FROM 'text'` means a file, a folder or a URL, and not a table's name.
pub fn looks_like_path(text: &str) -> bool {
    text.contains('/') || text.starts_with('~') || kind_of_path(text).is_some() || text.ends_with(".lance")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_by_extension() {
        for (path, kind) in [
            ("a.parquet", Some(FileKind::Parquet)),
            ("s3://b/x/*.PARQUET", Some(FileKind::Parquet)),
            ("a.csv", Some(FileKind::Csv)),
            ("a.tsv.zst", Some(FileKind::Csv)),
            ("a.b.csv.gz", Some(FileKind::Csv)),
            ("a.ndjson.bz2", Some(FileKind::Json)),
            ("a.jsonl", Some(FileKind::Json)),
            ("a.feather", Some(FileKind::Arrow)),
            ("a.parquet.gz", None),
            ("a.gz", None),
            ("csv", None),
            ("folder/", None),
            ("a.csv/", Some(FileKind::Csv)),
            ("", None),
            (".csv", Some(FileKind::Csv)),
        ] {
            assert_eq!(kind_of_path(path), kind, "{path}");
        }
        assert_eq!(compression_of_path("a.csv.xz"), FileCompressionType::XZ);
        assert!(is_tab_separated("x.tsv.gz") && !is_tab_separated("x.csv"));
    }

    #[test]
    fn paths_and_names() {
        for path in ["x.csv", "folder/x", "s3://b/x", "~/x", "d.lance", "*.parquet"] {
            assert!(looks_like_path(path), "{path}");
        }
        for name in ["events", "main.events", "x.y"] {
            assert!(!looks_like_path(name), "{name}");
        }
    }

    #[test]
    fn formats_by_word() {
        assert_eq!("PARQUET".parse::<FileKind>().unwrap(), FileKind::Parquet);
        let e = "parqet".parse::<FileKind>().unwrap_err().to_string();
        assert!(e.contains("did you mean parquet?"), "{e}");
        assert!("xlsx".parse::<FileKind>().unwrap_err().to_string().contains("accepted are"));
    }
}
