//! Which rows match a query, and their scores: see [`super`] for the formula.

use std::collections::HashMap;

use triune_common::Result;

use super::analysis::Analyzer;
use super::query::{Clause, Occur, Query};

/// Saturation of repeated words.
pub const K1: f64 = 1.2;
/// How much the length of a text counts.
pub const B: f64 = 0.75;

/// What scores need to know of all texts of a column.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ColumnStatistics {
    /// Texts that are not NULL.
    pub texts: u64,
    /// Words of all of them.
    pub words: u64,
    /// Texts that have a word, for words of the query.
    pub having: HashMap<String, u64>,
}

impl ColumnStatistics {
    /// Adds what another part of the table counted.
    pub fn merge(&mut self, other: Self) {
        self.texts += other.texts;
        self.words += other.words;
        for (word, n) in other.having {
            *self.having.entry(word).or_default() += n;
        }
    }

    fn idf(&self, word: &str) -> f64 {
        // A word that is in a row but was not counted cannot be: both reads are of one snapshot.
        let n = self.having.get(word).copied().unwrap_or(0) as f64;
        (1.0 + (self.texts as f64 - n + 0.5).max(0.0) / (n + 0.5)).ln()
    }

    fn weight(&self, tf: usize, length: usize) -> f64 {
        let tf = tf as f64;
        let mean = (self.words as f64 / self.texts.max(1) as f64).max(f64::MIN_POSITIVE);
        tf * (K1 + 1.0) / (tf + K1 * (1.0 - B + B * length as f64 / mean))
    }
}

/// The words of one text that a query speaks of.
#[derive(Debug, Default)]
struct Found {
    /// All words of the text.
    length: usize,
    /// By term of the query: the text's words that match it, each with how often.
    counts: Vec<Vec<(u32, usize)>>,
    /// By term of the query: where they are.
    positions: Vec<Vec<usize>>,
}

/// Numbers of words.
#[derive(Debug, Clone, Default)]
struct Words {
    names: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Words {
    fn number(&mut self, word: &str) -> u32 {
        if let Some(number) = self.numbers.get(word) {
            return *number;
        }
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(word.to_owned());
        self.numbers.insert(word.to_owned(), number);
        number
    }

    fn name(&self, number: u32) -> &str {
        self.names.get(number as usize).map_or("", String::as_str)
    }
}

/// Reads texts for one query.
#[derive(Debug, Clone)]
pub struct Matcher {
    query: Query,
    analyzer: Analyzer,
    exact: HashMap<String, Vec<usize>>,
    fuzzy: Vec<usize>,
    /// Which fuzzy terms a word was found to match; emptied when it has grown.
    seen: HashMap<String, Vec<usize>>,
    words: Words,
}

const MOST_SEEN: usize = 65_536;

impl Matcher {
    pub fn new(query: Query, analyzer: Analyzer) -> Self {
        let mut exact: HashMap<String, Vec<usize>> = HashMap::new();
        let mut fuzzy = Vec::new();
        for (place, term) in query.terms.iter().enumerate() {
            if term.edits == 0 {
                exact.entry(term.text.clone()).or_default().push(place);
            } else {
                fuzzy.push(place);
            }
        }
        Self { query, analyzer, exact, fuzzy, seen: HashMap::new(), words: Words::default() }
    }

    /// The query that texts are compared with.
    pub fn query(&self) -> &Query {
        &self.query
    }

    fn read(&mut self, text: &str) -> Result<Found> {
        let Self { query, analyzer, exact, fuzzy, seen, words } = self;
        let n = query.terms.len();
        let mut found = Found { length: 0, counts: vec![Vec::new(); n], positions: vec![Vec::new(); n] };
        let note = |found: &mut Found, term: usize, word: u32, position: usize| {
            found.positions[term].push(position);
            match found.counts[term].iter_mut().find(|(w, _)| *w == word) {
                Some((_, count)) => *count += 1,
                None => found.counts[term].push((word, 1)),
            }
        };
        analyzer.each(text, |word, position, _| {
            found.length += 1;
            for term in exact.get(word).into_iter().flatten() {
                note(&mut found, *term, words.number(word), position);
            }
            if fuzzy.is_empty() {
                return;
            }
            if !seen.contains_key(word) {
                if seen.len() >= MOST_SEEN {
                    seen.clear();
                }
                let terms = fuzzy.iter().copied().filter(|t| query.terms[*t].matches(word)).collect();
                seen.insert(word.to_owned(), terms);
            }
            for term in seen.get(word).into_iter().flatten() {
                note(&mut found, *term, words.number(word), position);
            }
        })?;
        Ok(found)
    }

    /// Adds one text of the table to the statistics. A text without a word is none of them, as in an index.
    ///
    /// # Errors
    /// What the tokenizer raises.
    pub fn count(&mut self, text: &str, statistics: &mut ColumnStatistics) -> Result<()> {
        let found = self.read(text)?;
        if found.length == 0 {
            return Ok(());
        }
        statistics.texts += 1;
        statistics.words += found.length as u64;
        let mut words: Vec<u32> = found.counts.into_iter().flatten().map(|(word, _)| word).collect();
        words.sort_unstable();
        words.dedup();
        for word in words {
            *statistics.having.entry(self.words.name(word).to_owned()).or_default() += 1;
        }
        Ok(())
    }

    /// The score of a row by its texts, one for each column; `None` if the row does not match.
    ///
    /// # Errors
    /// What the tokenizer raises.
    pub fn score(&mut self, texts: &[Option<&str>], statistics: &[ColumnStatistics]) -> Result<Option<f64>> {
        let found = texts.iter().map(|t| t.map(|t| self.read(t)).transpose()).collect::<Result<Vec<_>>>()?;
        let found: Vec<Option<&Found>> = found.iter().map(Option::as_ref).collect();
        Ok(Judge { query: &self.query, words: &self.words, by_counts: false }.score(&found, statistics))
    }
}

/// Decides about a row by what was found in its texts.
struct Judge<'a> {
    query: &'a Query,
    words: &'a Words,
    /// Positions are not known: a phrase is taken to be there where all of its words are, unless a row must not
    /// have it. So no row that matches is left out, and no score is too low.
    by_counts: bool,
}

impl Judge<'_> {
    fn score(&self, found: &[Option<&Found>], statistics: &[ColumnStatistics]) -> Option<f64> {
        if !self.accepts(found) {
            return None;
        }
        let mut best = 0f64;
        for (found, statistics) in found.iter().zip(statistics) {
            let Some(found) = found else { continue };
            let mut score = 0.0;
            for clause in self.query.clauses.iter().filter(|c| c.occur != Occur::MustNot) {
                if !self.has(found, clause) {
                    continue;
                }
                for (term, _) in &clause.words {
                    // Words of a fuzzy term come as the text has them; a sum must not depend on that.
                    let part = |(word, tf): &(u32, usize)| {
                        statistics.idf(self.words.name(*word)) * statistics.weight(*tf, found.length)
                    };
                    score += match found.counts[*term].as_slice() {
                        [one] => part(one),
                        several => {
                            let mut parts: Vec<f64> = several.iter().map(part).collect();
                            parts.sort_by(f64::total_cmp);
                            parts.iter().sum::<f64>()
                        }
                    };
                }
            }
            best = best.max(score);
        }
        Some(best)
    }

    fn accepts(&self, found: &[Option<&Found>]) -> bool {
        let somewhere = |clause: &Clause| found.iter().flatten().any(|f| self.has(f, clause));
        let of = |occur| self.query.clauses.iter().filter(move |c| c.occur == occur);
        if of(Occur::MustNot).any(somewhere) || !of(Occur::Must).all(somewhere) {
            return false;
        }
        of(Occur::Must).next().is_some() || of(Occur::May).any(somewhere)
    }

    fn has(&self, found: &Found, clause: &Clause) -> bool {
        let there = |(term, _): &(usize, usize)| !found.counts[*term].is_empty();
        match clause.words.as_slice() {
            [word] => there(word),
            words if self.by_counts => clause.occur != Occur::MustNot && words.iter().all(there),
            words => phrase(found, words, self.query.slop),
        }
    }
}

/// What an index says of one word of a column's texts.
#[derive(Debug, Clone, Copy)]
pub struct Occurrence {
    /// Which row; any number that tells rows apart.
    pub row: u64,
    pub column: u32,
    /// A term of the query that the word matches.
    pub term: u32,
    /// Among the words that were given.
    pub word: u32,
    /// How often the text has it.
    pub count: u32,
    /// All words of the text.
    pub length: u32,
}

/// The rows that may match, by the words that an index found in them, each with a score that is not below its own:
/// its own where the query has no phrase.
///
/// `words` are those of the occurrences. Any order of both is right; rows come in theirs.
pub fn bounds(
    query: &Query,
    words: Vec<String>,
    mut occurrences: Vec<Occurrence>,
    statistics: &[ColumnStatistics],
) -> Vec<(u64, f64)> {
    // Lists of words come in the order of rows each: few long runs.
    occurrences.sort_by_key(|o| o.row);
    let words = Words { names: words, numbers: HashMap::new() };
    let judge = Judge { query, words: &words, by_counts: true };
    let empty = || Found { counts: vec![Vec::new(); query.terms.len()], ..Found::default() };
    let mut found: Vec<Found> = statistics.iter().map(|_| empty()).collect();
    let mut out = Vec::new();
    for row in occurrences.chunk_by(|a, b| a.row == b.row) {
        for o in row {
            let text = &mut found[o.column as usize];
            text.length = o.length as usize;
            text.counts[o.term as usize].push((o.word, o.count as usize));
        }
        let texts: Vec<Option<&Found>> = found.iter().map(|f| (f.length > 0).then_some(f)).collect();
        out.extend(judge.score(&texts, statistics).map(|score| (row[0].row, score)));
        for o in row {
            let text = &mut found[o.column as usize];
            text.length = 0;
            text.counts[o.term as usize].clear();
        }
    }
    out
}

/// Whether the words of a phrase come in their order with at most `slop` other words between them.
///
/// From each place of the first word, taking the nearest place of every next one gives the shortest
/// stretch that begins there.
fn phrase(found: &Found, words: &[(usize, usize)], slop: usize) -> bool {
    let Some(((first, _), rest)) = words.split_first() else { return false };
    found.positions[*first].iter().any(|start| {
        let (mut at, mut offset) = (*start, 0);
        for (term, wanted) in rest {
            let least = at + (wanted - offset);
            let places = &found.positions[*term];
            let Some(next) = places.get(places.partition_point(|p| *p < least)) else { return false };
            (at, offset) = (*next, *wanted);
        }
        at - start - offset <= slop
    })
}
