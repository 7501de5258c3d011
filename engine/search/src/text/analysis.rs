//! Texts to words.
//!
//! ```text
//! 'The runners were RUNNING'   ─►   runner@1  were… is a stop word   run@3
//! ```
//!
//! Lance's own tokenizer does it, with the options of an inverted index, so that a word is the same word
//! wherever it is met. Defaults: words are runs of letters and digits, at most 40 bytes long, in lower
//! case, without English endings, without English stop words, without accents. A stop word keeps its
//! place: the words around it are not neighbours.

use lance_index::scalar::inverted::InvertedIndexParams;
use lance_index::scalar::inverted::document_tokenizer::LanceTokenizer;
use serde_json::json;
use triune_common::{Error, Result};

/// The languages that have endings and stop words.
pub const LANGUAGES: [&str; 18] = [
    "arabic",
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "greek",
    "hungarian",
    "italian",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "spanish",
    "swedish",
    "tamil",
    "turkish",
];

/// How texts become words.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AnalysisOptions {
    /// One of [`LANGUAGES`].
    pub language: String,
    /// Whether endings are taken off.
    pub stemming: bool,
    /// Whether words that are in every text are left out.
    pub stop_words: bool,
}

impl Default for AnalysisOptions {
    fn default() -> Self {
        Self { language: "english".to_owned(), stemming: true, stop_words: true }
    }
}

/// A word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    /// Counted in words, those that were left out included.
    pub position: usize,
    /// Where it is in the text, in bytes.
    pub start: usize,
    pub end: usize,
}

/// Makes words of texts; keeps buffers, so each thread has its own.
#[derive(Debug, Clone)]
pub struct Analyzer {
    tokenizer: Box<dyn LanceTokenizer>,
}

impl Analyzer {
    /// # Errors
    /// If the language has no stop words or endings.
    pub fn new(options: &AnalysisOptions) -> Result<Self> {
        let wrong = |e: String| {
            Error::invalid(format!("texts cannot be read as {} ({e})", options.language))
                .with_hint(format!("language is one of {}", LANGUAGES.join(", ")))
        };
        let mut language = options.language.clone();
        if let Some(first) = language.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let params: InvertedIndexParams = serde_json::from_value(json!({
            "base_tokenizer": "simple",
            "language": language,
            "stem": options.stemming,
            "remove_stop_words": options.stop_words,
            "lower_case": true,
            "ascii_folding": true,
            "max_token_length": 40,
        }))
        .map_err(|e| wrong(e.to_string()))?;
        Ok(Self { tokenizer: params.build().map_err(|e| wrong(e.to_string()))? })
    }

    /// Calls `each` with word, place among the words, and place in the text.
    ///
    /// # Errors
    /// What the tokenizer raises.
    pub fn each(
        &mut self,
        text: &str,
        mut each: impl FnMut(&str, usize, std::ops::Range<usize>),
    ) -> Result<()> {
        let mut stream = self.tokenizer.token_stream_for_doc(text);
        loop {
            match stream.try_next() {
                Ok(Some(token)) => each(&token.text, token.position, token.offset_from..token.offset_to),
                Ok(None) => return Ok(()),
                Err(e) => return Err(Error::invalid(format!("a text could not be cut into words: {e}"))),
            }
        }
    }

    /// The words of a text, in their order.
    ///
    /// # Errors
    /// As [`Self::each`].
    pub fn words(&mut self, text: &str) -> Result<Vec<Word>> {
        let mut words = Vec::new();
        self.each(text, |word, position, place| {
            words.push(Word { text: word.to_owned(), position, start: place.start, end: place.end });
        })?;
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str, options: &AnalysisOptions) -> Vec<(String, usize)> {
        let words = Analyzer::new(options).unwrap().words(text).unwrap();
        words.into_iter().map(|w| (w.text, w.position)).collect()
    }

    #[test]
    fn endings_stop_words_case_and_accents() {
        let all = AnalysisOptions::default();
        assert_eq!(words("The Cafés, RUNNING!", &all), [("cafe".to_owned(), 1), ("run".to_owned(), 2)]);
        let plain = AnalysisOptions { stemming: false, stop_words: false, ..all };
        assert_eq!(
            words("The Cafés", &plain),
            [("the".to_owned(), 0), ("cafes".to_owned(), 1)],
            "accents and case go in any case"
        );
    }

    #[test]
    fn every_language_can_be_built() {
        for language in LANGUAGES {
            let stop_words = !matches!(language, "arabic" | "greek" | "romanian" | "tamil" | "turkish");
            let options = AnalysisOptions { language: language.to_owned(), stemming: true, stop_words };
            assert!(Analyzer::new(&options).is_ok(), "{language}");
        }
        assert!(
            Analyzer::new(&AnalysisOptions { language: "klingon".into(), ..Default::default() }).is_err()
        );
    }
}
