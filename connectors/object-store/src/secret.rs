//! ```sql
//! CREATE SECRET lake (TYPE s3, KEY_ID '…', SECRET '…', REGION 'us-east-1', SCOPE 's3://lake/raw');
//! ```
//!
//! | type    | options (names and case as in DuckDB)                                                        |
//! |---------|----------------------------------------------------------------------------------------------|
//! | `s3`    | `KEY_ID` `SECRET` `SESSION_TOKEN` `REGION` `ENDPOINT` `URL_STYLE` `USE_SSL` `REQUESTER_PAYS` `PROVIDER` |
//! | `gcs`   | `SERVICE_ACCOUNT` (path or JSON text), or `KEY_ID` + `SECRET` (HMAC); `ENDPOINT`             |
//! | `azure` | `CONNECTION_STRING`, or `ACCOUNT_NAME` + `ACCOUNT_KEY` / `SAS` / `TENANT_ID` `CLIENT_ID` `CLIENT_SECRET`; `ENDPOINT` |
//! | `http`  | `BEARER_TOKEN`, `EXTRA_HTTP_HEADERS`, `HTTP_PROXY`                                            |
//!
//! Every type takes `SCOPE`: URL prefixes that the secret is for. Without it, it is for every URL of its
//! type. An `s3` secret without `KEY_ID` reads without a signature (public buckets); with
//! `PROVIDER credential_chain` it takes its keys from the environment.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use triune_common::names::did_you_mean;
use triune_common::{Error, Result};

use crate::location::canonical_scheme;
use crate::redacted::Redacted;

/// Which kind of store a secret opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecretKind {
    S3,
    Gcs,
    Azure,
    Http,
}

impl SecretKind {
    const ALL: [Self; 4] = [Self::S3, Self::Gcs, Self::Azure, Self::Http];

    /// The word after `TYPE`.
    pub fn name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gcs",
            Self::Azure => "azure",
            Self::Http => "http",
        }
    }

    /// The options that `CREATE SECRET` takes for this type, besides `TYPE` and `SCOPE`.
    pub fn options(self) -> &'static [&'static str] {
        match self {
            Self::S3 => &[
                "key_id",
                "secret",
                "session_token",
                "region",
                "endpoint",
                "url_style",
                "use_ssl",
                "requester_pays",
                "provider",
            ],
            Self::Gcs => &[
                "service_account",
                "service_account_path",
                "service_account_key",
                "key_id",
                "secret",
                "endpoint",
            ],
            Self::Azure => &[
                "connection_string",
                "account_name",
                "account_key",
                "sas",
                "tenant_id",
                "client_id",
                "client_secret",
                "endpoint",
            ],
            Self::Http => &["bearer_token", "extra_http_headers", "http_proxy"],
        }
    }

    /// The schemes of URLs that it is for, in their canonical spelling.
    pub(crate) fn schemes(self) -> &'static [&'static str] {
        match self {
            Self::S3 => &["s3"],
            Self::Gcs => &["gs"],
            Self::Azure => &["az", "abfss"],
            Self::Http => &["http", "https"],
        }
    }

    pub(crate) fn of_scheme(scheme: &str) -> Option<Self> {
        let scheme = canonical_scheme(scheme)?;
        Self::ALL.into_iter().find(|k| k.schemes().contains(&scheme))
    }
}

impl fmt::Display for SecretKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SecretKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wanted = text.to_ascii_lowercase();
        Self::ALL.into_iter().find(|k| k.name() == wanted).ok_or_else(|| {
            Error::invalid(format!("secret type \"{text}\" is unknown"))
                .with_hint("accepted are s3, gcs, azure and http")
        })
    }
}

/// One `CREATE SECRET`. Printing it shows names, never values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSpec {
    pub name: String,
    pub kind: SecretKind,
    /// URL prefixes that it is for; empty = every URL of its kind.
    pub scope: Vec<String>,
    /// Options under lower-case names.
    pub options: BTreeMap<String, Redacted<String>>,
}

impl SecretSpec {
    /// Builds a secret from the list in `CREATE SECRET name (…)`, `TYPE` and `SCOPE` among it (`SCOPE` may
    /// come several times; a header may come as `extra_http_headers.Name`).
    ///
    /// # Errors
    /// An unknown, repeated or missing option, a value outside its choices, a scope of another kind's
    /// scheme. No message contains a value of an option that may be confidential.
    pub fn from_options(name: &str, given: Vec<(String, Redacted<String>)>) -> Result<Self> {
        let mut kind = None;
        let mut scope = Vec::new();
        let mut options = BTreeMap::new();
        for (key, value) in given {
            // Header names keep their case; everything else is ours and has none.
            let key = match key.split_once('.') {
                Some((head, header)) if head.eq_ignore_ascii_case("extra_http_headers") => {
                    format!("extra_http_headers.{header}")
                }
                _ => key.to_ascii_lowercase(),
            };
            match key.as_str() {
                "type" => kind = Some(value.expose().parse::<SecretKind>()?),
                "scope" => scope.push(value.expose().clone()),
                _ => {
                    if options.insert(alias(&key), value).is_some() {
                        return Err(Error::invalid(format!(
                            "secret \"{name}\": option {key} is given twice"
                        )));
                    }
                }
            }
        }
        let kind = kind.ok_or_else(|| {
            Error::invalid(format!("secret \"{name}\" has no TYPE"))
                .with_hint("accepted are s3, gcs, azure and http")
        })?;
        Self::try_new(name, kind, scope, options)
    }

    /// The same from parts; validates in the same way.
    pub fn try_new(
        name: &str,
        kind: SecretKind,
        scope: Vec<String>,
        options: BTreeMap<String, Redacted<String>>,
    ) -> Result<Self> {
        let this = Self { name: name.to_owned(), kind, scope, options };
        this.check_names()?;
        this.check_scope()?;
        this.check_values()?;
        Ok(this)
    }

    /// An option's value, if it is there and not empty.
    pub(crate) fn get(&self, option: &str) -> Option<&str> {
        self.options.get(option).map(|v| v.expose().as_str()).filter(|v| !v.is_empty())
    }

    /// The headers that a secret of type `http` adds to a request, in clear.
    ///
    /// # Errors
    /// A line of `EXTRA_HTTP_HEADERS` without a colon.
    pub fn headers(&self) -> Result<Vec<(String, String)>> {
        let mut headers = Vec::new();
        if let Some(lines) = self.get("extra_http_headers") {
            for line in lines.split('\n').map(str::trim).filter(|l| !l.is_empty()) {
                let (key, value) = line.split_once(':').ok_or_else(|| {
                    Error::invalid(format!(
                        "secret \"{}\": a line of EXTRA_HTTP_HEADERS has no colon",
                        self.name
                    ))
                    .with_hint("write one \"Name: value\" on each line")
                })?;
                headers.push((key.trim().to_owned(), value.trim().to_owned()));
            }
        }
        for (key, value) in &self.options {
            if let Some(header) = key.strip_prefix("extra_http_headers.") {
                headers.push((header.to_owned(), value.expose().clone()));
            }
        }
        if let Some(token) = self.get("bearer_token") {
            headers.push(("Authorization".to_owned(), format!("Bearer {token}")));
        }
        Ok(headers)
    }

    /// The length of the longest scope that covers `url`, if any does. Prefixes end at a `/`: a secret for
    /// `s3://lake` is not for `s3://lake2`.
    pub(crate) fn covers(&self, url: &str) -> Option<usize> {
        let url = canonical(url);
        let (scheme, _) = url.split_once("://")?;
        if self.scope.is_empty() {
            return self.kind.schemes().contains(&scheme).then_some(0);
        }
        self.scope
            .iter()
            .map(|s| canonical(s))
            .filter(|s| {
                url.strip_prefix(s.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || s.ends_with('/'))
            })
            .map(|s| s.len())
            .max()
    }

    fn accepted(&self) -> String {
        let names: Vec<String> = self.kind.options().iter().map(|o| o.to_ascii_uppercase()).collect();
        format!("a secret of type {} takes {} and SCOPE", self.kind, names.join(", "))
    }

    fn check_names(&self) -> Result<()> {
        for key in self.options.keys() {
            let is_header = self.kind == SecretKind::Http && key.starts_with("extra_http_headers.");
            if self.kind.options().contains(&key.as_str()) || is_header {
                continue;
            }
            let hint = match did_you_mean(key, self.kind.options().iter().copied()) {
                Some(near) => format!("did you mean {}? {}", near.to_ascii_uppercase(), self.accepted()),
                None => self.accepted(),
            };
            let key = key.to_ascii_uppercase();
            return Err(
                Error::invalid(format!("secret \"{}\": option {key} is unknown", self.name)).with_hint(hint)
            );
        }
        Ok(())
    }

    fn check_scope(&self) -> Result<()> {
        for scope in &self.scope {
            let canonical = canonical(scope);
            let scheme = canonical.split_once("://").map(|(s, _)| s);
            if !scheme.is_some_and(|s| self.kind.schemes().contains(&s)) {
                return Err(Error::invalid(format!(
                    "secret \"{}\": scope \"{scope}\" is no URL of a {} store",
                    self.name, self.kind
                ))
                .with_hint(format!("it has to begin with {}://", self.kind.schemes().join(":// or "))));
            }
        }
        Ok(())
    }

    fn check_values(&self) -> Result<()> {
        let has = |o: &str| self.get(o).is_some();
        let missing = |what: &str| {
            Err(Error::invalid(format!("secret \"{}\" of type {} needs {what}", self.name, self.kind))
                .with_hint(self.accepted()))
        };
        match self.kind {
            SecretKind::S3 => {
                self.choice("url_style", &["path", "vhost"])?;
                self.choice("provider", &["config", "credential_chain"])?;
                self.switch("use_ssl")?;
                self.switch("requester_pays")?;
                match (has("key_id"), has("secret")) {
                    (true, false) => return missing("SECRET beside KEY_ID"),
                    (false, true) => return missing("KEY_ID beside SECRET"),
                    (false, false) if has("session_token") => {
                        return missing("KEY_ID and SECRET beside SESSION_TOKEN");
                    }
                    _ => {}
                }
            }
            SecretKind::Gcs => {
                let account =
                    has("service_account") || has("service_account_path") || has("service_account_key");
                match (has("key_id"), has("secret")) {
                    (true, false) => return missing("SECRET beside KEY_ID"),
                    (false, true) => return missing("KEY_ID beside SECRET"),
                    (false, false) if !account => return missing("SERVICE_ACCOUNT, or KEY_ID and SECRET"),
                    _ => {}
                }
            }
            SecretKind::Azure => {
                if !has("connection_string") && !has("account_name") {
                    return missing("CONNECTION_STRING or ACCOUNT_NAME");
                }
            }
            SecretKind::Http => {
                if !has("bearer_token") && !has("http_proxy") && self.headers()?.is_empty() {
                    return missing("BEARER_TOKEN, EXTRA_HTTP_HEADERS or HTTP_PROXY");
                }
            }
        }
        Ok(())
    }

    fn choice(&self, option: &str, accepted: &[&str]) -> Result<()> {
        match self.get(option) {
            Some(value) if !accepted.contains(&value.to_ascii_lowercase().as_str()) => Err(Error::invalid(
                format!("secret \"{}\": {} is \"{value}\"", self.name, option.to_ascii_uppercase()),
            )
            .with_hint(format!("accepted are {}", accepted.join(" and ")))),
            _ => Ok(()),
        }
    }

    /// The value of a yes/no option.
    pub(crate) fn switch(&self, option: &str) -> Result<Option<bool>> {
        self.get(option)
            .map(|value| match value.to_ascii_lowercase().as_str() {
                "true" | "1" | "on" | "yes" => Ok(true),
                "false" | "0" | "off" | "no" => Ok(false),
                _ => Err(Error::invalid(format!(
                    "secret \"{}\": {} is \"{value}\"",
                    self.name,
                    option.to_ascii_uppercase()
                ))
                .with_hint("accepted are true and false")),
            })
            .transpose()
    }
}

/// Other systems' spellings of the same options.
fn alias(key: &str) -> String {
    match key {
        "access_key_id" | "aws_access_key_id" => "key_id",
        "secret_access_key" | "aws_secret_access_key" => "secret",
        "sas_token" => "sas",
        other => other,
    }
    .to_owned()
}

/// `s3a://b` and `s3://b` are one place, and so are the other stores' second names.
fn canonical(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let lower = scheme.to_ascii_lowercase();
            format!("{}://{rest}", canonical_scheme(&lower).unwrap_or(&lower))
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(given: &[(&str, &str)]) -> Result<SecretSpec> {
        SecretSpec::from_options(
            "s",
            given.iter().map(|(k, v)| ((*k).to_owned(), Redacted::from(*v))).collect(),
        )
    }

    #[test]
    fn values_are_never_printed() {
        let s = secret(&[("TYPE", "S3"), ("KEY_ID", "AKIAX"), ("SECRET", "hunter2")]).unwrap();
        let text = format!("{s:?} {s:#?}");
        assert!(!text.contains("hunter2") && !text.contains("AKIAX"), "{text}");
        assert!(text.contains("key_id"));
        for wrong in [
            secret(&[("TYPE", "s3"), ("KEY_ID", "AKIAX")]),
            secret(&[("TYPE", "s3"), ("KEY_ID", "AKIAX"), ("SECRET", "hunter2"), ("SECRT", "hunter2")]),
            secret(&[("TYPE", "http"), ("EXTRA_HTTP_HEADERS", "hunter2")]),
        ] {
            let text = format!("{0} {0:?}", wrong.unwrap_err());
            assert!(!text.contains("hunter2") && !text.contains("AKIAX"), "{text}");
        }
    }

    #[test]
    fn wrong_options_name_what_is_accepted() {
        let e = secret(&[("TYPE", "s3"), ("KEYID", "x")]).unwrap_err().to_string();
        assert!(
            e.contains("KEYID is unknown")
                && e.contains("did you mean KEY_ID?")
                && e.contains("SESSION_TOKEN"),
            "{e}"
        );
        let e = secret(&[("KEY_ID", "x")]).unwrap_err().to_string();
        assert!(e.contains("has no TYPE") && e.contains("azure"), "{e}");
        let e = secret(&[("TYPE", "ftp")]).unwrap_err().to_string();
        assert!(e.contains("\"ftp\" is unknown"), "{e}");
        let e = secret(&[("TYPE", "azure"), ("ACCOUNT_KEY", "x")]).unwrap_err().to_string();
        assert!(e.contains("needs CONNECTION_STRING or ACCOUNT_NAME"), "{e}");
        let e = secret(&[("TYPE", "gcs")]).unwrap_err().to_string();
        assert!(e.contains("SERVICE_ACCOUNT"), "{e}");
        let e = secret(&[("TYPE", "s3"), ("URL_STYLE", "virtual")]).unwrap_err().to_string();
        assert!(e.contains("accepted are path and vhost"), "{e}");
        let e = secret(&[("TYPE", "s3"), ("USE_SSL", "maybe")]).unwrap_err().to_string();
        assert!(e.contains("accepted are true and false"), "{e}");
        let e = secret(&[("TYPE", "s3"), ("REGION", "a"), ("region", "b")]).unwrap_err().to_string();
        assert!(e.contains("given twice"), "{e}");
        let e = secret(&[("TYPE", "s3"), ("SCOPE", "gs://x")]).unwrap_err().to_string();
        assert!(e.contains("has to begin with s3://"), "{e}");
    }

    #[test]
    fn scopes_end_at_a_slash_and_the_longest_counts() {
        let s = secret(&[("TYPE", "s3"), ("SCOPE", "s3://lake"), ("SCOPE", "s3a://lake/raw/")]).unwrap();
        assert_eq!(s.covers("s3://lake/x"), Some("s3://lake".len()));
        assert_eq!(s.covers("s3a://lake/raw/x"), Some("s3://lake/raw/".len()));
        assert_eq!(s.covers("s3://lake2/x"), None);
        assert_eq!(s.covers("gs://lake/x"), None);
        let all = secret(&[("TYPE", "s3")]).unwrap();
        assert_eq!(all.covers("s3a://anything/x"), Some(0));
        assert_eq!(all.covers("https://anything/x"), None);
    }

    #[test]
    fn headers_come_as_lines_or_one_by_one() {
        let s = secret(&[
            ("TYPE", "http"),
            ("EXTRA_HTTP_HEADERS", "X-A: 1\nX-B:2"),
            ("extra_http_headers.X-C", "3"),
            ("BEARER_TOKEN", "t"),
        ])
        .unwrap();
        let headers = s.headers().unwrap();
        let text: Vec<String> = headers.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(text, ["X-A=1", "X-B=2", "X-C=3", "Authorization=Bearer t"]);
    }
}
