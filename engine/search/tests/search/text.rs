//! `text_search` compared with a plain reading of BM25's definition, on random texts, conditions and queries.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Int64Type, Schema};
use proptest::prelude::*;

use crate::support::{Options, Session};

/// Words without endings and stop words among them, so that a split at spaces is what the tokenizer does.
const WORDS: [&str; 6] = ["sun", "wind", "coal", "gas", "oil", "peat"];

#[derive(Debug, Clone)]
struct Row {
    id: i64,
    title: Option<Vec<usize>>,
    body: Option<Vec<usize>>,
}

fn text(words: &Option<Vec<usize>>) -> Option<String> {
    words.as_ref().map(|w| w.iter().map(|i| WORDS[*i]).collect::<Vec<_>>().join(" "))
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let words = || prop::option::weighted(0.9, prop::collection::vec(0..WORDS.len(), 0..6));
    prop::collection::vec((words(), words()), 0..40).prop_map(|texts| {
        let row = |(id, (title, body))| Row { id: id as i64, title, body };
        texts.into_iter().enumerate().map(row).collect()
    })
}

/// Clauses: a sign (0 none, 1 plus, 2 minus) and one word or two side by side.
fn clauses() -> impl Strategy<Value = Vec<(u8, Vec<usize>)>> {
    prop::collection::vec((0..3u8, prop::collection::vec(0..WORDS.len(), 1..3)), 1..4)
        .prop_filter("something to look for", |c| c.iter().any(|(sign, _)| *sign != 2))
}

fn occurs(text: &[usize], clause: &[usize]) -> bool {
    text.windows(clause.len()).any(|w| w == clause)
}

/// The definition, word by word.
fn oracle(rows: &[Row], clauses: &[(u8, Vec<usize>)], columns: usize, least: i64) -> Vec<(i64, f64)> {
    let of = |row: &Row| [row.title.clone(), row.body.clone()][..columns].to_vec();
    let mut result = Vec::new();
    for row in rows.iter().filter(|r| r.id >= least) {
        let texts = of(row);
        let any = |clause: &Vec<usize>| texts.iter().flatten().any(|t| occurs(t, clause));
        let signed = |sign| clauses.iter().filter(move |(s, _)| *s == sign).map(|(_, c)| c);
        let excluded = signed(2).any(any);
        let required = signed(1).all(any) && (signed(1).next().is_some() || signed(0).any(any));
        if excluded || !required {
            continue;
        }
        let mut best = 0f64;
        for (column, text) in texts.iter().enumerate() {
            let Some(text) = text else { continue };
            // A text without a word is no text of the corpus.
            let corpus: Vec<Vec<usize>> =
                rows.iter().filter_map(|r| of(r)[column].clone()).filter(|t| !t.is_empty()).collect();
            let n = corpus.len() as f64;
            let mean = corpus.iter().map(Vec::len).sum::<usize>() as f64 / n;
            let mut distinct: Vec<&(u8, Vec<usize>)> = Vec::new();
            clauses.iter().for_each(|c| {
                if !distinct.contains(&c) {
                    distinct.push(c)
                }
            });
            let mut score = 0.0;
            for (_, clause) in distinct.iter().filter(|(s, c)| *s != 2 && occurs(text, c)) {
                for word in clause {
                    let having = corpus.iter().filter(|t| t.contains(word)).count() as f64;
                    let tf = text.iter().filter(|w| *w == word).count() as f64;
                    let idf = (1.0 + (n - having + 0.5) / (having + 0.5)).ln();
                    score += idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * text.len() as f64 / mean));
                }
            }
            best = best.max(score);
        }
        result.push((row.id, best));
    }
    result
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn the_answer_is_the_definitions(
        rows in rows(), clauses in clauses(), columns in 1..3usize, k in 1..12usize, least in 0..10i64, outside: bool,
        partitions in 1..4usize, batch in 1..9usize,
    ) {
        let session = Session::new(Options { partitions, ..Options::default() });
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("title", DataType::Utf8, true),
            Field::new("body", DataType::Utf8, true),
        ]));
        let batches = rows.chunks(batch).map(|c| {
            let arrays: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from_iter_values(c.iter().map(|r| r.id))),
                Arc::new(StringArray::from_iter(c.iter().map(|r| text(&r.title)))),
                Arc::new(StringArray::from_iter(c.iter().map(|r| text(&r.body)))),
            ];
            RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap()
        });
        session.table("docs", Arc::clone(&schema), batches.collect(), partitions);
        let query: Vec<String> = clauses.iter().map(|(sign, words)| {
            let sign = ["", "+", "-"][usize::from(*sign)];
            let words = words.iter().map(|w| WORDS[*w]).collect::<Vec<_>>().join(" ");
            if words.contains(' ') { format!("{sign}\"{words}\"") } else { format!("{sign}{words}") }
        }).collect();
        let list = ["'title'", "ARRAY['title', 'body']"][columns - 1];
        let (inside, above) = match outside {
            true => (String::new(), format!("WHERE s.id >= {least}")),
            false => (format!(", where => id >= {least}"), String::new()),
        };
        let sql = format!(
            "SELECT s.id, s._score FROM text_search(docs, '{}', columns => {list}, k => {k}{inside}) AS s {above}",
            query.join(" ")
        );
        let mut wanted = oracle(&rows, &clauses, columns, least);
        wanted.sort_by(|a, b| (b.1 as f32).total_cmp(&(a.1 as f32)).then(a.0.cmp(&b.0)));
        wanted.truncate(k);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let found = runtime.block_on(session.rows(&sql)).unwrap_or_else(|e| panic!("{sql}: {e}"));
        let found: Vec<(i64, f32)> = found.iter().flat_map(|b| {
            let ids = b.column(0).as_primitive::<Int64Type>().values().to_vec();
            let scores = b.column(1).as_primitive::<Float32Type>().values().to_vec();
            ids.into_iter().zip(scores).collect::<Vec<_>>()
        }).collect();
        prop_assert_eq!(found.len(), wanted.len(), "{}: {:?} {:?}", sql, found, wanted);
        for (place, ((_, score), (_, definition))) in found.iter().zip(&wanted).enumerate() {
            let close = (f64::from(*score) - definition).abs() <= 1e-5 * definition.max(1.0);
            prop_assert!(close, "{}: place {}: {:?} {:?}", sql, place, found, wanted);
        }
        // Which rows: the same wherever scores are apart by more than rounding; each with its own score.
        let all = oracle(&rows, &clauses, columns, least);
        for (id, score) in &found {
            let own = all.iter().find(|(i, _)| i == id).map(|(_, s)| *s);
            prop_assert!(own.is_some_and(|s| (s - f64::from(*score)).abs() <= 1e-5 * s.max(1.0)), "{}: {}", sql, id);
        }
    }
}
