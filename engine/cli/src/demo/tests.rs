//! The whole demo, small.

use triune_common::{ErrorKind, ManualClock};

use super::*;

fn options(folder: PathBuf) -> DemoOptions {
    DemoOptions { folder, events: Some(20_000), seed: Some(7) }
}

async fn output(options: &DemoOptions) -> Result<String> {
    let mut out = Vec::new();
    run_to(options, &mut out, 90, Palette::PLAIN, &ManualClock::default()).await?;
    Ok(String::from_utf8(out).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_twice_and_says_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let options = options(temp.path().join("it's a demo"));
    let first = output(&options).await.unwrap();
    for part in
        ["The one plan", "vector_search(", "Its plan:", "downloads per hour", "95th percentile", "Your turn"]
    {
        assert!(first.contains(part), "no {part} in\n{first}");
    }
    assert!(!first.contains('\u{1b}'), "no colours were asked for");
    // The search found packages about the topic, and the outage was found by its hours.
    assert!(first.to_lowercase().contains("forecast"), "{first}");
    assert!(first.contains("2026-10-29"), "{first}");

    // The data are kept: the second run shows the same answers.
    let again = output(&options).await.unwrap();
    let answers = |text: &str| text.split_once("1 of 5").map(|(_, rest)| rest.to_owned());
    assert_eq!(answers(&first), answers(&again));

    // And the folder is a database like any other.
    let database = Database::open(options.folder.to_str()).await.unwrap();
    let result = database.session().execute("SELECT count(*) FROM events").await.unwrap();
    let rows = result.collect().await.unwrap();
    assert_eq!(rows[0].column(0).as_primitive::<Int64Type>().value(0), 20_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_demo_is_made_again() {
    let temp = tempfile::tempdir().unwrap();
    let options = options(temp.path().join("demo"));
    output(&options).await.unwrap();
    let marker = options.folder.join("triune-demo.json");
    let text = std::fs::read_to_string(&marker).unwrap();
    std::fs::write(&marker, text.replace("true", "false")).unwrap();
    let again = output(&options).await.unwrap();
    assert!(again.contains("Generated 20,000 events"), "{again}");
}

#[tokio::test]
async fn a_folder_with_other_things_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("mine"), "").unwrap();
    let error = output(&options(temp.path().to_owned())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

#[test]
fn a_reader_that_went_away_is_noticed() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut out = Listener { out: Closed, is_gone: false };
    out.flush().unwrap();
    assert!(!out.is_gone);
    out.write_all(b"x").unwrap_err();
    assert!(out.is_gone);
}
