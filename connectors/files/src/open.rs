//! From `CREATE EXTERNAL TABLE` to a table: which files, which columns.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore};
use triune_common::{Error, ErrorKind, Result, boxed};

use crate::csv::{self, Headers};
use crate::errors::{bad_file, file_name};
use crate::kind::{FileKind, compression_of_path, kind_of_path};
use crate::locations::{FoundFile, Location, Wanted};
use crate::options::ReadOptions;
use crate::partitions;
use crate::schema::{cleaned, merge};
use crate::spec::ExternalTableSpec;
use crate::table::{FileTable, Format, TableFiles};
use crate::{arrow_ipc, json, parquet_file};

/// At how many files' beginnings we look when the format has no schema of its own. Parquet and Arrow files
/// are all looked at: theirs is exact and cheap to read.
const SAMPLED_FILES: usize = 100;

/// Opens files as a table.
///
/// Goes to the store: lists the files, reads the schema of each (Parquet, Arrow) or a sample (CSV, JSON; the
/// first 100 files). Nothing is kept of the list: each scan lists anew and sees files that came since.
///
/// # Errors
/// `NotFound` naming the location when there is no file; `Data` naming the file when one is empty, torn or not
/// of the format, or when two files' columns do not fit together; `Invalid` for options and declarations;
/// `Permission` and `Unavailable` from the store.
#[boxed]
pub async fn open_table(state: &dyn Session, spec: &ExternalTableSpec) -> Result<Arc<dyn TableProvider>> {
    let options = ReadOptions::parse(state, spec.format, &spec.options)?;
    let wanted = match &options.file_suffix {
        Some(suffix) => Wanted::Suffix(suffix.clone()),
        None => Wanted::Kind(spec.format),
    };
    let (locations, store) = locate(state, &spec.locations)?;
    // A folder with declared columns may still be empty: rows are going to be inserted.
    let may_be_empty = spec.columns.is_some() && matches!(locations.as_slice(), [l] if l.is_plain_folder());
    let files = match list(&locations, store.as_ref(), &wanted).await {
        Err(e) if may_be_empty && e.kind() == ErrorKind::NotFound => Vec::new(),
        listed => listed?,
    };
    let base = locations[0].base();

    let opener = Opener { state, spec, options: &options, store: &store, files: &files, base: &base };
    let partition_fields = opener.partition_fields()?;
    for file in &files {
        partitions::values_of(file, &file_name(&base, &file.meta.location), &partition_fields)?;
    }
    let is_partition = |name: &str| partition_fields.iter().any(|p| p.name() == name);
    let declared: Option<SchemaRef> = spec.columns.as_ref().map(|columns| {
        let own: Fields =
            columns.fields().iter().filter(|f| !is_partition(f.name())).map(Arc::clone).collect();
        Arc::new(Schema::new(own))
    });

    let headers = Arc::new(Headers::default());
    let (file_schema, format) = match spec.format {
        FileKind::Parquet => {
            (opener.parquet(declared).await?, Format::Parquet(Box::new(options.parquet.clone())))
        }
        FileKind::Arrow => (opener.arrow(declared).await?, Format::Arrow),
        FileKind::Csv => {
            let (schema, by_position) = opener.csv(declared, &headers).await?;
            (schema, Format::Csv { options: Box::new(options.csv.clone()), by_position, headers })
        }
        FileKind::Json => {
            let (schema, lines) = opener.json(declared).await?;
            (schema, Format::Json { lines })
        }
    };
    // A folder's value goes before a column of the same name in the file: partitions are pruned by it.
    let own: Fields =
        file_schema.fields().iter().filter(|f| !is_partition(f.name())).map(Arc::clone).collect();
    let file_schema = Arc::new(Schema::new(own));
    let files = TableFiles { locations, wanted, may_be_empty, compression: options.compression };
    let table = FileTable::try_new(files, format, file_schema, partition_fields, spec.order.clone())?;
    Ok(Arc::new(table) as Arc<dyn TableProvider>)
}

/// The format of the files at `locations`, by their names; folders and globs are looked into.
///
/// # Errors
/// `NotFound` when there are no files, `Invalid` when their names do not tell.
#[boxed]
pub async fn detect_kind(state: &dyn Session, locations: &[String]) -> Result<FileKind> {
    if let Some(kind) = locations.first().and_then(|l| kind_of_path(l)) {
        return Ok(kind);
    }
    let (parsed, store) = locate(state, locations)?;
    let files = list(&parsed, store.as_ref(), &Wanted::Anything).await?;
    files.iter().find_map(|f| kind_of_path(f.meta.location.as_ref())).ok_or_else(|| {
        Error::invalid(format!("the names at \"{}\" do not tell the files' format", parsed[0].text))
            .with_hint("known are .parquet, .csv, .tsv, .json, .ndjson and .arrow; or write CREATE EXTERNAL TABLE … STORED AS …")
    })
}

fn locate(state: &dyn Session, texts: &[String]) -> Result<(Vec<Location>, Arc<dyn ObjectStore>)> {
    let locations: Vec<Location> = texts.iter().map(|t| Location::parse(t)).collect::<Result<_>>()?;
    let Some(first) = locations.first() else {
        return Err(Error::invalid("a table of files needs a location"));
    };
    if let Some(other) = locations.iter().find(|l| l.base() != first.base()) {
        return Err(Error::unsupported(format!(
            "\"{}\" and \"{}\" are in different stores",
            first.text, other.text
        ))
        .with_hint("make two tables and UNION ALL them"));
    }
    let store = state.runtime_env().object_store(first.store_url()?)?;
    Ok((locations, store))
}

/// The files of all locations; one that two locations name counts once.
pub(crate) async fn list(
    locations: &[Location],
    store: &dyn ObjectStore,
    wanted: &Wanted,
) -> Result<Vec<FoundFile>> {
    // Made beforehand: a closure over borrowed arguments would not be general enough for `Send`.
    let listings: Vec<_> = locations.iter().map(|location| location.list(store, wanted)).collect();
    let mut lists: Vec<Vec<FoundFile>> = futures::stream::iter(listings).buffered(16).try_collect().await?;
    if let [_] = lists.as_slice() {
        return Ok(lists.remove(0));
    }
    let mut seen = std::collections::HashSet::new();
    Ok(lists.into_iter().flatten().filter(|f| seen.insert(f.meta.location.clone())).collect())
}

struct Opener<'a> {
    state: &'a dyn Session,
    spec: &'a ExternalTableSpec,
    options: &'a ReadOptions,
    store: &'a Arc<dyn ObjectStore>,
    files: &'a [FoundFile],
    base: &'a url::Url,
}

impl Opener<'_> {
    fn name(&self, meta: &ObjectMeta) -> String {
        file_name(self.base, &meta.location)
    }

    fn compression(&self, meta: &ObjectMeta) -> FileCompressionType {
        self.options.compression.unwrap_or_else(|| compression_of_path(meta.location.as_ref()))
    }

    fn partition_fields(&self) -> Result<Vec<FieldRef>> {
        let declared =
            |name: &str| self.spec.columns.as_ref().and_then(|c| c.field_with_name(name).ok().cloned());
        if !self.spec.partition_columns.is_empty() {
            return self
                .spec
                .partition_columns
                .iter()
                .map(|name| {
                    let data_type = match declared(name) {
                        Some(field) => field.data_type().clone(),
                        None => partitions::type_in_files(self.files, name),
                    };
                    if data_type.is_nested() {
                        return Err(Error::invalid(format!(
                            "partition column \"{name}\" cannot be of a nested type"
                        )));
                    }
                    Ok(Arc::new(Field::new(name, data_type, true)))
                })
                .collect();
        }
        if self.options.hive == Some(false) {
            return Ok(Vec::new());
        }
        let found = partitions::detect(self.files);
        if self.options.hive == Some(true) && found.is_empty() {
            let first = self.files.first().map(|f| self.name(&f.meta)).unwrap_or_default();
            return Err(Error::data("the files do not lie in the same key=value folders")
                .with_hint(format!("the first is \"{first}\"")));
        }
        Ok(found
            .into_iter()
            .map(|field| match declared(field.name()) {
                Some(d) if !d.data_type().is_nested() => {
                    Arc::new(field.as_ref().clone().with_data_type(d.data_type().clone()))
                }
                _ => field,
            })
            .collect())
    }

    /// Files that have something in them, and the error if none has. In a folder an empty CSV or JSON file is a
    /// file of no rows; Parquet and Arrow files cannot be empty.
    fn filled(&self) -> Result<Vec<&ObjectMeta>> {
        let text = matches!(self.spec.format, FileKind::Csv | FileKind::Json);
        let empty: Vec<&ObjectMeta> = self.files.iter().map(|f| &f.meta).filter(|m| m.size == 0).collect();
        match empty.first() {
            _ if self.files.is_empty() => Ok(Vec::new()),
            Some(meta) if !text || empty.len() == self.files.len() => {
                Err(bad_file(&self.name(meta), "the file is empty"))
            }
            _ => Ok(self.files.iter().map(|f| &f.meta).filter(|m| m.size > 0).collect()),
        }
    }

    /// The merged schema of `files`, each read by `read`.
    async fn merged<'m, F, R>(&self, files: &'m [&'m ObjectMeta], read: F) -> Result<SchemaRef>
    where
        F: Fn(&'m ObjectMeta, String) -> R,
        R: Future<Output = Result<Schema>>,
    {
        let at_once = self.state.config_options().execution.meta_fetch_concurrency.max(1);
        // Collected first: a closure over borrowed files inside the stream could not be sent between threads.
        let mut readings = Vec::with_capacity(files.len());
        for meta in files.iter().copied() {
            let name = self.name(meta);
            let reading = read(meta, name.clone());
            readings.push(async move { Ok::<_, Error>((name, cleaned(&reading.await?))) });
        }
        let schemas: Vec<(String, Schema)> =
            futures::stream::iter(readings).buffered(at_once).try_collect().await?;
        if !self.options.union_by_name
            && let Some((name, _)) = schemas.iter().find(|(_, s)| !same_columns(s, &schemas[0].1))
        {
            return Err(Error::data(format!("\"{name}\" has other columns than \"{}\"", schemas[0].0))
                .with_hint("union_by_name = true puts them together by name"));
        }
        Ok(Arc::new(merge(self.spec.format, &schemas)?))
    }

    async fn parquet(&self, declared: Option<SchemaRef>) -> Result<SchemaRef> {
        let files = self.filled()?;
        if let Some(declared) = declared {
            // A broken file is reported now rather than in the middle of a query.
            let first = files.first().copied().into_iter().collect::<Vec<_>>();
            for meta in first {
                let name = self.name(meta);
                parquet_file::infer(self.state, self.store, meta, &name, &self.options.parquet).await?;
            }
            return Ok(declared);
        }
        self.merged(&files, |meta, name| async move {
            parquet_file::infer(self.state, self.store, meta, &name, &self.options.parquet).await
        })
        .await
    }

    async fn arrow(&self, declared: Option<SchemaRef>) -> Result<SchemaRef> {
        let files = self.filled()?;
        let inferred = self
            .merged(&files, |meta, name| async move { arrow_ipc::infer(self.store, meta, &name).await })
            .await?;
        Ok(declared.unwrap_or(inferred))
    }

    async fn csv(&self, declared: Option<SchemaRef>, headers: &Headers) -> Result<(SchemaRef, bool)> {
        let mut files = self.filled()?;
        files.truncate(if declared.is_some() { 1 } else { SAMPLED_FILES });
        let options = &self.options.csv;
        if let (Some(declared), true) = (&declared, files.is_empty()) {
            return Ok((Arc::clone(declared), !options.header));
        }
        let inferred = self
            .merged(&files, |meta, name| async move {
                let compression = self.compression(meta);
                let sample = self.options.sample;
                let found =
                    csv::infer::infer(self.store, &meta.location, &name, options, compression, sample)
                        .await?;
                if options.header {
                    headers.put(meta, found.schema.fields().iter().map(|f| f.name().clone()).collect());
                }
                Ok(found.schema)
            })
            .await?;
        let Some(declared) = declared else {
            if !options.header {
                self.same_width(&files, &inferred).await?;
            }
            return Ok((inferred, !options.header));
        };
        // Names that the header does not know are new names for the columns in their order.
        let by_name =
            options.header && declared.fields().iter().any(|f| inferred.field_with_name(f.name()).is_ok());
        if !by_name && declared.fields().len() != inferred.fields().len() {
            let file = files.first().map(|m| self.name(m)).unwrap_or_default();
            return Err(Error::invalid(format!(
                "{} columns are declared and \"{file}\" has {}",
                declared.fields().len(),
                inferred.fields().len()
            ))
            .with_hint("columns go by position unless one of them is in the header"));
        }
        Ok((declared, !by_name))
    }

    /// Without headers columns go by position, so every file needs as many.
    async fn same_width(&self, files: &[&ObjectMeta], merged: &Schema) -> Result<()> {
        for meta in files {
            let name = self.name(meta);
            let found = csv::infer::infer(
                self.store,
                &meta.location,
                &name,
                &self.options.csv,
                self.compression(meta),
                1,
            )
            .await?;
            let (here, all) = (found.schema.fields().len(), merged.fields().len());
            if here != all {
                return Err(Error::data(format!("\"{name}\" has {here} columns, others have {all}"))
                    .with_hint("without a header columns go by position"));
            }
        }
        Ok(())
    }

    async fn json(&self, declared: Option<SchemaRef>) -> Result<(SchemaRef, bool)> {
        let mut files = self.filled()?;
        files.truncate(SAMPLED_FILES);
        let lines = match (self.options.json_lines, files.first()) {
            (Some(lines), _) => lines,
            (None, Some(meta)) => {
                json::has_lines(self.store, &meta.location, &self.name(meta), self.compression(meta)).await?
            }
            (None, None) => true,
        };
        if let Some(declared) = declared {
            return Ok((declared, lines));
        }
        let inferred = self
            .merged(&files, |meta, name| async move {
                let compression = self.compression(meta);
                json::infer(self.store, &meta.location, &name, compression, lines, self.options.sample).await
            })
            .await?;
        Ok((inferred, lines))
    }
}

fn same_columns(a: &Schema, b: &Schema) -> bool {
    let named = |s: &Schema| {
        let mut all: Vec<(String, DataType)> =
            s.fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect();
        all.sort_by(|x, y| x.0.cmp(&y.0));
        all
    };
    named(a) == named(b)
}
