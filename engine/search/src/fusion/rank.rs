//! Lists of scores to one list.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use triune_common::{Error, ErrorKind, Result};

/// A number of a statement: compared by its bits, so that plans can be.
#[derive(Debug, Clone, Copy)]
pub struct Number(pub f64);

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Number {}

impl Hash for Number {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// How scores of several lists become one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Method {
    /// Reciprocal ranks: Σ weight / (`constant` + rank), ranks from 1.
    Reciprocal { constant: u32, weights: Vec<Number> },
    /// Scores between the best (1) and the worst (0) of their list: Σ weight · score. A list whose scores are
    /// all the same has 1 for each.
    Weighted { weights: Vec<Number> },
}

/// What one search found.
#[derive(Debug)]
pub struct List<'a> {
    /// Bytes that tell a row from others, and order rows of one score.
    pub keys: Vec<&'a [u8]>,
    pub scores: Vec<f64>,
    /// Whether the least score is the best: a distance.
    pub ascending: bool,
}

/// A row of the result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fused {
    /// The first list that has the row, and its place there.
    pub list: usize,
    pub place: usize,
    pub score: f64,
}

/// All rows of the lists, each once, with their scores, in the order of their keys' first appearance.
///
/// # Errors
/// `Data`, if a list has one key twice: its place in the list is in the error's message.
pub fn fuse(lists: &[List<'_>], method: &Method) -> Result<Vec<Fused>> {
    let mut rows: HashMap<&[u8], usize> = HashMap::new();
    let mut fused: Vec<Fused> = Vec::new();
    for (number, list) in lists.iter().enumerate() {
        let mut keys: Vec<&[u8]> = list.keys.clone();
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(twice(number));
        }
        let mut order: Vec<usize> = (0..list.keys.len()).collect();
        let better = |a: f64, b: f64| if list.ascending { a.total_cmp(&b) } else { b.total_cmp(&a) };
        order.sort_by(|a, b| {
            better(list.scores[*a], list.scores[*b]).then_with(|| list.keys[*a].cmp(list.keys[*b]))
        });
        for (rank, place) in order.iter().enumerate() {
            let part = method.part(number, rank, &order, *place, list);
            match rows.get(list.keys[*place]) {
                Some(row) => fused[*row].score += part,
                None => {
                    rows.insert(list.keys[*place], fused.len());
                    fused.push(Fused { list: number, place: *place, score: part });
                }
            }
        }
    }
    Ok(fused)
}

fn twice(list: usize) -> Error {
    Error::new(
        ErrorKind::Data,
        format!(
            "the key does not tell rows apart: part {} of the search has two rows with the same one",
            list + 1
        ),
    )
    .with_hint("key => … must name columns whose values are there once")
}

/// Best first: by score, then by key.
pub fn by_score(lists: &[List<'_>], a: &Fused, b: &Fused) -> Ordering {
    b.score.total_cmp(&a.score).then_with(|| lists[a.list].keys[a.place].cmp(lists[b.list].keys[b.place]))
}

impl Method {
    fn part(&self, number: usize, rank: usize, order: &[usize], place: usize, list: &List<'_>) -> f64 {
        let weight = |weights: &[Number]| weights.get(number).map_or(1.0, |w| w.0);
        match self {
            Self::Reciprocal { constant, weights } => {
                weight(weights) / (f64::from(*constant) + (rank + 1) as f64)
            }
            Self::Weighted { weights } => {
                let score = |place: &usize| {
                    let score = list.scores[*place].clamp(f64::from(f32::MIN), f64::from(f32::MAX));
                    if list.ascending { -score } else { score }
                };
                let (best, worst) = match (order.first(), order.last()) {
                    (Some(best), Some(worst)) => (score(best), score(worst)),
                    _ => return 0.0,
                };
                let range = best - worst;
                let share = if range > 0.0 { (score(&place) - worst) / range } else { 1.0 };
                weight(weights) * share
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(rows: &[(&'static str, f64)], ascending: bool) -> List<'static> {
        let keys = rows.iter().map(|(key, _)| key.as_bytes()).collect();
        List { keys, scores: rows.iter().map(|(_, score)| *score).collect(), ascending }
    }

    fn names(lists: &[List<'_>], method: &Method) -> Vec<(String, f64)> {
        let mut fused = fuse(lists, method).unwrap();
        fused.sort_by(|a, b| by_score(lists, a, b));
        let name = |f: &Fused| String::from_utf8(lists[f.list].keys[f.place].to_vec()).unwrap();
        fused.iter().map(|f| (name(f), f.score)).collect()
    }

    #[test]
    fn reciprocal_ranks() {
        let near = list(&[("c", 0.9), ("a", 0.1), ("b", 0.5)], true);
        let found = list(&[("b", 7.0), ("d", 2.0)], false);
        let method = Method::Reciprocal { constant: 60, weights: vec![Number(1.0), Number(2.0)] };
        let wanted =
            [("b", 1.0 / 62.0 + 2.0 / 61.0), ("d", 2.0 / 62.0), ("a", 1.0 / 61.0), ("c", 1.0 / 63.0)];
        assert_eq!(names(&[near, found], &method), wanted.map(|(n, s)| (n.to_owned(), s)));
    }

    #[test]
    fn weighted_scores_and_ties_by_key() {
        let near = list(&[("b", 1.0), ("a", 1.0)], true);
        let found = list(&[("c", 1.0), ("d", 3.0), ("e", 2.0)], false);
        let method = Method::Weighted { weights: vec![Number(0.25), Number(0.5)] };
        let wanted = [("d", 0.5), ("a", 0.25), ("b", 0.25), ("e", 0.25), ("c", 0.0)];
        assert_eq!(names(&[near, found], &method), wanted.map(|(n, s)| (n.to_owned(), s)));
    }

    #[test]
    fn a_key_must_tell_rows_apart() {
        let method = Method::Reciprocal { constant: 60, weights: vec![] };
        let twice = || list(&[("a", 1.0), ("a", 2.0)], true);
        assert!(fuse(&[twice()], &method).is_err());
        assert!(fuse(&[list(&[("a", 1.0)], true), twice()], &method).is_err());
        assert_eq!(fuse(&[list(&[], true), list(&[], false)], &method).unwrap(), vec![]);
    }
}
