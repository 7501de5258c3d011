//! Merging the small pieces of a chunk, without keeping anybody waiting.
//!
//! ```text
//!  appended         1 1 1 … 1 (64 times)     ─▶ 64          by the committer
//!  chunk is full    64 64 … 1000 12          ─▶ 4096        by the committer
//!  a scan comes     2048 512 64 64 64 1 1 1  ─▶ 2048 896 3  by the reader
//! ```
//!
//! References to the pieces are taken under the lock, the copy is made without it, and the result is put in place
//! under it if the pieces are still the same ones. A reader merges only pieces whose sizes are within a factor of
//! two of each other, so that scans beside a stream of single-row commits copy a row some `log2(4096)` times in all
//! and not once per scan.
//!
//! A merge that fails (a text column beyond 2 GiB) leaves the pieces as they are: they are as good, only more.

use std::sync::Arc;

use arrow::compute::concat_batches;

use crate::hot::Memtable;
use crate::hot::chunk::Piece;

impl Memtable {
    /// Merges all pieces of a chunk that no row is added to any more.
    pub(super) fn gather_all(&self, chunk: usize) {
        let pieces = self.state.read().chunks[chunk].pieces.clone();
        self.gather(chunk, &pieces);
    }

    /// Merges the small pieces at the end of a chunk.
    pub(super) fn gather_small(&self, chunk: usize) {
        let pieces = {
            let state = self.state.read();
            let chunk = &state.chunks[chunk];
            chunk.pieces[chunk.pieces.len() - chunk.small..].to_vec()
        };
        self.gather(chunk, &pieces);
    }

    /// Merges neighbours of similar size; returns the pieces that there are then.
    pub(super) fn gather_for_scan(&self, chunk: usize, pieces: Vec<Piece>) -> Vec<Piece> {
        let groups = similar(&pieces);
        if groups.len() == pieces.len() {
            return pieces;
        }
        let mut out = Vec::with_capacity(groups.len());
        let mut rest = pieces.as_slice();
        for len in groups {
            let (group, after) = rest.split_at(len);
            rest = after;
            match self.gather(chunk, group) {
                Some(piece) => out.push(piece),
                None => out.extend_from_slice(group),
            }
        }
        out
    }

    /// One piece for several that follow each other; `None` when there is nothing to merge or it cannot be.
    fn gather(&self, chunk: usize, pieces: &[Piece]) -> Option<Piece> {
        let [first, _, ..] = pieces else { return None };
        let batches = pieces.iter().map(|p| p.batch.as_ref());
        let merged = concat_batches(&self.schema, batches).ok()?;
        let merged = Piece { start: first.start, batch: Arc::new(merged) };
        let mut state = self.state.write();
        // The chunk may be gone, or its pieces merged by somebody else or cut by an undo.
        if let Some(chunk) = state.chunks.get_mut(chunk)
            && let Ok(at) = chunk.pieces.binary_search_by_key(&first.start, |p| p.start)
            && let Some(now) = chunk.pieces.get(at..at + pieces.len())
            && now.iter().zip(pieces).all(|(a, b)| Arc::ptr_eq(&a.batch, &b.batch))
        {
            chunk.pieces.splice(at..at + pieces.len(), [merged.clone()]);
            chunk.recount_small();
        }
        Some(merged)
    }
}

/// Lengths of groups of neighbours to be merged: in the result each piece has more than twice the rows of the next.
fn similar(pieces: &[Piece]) -> Vec<usize> {
    let mut groups: Vec<(usize, usize)> = Vec::new();
    for piece in pieces {
        let mut new = (1, piece.rows());
        while let Some((len, rows)) = groups.last().copied()
            && rows <= 2 * new.1
        {
            new = (new.0 + len, new.1 + rows);
            groups.pop();
        }
        groups.push(new);
    }
    groups.into_iter().map(|(len, _)| len).collect()
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};

    use super::*;

    #[test]
    fn groups_have_halving_sizes() {
        let column = |rows: usize| -> ArrayRef { Arc::new(Int64Array::from(vec![0; rows])) };
        let mut start = 0;
        let pieces: Vec<_> = [vec![64; 40], vec![1; 30]]
            .concat()
            .into_iter()
            .map(|rows| {
                let batch = RecordBatch::try_from_iter([("a", column(rows))]).unwrap();
                let piece = Piece { start, batch: Arc::new(batch) };
                start += rows;
                piece
            })
            .collect();
        let groups = similar(&pieces);
        assert_eq!(groups.iter().sum::<usize>(), 70);
        assert!(groups.len() <= 8, "{groups:?}");
        assert!(similar(&pieces[..1]) == [1]);
    }
}
