//! The right to write a database on an object store: `writer.json`, changed by conditional PUTs only.
//!
//! ```text
//!  { "epoch": 7, "holder": { "pid": 4711, "host": "h", "since": … }, "released": false, "lease_ms": 30000,
//!    "renewals": 12, "boot": "…", "lock": "…/state/triune/at-…" }
//! ```
//!
//! The holder renews the object every third of the lease. When it could not for two thirds of the lease, by its own
//! clock, it acknowledges nothing and removes nothing until it could again. Whoever replaces a holder that did not
//! release its claim waits for a whole lease, so that the two never work at the same time:
//!
//! | the claim is | another opener |
//! |---|---|
//! | released | takes it at once |
//! | of a dead process of this machine (its lock file is free) | takes it at once |
//! | not renewed for a lease | watches for one lease more that it is not renewed, then takes it |
//! | renewed | is told who has it; with [`Claim::TakeOver`] takes it, and waits for one lease |
//!
//! The lease protects what is not fenced by itself: a log in a local folder, removals. Publications of the catalog,
//! the state and a log on the object store are fenced by the epoch, however long a process slept. Limit: a holder of a
//! local log that is stopped for more than a third of the lease between its last look at the clock and its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use object_store::{ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;
use triune_common::{Clock, Error, ErrorKind, Result, boxed};

use super::{LEASE, ObjectPlace};
use crate::lock::{Holder, WriterLock};

/// The object that names the writer.
const WRITER: &str = "writer.json";

/// How often a claim is tried again when another writer was faster or nobody answers.
const ATTEMPTS: usize = 10;

/// How long a process that ends waits for its claim to be released.
const RELEASE: Duration = Duration::from_secs(5);

/// What to do when another writer has claimed a database and not released it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Claim {
    /// Leave it to that writer, with an error that names it, unless its lease has run out.
    #[default]
    IfFree,
    /// Take it over: that writer's next commit fails.
    TakeOver,
}

/// How a claim is made.
#[derive(Debug, Clone)]
pub struct ClaimOptions {
    pub claim: Claim,
    /// Zero: the claim is not renewed and nobody waits for it to run out; the fences alone keep two writers apart.
    pub lease: Duration,
    /// The folder of the lock among the processes of this machine; made if it does not exist.
    pub lock: Option<std::path::PathBuf>,
    pub clock: Arc<dyn Clock>,
    /// Who asks; `None`: this process.
    pub holder: Option<Holder>,
}

impl ClaimOptions {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { claim: Claim::IfFree, lease: LEASE, lock: None, clock, holder: None }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    epoch: u64,
    holder: Holder,
    released: bool,
    lease_ms: u64,
    renewals: u64,
    /// Of the kernel that the holder runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lock: Option<String>,
}

/// An object's document with what a conditional PUT over it names.
#[derive(Debug)]
struct Found {
    document: Document,
    version: UpdateVersion,
    modified: DateTime<Utc>,
}

#[derive(Debug)]
struct Seen {
    document: Document,
    version: UpdateVersion,
    /// On the holder's clock, when the last renewal that succeeded was sent.
    renewed: Duration,
}

/// A claim that was granted, held until it is dropped.
#[derive(Debug)]
pub struct Right {
    place: ObjectPlace,
    clock: Arc<dyn Clock>,
    lease: Duration,
    epoch: u64,
    seen: Mutex<Seen>,
    lost: Mutex<Option<Error>>,
    /// The holder writes no more.
    closed: AtomicBool,
    released: AtomicBool,
    renewing: Mutex<Option<AbortHandle>>,
    /// Given back after everything else: the next process of this machine begins when it is free.
    lock: Mutex<Option<WriterLock>>,
}

impl Right {
    /// Claims the next epoch of the database at `place`; may wait for a lease, see the module.
    ///
    /// Errors: unavailable, naming the holder, when another process writes the database.
    #[boxed]
    pub async fn claim(place: ObjectPlace, options: ClaimOptions) -> Result<Arc<Self>> {
        let ClaimOptions { claim, lease, lock: folder, clock, holder } = options;
        let holder = holder.unwrap_or_else(|| Holder::this(clock.as_ref()));
        let lock = match &folder {
            Some(folder) => {
                std::fs::create_dir_all(folder).map_err(|e| crate::fs::io_error("make", folder, &e))?;
                Some(WriterLock::acquire_named(folder, &place.name, clock.as_ref())?)
            }
            None => None,
        };
        let boot = boot_id();
        let lock_name = folder.map(|f| f.join(crate::lock::LOCK_FILE).display().to_string());
        let mut tried: Option<Document> = None;
        let mut sent = clock.elapsed();
        // The claim that was watched for a lease and not renewed.
        let mut watched: Option<Document> = None;
        for _ in 0..ATTEMPTS {
            let found = read(&place).await?;
            let mut wait = Duration::ZERO;
            let (mode, epoch) = match found {
                None => (PutMode::Create, 1),
                // A try of ours that was not answered did arrive.
                Some(there) if tried.as_ref() == Some(&there.document) => {
                    let document = there.document;
                    return Ok(Self::granted(place, clock, lease, document, there.version, sent, lock));
                }
                Some(there) => {
                    let then = &there.document;
                    let theirs = Duration::from_millis(then.lease_ms);
                    let dead =
                        lock.is_some() && boot.is_some() && then.boot == boot && then.lock == lock_name;
                    if !then.released && !dead && watched.as_ref() != Some(then) {
                        let age = (clock.now() - there.modified).to_std().unwrap_or_default();
                        match claim {
                            Claim::TakeOver => wait = theirs,
                            Claim::IfFree if age < theirs || theirs.is_zero() => {
                                let ago = age.as_secs();
                                return Err(then.holder.in_the_way(&place.name).with_hint(format!(
                                    "it was last heard of {ago} s ago and is free {} s after that; open the database \
                                     read-only, or take it over with --take-over",
                                    theirs.as_secs()
                                )));
                            }
                            Claim::IfFree => {
                                tokio::time::sleep(theirs).await;
                                watched = Some(there.document);
                                continue;
                            }
                        }
                    }
                    (PutMode::Update(there.version), then.epoch + 1)
                }
            };
            let document = Document {
                epoch,
                holder: holder.clone(),
                released: false,
                lease_ms: u64::try_from(lease.as_millis()).unwrap_or(u64::MAX),
                renewals: 0,
                boot: boot.clone(),
                lock: lock_name.clone(),
            };
            sent = clock.elapsed();
            match put(&place, &document, mode).await {
                Ok(Some(version)) => {
                    let right = Self::granted(place, clock, lease, document, version, sent, lock);
                    // The one before has been told; it may need this long to hear it.
                    tokio::time::sleep(wait).await;
                    return Ok(right);
                }
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

    fn granted(
        place: ObjectPlace,
        clock: Arc<dyn Clock>,
        lease: Duration,
        document: Document,
        version: UpdateVersion,
        renewed: Duration,
        lock: Option<WriterLock>,
    ) -> Arc<Self> {
        let epoch = document.epoch;
        let right = Arc::new(Self {
            place,
            clock,
            lease,
            epoch,
            seen: Mutex::new(Seen { document, version, renewed }),
            lost: Mutex::new(None),
            closed: AtomicBool::new(false),
            released: AtomicBool::new(false),
            renewing: Mutex::new(None),
            lock: Mutex::new(lock),
        });
        let weak = Arc::downgrade(&right);
        if lease.is_zero() {
            return right;
        }
        let task = right.place.io.handle().spawn(async move {
            let mut pause = lease / 3;
            loop {
                tokio::time::sleep(pause).await;
                let Some(right) = weak.upgrade() else { return };
                if right.is_over() {
                    return;
                }
                // After a failure it is tried again soon.
                pause = if right.renew().await.is_ok() { lease / 3 } else { lease / 30 };
            }
        });
        *right.renewing.lock() = Some(task.abort_handle());
        right
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Errors when another writer has taken over, or what this one published last is unknown.
    pub(crate) fn check(&self) -> Result<()> {
        match &*self.lost.lock() {
            Some(e) => Err(e.copy()),
            None if self.closed.load(Ordering::SeqCst) => Err(Error::new(
                ErrorKind::Unavailable,
                format!("the database at {} was closed", self.place.name),
            )),
            None => Ok(()),
        }
    }

    /// Errors also when nobody else can be excluded by now.
    pub(crate) fn check_lease(&self) -> Result<()> {
        self.check()?;
        if self.lease.is_zero() {
            return Ok(());
        }
        let since = self.clock.elapsed().saturating_sub(self.seen.lock().renewed);
        if since <= self.lease * 2 / 3 {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            format!(
                "the claim on the database at {} could not be renewed for {} s: another process may have it",
                self.place.name,
                since.as_secs()
            ),
        )
        .with_hint("writing goes on when the object store answers again"))
    }

    /// No more is written with this right.
    pub(crate) fn lose(&self, why: Error) {
        self.lost.lock().get_or_insert(why);
    }

    /// Nothing is written with this right from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    fn is_over(&self) -> bool {
        self.released.load(Ordering::SeqCst) || self.lost.lock().is_some()
    }

    /// Asks the object store whether the right is still held.
    pub(crate) async fn verify(&self) -> Result<()> {
        self.check()?;
        match read(&self.place).await? {
            Some(there) if there.document.epoch == self.epoch => Ok(()),
            _ => {
                let e = fenced(&self.place).await;
                self.lose(e.copy());
                Err(e)
            }
        }
    }

    async fn renew(&self) -> Result<()> {
        let sent = self.clock.elapsed();
        let mut next = self.seen.lock().document.clone();
        next.renewals += 1;
        self.replace(next, sent).await
    }

    /// Puts another document of this holder in the place of the last one.
    async fn replace(&self, next: Document, sent: Duration) -> Result<()> {
        let version = self.seen.lock().version.clone();
        match put(&self.place, &next, PutMode::Update(version)).await? {
            Some(version) => {
                *self.seen.lock() = Seen { document: next, version, renewed: sent };
                Ok(())
            }
            None => match read(&self.place).await? {
                // An earlier try of ours arrived after all.
                Some(there) if there.document.epoch == self.epoch => {
                    let mut seen = self.seen.lock();
                    seen.document = there.document;
                    seen.version = there.version;
                    Err(Error::new(ErrorKind::Unavailable, "the claim is to be renewed again"))
                }
                _ => {
                    let e = fenced(&self.place).await;
                    self.lose(e.copy());
                    Err(e)
                }
            },
        }
    }

    /// Ends the holder's work and lets the next writer in. Nothing is published when somebody has taken over.
    ///
    /// Blocks for up to some seconds; what could not be released is free a lease later.
    pub fn release(&self) {
        self.close();
        if let Some(task) = self.renewing.lock().take() {
            task.abort();
        }
        let over = self.lost.lock().is_some();
        if !self.released.swap(true, Ordering::SeqCst) && !over {
            let (place, seen) = (self.place.clone(), self.seen.lock());
            let document = Document { released: true, ..seen.document.clone() };
            let mut version = seen.version.clone();
            drop(seen);
            let done = self.place.io.wait_within(Some(RELEASE), async move {
                for _ in 0..ATTEMPTS {
                    if let Ok(Some(_)) = put(&place, &document, PutMode::Update(version.clone())).await {
                        return;
                    }
                    // A renewal was under way, or nobody answered.
                    match read(&place).await {
                        Ok(Some(there)) if there.document.epoch == document.epoch => {
                            if there.document.released {
                                return;
                            }
                            version = there.version;
                        }
                        _ => return,
                    }
                }
            });
            // Whoever comes next waits for the lease to run out.
            drop(done);
        }
        drop(self.lock.lock().take());
    }
}

impl Drop for Right {
    fn drop(&mut self) {
        self.release();
    }
}

/// The error of a writer that was replaced.
pub(crate) async fn fenced(place: &ObjectPlace) -> Error {
    let by = match read(place).await {
        Ok(Some(there)) => there.document.holder.to_string(),
        _ => "another process".to_owned(),
    };
    Error::new(
        ErrorKind::Unavailable,
        format!("the database at {} was taken over for writing by {by}; this was not written", place.name),
    )
    .with_hint("open it read-only, or take it over again")
}

async fn read(place: &ObjectPlace) -> Result<Option<Found>> {
    let path = place.prefix.clone().join(WRITER);
    let mut tries = 0;
    let (got, bytes) = loop {
        tries += 1;
        let got = async {
            let got = place.store.get(&path).await?;
            let meta = got.meta.clone();
            Ok::<_, object_store::Error>((meta, got.bytes().await?))
        };
        match got.await {
            Ok(found) => break found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(e) => {
                let e = place.error("read", &path, e);
                if e.kind() != ErrorKind::Unavailable || tries == ATTEMPTS {
                    return Err(e);
                }
                tokio::time::sleep(super::log::FIRST_PAUSE).await;
            }
        }
    };
    let version = UpdateVersion { e_tag: got.e_tag, version: got.version };
    let document = serde_json::from_slice(&bytes)
        .map_err(|e| Error::data(format!("{path} of the database at {} is damaged: {e}", place.name)))?;
    Ok(Some(Found { document, version, modified: got.last_modified }))
}

/// The new version, or `None` when the precondition did not hold.
async fn put(place: &ObjectPlace, document: &Document, mode: PutMode) -> Result<Option<UpdateVersion>> {
    let path = place.prefix.clone().join(WRITER);
    let bytes = serde_json::to_vec(document)
        .map_err(|e| Error::internal(format!("the writer's claim cannot be written as JSON: {e}")))?;
    let options = PutOptions { mode, ..PutOptions::default() };
    match place.store.put_opts(&path, bytes.into(), options).await {
        Ok(done) => Ok(Some(UpdateVersion { e_tag: done.e_tag, version: done.version })),
        Err(object_store::Error::Precondition { .. } | object_store::Error::AlreadyExists { .. }) => Ok(None),
        Err(e) => Err(place.error("write", &path, e)),
    }
}

/// Which start of which machine this is.
fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}
