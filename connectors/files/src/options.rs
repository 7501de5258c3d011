//! `OPTIONS (delim ';', header false)` and `COPY … TO … (compression zstd)`.
//!
//! Names are DataFusion's (`format.delimiter`, or `delimiter` for short) and DuckDB's (`delim`, `sep`, `nullstr`,
//! `dateformat`, …), in any case. What is not known is an error, and so is a credential: those belong in
//! `CREATE SECRET`, where they are not shown by `SHOW CREATE TABLE` and not kept in the catalog in clear.

use std::collections::{BTreeMap, HashMap};

use datafusion::catalog::Session;
use datafusion::common::config::{ConfigFileType, TableOptions, TableParquetOptions};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use regex::Regex;
use triune_common::names::did_you_mean;
use triune_common::{Error, Result};

use crate::kind::FileKind;

/// How many records of each file are looked at to find out its columns.
const SAMPLE_CSV: usize = 10_000;
const SAMPLE_JSON: usize = 20_480;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Read,
    Write,
    Both,
}

/// (name in DataFusion, other names, what it is for). The first of the other names is the one we show.
type Row = (&'static str, &'static [&'static str], Use);

const CSV: &[Row] = &[
    ("has_header", &["header"], Use::Both),
    ("delimiter", &["delim", "sep"], Use::Both),
    ("quote", &[], Use::Both),
    ("escape", &[], Use::Both),
    ("double_quote", &[], Use::Write),
    ("terminator", &["new_line"], Use::Both),
    ("comment", &[], Use::Read),
    ("newlines_in_values", &[], Use::Read),
    ("compression", &[], Use::Both),
    ("compression_level", &[], Use::Write),
    ("schema_infer_max_rec", &["sample_size"], Use::Read),
    ("null_regex", &[], Use::Read),
    ("null_value", &["nullstr", "null_str", "null"], Use::Both),
    ("truncated_rows", &["null_padding"], Use::Read),
    ("date_format", &["dateformat"], Use::Both),
    ("timestamp_format", &["timestampformat"], Use::Both),
    ("datetime_format", &[], Use::Write),
    ("timestamp_tz_format", &[], Use::Write),
    ("time_format", &[], Use::Write),
    ("quote_style", &[], Use::Write),
    ("ignore_leading_whitespace", &[], Use::Write),
    ("ignore_trailing_whitespace", &[], Use::Write),
    ("all_varchar", &[], Use::Read),
];

const JSON: &[Row] = &[
    ("compression", &[], Use::Both),
    ("compression_level", &[], Use::Write),
    ("schema_infer_max_rec", &["sample_size"], Use::Read),
    ("newline_delimited", &[], Use::Read),
    ("layout", &["format", "records"], Use::Read),
];

/// For every format.
const COMMON: &[Row] = &[
    ("file_extension", &[], Use::Read),
    ("hive_partitioning", &[], Use::Read),
    ("union_by_name", &[], Use::Read),
    ("single_file_output", &[], Use::Write),
    ("keep_partition_by_columns", &["write_partition_columns"], Use::Write),
];

const PARQUET_ALIASES: &[Row] =
    &[("compression", &["codec"], Use::Write), ("max_row_group_size", &["row_group_size"], Use::Write)];

fn rows(kind: FileKind) -> &'static [Row] {
    match kind {
        FileKind::Csv => CSV,
        FileKind::Json => JSON,
        FileKind::Parquet => PARQUET_ALIASES,
        FileKind::Arrow => &[],
    }
}

/// The names of options that a format takes, as messages and completion show them. Parquet's are DataFusion's.
pub fn known_options(kind: FileKind) -> Vec<String> {
    let mut names: Vec<String> = rows(kind)
        .iter()
        .chain(COMMON)
        .map(|(name, others, _)| (*others.first().unwrap_or(name)).to_owned())
        .collect();
    if kind == FileKind::Parquet {
        names.extend(parquet_options());
    }
    names
}

fn parquet_options() -> Vec<String> {
    let mut options = TableOptions::new();
    options.set_config_format(ConfigFileType::PARQUET);
    options
        .entries()
        .into_iter()
        .filter_map(|e| e.key.strip_prefix("format.").map(str::to_owned))
        .filter(|k| !k.starts_with("crypto"))
        .collect()
}

/// The name in DataFusion of an option that a user wrote.
fn canonical(kind: FileKind, given: &str, writing: bool) -> Result<String> {
    let lower = given.to_ascii_lowercase();
    let name = lower.strip_prefix("format.").or_else(|| lower.strip_prefix("execution.")).unwrap_or(&lower);
    let fits = |u: Use| u == Use::Both || (u == Use::Write) == writing;
    if let Some((name, _, used)) = rows(kind).iter().chain(COMMON).find(|(canonical, others, _)| {
        *canonical == name || (others.contains(&name) && lower != format!("format.{name}"))
    }) {
        if fits(*used) || kind == FileKind::Parquet {
            return Ok((*name).to_owned());
        }
        let (now, other) = if writing { ("writing", "reading") } else { ("reading", "writing") };
        return Err(Error::invalid(format!(
            "option {given} is for {other} {kind} files, not for {now} them"
        )));
    }
    if kind == FileKind::Parquet {
        let base = name.split("::").next().unwrap_or(name);
        if base == "metadata" || parquet_options().iter().any(|o| o == base) {
            // The part after `::` is a column's or key's name and keeps its case.
            let tail = &given[given.len() - name.len()..];
            return Ok(format!("{base}{}", &tail[base.len()..]));
        }
    }
    if is_credential(name) {
        return Err(Error::invalid(format!("option {given} is a credential and does not belong to a table"))
            .with_hint("write CREATE SECRET name (TYPE s3, KEY_ID '…', SECRET '…', SCOPE 's3://bucket')"));
    }
    let parquet = if kind == FileKind::Parquet { parquet_options() } else { Vec::new() };
    let candidates = rows(kind)
        .iter()
        .chain(COMMON)
        .filter(|(_, _, u)| fits(*u))
        .flat_map(|(name, others, _)| std::iter::once(*name).chain(others.iter().copied()))
        .chain(parquet.iter().map(String::as_str));
    let near = did_you_mean(name, candidates);
    let accepted = if kind == FileKind::Parquet {
        "accepted are hive_partitioning, union_by_name and DataFusion's options for Parquet".to_owned()
    } else {
        let fitting: Vec<&str> = rows(kind)
            .iter()
            .chain(COMMON)
            .filter(|(_, _, u)| fits(*u))
            .map(|(name, others, _)| *others.first().unwrap_or(name))
            .collect();
        format!("{kind} files take {}", fitting.join(", "))
    };
    let error = Error::invalid(format!("option {given} is unknown for {kind} files"));
    Err(match near {
        Some(near) => error.with_hint(format!("did you mean {near}? {accepted}")),
        None => error.with_hint(accepted),
    })
}

fn is_credential(name: &str) -> bool {
    ["aws", "gcp", "google", "azure", "s3.", "oss", "cos"].iter().any(|p| name.starts_with(p))
        || [
            "secret",
            "access_key",
            "account_key",
            "key_id",
            "token",
            "password",
            "credential",
            "connection_string",
        ]
        .iter()
        .any(|p| name.contains(p))
}

/// How to read CSV.
#[derive(Debug, Clone)]
pub(crate) struct CsvOptions {
    pub(crate) header: bool,
    /// `None`: a tab for `.tsv`, else a comma.
    pub(crate) delimiter: Option<u8>,
    pub(crate) quote: u8,
    pub(crate) escape: Option<u8>,
    pub(crate) terminator: Option<u8>,
    pub(crate) comment: Option<u8>,
    /// Whether a file may be cut into parts at line breaks, since none is inside a value.
    pub(crate) splittable: bool,
    pub(crate) nulls: Option<Regex>,
    pub(crate) pad_short_rows: bool,
    pub(crate) date_format: Option<String>,
    pub(crate) timestamp_format: Option<String>,
    pub(crate) all_text: bool,
}

/// How a table's files are read.
#[derive(Debug, Clone)]
pub(crate) struct ReadOptions {
    /// `None`: by the file's name.
    pub(crate) compression: Option<FileCompressionType>,
    pub(crate) csv: CsvOptions,
    /// `None`: by the first letter.
    pub(crate) json_lines: Option<bool>,
    pub(crate) parquet: TableParquetOptions,
    pub(crate) file_suffix: Option<String>,
    pub(crate) hive: Option<bool>,
    pub(crate) union_by_name: bool,
    pub(crate) sample: usize,
}

impl ReadOptions {
    pub(crate) fn parse(
        state: &dyn Session,
        kind: FileKind,
        given: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let config = state.config_options();
        let defaults = state.default_table_options();
        let mut this = Self {
            compression: None,
            csv: CsvOptions {
                header: config.catalog.has_header,
                delimiter: None,
                quote: b'"',
                escape: None,
                terminator: None,
                comment: None,
                splittable: false,
                nulls: None,
                pad_short_rows: false,
                date_format: None,
                timestamp_format: None,
                all_text: false,
            },
            json_lines: None,
            parquet: defaults.parquet.clone(),
            file_suffix: None,
            hive: None,
            union_by_name: true,
            sample: if kind == FileKind::Json { SAMPLE_JSON } else { SAMPLE_CSV },
        };
        let mut seen: HashMap<String, &str> = HashMap::new();
        for (key, value) in given {
            let name = canonical(kind, key, false)?;
            if let Some(other) = seen.insert(name.clone(), key) {
                return Err(Error::invalid(format!("options {other} and {key} are the same")));
            }
            this.set(kind, &name, key, value)?;
        }
        // Fields keep their extension types whatever the session says: vectors are told by them.
        this.parquet.global.skip_metadata = false;
        Ok(this)
    }

    fn set(&mut self, kind: FileKind, name: &str, key: &str, value: &str) -> Result<()> {
        match name {
            "file_extension" => self.file_suffix = Some(value.to_owned()),
            "hive_partitioning" => self.hive = Some(flag(key, value)?),
            "union_by_name" => self.union_by_name = flag(key, value)?,
            _ if kind == FileKind::Parquet => self.set_parquet(name, key, value)?,
            "has_header" => self.csv.header = flag(key, value)?,
            "delimiter" => self.csv.delimiter = Some(byte(key, value)?),
            // Nothing is quoted by NUL.
            "quote" => self.csv.quote = if value.is_empty() { 0 } else { byte(key, value)? },
            "escape" => self.csv.escape = if value.is_empty() { None } else { Some(byte(key, value)?) },
            "terminator" => self.csv.terminator = terminator(key, value)?,
            "comment" => self.csv.comment = if value.is_empty() { None } else { Some(byte(key, value)?) },
            "newlines_in_values" => self.csv.splittable = !flag(key, value)?,
            "compression" => self.compression = compression(key, value)?,
            "schema_infer_max_rec" => self.sample = count(key, value)?,
            // The empty text is NULL in any case, as it is without the option.
            "null_value" => self.csv.nulls = Some(regex(key, &format!("^(?:{})?$", regex::escape(value)))?),
            "null_regex" => self.csv.nulls = Some(regex(key, value)?),
            "truncated_rows" => self.csv.pad_short_rows = flag(key, value)?,
            "date_format" => self.csv.date_format = Some(value.to_owned()),
            "timestamp_format" => self.csv.timestamp_format = Some(value.to_owned()),
            "all_varchar" => self.csv.all_text = flag(key, value)?,
            "newline_delimited" => self.json_lines = Some(flag(key, value)?),
            "layout" => {
                self.json_lines = match value.to_ascii_lowercase().as_str() {
                    "newline_delimited" | "nd" | "lines" => Some(true),
                    "array" => Some(false),
                    "auto" => None,
                    _ => {
                        return Err(wrong(key, value, "accepted are newline_delimited, array and auto"));
                    }
                }
            }
            other => return Err(Error::internal(format!("option {other} has no reader"))),
        }
        Ok(())
    }

    fn set_parquet(&mut self, name: &str, key: &str, value: &str) -> Result<()> {
        let mut options = TableOptions { parquet: self.parquet.clone(), ..TableOptions::default() };
        options.set_config_format(ConfigFileType::PARQUET);
        options.set(&format!("format.{name}"), value).map_err(|e| {
            Error::invalid(format!("option {key} is \"{value}\": {}", Error::from(e).message()))
        })?;
        self.parquet = options.parquet;
        Ok(())
    }
}

/// The options of `COPY … TO` under the names that DataFusion's writers take.
pub(crate) fn write_options(
    kind: FileKind,
    given: impl IntoIterator<Item = (String, String)>,
) -> Result<HashMap<String, String>> {
    let mut out = HashMap::new();
    for (key, value) in given {
        let name = canonical(kind, &key, true)?;
        let (name, value) = match name.as_str() {
            "single_file_output" => (name, flag(&key, &value)?.to_string()),
            "keep_partition_by_columns" => (format!("execution.{name}"), flag(&key, &value)?.to_string()),
            "has_header" | "double_quote" => (format!("format.{name}"), flag(&key, &value)?.to_string()),
            "delimiter" | "quote" | "escape" => {
                (format!("format.{name}"), char::from(byte(&key, &value)?).to_string())
            }
            "compression" if kind != FileKind::Parquet => {
                let parsed = compression(&key, &value)?.unwrap_or(FileCompressionType::UNCOMPRESSED);
                (format!("format.{name}"), parsed.get_variant().to_string())
            }
            _ => (format!("format.{name}"), value),
        };
        if out.insert(name, value).is_some() {
            return Err(Error::invalid(format!("option {key} is given twice")));
        }
    }
    Ok(out)
}

fn wrong(key: &str, value: &str, accepted: &str) -> Error {
    Error::invalid(format!("option {key} is \"{value}\"")).with_hint(accepted.to_owned())
}

fn flag(key: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        // `OPTIONS (header)` alone says yes.
        "true" | "t" | "1" | "on" | "yes" | "" => Ok(true),
        "false" | "f" | "0" | "off" | "no" => Ok(false),
        _ => Err(wrong(key, value, "accepted are true and false")),
    }
}

fn byte(key: &str, value: &str) -> Result<u8> {
    match value {
        "\\t" | "tab" => Ok(b'\t'),
        "\\n" => Ok(b'\n'),
        "\\r" => Ok(b'\r'),
        "\\0" => Ok(0),
        _ => match value.as_bytes() {
            [one] if one.is_ascii() => Ok(*one),
            _ => Err(wrong(key, value, "accepted is one ASCII character, or \\t")),
        },
    }
}

fn terminator(key: &str, value: &str) -> Result<Option<u8>> {
    match value {
        "" | "auto" | "\\r\\n" | "\r\n" | "\\n" | "\n" => Ok(None),
        _ => byte(key, value).map(Some),
    }
}

fn count(key: &str, value: &str) -> Result<usize> {
    match value.parse::<i64>() {
        Ok(-1) => Ok(usize::MAX),
        Ok(n) if n >= 0 => Ok(usize::try_from(n).unwrap_or(usize::MAX)),
        _ => Err(wrong(key, value, "accepted is a number of rows, or -1 for all")),
    }
}

fn compression(key: &str, value: &str) -> Result<Option<FileCompressionType>> {
    Ok(Some(match value.to_ascii_lowercase().as_str() {
        "auto" | "auto_detect" => return Ok(None),
        "none" | "uncompressed" | "" => FileCompressionType::UNCOMPRESSED,
        "gz" | "gzip" => FileCompressionType::GZIP,
        "zst" | "zstd" => FileCompressionType::ZSTD,
        "bz2" | "bzip2" => FileCompressionType::BZIP2,
        "xz" => FileCompressionType::XZ,
        _ => return Err(wrong(key, value, "accepted are auto, none, gzip, zstd, bzip2 and xz")),
    }))
}

fn regex(key: &str, text: &str) -> Result<Regex> {
    Regex::new(text).map_err(|e| Error::invalid(format!("option {key} is no regular expression: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::execution::SessionStateBuilder;

    fn parse(kind: FileKind, given: &[(&str, &str)]) -> Result<ReadOptions> {
        let state = SessionStateBuilder::new().with_default_features().build();
        let given = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        ReadOptions::parse(&state, kind, &given)
    }

    #[test]
    fn both_vocabularies_are_understood() {
        let o = parse(
            FileKind::Csv,
            &[("DELIM", ";"), ("format.has_header", "false"), ("nullstr", "NA"), ("compression", "zstd")],
        )
        .unwrap();
        assert_eq!(o.csv.delimiter, Some(b';'));
        assert!(!o.csv.header);
        let nulls = o.csv.nulls.unwrap();
        assert!(nulls.is_match("NA") && nulls.is_match("") && !nulls.is_match("NAN"));
        assert_eq!(o.compression, Some(FileCompressionType::ZSTD));
        assert_eq!(parse(FileKind::Csv, &[("sep", "\\t")]).unwrap().csv.delimiter, Some(b'\t'));
        assert_eq!(parse(FileKind::Json, &[("format", "array")]).unwrap().json_lines, Some(false));
        let p =
            parse(FileKind::Parquet, &[("format.pushdown_filters", "true"), ("binary_as_string", "true")])
                .unwrap();
        assert!(p.parquet.global.pushdown_filters && p.parquet.global.binary_as_string);
        assert!(!p.parquet.global.skip_metadata);
    }

    #[test]
    fn wrong_options_say_what_is_accepted() {
        let e = |kind, given: &[(&str, &str)]| parse(kind, given).unwrap_err().to_string();
        let text = e(FileKind::Csv, &[("delimter", ";")]);
        assert!(
            text.contains("delimter is unknown for csv files; did you mean delim")
                && text.contains("nullstr"),
            "{text}"
        );
        assert!(e(FileKind::Csv, &[("delim", ";;")]).contains("one ASCII character"));
        assert!(e(FileKind::Csv, &[("header", "perhaps")]).contains("accepted are true and false"));
        assert!(e(FileKind::Csv, &[("delim", ";"), ("sep", ";")]).contains("are the same"));
        assert!(e(FileKind::Csv, &[("null_regex", "(")]).contains("no regular expression"));
        assert!(e(FileKind::Csv, &[("quote_style", "Always")]).contains("for writing csv files"));
        assert!(e(FileKind::Parquet, &[("delim", ";")]).contains("unknown for parquet"));
        assert!(
            e(FileKind::Parquet, &[("pushdown_filter", "true")]).contains("did you mean pushdown_filters?")
        );
        assert!(
            e(FileKind::Parquet, &[("pushdown_filters", "perhaps")])
                .contains("pushdown_filters is \"perhaps\"")
        );
        assert!(e(FileKind::Arrow, &[("x", "1")]).contains("unknown for arrow"));
    }

    #[test]
    fn credentials_are_turned_away_unseen() {
        for key in [
            "aws.access_key_id",
            "aws_secret_access_key",
            "secret",
            "session_token",
            "gcp.service_account_key",
        ] {
            let e = parse(FileKind::Parquet, &[(key, "hunter2")]).unwrap_err().to_string();
            assert!(e.contains("CREATE SECRET") && !e.contains("hunter2"), "{key}: {e}");
        }
    }

    #[test]
    fn writers_get_datafusions_names() {
        let o = |kind, given: &[(&str, &str)]| {
            write_options(kind, given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
        };
        let csv =
            o(FileKind::Csv, &[("HEADER", "1"), ("delim", "tab"), ("compression", "gz"), ("nullstr", "-")])
                .unwrap();
        assert_eq!(csv["format.has_header"], "true");
        assert_eq!(csv["format.delimiter"], "\t");
        assert_eq!(csv["format.compression"], "GZIP");
        assert_eq!(csv["format.null_value"], "-");
        let parquet = o(FileKind::Parquet, &[("codec", "zstd(3)"), ("row_group_size", "1000")]).unwrap();
        assert_eq!(parquet["format.compression"], "zstd(3)");
        assert_eq!(parquet["format.max_row_group_size"], "1000");
        assert!(o(FileKind::Csv, &[("sample_size", "3")]).unwrap_err().to_string().contains("for reading"));
        assert!(o(FileKind::Json, &[("hdr", "3")]).is_err());
    }
}
