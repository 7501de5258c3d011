//! What a query text says.
//!
//! | written | a row must … |
//! |---|---|
//! | `solar panel` | have one of the words (`operator => 'and'`: all of them) |
//! | `"solar panel"` | have the words side by side, in this order; counts as one word does |
//! | `+solar` | have the word, whatever the operator is |
//! | `-nuclear`, `-"nuclear power"` | not have it |
//!
//! Signs count at the beginning of a word only (`e-mail`, `C++` are plain). A word that the tokenizer cuts
//! in several is a phrase of them under a sign, and several plain words without one. A quote that is not
//! closed reaches to the end. With `phrase => true` the whole text is one phrase and nothing in it is
//! special. Words given twice count once.
//!
//! A text without any word (empty, or of stop words only) finds no row; a text that only excludes is an
//! error, since it says nothing to rank by.

use std::sync::Arc;

use triune_common::{Error, Result};
use triune_lance::TextWords;

use super::analysis::Analyzer;

/// How a query text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct QueryOptions {
    /// Whether plain words and phrases must all be there.
    pub all: bool,
    /// Whether the whole text is one phrase.
    pub phrase: bool,
    /// How many other words a phrase may have between its words, together.
    pub slop: usize,
    /// How many letters a plain word may differ by.
    pub fuzziness: Fuzziness,
    /// How many letters at the beginning of a word may not differ.
    pub prefix: usize,
}

/// How many letters a word may differ by: insertions, deletions and substitutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fuzziness {
    /// 0 for words of up to 2 letters, 1 up to 5, else 2.
    Auto,
    Edits(usize),
}

impl Default for Fuzziness {
    fn default() -> Self {
        Self::Edits(0)
    }
}

impl Fuzziness {
    fn of(self, word: &str) -> usize {
        match self {
            Self::Edits(n) => n,
            Self::Auto => match word.chars().count() {
                0..=2 => 0,
                3..=5 => 1,
                _ => 2,
            },
        }
    }
}

/// Whether a clause must, may or must not be in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Occur {
    May,
    Must,
    MustNot,
}

/// A word of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    pub text: String,
    /// How many letters a row's word may differ by.
    pub edits: usize,
    /// The letters that may not differ.
    pub prefix: usize,
}

impl Term {
    /// Whether a word of a text is this word.
    pub fn matches(&self, word: &str) -> bool {
        if self.edits == 0 {
            return self.text == word;
        }
        let (a, b): (Vec<char>, Vec<char>) = (self.text.chars().collect(), word.chars().collect());
        let prefix = self.prefix.min(a.len());
        b.len() >= prefix && a[..prefix] == b[..prefix] && within(&a[prefix..], &b[prefix..], self.edits)
    }
}

/// Whether two words are at most `most` insertions, deletions and substitutions apart.
fn within(a: &[char], b: &[char], most: usize) -> bool {
    if a.len().abs_diff(b.len()) > most {
        return false;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()] <= most
}

/// A word, or several in a phrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    pub occur: Occur,
    /// Places in [`Query::terms`], with the distance of each from the first, in words. One for a word.
    pub words: Vec<(usize, usize)>,
}

/// A query text, read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    pub terms: Vec<Term>,
    pub clauses: Vec<Clause>,
    /// See [`QueryOptions::slop`].
    pub slop: usize,
}

impl Query {
    /// Reads a query text.
    ///
    /// # Errors
    /// If it has nothing but exclusions.
    pub fn parse(text: &str, options: &QueryOptions, analyzer: &mut Analyzer) -> Result<Self> {
        let mut query = Self { slop: options.slop, ..Self::default() };
        let plain = if options.all { Occur::Must } else { Occur::May };
        if options.phrase {
            query.add(text, plain, true, options, analyzer)?;
            return Ok(query);
        }
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let (occur, signed) = match first {
                '+' => (Occur::Must, true),
                '-' => (Occur::MustNot, true),
                _ => (plain, false),
            };
            let piece = if signed { &rest[1..] } else { rest };
            let quoted = piece.strip_prefix('"');
            let (piece, after) = match quoted {
                Some(inside) => inside.split_once('"').unwrap_or((inside, "")),
                None => match piece.find(|c: char| c.is_whitespace() || c == '"') {
                    Some(end) => piece.split_at(end),
                    None => (piece, ""),
                },
            };
            query.add(piece, occur, quoted.is_some() || signed, options, analyzer)?;
            rest = after.trim_start();
        }
        if !query.clauses.is_empty() && query.clauses.iter().all(|c| c.occur == Occur::MustNot) {
            return Err(Error::invalid(format!(
                "the query text '{text}' only says what a row must not have"
            ))
            .with_hint("add a word to look for"));
        }
        Ok(query)
    }

    fn add(
        &mut self,
        piece: &str,
        occur: Occur,
        phrase: bool,
        options: &QueryOptions,
        analyzer: &mut Analyzer,
    ) -> Result<()> {
        let words = analyzer.words(piece)?;
        let phrase = phrase && words.len() > 1;
        let mut places = Vec::with_capacity(words.len());
        for word in &words {
            let edits = if phrase { 0 } else { options.fuzziness.of(&word.text) };
            let term = Term { text: word.text.clone(), edits, prefix: options.prefix };
            places.push(self.term(term));
        }
        let start = words.first().map_or(0, |w| w.position);
        let mut all: Vec<(usize, usize)> =
            places.into_iter().zip(&words).map(|(term, w)| (term, w.position - start)).collect();
        if phrase {
            self.clause(Clause { occur, words: all });
        } else {
            all.drain(..).for_each(|(term, _)| self.clause(Clause { occur, words: vec![(term, 0)] }));
        }
        Ok(())
    }

    fn term(&mut self, term: Term) -> usize {
        self.terms.iter().position(|t| *t == term).unwrap_or_else(|| {
            self.terms.push(term);
            self.terms.len() - 1
        })
    }

    fn clause(&mut self, clause: Clause) {
        if !self.clauses.contains(&clause) {
            self.clauses.push(clause);
        }
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.clauses.is_empty()
    }
}

/// The words of an index that a query speaks of.
pub(crate) fn wanted(query: &Arc<Query>) -> TextWords {
    let exact = query.terms.iter().filter(|t| t.edits == 0).map(|t| t.text.clone()).collect();
    let similar = query.terms.iter().any(|t| t.edits > 0).then(|| {
        let query = Arc::clone(query);
        Box::new(move |word: &str| query.terms.iter().any(|t| t.edits > 0 && t.matches(word))) as _
    });
    TextWords { exact, similar }
}

#[cfg(test)]
mod tests {
    use super::super::analysis::AnalysisOptions;
    use super::*;

    fn parse(text: &str, options: QueryOptions) -> Result<String> {
        let mut analyzer = Analyzer::new(&AnalysisOptions::default()).unwrap();
        let query = Query::parse(text, &options, &mut analyzer)?;
        let clause = |c: &Clause| {
            let sign = match c.occur {
                Occur::May => "",
                Occur::Must => "+",
                Occur::MustNot => "-",
            };
            let words: Vec<_> =
                c.words.iter().map(|(t, at)| format!("{}@{at}", query.terms[*t].text)).collect();
            format!("{sign}{}", words.join(" "))
        };
        Ok(query.clauses.iter().map(clause).collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn clauses() {
        let or = QueryOptions::default();
        for (text, clauses) in [
            ("solar panels", "solar@0, panel@0"),
            ("solar solar +wind -coal", "solar@0, +wind@0, -coal@0"),
            ("\"solar panels\" wind", "solar@0 panel@1, wind@0"),
            ("+\"house of cards\" x", "+hous@0 card@2, x@0"),
            ("wind -\"coal fire", "wind@0, -coal@0 fire@1"),
            ("e-mail C++", "e@0, mail@0, c@0"),
            ("wind -e-mail", "wind@0, -e@0 mail@1"),
            ("solar\"wind power\"", "solar@0, wind@0 power@1"),
            ("", ""),
            ("the of", ""),
            ("+ - \"\" +\"", ""),
        ] {
            assert_eq!(parse(text, or).unwrap(), clauses, "{text}");
        }
        assert!(parse("-coal", or).is_err());
        assert_eq!(parse("a sun wind", QueryOptions { all: true, ..or }).unwrap(), "+sun@0, +wind@0");
        assert_eq!(parse("+sun -\"wind\"", QueryOptions { phrase: true, ..or }).unwrap(), "sun@0 wind@1");
    }

    #[test]
    fn words_that_differ_by_letters() {
        let term = |text: &str, edits, prefix| Term { text: text.into(), edits, prefix };
        assert!(term("solar", 1, 0).matches("polar") && !term("solar", 1, 1).matches("polar"));
        assert!(term("solar", 1, 3).matches("sola") && term("solar", 1, 0).matches("solars"));
        assert!(!term("solar", 1, 0).matches("soalr") && term("solar", 2, 0).matches("soalr"));
        assert!(!term("solar", 0, 0).matches("sola") && !term("ab", 1, 2).matches("a"));
        assert_eq!([2, 5, 6].map(|n| Fuzziness::Auto.of(&"x".repeat(n))), [0, 1, 2]);
    }
}
