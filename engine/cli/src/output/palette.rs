//! Colours, or none: one place decides, and every writer asks it.

use nu_ansi_term::{Color, Style};

/// The styles of the shell. Without colour every style is empty and nothing is escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Palette {
    enabled: bool,
}

impl Palette {
    pub const PLAIN: Self = Self { enabled: false };
    pub const COLOUR: Self = Self { enabled: true };

    /// Colour for a terminal unless `NO_COLOR` is set (<https://no-color.org>) or the terminal is dumb.
    pub fn for_terminal(is_terminal: bool) -> Self {
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        Self { enabled: is_terminal && !forbidden && !dumb }
    }

    pub fn is_enabled(self) -> bool {
        self.enabled
    }

    /// `text` in `style`, or as it is.
    pub fn paint(self, style: Style, text: &str) -> String {
        if self.enabled && !text.is_empty() { style.paint(text).to_string() } else { text.to_owned() }
    }

    pub fn dim(self, text: &str) -> String {
        self.paint(Style::new().dimmed(), text)
    }

    pub fn bold(self, text: &str) -> String {
        self.paint(Style::new().bold(), text)
    }

    pub fn error(self, text: &str) -> String {
        self.paint(Style::new().bold().fg(Color::Red), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_is_plain() {
        assert_eq!(Palette::PLAIN.dim("x"), "x");
        assert_eq!(Palette::COLOUR.dim("x"), "\u{1b}[2mx\u{1b}[0m");
        assert_eq!(Palette::COLOUR.dim(""), "");
    }
}
