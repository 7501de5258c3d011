//! `per => …` over rows of several partitions answers as a numbered window does.

use datafusion::arrow::util::pretty::pretty_format_batches;
use triune_common::SeededRng;

use crate::support::{Doc, Options, session_with};

#[tokio::test]
async fn groups_of_several_partitions_are_one() {
    const KINDS: [&str; 3] = ["a", "b", "c"];
    for seed in 0..30 {
        let rng = SeededRng::new(seed);
        let number = || rng.below(2001) as f32 / 1000.0 - 1.0;
        let docs: Vec<Doc> = (0..1 + rng.below(80) as i64)
            .map(|id| Doc {
                id,
                kind: KINDS[rng.below(3) as usize],
                vector: (id == 0 || rng.below(8) > 0).then(|| vec![number(), number()]),
            })
            .collect();
        let options = Options {
            partitions: 1 + rng.below(4) as usize,
            batch_size: [2, 8192][rng.below(2) as usize],
            ..Options::default()
        };
        let session = session_with(options, &docs, 1 + rng.below(9) as usize);
        let (k, x, y) = (1 + rng.below(4), number(), number());
        let search = format!(
            "SELECT id, kind, _distance FROM vector_search(docs, e, '[{x:?},{y:?}]', k => {k}, metric => 'l2', per => kind)"
        );
        let oracle = format!(
            "SELECT id, kind, _distance FROM (SELECT id, kind, d AS _distance, row_number() OVER (PARTITION BY kind ORDER BY d) AS n \
             FROM (SELECT *, l2_distance(e, '[{x:?},{y:?}]') AS d FROM docs) WHERE d IS NOT NULL) WHERE n <= {k} ORDER BY _distance"
        );
        let (found, wanted) = (
            session.rows(&search).await.expect("an answer"),
            session.rows(&oracle).await.expect("an answer"),
        );
        let text = |batches| pretty_format_batches(batches).expect("a table").to_string();
        assert_eq!(text(&found), text(&wanted), "seed {seed}: {search}");
    }
}
