//! SQL as coloured pieces: enough of a lexer for highlighting, completion and finding commands in scripts.
//!
//! It never fails: what is not closed reaches to the end of the text. It knows quoted names and texts,
//! `E'…'` escapes, dollar quotes, nested comments, numbers, parameters and words; the rest are symbols.

/// What a piece of SQL is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    Space,
    /// `-- …` and `/* … */`.
    Comment,
    /// A keyword or a name.
    Word,
    /// `"…"`.
    QuotedName,
    /// `'…'`, `E'…'`, `$tag$…$tag$`.
    Text,
    Number,
    /// `$1`, `$name`, `?`.
    Parameter,
    /// Everything else, one character each.
    Symbol,
}

/// A piece of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: TokenKind,
    pub text: &'a str,
    /// Where it starts, in bytes.
    pub start: usize,
    /// Whether a quoted text or a comment has its end.
    pub closed: bool,
}

impl Token<'_> {
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Whether it carries meaning: no space, no comment.
    pub fn is_code(&self) -> bool {
        !matches!(self.kind, TokenKind::Space | TokenKind::Comment)
    }

    /// Whether it is this word, in any case.
    pub fn is_word(&self, word: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(word)
    }

    /// The name that a word or a quoted name stands for: unquoted names are lower case.
    pub fn name(&self) -> Option<String> {
        match self.kind {
            TokenKind::Word => Some(self.text.to_lowercase()),
            TokenKind::QuotedName => {
                let inner = self.text.strip_prefix('"').unwrap_or(self.text);
                let inner = if self.closed { inner.strip_suffix('"').unwrap_or(inner) } else { inner };
                Some(inner.replace("\"\"", "\""))
            }
            _ => None,
        }
    }
}

/// The pieces of `sql`, in order, without a gap between them.
pub fn tokens(sql: &str) -> Tokens<'_> {
    Tokens { sql, at: 0 }
}

/// See [`tokens`].
#[derive(Debug, Clone)]
pub struct Tokens<'a> {
    sql: &'a str,
    at: usize,
}

fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn is_word_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let rest = &self.sql[self.at..];
        let first = rest.chars().next()?;
        let (kind, length, closed) = scan(rest, first);
        let token = Token { kind, text: &rest[..length], start: self.at, closed };
        self.at += length;
        Some(token)
    }
}

fn scan(rest: &str, first: char) -> (TokenKind, usize, bool) {
    let run = |keep: &dyn Fn(char) -> bool| rest.find(|c| !keep(c)).unwrap_or(rest.len());
    match first {
        c if c.is_whitespace() => (TokenKind::Space, run(&char::is_whitespace), true),
        '-' if rest.starts_with("--") => {
            (TokenKind::Comment, rest.find('\n').unwrap_or(rest.len()), rest.contains('\n'))
        }
        '/' if rest.starts_with("/*") => {
            let (length, closed) = block_comment(rest);
            (TokenKind::Comment, length, closed)
        }
        '\'' => quoted(rest, 1, '\'', false, TokenKind::Text),
        'e' | 'E' if rest[1..].starts_with('\'') => quoted(rest, 2, '\'', true, TokenKind::Text),
        '"' => quoted(rest, 1, '"', false, TokenKind::QuotedName),
        '$' => dollar(rest),
        '?' => (TokenKind::Parameter, 1, true),
        c if is_word_start(c) => (TokenKind::Word, run(&is_word_part), true),
        c if c.is_ascii_digit() => (TokenKind::Number, number(rest), true),
        '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => (TokenKind::Number, number(rest), true),
        c => (TokenKind::Symbol, c.len_utf8(), true),
    }
}

/// Block comments nest, as in PostgreSQL.
fn block_comment(rest: &str) -> (usize, bool) {
    let bytes = rest.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while at + 1 < bytes.len() {
        match (bytes[at], bytes[at + 1]) {
            (b'/', b'*') => {
                depth += 1;
                at += 2;
            }
            (b'*', b'/') => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return (at, true);
                }
            }
            _ => at += 1,
        }
    }
    (rest.len(), false)
}

/// A doubled quote stands for itself; with `escapes` so does one after a backslash.
fn quoted(rest: &str, from: usize, quote: char, escapes: bool, kind: TokenKind) -> (TokenKind, usize, bool) {
    let mut chars = rest[from..].char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if escapes && c == '\\' {
            chars.next();
        } else if c == quote {
            if chars.peek().is_some_and(|(_, next)| *next == quote) {
                chars.next();
            } else {
                return (kind, from + at + 1, true);
            }
        }
    }
    (kind, rest.len(), false)
}

fn dollar(rest: &str) -> (TokenKind, usize, bool) {
    let name = rest[1..].find(|c: char| !(c.is_alphanumeric() || c == '_')).map_or(rest.len(), |n| n + 1);
    let is_tag = !rest[1..name].starts_with(|c: char| c.is_ascii_digit());
    if is_tag && rest[name..].starts_with('$') {
        let tag = &rest[..=name];
        return match rest[tag.len()..].find(tag) {
            Some(at) => (TokenKind::Text, at + 2 * tag.len(), true),
            None => (TokenKind::Text, rest.len(), false),
        };
    }
    let kind = if name > 1 { TokenKind::Parameter } else { TokenKind::Symbol };
    (kind, name, true)
}

fn number(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    if bytes.len() > 1 && bytes[0] == b'0' && matches!(bytes[1], b'x' | b'X') {
        return 2 + rest[2..].find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len() - 2);
    }
    let digits = |from: usize| {
        from + rest[from..].find(|c: char| !(c.is_ascii_digit() || c == '_')).unwrap_or(rest.len() - from)
    };
    let mut at = digits(0);
    if bytes.get(at) == Some(&b'.') {
        at = digits(at + 1);
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        if bytes.get(at + 1 + sign).is_some_and(u8::is_ascii_digit) {
            at = digits(at + 1 + sign);
        }
    }
    at
}

/// `text` without the spaces and comments before its first code.
pub fn skip_blank(text: &str) -> &str {
    let end = tokens(text).find(Token::is_code).map_or(text.len(), |t| t.start);
    &text[end..]
}

/// Whether there is nothing but spaces and closed or open comments.
pub fn is_blank(text: &str) -> bool {
    skip_blank(text).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(sql: &str) -> Vec<(TokenKind, &str)> {
        tokens(sql).filter(|t| t.kind != TokenKind::Space).map(|t| (t.kind, t.text)).collect()
    }

    #[test]
    fn every_kind() {
        use TokenKind::*;
        assert_eq!(
            kinds("SELECT \"a\"\"b\", 'it''s', E'\\'', 1.5e-3, .5, $1, ? -- end"),
            [
                (Word, "SELECT"),
                (QuotedName, "\"a\"\"b\""),
                (Symbol, ","),
                (Text, "'it''s'"),
                (Symbol, ","),
                (Text, "E'\\''"),
                (Symbol, ","),
                (Number, "1.5e-3"),
                (Symbol, ","),
                (Number, ".5"),
                (Symbol, ","),
                (Parameter, "$1"),
                (Symbol, ","),
                (Parameter, "?"),
                (Comment, "-- end"),
            ]
        );
        assert_eq!(kinds("$$a;b$$"), [(Text, "$$a;b$$")]);
        assert_eq!(kinds("$q$ $$ $q$x"), [(Text, "$q$ $$ $q$"), (Word, "x")]);
        assert_eq!(kinds("/* a /* b */ c */d"), [(Comment, "/* a /* b */ c */"), (Word, "d")]);
        assert_eq!(kinds("0xFF 1_000"), [(Number, "0xFF"), (Number, "1_000")]);
        assert_eq!(kinds("t.c"), [(Word, "t"), (Symbol, "."), (Word, "c")]);
        assert_eq!(kinds("größe"), [(Word, "größe")]);
    }

    #[test]
    fn what_is_open_reaches_the_end() {
        for open in ["'abc", "\"abc", "/* abc", "$$abc", "E'abc\\'"] {
            let all: Vec<_> = tokens(open).collect();
            assert_eq!(all.len(), 1, "{open}");
            assert!(!all[0].closed, "{open}");
            assert_eq!(all[0].text, open);
        }
    }

    #[test]
    fn the_pieces_are_the_text() {
        let sql = "a 'ö' /*x*/ \u{1b} $ $x$ 1e 1e+ . .. ¿ \"é";
        let joined: String = tokens(sql).map(|t| t.text).collect();
        assert_eq!(joined, sql);
    }

    #[test]
    fn blanks() {
        assert_eq!(skip_blank(" -- x\n /* y */ SELECT"), "SELECT");
        assert!(is_blank(" -- x"));
        assert!(!is_blank(" ;"));
    }

    #[test]
    fn names() {
        let t: Vec<_> = tokens("Foo\"B\"\"ar\"").collect();
        assert_eq!(t[0].name().unwrap(), "foo");
        assert_eq!(t[1].name().unwrap(), "B\"ar");
    }
}
