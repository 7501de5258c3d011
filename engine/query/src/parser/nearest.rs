//! `JOIN docs d APPROX NEAREST 5 BY DISTANCE q.vec <=> d.embedding`: sqlparser has no such clause, and reads it as a
//! join condition that `triune_search::desugar_nearest` knows:
//!
//! ```text
//! APPROX NEAREST 5 BY DISTANCE   ─►   ON __nearest('approx', 5, 'distance') OR
//! ```

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};
use triune_search::NEAREST;

/// The words in lower case if they are unquoted and among `words`.
fn word(token: &Token, words: &[&'static str]) -> Option<&'static str> {
    let Token::Word(word) = token else { return None };
    let found = words.iter().find(|w| word.value.eq_ignore_ascii_case(w));
    found.copied().filter(|_| word.quote_style.is_none())
}

/// `vector_search(…, k => 3 PER lang)`: the last words become an argument of their own, `k => 3, per => lang`. A name
/// between a number and a bracket or comma stands nowhere else in a statement.
pub(super) fn spell_per(tokens: &mut Vec<TokenWithSpan>) {
    if !tokens.iter().any(|t| word(&t.token, &["vector_search"]).is_some()) {
        return;
    }
    let solid: Vec<usize> =
        (0..tokens.len()).filter(|i| !matches!(tokens[*i].token, Token::Whitespace(_))).collect();
    let token = |n: usize| solid.get(n).map(|i| &tokens[*i].token);
    let mut found = Vec::new();
    for (n, at) in solid.iter().enumerate().skip(1) {
        let after_number = matches!(token(n - 1), Some(Token::Number(..) | Token::Placeholder(_)));
        let is_per = token(n).is_some_and(|t| word(t, &["per"]).is_some());
        let names = match token(n + 1) {
            Some(Token::Word(_)) => matches!(token(n + 2), Some(Token::Comma | Token::RParen)),
            Some(Token::LParen) => true,
            _ => false,
        };
        if after_number && is_per && names {
            found.push(*at);
        }
    }
    for at in found.into_iter().rev() {
        let span = tokens[at].span;
        let name = Word { value: "per".to_owned(), quote_style: None, keyword: Keyword::NoKeyword };
        let new = [Token::Comma, Token::Word(name), Token::RArrow];
        tokens.splice(at..=at, new.into_iter().map(|token| TokenWithSpan { token, span }));
    }
}

/// Replaces the clauses, however many there are. The number of rows is a number or a parameter, or left out.
pub(super) fn spell(tokens: &mut Vec<TokenWithSpan>) {
    if !tokens.iter().any(|t| word(&t.token, &["nearest"]).is_some()) {
        return;
    }
    let solid: Vec<usize> =
        (0..tokens.len()).filter(|i| !matches!(tokens[*i].token, Token::Whitespace(_))).collect();
    let token = |n: usize| solid.get(n).map(|i| &tokens[*i].token);
    let is = |n: usize, words: &[&'static str]| token(n).and_then(|t| word(t, words));
    let mut spelled = Vec::new();
    for n in 0..solid.len() {
        let Some(how) = is(n, &["approx", "exact"]) else { continue };
        if is(n + 1, &["nearest"]).is_none() {
            continue;
        }
        let number = token(n + 2).filter(|t| matches!(t, Token::Number(..) | Token::Placeholder(_))).cloned();
        let by = n + 2 + usize::from(number.is_some());
        let (Some(_), Some(what)) = (is(by, &["by"]), is(by + 1, &["distance", "similarity"])) else {
            continue;
        };
        let number = number.unwrap_or_else(|| Token::Number("1".to_owned(), false));
        spelled.push((solid[n], solid[by + 1], [how, what], number));
    }
    for (from, to, [how, what], number) in spelled.into_iter().rev() {
        let span = tokens[from].span;
        let name = Word { value: NEAREST.to_owned(), quote_style: None, keyword: Keyword::NoKeyword };
        let text = |text: &str| Token::SingleQuotedString(text.to_owned());
        let condition = [
            Token::make_keyword("ON"),
            Token::Word(name),
            Token::LParen,
            text(how),
            Token::Comma,
            number,
            Token::Comma,
            text(what),
            Token::RParen,
            Token::make_keyword("OR"),
        ];
        tokens.splice(from..=to, condition.into_iter().map(|token| TokenWithSpan { token, span }));
    }
}
