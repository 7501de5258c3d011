//! `VACUUM t`: files that no state needs.

use std::collections::HashSet;

use triune_common::{Result, boxed};

use super::{BaseState, BaseTable};

impl BaseTable {
    /// Removes the files of the table's base that none of the states in `keep` names and returns how many
    /// bytes that were. `keep` holds the published state and every one that a snapshot or the retention
    /// still needs.
    ///
    /// Nobody may append to or rewrite the base meanwhile: what that writes is not named by any state yet.
    /// `building`: indexes are being built, whose files no state names yet; files of indexes stay then.
    /// Errors: data if a state that is to be kept cannot be read; nothing is removed then.
    #[boxed]
    pub async fn vacuum(&self, keep: &[BaseState], building: bool) -> Result<u64> {
        let mut versions: Vec<u64> = keep.iter().filter_map(|s| s.lance_version).collect();
        versions.sort_unstable();
        versions.dedup();
        let mut freed = if self.url.scheme() == "file" {
            self.lance.remove_unreferenced(&self.url, &versions, building).await?
        } else {
            let needless = self.lance.unreferenced(&self.url, &versions, building).await?;
            self.fs.confirm().map_err(|e| self.io("clean", &self.folder, &e))?;
            self.lance.remove_objects(&self.url, needless).await?
        };
        let needed: HashSet<&str> = keep.iter().flat_map(BaseState::files).collect();
        let failed = |doing: &str, path: &std::path::Path, e: &std::io::Error| self.io(doing, path, e);
        let names = match self.fs.list(&self.folder) {
            Ok(names) => names,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(freed),
            Err(e) => return Err(failed("list", &self.folder, &e)),
        };
        for name in names {
            let ours = name.starts_with("keys-") || name.starts_with("deletes-");
            if !ours || needed.contains(name.as_str()) {
                continue;
            }
            let path = self.folder.join(&name);
            let bytes = self.fs.len(&path).map_err(|e| failed("look at", &path, &e))?;
            self.fs.remove(&path).map_err(|e| failed("remove", &path, &e))?;
            freed += bytes;
        }
        Ok(freed)
    }
}
