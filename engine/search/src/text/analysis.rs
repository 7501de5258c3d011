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

use std::collections::BTreeMap;

use lance_index::scalar::inverted::InvertedIndexParams;
use lance_index::scalar::inverted::document_tokenizer::LanceTokenizer;
use triune_common::{Error, Result};
use triune_lance::inverted_params;

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

/// How texts become words: the parameters of a full-text index that say so, under their names.
///
/// What is not given has the default of an index.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct AnalysisOptions(BTreeMap<String, String>);

/// The parameters of an index that decide about words.
const OF_WORDS: [&str; 7] =
    ["language", "stemming", "stop_words", "lower_case", "ascii_folding", "tokenizer", "max_token_length"];

impl AnalysisOptions {
    /// As an index with these parameters does it.
    pub fn of_index(parameters: &BTreeMap<String, String>) -> Self {
        let of_words = parameters.iter().filter(|(name, _)| OF_WORDS.contains(&name.as_str()));
        Self(of_words.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// The same, but for one parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// One of [`LANGUAGES`].
    fn language(&self) -> &str {
        self.0.get("language").map_or("english", String::as_str)
    }

    /// The parameters of an index that makes the same words.
    ///
    /// # Errors
    /// If there is no such language.
    pub fn params(&self) -> Result<InvertedIndexParams> {
        inverted_params(&self.0).map_err(|e| self.wrong(e.message()))
    }

    fn wrong(&self, e: &str) -> Error {
        Error::invalid(format!("texts cannot be read as {} ({e})", self.language()))
            .with_hint(format!("language is one of {}", LANGUAGES.join(", ")))
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
        let tokenizer = options.params()?.build().map_err(|e| options.wrong(&e.to_string()))?;
        Ok(Self { tokenizer })
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
        let plain = all.with("stemming", "false").with("stop_words", "false");
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
            let options = AnalysisOptions::default()
                .with("language", language)
                .with("stop_words", stop_words.to_string());
            assert!(Analyzer::new(&options).is_ok(), "{language}");
        }
        assert!(Analyzer::new(&AnalysisOptions::default().with("language", "klingon")).is_err());
    }
}
