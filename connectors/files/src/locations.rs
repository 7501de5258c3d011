//! Which files a location stands for.
//!
//! | location                | stands for                                                              |
//! |-------------------------|-------------------------------------------------------------------------|
//! | `x.parquet`             | the file; an object store's prefix if there is no such object           |
//! | `folder/`               | the files of the format below it; names with `_` or `.` in front left out |
//! | `folder/**/p-*.csv`     | every file that matches, whatever its extension                         |
//! | `we[i]rd.csv`           | the file of this very name if there is one, else a glob                 |

use std::collections::BTreeMap;

use datafusion::execution::object_store::ObjectStoreUrl;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use triune_common::{Error, ErrorKind, Result};
use triune_object_store::{find_error, location_text, parse_location};
use url::Url;

use crate::kind::{FileKind, kind_of_path};
use crate::pattern::{Pattern, is_glob};

/// One location, parsed; listing it goes to the store.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    /// As a person would type it.
    pub(crate) text: String,
    pub(crate) url: Url,
    /// The path inside the store, unescaped; without a trailing slash.
    path: Path,
    says_folder: bool,
    glob: Option<Glob>,
}

#[derive(Debug, Clone)]
struct Glob {
    /// The folder above the first name that has a glob in it.
    prefix: Path,
    pattern: Pattern,
    /// Whether files with `.` or `_` in front are asked for.
    hidden: bool,
}

/// A file, and where the `key=value` folders above it begin.
#[derive(Debug, Clone)]
pub(crate) struct FoundFile {
    pub(crate) meta: ObjectMeta,
    pub(crate) root: Path,
}

impl FoundFile {
    /// The names of the folders between the location and the file.
    pub(crate) fn folders(&self) -> Vec<String> {
        let mut names: Vec<String> = relative(&self.root, &self.meta.location)
            .map(|r| r.split('/').map(str::to_owned).collect())
            .unwrap_or_default();
        names.pop();
        names
    }
}

/// What to take from a folder.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    Kind(FileKind),
    /// `file_extension` from the options.
    Suffix(String),
    /// Whatever there is.
    Anything,
}

impl Wanted {
    fn takes(&self, name: &str) -> bool {
        match self {
            Self::Kind(kind) => kind_of_path(name) == Some(*kind),
            Self::Suffix(suffix) => name.ends_with(suffix.as_str()),
            Self::Anything => true,
        }
    }
}

impl Location {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let url = parse_location(text)?;
        let shown = location_text(&url);
        let says_folder = url.path().ends_with('/');
        let path = Path::from_url_path(url.path())
            .map_err(|e| Error::invalid(format!("location \"{shown}\" is no path of a store: {e}")))?;
        let glob = if is_glob(path.as_ref()) {
            let names: Vec<&str> = path.as_ref().split('/').collect();
            let first = names.iter().position(|n| is_glob(n)).unwrap_or(0);
            // Braces may hold slashes: the first part with any of them begins the pattern.
            let prefix = Path::parse(names[..first].join("/"))
                .map_err(|e| Error::invalid(format!("location \"{shown}\" is no path of a store: {e}")))?;
            let rest = names[first..].join("/");
            let rest = if says_folder { format!("{rest}/**") } else { rest };
            let hidden = rest.split('/').any(|n| n.starts_with(['.', '_']));
            Some(Glob { prefix, pattern: Pattern::parse(&rest)?, hidden })
        } else {
            None
        };
        Ok(Self { text: shown, url, path, says_folder, glob })
    }

    /// The store that the location is in, as DataFusion addresses it.
    pub(crate) fn store_url(&self) -> Result<ObjectStoreUrl> {
        Ok(ObjectStoreUrl::parse(&self.url[..url::Position::BeforePath])?)
    }

    /// The store's root, for naming files.
    pub(crate) fn base(&self) -> Url {
        let mut base = self.url.clone();
        base.set_path("/");
        base
    }

    /// Whether new files may be added to it: a folder that exists or is written with a slash.
    pub(crate) fn is_plain_folder(&self) -> bool {
        self.glob.is_none() && self.says_folder
    }

    /// The files, sorted by path. Empty files are among them.
    ///
    /// # Errors
    /// `NotFound` that names the location when there is nothing; what the store says.
    pub(crate) async fn list(&self, store: &dyn ObjectStore, wanted: &Wanted) -> Result<Vec<FoundFile>> {
        if matches!(self.url.scheme(), "http" | "https") {
            return self.list_http(store).await;
        }
        // A file whose name looks like a glob goes before the glob.
        if !self.says_folder {
            match store.head(&self.path).await {
                Ok(meta) => {
                    return Ok(vec![FoundFile { root: parent(&self.path), meta }]);
                }
                Err(object_store::Error::NotFound { .. }) => {}
                Err(e) if self.glob.is_some() && !is_refusal(&e) => {}
                Err(e) => return Err(store_error(e)),
            }
        }
        match &self.glob {
            Some(glob) => self.list_glob(store, glob).await,
            None => self.list_folder(store, wanted).await,
        }
    }

    async fn list_http(&self, store: &dyn ObjectStore) -> Result<Vec<FoundFile>> {
        if self.says_folder || (self.glob.is_some() && self.path.as_ref().contains('*')) {
            return Err(Error::unsupported(format!("\"{}\" is not a single file", self.text))
                .with_hint("HTTP servers cannot list folders; name each file"));
        }
        let meta = store.head(&self.path).await.map_err(store_error)?;
        Ok(vec![FoundFile { root: parent(&self.path), meta }])
    }

    async fn list_glob(&self, store: &dyn ObjectStore, glob: &Glob) -> Result<Vec<FoundFile>> {
        let all = list_all(store, &glob.prefix).await?;
        let mut found: Vec<FoundFile> = all
            .into_iter()
            .filter(|meta| {
                relative(&glob.prefix, &meta.location)
                    .is_some_and(|r| glob.pattern.matches(r) && (glob.hidden || !has_hidden_name(r)))
            })
            .map(|meta| FoundFile { meta, root: glob.prefix.clone() })
            .collect();
        if found.is_empty() {
            return Err(Error::not_found(format!("no file matches \"{}\"", self.text)));
        }
        found.sort_by(|a, b| a.meta.location.cmp(&b.meta.location));
        Ok(found)
    }

    async fn list_folder(&self, store: &dyn ObjectStore, wanted: &Wanted) -> Result<Vec<FoundFile>> {
        let all = list_all(store, &self.path).await?;
        let visible: Vec<ObjectMeta> = all
            .into_iter()
            .filter(|meta| relative(&self.path, &meta.location).is_some_and(|r| !has_hidden_name(r)))
            .collect();
        if visible.is_empty() {
            let what = if self.says_folder { "holds no files" } else { "does not exist" };
            return Err(Error::not_found(format!("\"{}\" {what}", self.text)));
        }
        // What else lies there, for the message.
        let mut others: BTreeMap<String, usize> = BTreeMap::new();
        let mut found = Vec::new();
        for meta in visible {
            let name = meta.location.filename().unwrap_or_default();
            if wanted.takes(name) {
                found.push(FoundFile { meta, root: self.path.clone() });
            } else {
                let extension = name.rsplit_once('.').map_or("no extension", |(_, e)| e);
                *others.entry(extension.to_owned()).or_default() += 1;
            }
        }
        if found.is_empty() {
            let kind = match wanted {
                Wanted::Kind(kind) => format!("no {kind} files"),
                Wanted::Suffix(suffix) => format!("no files that end in \"{suffix}\""),
                Wanted::Anything => "no files".to_owned(),
            };
            let others: Vec<String> = others.iter().take(5).map(|(e, n)| format!("{n} × {e}")).collect();
            return Err(Error::not_found(format!("\"{}\" holds {kind}", self.text))
                .with_hint(format!("there are {}; a glob takes files of any name", others.join(", "))));
        }
        found.sort_by(|a, b| a.meta.location.cmp(&b.meta.location));
        Ok(found)
    }
}

async fn list_all(store: &dyn ObjectStore, prefix: &Path) -> Result<Vec<ObjectMeta>> {
    let prefix = (!prefix.as_ref().is_empty()).then_some(prefix);
    match store.list(prefix).try_collect().await {
        Ok(all) => Ok(all),
        // A local folder that is not there; object stores have no folders and answer with nothing.
        Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
        Err(e) => Err(store_error(e)),
    }
}

pub(crate) fn store_error(error: object_store::Error) -> Error {
    find_error(&error)
        .unwrap_or_else(|| Error::from(datafusion::common::DataFusionError::ObjectStore(Box::new(error))))
}

fn is_refusal(error: &object_store::Error) -> bool {
    find_error(error).is_some_and(|e| matches!(e.kind(), ErrorKind::Permission | ErrorKind::Unavailable))
}

fn parent(path: &Path) -> Path {
    let mut names: Vec<_> = path.parts().collect();
    names.pop();
    Path::from_iter(names)
}

/// The part of `path` below `prefix`.
fn relative<'a>(prefix: &Path, path: &'a Path) -> Option<&'a str> {
    let rest = path.as_ref().strip_prefix(prefix.as_ref())?;
    if prefix.as_ref().is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// `_SUCCESS`, `_delta_log/…`, `.crc` files: what other tools leave beside the data. A folder
/// `_key=value` is data.
fn has_hidden_name(relative: &str) -> bool {
    relative.split('/').any(|n| n.starts_with('.') || (n.starts_with('_') && !n.contains('=')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    async fn store(paths: &[&str]) -> InMemory {
        let store = InMemory::new();
        for path in paths {
            store.put(&Path::from(*path), "x".into()).await.unwrap();
        }
        store
    }

    async fn names(store: &InMemory, text: &str, wanted: Wanted) -> Result<Vec<String>> {
        let found = Location::parse(text)?.list(store, &wanted).await?;
        Ok(found.into_iter().map(|f| f.meta.location.to_string()).collect())
    }

    const CSV: Wanted = Wanted::Kind(FileKind::Csv);

    #[tokio::test]
    async fn files_folders_globs() {
        let s =
            store(&["d/a.csv", "d/b.csv.gz", "d/_x.csv", "d/.c.csv", "d/y=1/e.csv", "d/n.txt", "dd/z.csv"])
                .await;
        assert_eq!(names(&s, "s3://b/d/a.csv", CSV).await.unwrap(), ["d/a.csv"]);
        assert_eq!(names(&s, "s3://b/d", CSV).await.unwrap(), ["d/a.csv", "d/b.csv.gz", "d/y=1/e.csv"]);
        assert_eq!(names(&s, "s3://b/d/", CSV).await.unwrap().len(), 3);
        assert_eq!(names(&s, "s3://b/d/*", CSV).await.unwrap(), ["d/a.csv", "d/b.csv.gz", "d/n.txt"]);
        assert_eq!(names(&s, "s3://b/d/**/*.csv", CSV).await.unwrap(), ["d/a.csv", "d/y=1/e.csv"]);
        assert_eq!(names(&s, "s3://b/d/_*.csv", CSV).await.unwrap(), ["d/_x.csv"]);
        assert_eq!(names(&s, "s3://b/{d,dd}/[az].csv", CSV).await.unwrap(), ["d/a.csv", "dd/z.csv"]);
        assert_eq!(names(&s, "s3://b/d/", Wanted::Suffix(".txt".into())).await.unwrap(), ["d/n.txt"]);
    }

    #[tokio::test]
    async fn nothing_is_not_found_and_named() {
        let s = store(&["d/a.csv", "e/_SUCCESS", "f/n.txt"]).await;
        for (text, part) in [
            ("s3://b/x.csv", "\"s3://b/x.csv\" does not exist"),
            ("s3://b/x/", "\"s3://b/x/\" holds no files"),
            ("s3://b/e/", "holds no files"),
            ("s3://b/d/*.parquet", "no file matches \"s3://b/d/*.parquet\""),
            ("s3://b/f/", "holds no csv files; there are 1 × txt"),
        ] {
            let e = names(&s, text, CSV).await.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::NotFound, "{e}");
            assert!(e.to_string().contains(part), "{e}");
        }
    }

    #[tokio::test]
    async fn a_literal_name_goes_before_a_glob() {
        let s = InMemory::new();
        for raw in ["d/we[i]rd.csv", "d/weird.csv", "d/100% #1.csv"] {
            s.put(&Path::parse(raw).unwrap(), "x".into()).await.unwrap();
        }
        assert_eq!(names(&s, "s3://b/d/we[i]rd.csv", CSV).await.unwrap(), ["d/we[i]rd.csv"]);
        assert_eq!(names(&s, "s3://b/d/w[e]ird.csv", CSV).await.unwrap(), ["d/weird.csv"]);
        assert_eq!(names(&s, "s3://b/d/100% #1.csv", CSV).await.unwrap(), ["d/100% #1.csv"]);
    }

    #[test]
    fn the_folders_of_a_file() {
        let meta = ObjectMeta {
            location: Path::from("d/y=1/m=2/f.csv"),
            last_modified: chrono::DateTime::UNIX_EPOCH,
            size: 1,
            e_tag: None,
            version: None,
        };
        assert_eq!(FoundFile { meta, root: Path::from("d") }.folders(), ["y=1", "m=2"]);
    }
}
