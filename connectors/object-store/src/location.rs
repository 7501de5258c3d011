//! The text between the quotes of `FROM '…'` and `LOCATION '…'`, as a URL.
//!
//! | text                          | URL                                            |
//! |-------------------------------|------------------------------------------------|
//! | `data/my file.parquet`        | `file:///current/folder/data/my%20file.parquet` |
//! | `~/events/`                   | `file:///home/me/events/`                      |
//! | `/data/year=*/*.csv`          | `file:///data/year=*/*.csv`                    |
//! | `s3a://lake/a b/100%.csv`     | `s3://lake/a%20b/100%25.csv`                   |
//! | `https://host/x.parquet`      | itself                                         |
//!
//! A text without a scheme is a path and is taken literally: `%`, `#` and spaces are letters of file names.
//! A text with a scheme is a URL: `%20` stands for a space, and what URLs do not allow is escaped. So the
//! function is idempotent: a URL that it made gives itself. Glob characters (`*` `**` `?` `[a-z]` `{a,b}`)
//! stay part of the path; [`location_text`] gives the path back as it was typed.

use std::path::{Component, Path, PathBuf};

use triune_common::{Error, Result};
use url::Url;

/// What stores are reachable, in the words of error messages.
pub(crate) const ACCEPTED: &str =
    "accepted are local paths, file://, s3://, gs://, az://, abfss://, http:// and https://";

/// One spelling for each store: `s3a` is `s3`, `gcs` is `gs`, `azure` is `az`, `abfs` is `abfss`.
pub(crate) fn canonical_scheme(scheme: &str) -> Option<&'static str> {
    Some(match scheme {
        "file" => "file",
        "s3" | "s3a" => "s3",
        "gs" | "gcs" => "gs",
        "az" | "azure" => "az",
        "abfs" | "abfss" => "abfss",
        "http" => "http",
        "https" => "https",
        _ => return None,
    })
}

/// Whether the location is reached over a network.
pub fn is_remote(url: &Url) -> bool {
    url.scheme() != "file"
}

/// The path of `url` as a person would type it, escapes undone: a local path without `file://`, else a URL.
pub fn location_text(url: &Url) -> String {
    let path = percent_decode(url.path());
    if url.scheme() == "file" { path } else { format!("{}{path}", &url[..url::Position::BeforePath]) }
}

/// Turns a location as a user writes it into a URL. Touches no disk and no network.
///
/// # Errors
/// An empty text, an unknown scheme, a bucket or host that is missing or malformed, a NUL byte, a query
/// (`?…`) on an HTTP URL, credentials inside a URL.
pub fn parse_location(text: &str) -> Result<Url> {
    if text.trim().is_empty() {
        return Err(Error::invalid("a location is empty").with_hint(ACCEPTED));
    }
    if text.contains('\0') {
        return Err(Error::invalid(format!("location {text:?} contains a NUL byte")));
    }
    match text.split_once("://") {
        // `C://x` is no scheme anybody means, and a path may well contain `://` further on.
        Some((scheme, rest)) if is_scheme(scheme) => parse_url(text, &scheme.to_ascii_lowercase(), rest),
        _ => parse_path(text),
    }
}

fn is_scheme(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

fn parse_url(text: &str, scheme: &str, rest: &str) -> Result<Url> {
    let Some(scheme) = canonical_scheme(scheme) else {
        return Err(Error::invalid(format!("location \"{text}\" has the unknown scheme \"{scheme}\""))
            .with_hint(ACCEPTED));
    };
    if scheme == "file" {
        // `file:///x` and the common slip `file://x/y`, in which `x` would be a host.
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if !host.is_empty() && host != "localhost" {
            return Err(Error::invalid(format!("location \"{text}\" names the host \"{host}\""))
                .with_hint("a local file has three slashes: file:///folder/file"));
        }
        return finish(text, "file://", &if path.is_empty() { "/".to_owned() } else { keep_escapes(path) });
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.is_empty() {
        let what = if scheme.starts_with("http") { "host" } else { "bucket or container" };
        return Err(Error::invalid(format!("location \"{text}\" names no {what}")));
    }
    let container = authority.split_once('@').map(|(c, _)| c);
    if container.is_some_and(|c| c.contains(':') || !scheme.starts_with("abfs")) {
        let shown = format!("{scheme}://…@{}", authority.rsplit('@').next().unwrap_or_default());
        return Err(Error::invalid(format!("location \"{shown}\" carries a user name or password"))
            .with_hint("credentials belong in CREATE SECRET"));
    }
    let is_http = scheme.starts_with("http");
    if is_http && rest.contains('?') {
        let shown = format!("{scheme}://{}", rest.split('?').next().unwrap_or_default());
        return Err(Error::unsupported(format!("location \"{shown}?…\" has a query part"))
            .with_hint("only plain HTTP paths can be read"));
    }
    let path = if path.is_empty() { "/".to_owned() } else { keep_escapes(path) };
    finish(text, &format!("{scheme}://{authority}"), &path)
}

fn parse_path(text: &str) -> Result<Url> {
    let expanded = match text.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            let home = std::env::var("HOME").map_err(|_| {
                Error::invalid(format!("location \"{text}\": no HOME is set"))
                    .with_hint("write the whole path")
            })?;
            format!("{}{rest}", home.trim_end_matches('/'))
        }
        _ => text.to_owned(),
    };
    let is_folder = expanded.ends_with('/') || expanded.ends_with("/.") || expanded.ends_with("/..");
    let absolute = std::path::absolute(&expanded)
        .map_err(|e| Error::invalid(format!("location \"{text}\" is no path: {e}")).with_source(e))?;
    let mut path = normalised(&absolute)
        .to_str()
        .ok_or_else(|| {
            Error::invalid(format!("location \"{text}\": the current folder's name is not Unicode"))
        })?
        .to_owned();
    if (is_folder || matches!(expanded.as_str(), "." | "..")) && !path.ends_with('/') {
        path.push('/');
    }
    let escaped: String = path.chars().map(|c| escape(c, true)).collect();
    finish(text, "file://", &escaped)
}

/// Removes `.` and `..` without asking the disk: a glob cannot be resolved by it.
fn normalised(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

fn finish(text: &str, base: &str, path: &str) -> Result<Url> {
    let url = Url::parse(&format!("{base}{path}")).map_err(|e| {
        Error::invalid(format!("location \"{text}\" is no URL: {e}")).with_hint(ACCEPTED).with_source(e)
    })?;
    Ok(url)
}

/// Escapes what a URL path may not contain; `%` too, when the text is no URL yet.
fn escape(c: char, percent: bool) -> String {
    match c {
        '%' if percent => "%25".to_owned(),
        ' ' | '"' | '#' | '<' | '>' | '?' | '`' | '\\' | '^' | '|' => format!("%{:02X}", u32::from(c)),
        c if c.is_ascii_control() => format!("%{:02X}", u32::from(c)),
        c => c.to_string(),
    }
}

/// The path of a URL: `%41` stays, a `%` that begins no escape is escaped.
fn keep_escapes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for (i, c) in path.char_indices() {
        let is_escape = c == '%'
            && path.as_bytes().get(i + 1..i + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
        out.push_str(&escape(c, !is_escape));
    }
    out
}

fn percent_decode(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(&b) = bytes.get(i) {
        let escaped = (b == b'%')
            .then(|| path.get(i + 1..i + 3).and_then(|two| u8::from_str_radix(two, 16).ok()))
            .flatten();
        out.push(escaped.unwrap_or(b));
        i += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use triune_common::ErrorKind;

    fn url(text: &str) -> String {
        parse_location(text).unwrap().to_string()
    }

    #[test]
    fn local_paths_become_absolute_and_keep_every_letter() {
        let here = std::env::current_dir().unwrap();
        let here = here.to_str().unwrap();
        for name in [
            "a b.csv",
            "100%.csv",
            "a#b.csv",
            "ü/é 日本.parquet",
            "a%20b.csv",
            "x^|y.csv",
            "a:b.csv",
            "q?.csv",
        ] {
            let made = parse_location(name).unwrap();
            assert_eq!(location_text(&made), format!("{here}/{name}"), "{made}");
            assert_eq!(parse_location(made.as_str()).unwrap(), made, "idempotent");
            let absolute = format!("/tmp/{name}");
            assert_eq!(location_text(&parse_location(&absolute).unwrap()), absolute);
        }
        assert_eq!(url("/a/./b/../c"), "file:///a/c");
        assert_eq!(url("/a/b/"), "file:///a/b/");
        assert_eq!(url("/a/b/.."), "file:///a/");
        assert_eq!(location_text(&parse_location("..").unwrap()).chars().last(), Some('/'));
    }

    #[test]
    fn home_and_globs() {
        let home = std::env::var("HOME").unwrap();
        assert_eq!(location_text(&parse_location("~/x.csv").unwrap()), format!("{home}/x.csv"));
        for glob in ["/d/**/*.parquet", "/d/part-[0-9].csv", "/d/{a,b}.json", "/d/year=*/m?.csv"] {
            assert_eq!(location_text(&parse_location(glob).unwrap()), glob);
        }
        assert_eq!(location_text(&parse_location("s3://b/y=*/{a,b}?.csv").unwrap()), "s3://b/y=*/{a,b}?.csv");
    }

    #[test]
    fn schemes_have_one_spelling_and_survive() {
        assert_eq!(url("s3a://lake/a b/100%.csv"), "s3://lake/a%20b/100%25.csv");
        assert_eq!(url("S3://lake/a%20b#1"), "s3://lake/a%20b%231");
        assert_eq!(url("gcs://b/x"), "gs://b/x");
        assert_eq!(url("azure://c/x"), "az://c/x");
        assert_eq!(url("abfs://c@acc.dfs.core.windows.net/x"), "abfss://c@acc.dfs.core.windows.net/x");
        assert_eq!(url("https://host:8080/a%20b.csv"), "https://host:8080/a%20b.csv");
        assert_eq!(url("file:///a%20b c.csv"), "file:///a%20b%20c.csv");
        assert_eq!(url("s3://b"), "s3://b/");
        for text in ["s3://lake/a b/100%.csv", "gs://b/x#y", "https://h/x", "file:///x%25y"] {
            let once = parse_location(text).unwrap();
            assert_eq!(parse_location(once.as_str()).unwrap(), once);
        }
    }

    #[test]
    fn what_is_refused_says_what_is_accepted() {
        let e = parse_location("ftp://host/x").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Invalid);
        assert!(e.to_string().contains("\"ftp\"") && e.to_string().contains("s3://"), "{e}");
        assert!(parse_location("").unwrap_err().to_string().contains("empty"));
        assert!(parse_location("a\0b").is_err());
        assert!(parse_location("s3:///x").unwrap_err().to_string().contains("names no bucket"));
        assert!(parse_location("file://folder/x").unwrap_err().to_string().contains("three slashes"));
        let e = parse_location("https://u:hunter2@host/x").unwrap_err().to_string();
        assert!(e.contains("CREATE SECRET") && !e.contains("hunter2"), "{e}");
        let e = parse_location("s3://AKIA:hunter2@b/x").unwrap_err().to_string();
        assert!(!e.contains("hunter2"), "{e}");
        let e = parse_location("https://h/x.parquet?sig=hunter2").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(!e.to_string().contains("hunter2"), "{e}");
    }
}
