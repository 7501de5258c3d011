//! The standard input as text that arrives in pieces: a pipe, a file, or a terminal without a line editor.

use std::io::Read;

use tokio::sync::mpsc;
use triune_common::{Error, Result};

/// Chunks that were read and not yet run.
const AHEAD: usize = 16;

/// A reader in its own thread: reading cannot be interrupted, waiting for it can.
#[derive(Debug)]
pub struct StandardInput {
    chunks: mpsc::Receiver<std::io::Result<Vec<u8>>>,
    /// Bytes of a character whose end has not come yet.
    pending: Vec<u8>,
    taken: usize,
    ended: bool,
}

impl StandardInput {
    /// Starts reading.
    ///
    /// *Errors*: the thread cannot be started.
    pub fn start() -> Result<Self> {
        let (sender, chunks) = mpsc::channel(AHEAD);
        std::thread::Builder::new()
            .name("stdin".into())
            .spawn(move || {
                let mut stdin = std::io::stdin().lock();
                loop {
                    let mut chunk = vec![0; 64 * 1024];
                    let message = match stdin.read(&mut chunk) {
                        Ok(0) => return,
                        Ok(n) => {
                            chunk.truncate(n);
                            Ok(chunk)
                        }
                        Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                        Err(e) => Err(e),
                    };
                    let failed = message.is_err();
                    if sender.blocking_send(message).is_err() || failed {
                        return;
                    }
                }
            })
            .map_err(crate::output::io_error)?;
        Ok(Self { chunks, pending: Vec::new(), taken: 0, ended: false })
    }

    /// Appends what has arrived to `text`, waiting for something; false at the end. May be dropped while it waits.
    ///
    /// *Errors*: the input cannot be read or is not UTF-8 (the byte is named).
    pub async fn more(&mut self, text: &mut String) -> Result<bool> {
        if self.ended {
            return Ok(false);
        }
        let Some(chunk) = self.chunks.recv().await else {
            self.ended = true;
            return if self.pending.is_empty() { Ok(false) } else { Err(self.not_text(0)) };
        };
        self.take(chunk, text)?;
        // Everything that is there already: a statement is looked for once for all of it.
        while let Ok(chunk) = self.chunks.try_recv() {
            self.take(chunk, text)?;
        }
        Ok(true)
    }

    fn take(&mut self, chunk: std::io::Result<Vec<u8>>, text: &mut String) -> Result<()> {
        let chunk = chunk.map_err(crate::output::io_error)?;
        self.pending.extend_from_slice(&chunk);
        let valid = match std::str::from_utf8(&self.pending) {
            Ok(_) => self.pending.len(),
            // Without a length the bytes may be the beginning of a character.
            Err(e) if e.error_len().is_none() => e.valid_up_to(),
            Err(e) => return Err(self.not_text(e.valid_up_to())),
        };
        let rest = self.pending.split_off(valid);
        let ready = std::mem::replace(&mut self.pending, rest);
        let ready = String::from_utf8(ready).map_err(|_| self.not_text(0))?;
        let ready_text =
            if self.taken == 0 { ready.strip_prefix('\u{feff}').unwrap_or(&ready) } else { ready.as_str() };
        text.push_str(ready_text);
        self.taken += valid;
        Ok(())
    }

    fn not_text(&self, at: usize) -> Error {
        Error::data(format!("the standard input is not UTF-8 at byte {}", self.taken + at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> (mpsc::Sender<std::io::Result<Vec<u8>>>, StandardInput) {
        let (sender, chunks) = mpsc::channel(AHEAD);
        (sender, StandardInput { chunks, pending: Vec::new(), taken: 0, ended: false })
    }

    #[tokio::test]
    async fn characters_may_be_torn() {
        let (sender, mut input) = fresh();
        let mut text = String::new();
        sender.send(Ok(b"\xef\xbb\xbfa\xe6\x97".to_vec())).await.unwrap();
        assert!(input.more(&mut text).await.unwrap());
        assert_eq!(text, "a");
        sender.send(Ok(b"\xa5".to_vec())).await.unwrap();
        sender.send(Ok(b"b".to_vec())).await.unwrap();
        assert!(input.more(&mut text).await.unwrap());
        assert_eq!(text, "a日b");
        drop(sender);
        assert!(!input.more(&mut text).await.unwrap());
        assert!(!input.more(&mut text).await.unwrap());
    }

    #[tokio::test]
    async fn what_is_no_text_is_named() {
        let (sender, mut input) = fresh();
        let mut text = String::new();
        sender.send(Ok(b"abc".to_vec())).await.unwrap();
        input.more(&mut text).await.unwrap();
        sender.send(Ok(b"d\xff".to_vec())).await.unwrap();
        let e = input.more(&mut text).await.unwrap_err();
        assert_eq!(e.message(), "the standard input is not UTF-8 at byte 4");
        let (sender, mut input) = fresh();
        sender.send(Ok(b"\xe6".to_vec())).await.unwrap();
        input.more(&mut text).await.unwrap();
        drop(sender);
        assert!(input.more(&mut text).await.is_err());
    }
}
