//! What the disk alone takes: a row's bytes appended to a file and synced, again and again.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use triune_common::{Clock, Error, Result};

/// About what one row takes in a log.
const BYTES: usize = 360;

/// Appends with `fdatasync` per second.
pub(crate) fn appends(folder: &Path, clock: &dyn Clock, seconds: f64) -> Result<f64> {
    let path = folder.join("append");
    let failed = |e: std::io::Error| Error::data(format!("{}: {e}", path.display()));
    let mut file: File =
        OpenOptions::new().create(true).write(true).truncate(true).open(&path).map_err(failed)?;
    let bytes = [7; BYTES];
    let start = clock.elapsed();
    let mut n = 0_u32;
    let taken = loop {
        file.write_all(&bytes).and_then(|()| file.sync_data()).map_err(failed)?;
        n += 1;
        let taken = (clock.elapsed() - start).as_secs_f64();
        if taken >= seconds {
            break taken;
        }
    };
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(f64::from(n) / taken)
}
