//! What can be named: tables with their columns, and functions. A copy, so that completion never waits.

/// A column and the name of its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnEntry {
    pub name: String,
    pub data_type: String,
    pub nullable: bool,
    pub default: Option<String>,
    pub comment: Option<String>,
}

/// A table, a view or a file that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableEntry {
    pub schema: String,
    pub name: String,
    /// `table`, `external table`, `view`, `temporary table`.
    pub kind: String,
    pub columns: Vec<ColumnEntry>,
    /// The key, checks, options and comment of a table, a line each.
    pub notes: Vec<String>,
    /// The statement that defines it.
    pub statement: Option<String>,
}

/// A function that SQL can call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionEntry {
    pub name: String,
    /// `scalar`, `aggregate`, `window`, `table`.
    pub kind: String,
    pub signature: String,
    pub description: String,
}

/// The names of a database at some moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog {
    pub tables: Vec<TableEntry>,
    pub functions: Vec<FunctionEntry>,
}

/// Splits `schema.name`, either part perhaps quoted; unquoted parts are lower case.
pub fn parse_name(text: &str) -> (Option<String>, String) {
    let mut parts: Vec<String> = crate::lex::tokens(text).filter_map(|t| t.name()).collect();
    let name = parts.pop().unwrap_or_default();
    (parts.pop(), name)
}

/// Whether `name` matches psql's pattern: `*` and `?` are wild; without either, the pattern may stand anywhere.
/// Letters' case is ignored.
pub fn matches_pattern(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_lowercase(), name.to_lowercase());
    if !pattern.contains(['*', '?']) {
        return name.contains(&pattern);
    }
    let (p, n): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // The usual two pointers: on a mismatch, the last star takes one more character.
    let (mut i, mut j, mut star, mut from) = (0, 0, None, 0);
    while j < n.len() {
        if i < p.len() && p[i] == '*' {
            star = Some(i);
            from = j;
            i += 1;
        } else if i < p.len() && (p[i] == '?' || p[i] == n[j]) {
            i += 1;
            j += 1;
        } else if let Some(at) = star {
            from += 1;
            (i, j) = (at + 1, from);
        } else {
            return false;
        }
    }
    p[i..].iter().all(|c| *c == '*')
}

impl Catalog {
    /// The tables of that name, in any schema unless one is given. Names are compared as they are, then without case.
    pub fn find_tables(&self, schema: Option<&str>, name: &str) -> Vec<&TableEntry> {
        let in_schema = |t: &&TableEntry| schema.is_none_or(|s| t.schema.eq_ignore_ascii_case(s));
        let exact: Vec<_> = self.tables.iter().filter(in_schema).filter(|t| t.name == name).collect();
        if exact.is_empty() {
            self.tables.iter().filter(in_schema).filter(|t| t.name.eq_ignore_ascii_case(name)).collect()
        } else {
            exact
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_two_parts() {
        assert_eq!(parse_name("Packages"), (None, "packages".into()));
        assert_eq!(parse_name("main.\"My Table\""), (Some("main".into()), "My Table".into()));
        assert_eq!(parse_name(""), (None, String::new()));
    }

    #[test]
    fn patterns() {
        assert!(matches_pattern("pack", "my_packages"));
        assert!(matches_pattern("*_distance", "cosine_distance"));
        assert!(!matches_pattern("*_distance", "cosine_distances"));
        assert!(matches_pattern("l?_*", "L2_distance"));
        assert!(matches_pattern("*", ""));
        assert!(!matches_pattern("a*b", "acbc"));
        assert!(matches_pattern("a*b", "acbcb"));
    }
}
