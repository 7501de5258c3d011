//! Where a database's files live when that is an object store.
//!
//! ```text
//!  s3://bucket/my.db/
//!    writer.json           who writes: epoch, holder, lease            changed by conditional PUTs   [`right`]
//!    catalog.json          names and definitions, with the epoch       changed by conditional PUTs
//!    state.json            what the last checkpoint published, with    changed by conditional PUTs   [`files`]
//!                          the epoch and where the log is
//!    tables/7/base.lance   rows; tables/7/keys-*.keys, deletes-*.roar  never written twice
//!    history/…json         older states
//!    wal/…0042.wal         the log, where it is kept there             new objects by conditional PUTs
//!
//!  $XDG_STATE_HOME/triune/
//!    <database id>/<log id>/…0042.wal     the log, where it is kept in a local folder
//!    <database id>/cache/…                key files that were read
//!    at-<hash of the URL>/writer.lock     the writer of this machine
//! ```
//!
//! **One writer.** Whoever opens the database for writing takes the next *epoch*. The catalog, the state and the log
//! each take a publication of the newest epoch only: opening publishes all three once before anything is read, so
//! that a writer which was replaced finds another object than it wrote last, and fails (see `right`).
//!
//! **Names.** Files are numbered from `epoch · 2³²` on: two writers never give one name to two files, and a cached
//! copy of a name is that file for ever.

mod files;
mod io;
mod log;
mod right;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use triune_common::{Error, Result};
use twox_hash::XxHash3_64;

pub use files::ObjectFs;
pub use io::StoreIo;
pub use log::ObjectPlace;
pub use right::{Claim, ClaimOptions, Right};

pub(crate) use files::STATE;
pub(crate) use log::{ATTEMPTS, FIRST_PAUSE, Held, again};
pub(crate) use right::fenced;

/// How long a writer may go on without having renewed its claim.
pub const LEASE: Duration = Duration::from_secs(30);

/// Where a database on an object store keeps its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WalKind {
    /// In a folder of this machine: a commit costs an fsync. What was committed since the last checkpoint is lost with
    /// the machine.
    Local,
    /// Beside the tables: a commit costs a PUT, shared by all that wait; nothing is lost with the machine.
    ObjectStore,
}

impl std::str::FromStr for WalKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "local" => Ok(Self::Local),
            "object-store" => Ok(Self::ObjectStore),
            other => Err(Error::invalid(format!("the log cannot be kept in '{other}'"))
                .with_hint("local or object-store is wanted")),
        }
    }
}

/// Where the commits are that came after the published state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum LogName {
    /// In a folder of one machine.
    Local {
        id: String,
        /// For messages.
        host: String,
        folder: PathBuf,
        /// The writer has left nothing in it that is not in the state.
        #[serde(default)]
        closed: bool,
    },
    ObjectStore,
}

/// The local folders of a database that is kept elsewhere.
#[derive(Debug, Clone)]
pub struct LocalPlace {
    root: PathBuf,
}

impl LocalPlace {
    /// `root` is for all databases of a user.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// `$XDG_STATE_HOME/triune`, `~/.local/state/triune` without that variable; `None` without a home.
    pub fn of_user() -> Option<Self> {
        let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
        let state = state.or_else(|| std::env::home_dir().map(|h| h.join(".local").join("state")))?;
        Some(Self::new(state.join("triune")))
    }

    pub(crate) fn log(&self, database: &str, id: &str) -> PathBuf {
        self.root.join(database).join(id)
    }

    pub(crate) fn cache(&self, database: &str) -> PathBuf {
        self.root.join(database).join("cache")
    }

    /// Where the writer's lock of the database at a URL is.
    pub fn lock(&self, url: &str) -> PathBuf {
        self.root.join(format!("at-{:016x}", XxHash3_64::oneshot(url.as_bytes())))
    }

    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// How a database on an object store is opened.
#[derive(Debug, Clone)]
pub struct RemoteOptions {
    pub place: ObjectPlace,
    pub files: Arc<ObjectFs>,
    /// The right to write; `None`: for reading.
    pub right: Option<Arc<Right>>,
    /// `None`: this machine keeps nothing.
    pub local: Option<LocalPlace>,
    /// `None`: as it was, and in a local folder for a new database.
    pub wal: Option<WalKind>,
    /// Opens at the last checkpoint when the log of another machine cannot be reached; what was committed since is
    /// lost.
    pub accept_lost_wal: bool,
}
