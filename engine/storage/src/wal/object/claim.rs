//! Who writes a log on an object store: `writer.json`, changed by conditional PUTs only.

use object_store::{ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use serde::{Deserialize, Serialize};
use triune_common::{Error, ErrorKind, Result};

use super::ObjectLogPlace;
use crate::lock::Holder;

/// The object that names the writer.
const WRITER: &str = "writer.json";

/// How often a claim is tried again when another writer was faster.
const ATTEMPTS: usize = 10;

/// What to do when another writer has claimed a log and not released it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Leave it to that writer, with an error that names it.
    IfFree,
    /// Take it over: that writer's next commit fails.
    TakeOver,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    epoch: u64,
    holder: Holder,
    released: bool,
}

/// A claim that was granted.
#[derive(Debug)]
pub(super) struct WriterClaim {
    pub(super) epoch: u64,
    holder: Holder,
    version: UpdateVersion,
}

impl WriterClaim {
    /// Lets the next writer in without a takeover. Nothing is done when somebody has taken over already.
    pub(super) async fn release(&self, place: &ObjectLogPlace) -> Result<()> {
        let document = Document { epoch: self.epoch, holder: self.holder.clone(), released: true };
        put(place, &document, PutMode::Update(self.version.clone())).await.map(|_| ())
    }
}

/// Claims the next epoch.
pub(super) async fn claim(place: &ObjectLogPlace, claim: Claim, holder: Holder) -> Result<WriterClaim> {
    let mut tried: Option<Document> = None;
    for _ in 0..ATTEMPTS {
        let (mode, epoch) = match read(place).await? {
            None => (PutMode::Create, 1),
            // A try of ours that was not answered did arrive.
            Some((there, version)) if tried.as_ref() == Some(&there) => {
                return Ok(WriterClaim { epoch: there.epoch, holder, version });
            }
            Some((there, _)) if !there.released && claim == Claim::IfFree => {
                return Err(there.holder.in_the_way(&place.name).with_hint(
                    "open it read-only; if that process is gone for good, take the database over",
                ));
            }
            Some((there, version)) => (PutMode::Update(version), there.epoch + 1),
        };
        let document = Document { epoch, holder: holder.clone(), released: false };
        match put(place, &document, mode).await {
            Ok(Some(version)) => return Ok(WriterClaim { epoch, holder, version }),
            Ok(None) => {}
            Err(e) if e.kind() == ErrorKind::Unavailable => {}
            Err(e) => return Err(e),
        }
        tried = Some(document);
    }
    Err(Error::new(
        ErrorKind::Unavailable,
        format!("the database at {} could not be claimed for writing in {ATTEMPTS} tries", place.name),
    )
    .with_hint("try again"))
}

/// The error of a writer whose number was taken.
pub(super) async fn fenced(place: &ObjectLogPlace) -> Error {
    let by = match read(place).await {
        Ok(Some((there, _))) => there.holder.to_string(),
        _ => "another process".to_owned(),
    };
    Error::new(
        ErrorKind::Unavailable,
        format!(
            "the database at {} was taken over for writing by {by}; this commit was not written",
            place.name
        ),
    )
    .with_hint("open it read-only, or take it over again")
}

async fn read(place: &ObjectLogPlace) -> Result<Option<(Document, UpdateVersion)>> {
    let path = place.prefix.clone().join(WRITER);
    let got = match place.store.get(&path).await {
        Ok(got) => got,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(e) => return Err(place.error("read", &path, e)),
    };
    let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
    let bytes = got.bytes().await.map_err(|e| place.error("read", &path, e))?;
    let document = serde_json::from_slice(&bytes)
        .map_err(|e| Error::data(format!("{path} of the database at {} is damaged: {e}", place.name)))?;
    Ok(Some((document, version)))
}

/// The new version, or `None` when the precondition did not hold.
async fn put(place: &ObjectLogPlace, document: &Document, mode: PutMode) -> Result<Option<UpdateVersion>> {
    let path = place.prefix.clone().join(WRITER);
    let bytes = serde_json::to_vec(document)
        .map_err(|e| Error::internal(format!("the log's writer cannot be written as JSON: {e}")))?;
    let options = PutOptions { mode, ..PutOptions::default() };
    match place.store.put_opts(&path, bytes.into(), options).await {
        Ok(done) => Ok(Some(UpdateVersion { e_tag: done.e_tag, version: done.version })),
        Err(object_store::Error::Precondition { .. } | object_store::Error::AlreadyExists { .. }) => Ok(None),
        Err(e) => Err(place.error("write", &path, e)),
    }
}
