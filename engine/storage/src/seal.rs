//! Sealing what must not stand in a catalog in clear.
//!
//! A secret's options are encrypted with XChaCha20-Poly1305 under a 32-byte key that is *not* kept in the
//! database: copying, backing up or publishing a database folder gives nobody its credentials. The name of
//! the secret is authenticated with it, so that a sealed text cannot be moved to another name.
//!
//! The key comes from the environment variable `TRIUNE_SECRET_KEY` (64 hexadecimal digits) or from
//! `triune/secret.key` in the user's configuration folder (`$XDG_CONFIG_HOME`, else `~/.config`), which is
//! made with mode 0600 when the first secret is created.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use triune_common::{Error, ErrorKind, Result, Rng};

/// Overrides the key file; for containers and for machines that share a database.
pub const KEY_VARIABLE: &str = "TRIUNE_SECRET_KEY";

const NONCE_BYTES: usize = 24;

/// Seals and opens with one key.
pub struct Sealer {
    cipher: XChaCha20Poly1305,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(***)")
    }
}

impl Sealer {
    pub fn new(key: &[u8; 32]) -> Self {
        Self { cipher: XChaCha20Poly1305::new(key.into()) }
    }

    /// Takes 64 hexadecimal digits.
    pub fn from_hex(text: &str, place: &str) -> Result<Self> {
        let bytes = from_hex(text.trim())
            .filter(|b| b.len() == 32)
            .ok_or_else(|| Error::invalid(format!("the key in {place} is not 64 hexadecimal digits")))?;
        let mut key = [0; 32];
        key.copy_from_slice(&bytes);
        Ok(Self::new(&key))
    }

    /// The key of this machine's user; `create` makes the key file when there is none.
    pub fn of_user(rng: &dyn Rng, create: bool) -> Result<Option<Self>> {
        if let Some(text) = std::env::var_os(KEY_VARIABLE) {
            return Self::from_hex(&text.to_string_lossy(), &format!("the variable {KEY_VARIABLE}"))
                .map(Some);
        }
        let Some(path) = key_file() else {
            return if create {
                Err(Error::invalid("there is no home folder to keep the secret key in")
                    .with_hint(format!("set {KEY_VARIABLE} to 64 hexadecimal digits")))
            } else {
                Ok(None)
            };
        };
        Self::of_file(&path, rng, create)
    }

    fn of_file(path: &Path, rng: &dyn Rng, create: bool) -> Result<Option<Self>> {
        let failed = |doing: &str, e: &std::io::Error| {
            Error::new(
                ErrorKind::Permission,
                format!("cannot {doing} the secret key {}: {e}", path.display()),
            )
        };
        match fs::read_to_string(path) {
            Ok(text) => return Self::from_hex(&text, &path.display().to_string()).map(Some),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed("read", &e)),
        }
        if !create {
            return Ok(None);
        }
        let mut key = [0; 32];
        rng.fill(&mut key);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| failed("make the folder of", &e))?;
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        match file.and_then(|mut f| f.write_all(to_hex(&key).as_bytes()).and_then(|()| f.sync_all())) {
            Ok(()) => Ok(Some(Self::new(&key))),
            // Another process made it between our look and our write: use that one.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                let text = fs::read_to_string(path).map_err(|e| failed("read", &e))?;
                Self::from_hex(&text, &path.display().to_string()).map(Some)
            }
            Err(e) => Err(failed("write", &e)),
        }
    }

    /// Encrypts `plain` for the secret `name`; hexadecimal text.
    pub fn seal(&self, name: &str, plain: &[u8], rng: &dyn Rng) -> Result<String> {
        let mut nonce = [0; NONCE_BYTES];
        rng.fill(&mut nonce);
        let payload = Payload { msg: plain, aad: name.as_bytes() };
        let sealed = self
            .cipher
            .encrypt(XNonce::from_slice(&nonce), payload)
            .map_err(|_| Error::internal(format!("the secret \"{name}\" cannot be sealed")))?;
        Ok(to_hex(&nonce) + &to_hex(&sealed))
    }

    /// Decrypts what [`Sealer::seal`] made for the same name.
    pub fn open(&self, name: &str, sealed: &str) -> Result<Vec<u8>> {
        let failed = || {
            Error::new(ErrorKind::Permission, format!("the secret \"{name}\" was sealed with another key"))
                .with_hint(format!("set {KEY_VARIABLE} to its key, or create the secret anew"))
        };
        let bytes = from_hex(sealed).filter(|b| b.len() > NONCE_BYTES).ok_or_else(failed)?;
        let (nonce, body) = bytes.split_at(NONCE_BYTES);
        let payload = Payload { msg: body, aad: name.as_bytes() };
        self.cipher.decrypt(XNonce::from_slice(nonce), payload).map_err(|_| failed())
    }
}

fn key_file() -> Option<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME")
        .filter(|v| !v.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".config")))?;
    Some(config.join("triune").join("secret.key"))
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use triune_common::SystemRng;

    use super::*;

    #[test]
    fn what_is_sealed_opens_under_the_same_key_and_name_only() {
        let rng = SystemRng::new();
        let (mine, other) = (Sealer::new(&[7; 32]), Sealer::new(&[8; 32]));
        let sealed = mine.seal("s", b"hunter2", &rng).unwrap();
        assert!(!sealed.contains(&to_hex(b"hunter2")));
        assert_ne!(sealed, mine.seal("s", b"hunter2", &rng).unwrap(), "a nonce is never used twice");
        assert_eq!(mine.open("s", &sealed).unwrap(), b"hunter2");
        assert_eq!(other.open("s", &sealed).unwrap_err().kind(), ErrorKind::Permission);
        assert!(mine.open("t", &sealed).is_err());
        let mut torn = sealed.clone();
        torn.replace_range(60..61, if &sealed[60..61] == "0" { "1" } else { "0" });
        assert!(mine.open("s", &torn).is_err());
        for bad in ["", "zz", "00", "é0"] {
            assert!(mine.open("s", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_key_file_is_made_once_and_readable_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("triune/secret.key");
        let rng = SystemRng::new();
        assert!(Sealer::of_file(&path, &rng, false).unwrap().is_none());
        let first = Sealer::of_file(&path, &rng, true).unwrap().unwrap();
        let second = Sealer::of_file(&path, &rng, true).unwrap().unwrap();
        let sealed = first.seal("s", b"x", &rng).unwrap();
        assert_eq!(second.open("s", &sealed).unwrap(), b"x");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "short").unwrap();
        assert!(Sealer::of_file(&path, &rng, true).is_err());
    }
}
