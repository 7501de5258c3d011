//! Which version of a dataset: `FROM docs AT (VERSION => 7)`, `AT (TIMESTAMP => '…')`, `AT (TAG => '…')`.
//!
//! ```text
//! versions   1 ───── 2 ───────── 3 ──── 4        AT (TIMESTAMP => t) is the newest version
//! committed  09:00   09:10       11:30  12:00    that was committed no later than t
//! ```

use std::fmt;

use chrono::{DateTime, Utc};
use lance::Dataset;
use lance::Error as LanceError;
use triune_common::names::did_you_mean;
use triune_common::{Error, Result};

use crate::error::from_lance;

/// How many existing versions or tags an error lists.
const LISTED: usize = 8;

/// The version of a dataset that a statement names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LanceVersion {
    /// The newest when the table is opened; it does not move afterwards.
    #[default]
    Latest,
    Number(u64),
    /// The newest version committed no later than this. Commit times are read as growing with the
    /// version number; writers whose clocks disagree can make that false.
    Timestamp(DateTime<Utc>),
    Tag(String),
}

impl fmt::Display for LanceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("the latest version"),
            Self::Number(n) => write!(f, "version {n}"),
            Self::Timestamp(t) => write!(f, "the version of {}", time(*t)),
            Self::Tag(tag) => write!(f, "tag \"{tag}\""),
        }
    }
}

/// `dataset`, whose newest version is loaded, at `version`.
pub(crate) async fn check_out(dataset: Dataset, version: &LanceVersion) -> Result<Dataset> {
    match version {
        LanceVersion::Latest => Ok(dataset),
        LanceVersion::Number(number) => by_number(dataset, *number).await,
        LanceVersion::Timestamp(at) => by_time(dataset, *at).await,
        LanceVersion::Tag(tag) => by_tag(dataset, tag).await,
    }
}

async fn by_number(dataset: Dataset, number: u64) -> Result<Dataset> {
    if dataset.version_id() == number {
        return Ok(dataset);
    }
    match Box::pin(dataset.checkout_version(number)).await {
        Ok(found) => Ok(found),
        Err(error) => {
            let versions = numbers(&dataset).await?;
            if versions.contains(&number) {
                return Err(from_lance(error));
            }
            let of = dataset.uri();
            Err(Error::not_found(format!("the Lance dataset {of} has no version {number}"))
                .with_hint(format!("it has {}", list(&versions))))
        }
    }
}

async fn by_time(dataset: Dataset, at: DateTime<Utc>) -> Result<Dataset> {
    if dataset.manifest().timestamp() <= at {
        return Ok(dataset);
    }
    // Each step reads one manifest; reading them all would take minutes on a long-lived dataset.
    let versions = numbers(&dataset).await?;
    let (mut low, mut high) = (0, versions.len());
    let mut found = None;
    while low < high {
        let middle = low + (high - low) / 2;
        let candidate = Box::pin(dataset.checkout_version(versions[middle])).await.map_err(from_lance)?;
        if candidate.manifest().timestamp() <= at {
            found = Some(candidate);
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if let Some(found) = found {
        return Ok(found);
    }
    let newest = dataset.manifest().timestamp();
    let oldest = match versions.first() {
        Some(first) => {
            let first = Box::pin(dataset.checkout_version(*first)).await.map_err(from_lance)?;
            first.manifest().timestamp()
        }
        None => newest,
    };
    let of = dataset.uri();
    Err(Error::not_found(format!("the Lance dataset {of} has no version as old as {}", time(at)))
        .with_hint(format!("its oldest version is of {}, its newest of {}", time(oldest), time(newest))))
}

async fn by_tag(dataset: Dataset, tag: &str) -> Result<Dataset> {
    match Box::pin(dataset.checkout_version(tag)).await {
        Ok(found) => Ok(found),
        Err(LanceError::RefNotFound { .. } | LanceError::InvalidRef { .. }) => {
            let mut tags: Vec<String> =
                dataset.tags().list().await.map_err(from_lance)?.into_keys().collect();
            tags.sort_unstable();
            let of = dataset.uri();
            let hint = match did_you_mean(tag, tags.iter().map(String::as_str)) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None if tags.is_empty() => "it has no tags".to_owned(),
                None => {
                    let more = if tags.len() > LISTED { ", …" } else { "" };
                    tags.truncate(LISTED);
                    format!("it has {}{more}", tags.join(", "))
                }
            };
            Err(Error::not_found(format!("the Lance dataset {of} has no tag \"{tag}\"")).with_hint(hint))
        }
        Err(other) => Err(from_lance(other)),
    }
}

/// All version numbers, growing.
async fn numbers(dataset: &Dataset) -> Result<Vec<u64>> {
    let refs = dataset.version_refs().await.map_err(from_lance)?;
    Ok(refs.into_iter().map(|r| r.version).collect())
}

/// `versions 1, 2, 3, … 90`: the first few and the last.
fn list(versions: &[u64]) -> String {
    let text = |v: &[u64]| v.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    match versions {
        [] => "no versions".to_owned(),
        [one] => format!("version {one}"),
        few if few.len() <= LISTED => format!("versions {}", text(few)),
        many => format!("versions {}, … {}", text(&many[..LISTED - 1]), many[many.len() - 1]),
    }
}

fn time(t: DateTime<Utc>) -> String {
    t.format("%Y-%m-%d %H:%M:%S%.3f UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_capped() {
        assert_eq!(list(&[]), "no versions");
        assert_eq!(list(&[4]), "version 4");
        assert_eq!(list(&[1, 2, 3]), "versions 1, 2, 3");
        let many: Vec<u64> = (1..=90).collect();
        assert_eq!(list(&many), "versions 1, 2, 3, 4, 5, 6, 7, … 90");
    }
}
