//! `shop> ` and, for the lines after the first, `   -> `.

use std::borrow::Cow;

use reedline::{Prompt, PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus};

use crate::output::text::{elide, visible, width};

/// A database's name may take this much of the line.
const WIDEST: usize = 30;

/// The prompt of one database.
#[derive(Debug, Clone)]
pub(super) struct SqlPrompt {
    name: String,
    continued: String,
}

impl SqlPrompt {
    pub(super) fn new(name: &str) -> Self {
        let name = visible(name);
        let name = elide(&name, WIDEST).into_owned();
        // Both end in the same column, so that pasted statements stay aligned.
        let continued = format!("{}-> ", " ".repeat(width(&name).saturating_sub(1)));
        Self { name, continued }
    }

    /// The prompt as plain text; `first` is false in the middle of a statement.
    pub(super) fn text(&self, first: bool) -> String {
        if first { format!("{}> ", self.name) } else { self.continued.clone() }
    }
}

impl Prompt for SqlPrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.name)
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("> ")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.continued)
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = match search.status {
            PromptHistorySearchStatus::Passing => "",
            PromptHistorySearchStatus::Failing => "nothing found ",
        };
        Cow::Owned(format!(" {failing}(history: {}) ", search.term))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_aligned() {
        let p = SqlPrompt::new("shop");
        assert_eq!((p.text(true), p.text(false)), ("shop> ".into(), "   -> ".into()));
        assert_eq!(width(&SqlPrompt::new("日本").text(true)), width(&SqlPrompt::new("日本").text(false)));
        assert!(width(&SqlPrompt::new(&"x".repeat(100)).text(true)) <= WIDEST + 2);
    }
}
