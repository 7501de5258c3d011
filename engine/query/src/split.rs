//! Cutting a script into statements without parsing it.
//!
//! Quotes, dollar quotes, quoted identifiers and comments (nested ones too) are honoured, so a `;` inside
//! them ends nothing. The shell uses this to know when a statement is complete.

/// One statement of a script, without its `;` and without blanks around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatementText<'a> {
    pub text: &'a str,
    /// Where `text` begins in the script, in bytes.
    pub offset: usize,
}

/// A script cut into statements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split<'a> {
    /// Statements that were ended by a `;`.
    pub statements: Vec<StatementText<'a>>,
    /// What stands after the last `;`, trimmed; empty when nothing but blanks and comments follows.
    pub rest: &'a str,
    /// Where `rest` begins in the script, in bytes.
    pub rest_offset: usize,
    /// Whether `rest` ends inside a quote or a comment.
    pub open: bool,
}

impl<'a> Split<'a> {
    /// All statements, the unterminated last one included.
    pub fn all(self) -> Vec<StatementText<'a>> {
        let mut all = self.statements;
        if !self.rest.is_empty() {
            all.push(StatementText { text: self.rest, offset: self.rest_offset });
        }
        all
    }
}

/// Cuts `sql` at every `;` that ends a statement. Empty statements are left out.
pub fn split_statements(sql: &str) -> Split<'_> {
    let bytes = sql.as_bytes();
    let mut statements = Vec::new();
    let (mut start, mut i) = (0, 0);
    let mut content = false;
    let mut open = false;
    while i < bytes.len() {
        let from = i;
        match bytes[i] {
            b';' => {
                if content {
                    statements.push(trimmed(sql, start, i));
                }
                (start, content) = (i + 1, false);
                i += 1;
                continue;
            }
            b'\'' => (i, open) = skip_quoted(bytes, i, b'\'', is_escape_string(bytes, i)),
            b'"' => (i, open) = skip_quoted(bytes, i, b'"', false),
            b'-' if bytes.get(i + 1) == Some(&b'-') => {
                i = bytes[i..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| i + n + 1);
                continue;
            }
            b'/' if bytes.get(i + 1) == Some(&b'*') => {
                (i, open) = skip_comment(bytes, i);
                continue;
            }
            b'$' => match dollar_tag(bytes, i) {
                Some(tag) => {
                    let body = i + tag.len();
                    match find(&bytes[body..], tag) {
                        Some(n) => i = body + n + tag.len(),
                        None => (i, open) = (bytes.len(), true),
                    }
                }
                None => i += 1,
            },
            _ => i += 1,
        }
        content |= !bytes[from].is_ascii_whitespace();
    }
    let rest = if content || open {
        trimmed(sql, start, bytes.len())
    } else {
        StatementText { text: "", offset: sql.len() }
    };
    Split { statements, rest: rest.text, rest_offset: rest.offset, open }
}

fn trimmed(sql: &str, from: usize, to: usize) -> StatementText<'_> {
    let text = &sql[from..to];
    let lead = text.len() - text.trim_start().len();
    StatementText { text: text.trim(), offset: from + lead }
}

/// Whether the quote at `at` belongs to an `E'…'` string, in which a backslash escapes.
fn is_escape_string(bytes: &[u8], at: usize) -> bool {
    at > 0
        && matches!(bytes[at - 1], b'e' | b'E')
        && (at < 2 || !(bytes[at - 2].is_ascii_alphanumeric() || bytes[at - 2] == b'_'))
}

/// The position after the closing quote, and whether it was missing. A doubled quote is content.
fn skip_quoted(bytes: &[u8], at: usize, quote: u8, backslash: bool) -> (usize, bool) {
    let mut i = at + 1;
    while i < bytes.len() {
        if backslash && bytes[i] == b'\\' {
            i += 2;
        } else if bytes[i] != quote {
            i += 1;
        } else if bytes.get(i + 1) == Some(&quote) {
            i += 2;
        } else {
            return (i + 1, false);
        }
    }
    (bytes.len(), true)
}

fn skip_comment(bytes: &[u8], at: usize) -> (usize, bool) {
    let (mut i, mut depth) = (at, 0);
    while i + 1 < bytes.len() {
        match (bytes[i], bytes[i + 1]) {
            (b'/', b'*') => {
                depth += 1;
                i += 2;
            }
            (b'*', b'/') => {
                depth -= 1;
                i += 2;
                if depth == 0 {
                    return (i, false);
                }
            }
            _ => i += 1,
        }
    }
    (bytes.len(), true)
}

/// `$$` or `$tag$` at `at`; `$1` is a parameter and none.
fn dollar_tag(bytes: &[u8], at: usize) -> Option<&[u8]> {
    if at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_') {
        return None;
    }
    let end = bytes[at + 1..].iter().position(|b| !(b.is_ascii_alphanumeric() || *b == b'_'))? + at + 1;
    let tag_is_name = !bytes[at + 1].is_ascii_digit();
    (bytes[end] == b'$' && tag_is_name).then(|| &bytes[at..=end])
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> (Vec<&str>, &str) {
        let split = split_statements(sql);
        for s in &split.statements {
            assert_eq!(&sql[s.offset..s.offset + s.text.len()], s.text);
        }
        (split.statements.iter().map(|s| s.text).collect(), split.rest)
    }

    #[test]
    fn quotes_and_comments_hide_semicolons() {
        assert_eq!(texts("select 1; select 2;"), (vec!["select 1", "select 2"], ""));
        assert_eq!(texts("select ';'';' ; x"), (vec!["select ';'';'"], "x"));
        assert_eq!(texts("select \"a;b\" -- no; end\n; y"), (vec!["select \"a;b\" -- no; end"], "y"));
        assert_eq!(texts("/* a; /* b; */ c; */ select 1;"), (vec!["/* a; /* b; */ c; */ select 1"], ""));
        assert_eq!(texts("select $$a;b$$, $x$;$$;$x$; z"), (vec!["select $$a;b$$, $x$;$$;$x$"], "z"));
        assert_eq!(texts("select $1; select $2"), (vec!["select $1"], "select $2"));
        assert_eq!(texts("select E'a\\';b'; z"), (vec!["select E'a\\';b'"], "z"));
        assert_eq!(texts(";; ;\n -- only a comment\n"), (vec![], ""));
        assert_eq!(texts(""), (vec![], ""));
    }

    #[test]
    fn what_is_open_is_said() {
        for sql in ["select '", "select \"", "select $$a;", "select /* ;", "select $a$ ; $b$"] {
            let split = split_statements(sql);
            assert!(split.open, "{sql}");
            assert_eq!(split.rest, sql.trim());
        }
        assert!(!split_statements("select 'a'").open);
    }

    #[test]
    fn any_bytes_are_cut_without_panic() {
        for sql in ["$", "'", "e'\\", "--", "/*", "*/", "$é$", "é;$1$", "\\;\\"] {
            let _ = split_statements(sql);
        }
    }
}
