//! A database's place in an object store, and the log of a writer that may be replaced.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use triune_common::{Error, ErrorKind, Result};

use super::{Right, StoreIo};
use crate::wal::{Log, SegmentId, WalError};

/// How often a request is tried, and the pause after the first failure; each later pause is twice as long.
pub(crate) const ATTEMPTS: u32 = 6;
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 50 });

/// A folder of an object store.
#[derive(Debug, Clone)]
pub struct ObjectPlace {
    pub store: Arc<dyn ObjectStore>,
    /// The database's folder in the store.
    pub prefix: Path,
    /// The database's URL, for messages.
    pub name: String,
    /// Who waits for answers where the caller blocks.
    pub io: Arc<StoreIo>,
}

impl ObjectPlace {
    pub(crate) fn error(&self, doing: &str, path: &Path, e: object_store::Error) -> Error {
        use object_store::Error as E;
        let kind = match &e {
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => ErrorKind::Permission,
            E::NotFound { .. } => ErrorKind::NotFound,
            E::NotImplemented { .. } | E::NotSupported { .. } => ErrorKind::Unsupported,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, format!("cannot {doing} {path} of the database at {}: {e}", self.name))
            .with_source(e)
    }

    /// An object as a whole. Silence is asked again.
    pub(crate) async fn get(&self, path: &Path) -> Result<Bytes> {
        let got = again(|| async { self.store.get(path).await?.bytes().await }).await;
        got.map_err(|e| self.error("read", path, e))
    }
}

/// Whether another try may end otherwise.
pub(crate) fn is_silence(e: &object_store::Error) -> bool {
    matches!(e, object_store::Error::Generic { .. } | object_store::Error::JoinError { .. })
}

/// Repeats a request that changes nothing, or that may be done twice, while nobody answers.
pub(crate) async fn again<T, F>(mut request: impl FnMut() -> F) -> object_store::Result<T>
where
    F: Future<Output = object_store::Result<T>>,
{
    let mut pause = FIRST_PAUSE;
    let mut tries = 1;
    loop {
        match request().await {
            Err(e) if is_silence(&e) && tries < ATTEMPTS => {}
            done => return done,
        }
        tries += 1;
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

/// A log that is written with a right.
#[derive(Debug)]
pub(crate) struct Held {
    log: Box<dyn Log>,
    right: Arc<Right>,
    /// The log has no fence of its own: nothing is acknowledged when the right is in doubt.
    leased: bool,
}

impl Held {
    pub(crate) fn new(log: Box<dyn Log>, right: Arc<Right>, leased: bool) -> Self {
        Self { log, right, leased }
    }

    fn check(&self) -> Result<(), Error> {
        if self.leased { self.right.check_lease() } else { self.right.check() }
    }
}

impl Log for Held {
    fn append(&mut self, payloads: &[&[u8]]) -> Result<(), WalError> {
        self.check().map_err(WalError::RolledBack)?;
        self.log.append(payloads)
    }

    fn sync(&mut self) -> Result<(), WalError> {
        self.log.sync().inspect_err(|e| self.note(e))?;
        // A sync may take long.
        self.check().map_err(WalError::Poisoned)
    }

    fn rotate(&mut self) -> Result<SegmentId, WalError> {
        self.check().map_err(WalError::RolledBack)?;
        self.log.rotate().inspect_err(|e| self.note(e))
    }

    fn remove_before(&mut self, first: SegmentId) -> Result<()> {
        self.check()?;
        self.log.remove_before(first)
    }

    fn bytes(&self) -> u64 {
        self.log.bytes()
    }

    fn segment(&self) -> SegmentId {
        self.log.segment()
    }

    fn close(&mut self) -> Result<(), WalError> {
        self.log.close()
    }
}

impl Held {
    /// A log that does not go on takes its checkpoints with it.
    fn note(&self, e: &WalError) {
        if e.is_poisoned() && !self.leased {
            self.right.lose(e.error().copy());
        }
    }
}
