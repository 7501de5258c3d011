//! `highlight` and `snippet`: where a text has the words of a query.
//!
//! ```sql
//! SELECT highlight(title, 'solar panel'), snippet(body, 'solar panel', words => 12, open => '[', close => ']')
//! FROM text_search(docs, 'solar panel');
//! --  <b>Solar</b> roofs    …of 40 [panels] on the roof of the [solar] station, which…
//! ```
//!
//! Words are found as [`text_search`](super) finds them, with the same arguments, so that `panel` marks *Panels*. The
//! words of a phrase are marked where the phrase is. What the query excludes is not marked.
//!
//! `highlight` gives the whole text; `snippet` the `words` (20) words that have most of the query's words in them,
//! with `…` where the text goes on. A NULL of either argument gives NULL. The text is given out as it is: where it goes
//! into a page of HTML, it must be escaped before.

pub(crate) mod function;

use std::ops::Range;

use triune_common::Result;

use super::analysis::{Analyzer, Word};
use super::query::{Clause, Occur, Query};

/// A place in a text that has a word of the query.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    /// In bytes.
    place: Range<usize>,
    /// Which word of the query.
    term: usize,
}

/// Marks texts for one query.
#[derive(Debug)]
pub(crate) struct Marker {
    query: Query,
    analyzer: Analyzer,
    open: String,
    close: String,
}

impl Marker {
    pub(crate) fn new(query: Query, analyzer: Analyzer, open: &str, close: &str) -> Self {
        Self { query, analyzer, open: open.to_owned(), close: close.to_owned() }
    }

    /// The text with its marks.
    ///
    /// # Errors
    /// What the tokenizer raises.
    pub(crate) fn highlight(&mut self, text: &str) -> Result<String> {
        let marks = self.marks(text)?;
        Ok(self.marked(text, 0..text.len(), &marks))
    }

    /// The stretch of so many words that has most of the query's words, with its marks.
    ///
    /// # Errors
    /// What the tokenizer raises.
    pub(crate) fn snippet(&mut self, text: &str, most: usize) -> Result<String> {
        let marks = self.marks(text)?;
        let pieces = pieces(text);
        let chosen = window(&pieces, &marks, most.max(1));
        let (Some(first), Some(last)) = (pieces.get(chosen.start), pieces.get(chosen.end.saturating_sub(1)))
        else {
            return Ok(String::new());
        };
        let before = if chosen.start > 0 { "…" } else { "" };
        let after = if chosen.end < pieces.len() { "…" } else { "" };
        Ok(format!("{before}{}{after}", self.marked(text, first.start..last.end, &marks)))
    }

    fn marked(&self, text: &str, part: Range<usize>, marks: &[Mark]) -> String {
        let mut out = String::with_capacity(part.len() + marks.len() * (self.open.len() + self.close.len()));
        let mut at = part.start;
        for Mark { place, .. } in marks {
            if place.start < at || place.end > part.end {
                continue;
            }
            // Places are at borders of letters; should one not be, its mark is left out.
            if let (Some(before), Some(word)) = (text.get(at..place.start), text.get(place.clone())) {
                out.push_str(before);
                out.push_str(&self.open);
                out.push_str(word);
                out.push_str(&self.close);
                at = place.end;
            }
        }
        out.push_str(text.get(at..part.end).unwrap_or_default());
        out
    }

    /// In the order of the text, each place once.
    fn marks(&mut self, text: &str) -> Result<Vec<Mark>> {
        let words = self.analyzer.words(text)?;
        let mut marks = Vec::new();
        for clause in self.query.clauses.iter().filter(|c| c.occur != Occur::MustNot) {
            match clause.words.as_slice() {
                [(term, _)] => {
                    let term_of = &self.query.terms[*term];
                    let having = words.iter().filter(|w| term_of.matches(&w.text));
                    marks.extend(having.map(|w| Mark { place: w.start..w.end, term: *term }));
                }
                _ => phrases(&self.query, clause, &words, &mut marks),
            }
        }
        marks.sort_by_key(|m| (m.place.start, m.place.end, m.term));
        marks.dedup_by(|a, b| a.place == b.place);
        Ok(marks)
    }
}

/// Marks the words of each place that has the phrase: as [`super::bm25`] finds them.
fn phrases(query: &Query, clause: &Clause, words: &[Word], marks: &mut Vec<Mark>) {
    // By word of the phrase, the places of the text that have it, in order.
    let having: Vec<Vec<&Word>> = clause
        .words
        .iter()
        .map(|(term, _)| words.iter().filter(|w| query.terms[*term].matches(&w.text)).collect())
        .collect();
    let mark = |word: &Word, term: usize| Mark { place: word.start..word.end, term };
    let (Some(((first, _), rest)), Some(starts)) = (clause.words.split_first(), having.first()) else {
        return;
    };
    for word in starts {
        let mut found = vec![mark(word, *first)];
        let (mut at, mut offset) = (word.position, 0);
        for ((term, wanted), places) in rest.iter().zip(&having[1..]) {
            let least = at + (wanted - offset);
            let Some(next) = places.get(places.partition_point(|w| w.position < least)) else { return };
            found.push(mark(next, *term));
            (at, offset) = (next.position, *wanted);
        }
        if at - word.position - offset <= query.slop {
            marks.append(&mut found);
        }
    }
}

/// The words of a text as a reader sees them: what is between blanks.
fn pieces(text: &str) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let mut start = None;
    for (at, letter) in text.char_indices() {
        match (letter.is_whitespace(), start) {
            (true, Some(from)) => {
                pieces.push(from..at);
                start = None;
            }
            (false, None) => start = Some(at),
            _ => {}
        }
    }
    pieces.extend(start.map(|from| from..text.len()));
    pieces
}

/// The `most` pieces with most different words of the query, then with most marks. Of neighbouring stretches that are
/// as good, the middle one: words around a mark tell more than those before it.
fn window(pieces: &[Range<usize>], marks: &[Mark], most: usize) -> Range<usize> {
    if pieces.len() <= most {
        return 0..pieces.len();
    }
    let worth = |start: usize| {
        let part = pieces[start].start..pieces[start + most - 1].end;
        let from = marks.partition_point(|m| m.place.start < part.start);
        let inside: Vec<usize> =
            marks[from..].iter().take_while(|m| m.place.end <= part.end).map(|m| m.term).collect();
        let mut terms = inside.clone();
        terms.sort_unstable();
        terms.dedup();
        (terms.len(), inside.len())
    };
    let mut best = ((0, 0), 0, 0);
    for start in 0..=pieces.len() - most {
        let value = worth(start);
        let (so_far, _, last) = &mut best;
        if value > *so_far {
            best = (value, start, start);
        } else if value == *so_far && *last + 1 == start {
            *last = start;
        }
    }
    let start = match best {
        // No mark at all: the beginning.
        ((0, _), ..) => 0,
        (_, first, last) => first + (last - first) / 2,
    };
    start..start + most
}

#[cfg(test)]
mod tests {
    use super::super::analysis::AnalysisOptions;
    use super::super::query::QueryOptions;
    use super::*;

    fn marker(query: &str, options: QueryOptions) -> Marker {
        let mut analyzer = Analyzer::new(&AnalysisOptions::default()).unwrap();
        let query = Query::parse(query, &options, &mut analyzer).unwrap();
        Marker::new(query, analyzer, "[", "]")
    }

    #[test]
    fn words_are_marked_as_they_are_found() {
        for (query, text, marked) in [
            ("panel", "Solar Panels, panel; PANELLED", "Solar [Panels], [panel]; [PANELLED]"),
            ("cafe", "Ein Café, größer", "Ein [Café], größer"),
            ("\"solar panel\" wind", "solar wind, solar panels", "solar [wind], [solar] [panels]"),
            ("solar -panel", "solar panels", "[solar] panels"),
            ("house of cards", "the house of cards", "the [house] of [cards]"),
            (
                "\"house of cards\"",
                "cards, house of cards, house cards",
                "cards, [house] of [cards], house cards",
            ),
            ("", "nothing", "nothing"),
            ("wind", "", ""),
        ] {
            let mut marker = marker(query, QueryOptions::default());
            assert_eq!(marker.highlight(text).unwrap(), marked, "{query}");
        }
        let loose = QueryOptions { slop: 1, phrase: true, ..QueryOptions::default() };
        assert_eq!(
            marker("solar roof", loose).highlight("solar tile roof, roof").unwrap(),
            "[solar] tile [roof], roof"
        );
    }

    #[test]
    fn snippets_show_what_is_around() {
        let text = "a0 a1 a2 a3 sun a5 a6 a7 wind sun a10 a11 a12";
        let mut both = marker("sun wind", QueryOptions::default());
        assert_eq!(both.snippet(text, 4).unwrap(), "…a7 [wind] [sun] a10…");
        assert_eq!(both.snippet(text, 1).unwrap(), "…[sun]…");
        assert_eq!(both.snippet(text, 13).unwrap().matches('[').count(), 3);
        assert_eq!(both.snippet("nothing of it here", 2).unwrap(), "nothing of…");
        assert_eq!(both.snippet("  \n", 3).unwrap(), "");
        assert_eq!(both.snippet("sun", 3).unwrap(), "[sun]");
    }
}
