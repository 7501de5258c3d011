//! The shell as a person meets it: in a terminal, with keys.

#[path = "support/terminal.rs"]
mod support;

use std::os::unix::fs::PermissionsExt;

use support::Terminal;

/// Runs until it is stopped, and pauses now and then.
const ENDLESS: &str = "SELECT sum(value % 7) FROM generate_series(1, 1000000000000);";
/// Holds its threads for as long as it runs.
const STUBBORN: &str =
    "SELECT sum(a.value * b.value) FROM generate_series(1, 10000000) a, generate_series(1, 10000000) b;";

#[test]
fn a_statement_and_its_table() {
    let mut t = Terminal::start(80, &[]);
    t.expect("\\? for help");
    t.expect_prompt();
    t.enter("SELECT 41 + 1 AS answer, 'a' AS letter;");
    t.expect("│ answer │ letter  │");
    t.expect("│ BIGINT │ VARCHAR │");
    t.expect("│     42 │ a       │");
    t.expect("1 row  2 columns  ");
    t.expect(" ms");
    t.expect_prompt();
    t.enter("\\q");
    assert_eq!(t.end(), 0);
}

#[test]
fn a_statement_over_several_lines() {
    let mut t = Terminal::start(80, &["--quiet"]);
    t.expect_prompt();
    t.send("SELECT 'one;'\r");
    t.expect("-> ");
    t.enter("AS text;");
    t.expect("│ one;    │");
    t.expect_prompt();
    t.enter("exit");
    assert_eq!(t.end(), 0);
}

#[test]
fn an_error_does_not_end_the_shell() {
    let mut t = Terminal::start(80, &["-q"]);
    t.expect_prompt();
    t.enter("SELECT nonsense;");
    t.expect("error[not found]");
    t.expect("nonsense");
    t.expect("^");
    t.expect_prompt();
    t.enter("\\tming");
    t.expect("did you mean \\timing?");
    t.expect_prompt();
    t.enter("SELECT 5 + 5 AS ten;");
    t.expect("│     10 │");
    t.enter(".quit");
    assert_eq!(t.end(), 0);
}

#[test]
fn tab_completes_tables_columns_and_keywords() {
    let mut t = Terminal::start(100, &["-q"]);
    t.expect_prompt();
    t.enter("CREATE VIEW packages_of_today AS SELECT 1 AS identifier, 'serde' AS title;");
    t.expect_prompt();
    // Each Tab finds one candidate and puts it in.
    t.send("sel\t");
    t.expect("select ");
    t.send("ident FROM packages_of_t\t");
    t.expect("packages_of_today");
    t.send(";\r");
    t.expect("error");
    t.expect_prompt();
    t.send("SELECT p.ti\x1b[D\x1b[C FROM packages_of_today p;");
    // Back to behind `p.ti`.
    t.send(&"\x1b[D".repeat(" FROM packages_of_today p;".len()));
    t.send("\t");
    t.expect("p.title FROM");
    t.send("\x1b[F\r");
    t.expect("│ serde   │");
    t.expect_prompt();
    // Several candidates open a menu, and typing on closes it.
    t.send("SELECT t\t");
    t.expect("timestamp");
    t.enter("itle || '!' AS loud FROM packages_of_today;");
    t.expect("│ serde!  │");
    t.enter("\\q");
    t.end();
}

#[test]
fn tab_completes_files_and_commands() {
    let home = tempfile::tempdir().unwrap();
    support::write(home.path(), "only_one_such_file.csv", "a,b\n1,x\n");
    let mut t = Terminal::start_with(100, &["-q"], &[], home);
    t.expect_prompt();
    t.send("SELECT * FROM 'only_one\t");
    t.expect("only_one_such_file.csv");
    t.send("';\r");
    t.expect("│      1 │ x       │");
    t.expect_prompt();
    t.send("\\timi\t");
    t.expect("\\timing");
    t.send("on\r");
    t.expect("Timing is on.");
    t.enter("SELECT 1;");
    t.expect("Time: ");
    t.enter("\\q");
    t.end();
}

#[test]
fn control_c_cancels_the_query_and_keeps_the_shell() {
    let mut t = Terminal::start(80, &["-q"]);
    t.expect_prompt();
    t.enter(ENDLESS);
    std::thread::sleep(std::time::Duration::from_millis(700));
    t.send("\x03");
    t.expect("cancelled");
    t.expect_prompt();
    t.enter("SELECT 6 * 7 AS answer;");
    t.expect("│     42 │");
    t.enter("\\q");
    assert_eq!(t.end(), 0);
}

#[test]
fn control_c_is_heard_while_every_thread_is_busy() {
    let mut t = Terminal::start(80, &["-q"]);
    t.expect_prompt();
    t.enter(STUBBORN);
    std::thread::sleep(std::time::Duration::from_millis(700));
    t.send("\x03");
    t.expect("cancelled");
    t.expect_prompt();
    t.enter("\\q");
    assert_eq!(t.end(), 0);
}

#[test]
fn control_c_drops_a_line_and_leaves_when_pressed_twice() {
    let mut t = Terminal::start(80, &["-q"]);
    t.expect_prompt();
    t.send("SELECT half");
    t.expect("half");
    t.press("\x03");
    t.expect_prompt();
    t.press("\x03");
    t.expect("Press Ctrl-C again to leave");
    t.expect_prompt();
    // A statement in between starts the count anew.
    t.enter("SELECT 6 * 7 AS answer;");
    t.expect("│     42 │");
    t.expect_prompt();
    t.press("\x03");
    t.expect("Press Ctrl-C again to leave");
    t.expect_prompt();
    t.press("\x03");
    assert_eq!(t.end(), 0);
}

#[test]
fn control_d_leaves() {
    let mut t = Terminal::start(80, &["-q"]);
    t.expect_prompt();
    t.press("\x04");
    assert_eq!(t.end(), 0);
}

#[test]
fn a_wide_table_fits_the_terminal() {
    let mut t = Terminal::start(40, &["-q"]);
    t.expect_prompt();
    let columns: Vec<String> = (0..30).map(|i| format!("{i} AS column_{i}")).collect();
    t.enter(&format!("SELECT {};", columns.join(", ")));
    let shown = t.expect("╯");
    let table = &shown[shown.find('╭').unwrap()..];
    for line in table.lines() {
        assert!(line.chars().count() <= 40, "{line}");
    }
    assert!(table.contains("column_0") && table.contains("column_29") && table.contains(" … "), "{table}");
    t.enter("\\x auto");
    t.expect("used automatically");
    t.enter(&format!("SELECT {};", columns.join(", ")));
    t.expect("─[ row 1 ]");
    t.expect("column_15 │ 15");
    t.enter("\\q");
    t.end();
}

#[test]
fn long_results_are_cut_in_the_middle() {
    let mut t = Terminal::start(80, &[]);
    t.expect_prompt();
    t.enter("SELECT value FROM generate_series(1, 1234) ORDER BY value;");
    t.expect("│     20 │");
    t.expect("· · ·");
    t.expect("│   1215 │");
    t.expect("1,234 rows (40 shown)  1 column");
    t.enter("\\q");
    t.end();
}

#[test]
fn values_cannot_touch_the_terminal() {
    let mut t = Terminal::start(80, &["-q"]);
    t.expect_prompt();
    t.enter("SELECT chr(27) || ']0;owned' || chr(7) AS s;");
    t.expect("\\x1b]0;owned\\x07");
    assert!(!t.raw().contains("\x1b]0;owned"));
    t.enter("\\q");
    t.end();
}

#[test]
fn no_color_means_no_colours() {
    let styled = |raw: &str| {
        raw.match_indices("\x1b[").any(|(at, _)| {
            let body = &raw[at + 2..];
            let end = body.find(|c: char| ('@'..='~').contains(&c)).unwrap_or(0);
            // `0` and nothing only reset.
            body[end..].starts_with('m') && !matches!(&body[..end], "" | "0")
        })
    };
    let home = tempfile::tempdir().unwrap();
    let mut t = Terminal::start_with(80, &["-q"], &[("NO_COLOR", "1")], home);
    t.expect_prompt();
    t.enter("SELECT NULL AS nothing, 'x' AS s;");
    t.expect("│ NULL    │ x       │");
    t.enter("SELECT wrong;");
    t.expect("error[");
    t.enter("\\q");
    t.end();
    assert!(!styled(&t.raw()), "{:?}", t.raw());
    let mut t = Terminal::start(80, &["-q"]);
    t.expect_prompt();
    t.enter("SELECT NULL AS nothing;");
    t.expect("│ NULL    │");
    t.enter("\\q");
    t.end();
    assert!(styled(&t.raw()), "{:?}", t.raw());
}

#[test]
fn history_is_kept_for_the_user_only() {
    let mut t = Terminal::start(80, &["-q"]);
    t.expect_prompt();
    t.enter("SELECT 'remember me';");
    t.expect("│ remember me");
    t.expect_prompt();
    t.enter("CREATE SECRET hushed (TYPE s3, KEY_ID 'k', SECRET 'do not tell');");
    t.expect_prompt();
    t.enter("\\q");
    assert_eq!(t.end(), 0);
    let path = t.file("state/triune/history");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("remember me") && !text.contains("do not tell"), "{text}");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let home = std::mem::replace(&mut t.home, tempfile::tempdir().unwrap());
    let mut t = Terminal::start_with(80, &["-q"], &[], home);
    t.expect_prompt();
    // Up twice: the last line was `\q`.
    t.send("\x1b[A");
    t.expect("\\q");
    t.send("\x1b[A");
    t.expect("SELECT 'remember me';");
    t.send("\r");
    t.expect("│ remember me");
    t.enter("\\q");
    assert_eq!(t.end(), 0);
}

#[test]
fn a_slow_query_shows_its_progress() {
    let mut t = Terminal::start(100, &[]);
    t.expect_prompt();
    t.enter(STUBBORN);
    t.expect(" row");
    t.expect(" s");
    t.send("\x03");
    t.expect("cancelled");
    t.expect_prompt();
    t.enter("\\q");
    t.end();
}

#[test]
fn watch_runs_again_until_control_c() {
    let mut t = Terminal::start(80, &["-q"]);
    t.expect_prompt();
    t.enter("\\watch");
    t.expect("none has been run");
    t.enter("SELECT 'again' AS s; \\watch 0.1");
    for _ in 0..3 {
        t.expect("│ again   │");
    }
    t.expect("(every 0.1 s)");
    t.send("\x03");
    t.expect_prompt();
    t.enter("SELECT 6 * 7 AS answer;");
    t.expect("│     42 │");
    t.enter("\\q");
    assert_eq!(t.end(), 0);
}

#[test]
fn binary_formats_are_not_for_terminals() {
    let mut t = Terminal::start(80, &["--format", "parquet", "-c", "SELECT 1"]);
    t.expect("results of format parquet are not written to a terminal");
    t.expect("-o FILE");
    assert_eq!(t.end(), 1);
}

#[test]
fn a_terminal_without_an_editor() {
    let home = tempfile::tempdir().unwrap();
    let mut t = Terminal::start_with(80, &["-q"], &[("TERM", "dumb")], home);
    t.expect("memory> ");
    t.send("SELECT 6 * 7\n");
    t.expect("-> ");
    t.send("AS answer;\n");
    t.expect("│     42 │");
    t.expect("memory> ");
    t.send("\x03");
    t.expect("Press Ctrl-C again to leave");
    t.send("\x03");
    assert_eq!(t.end(), 0);
}

#[test]
fn describing_tables() {
    let mut t = Terminal::start(100, &["-q"]);
    t.expect_prompt();
    t.enter("\\d");
    t.expect("There are no tables yet.");
    t.enter("CREATE VIEW parts AS SELECT 1 AS id, 'x' AS name;");
    t.enter("\\d parts");
    t.expect("view public.parts");
    t.expect("│ id     │ BIGINT");
    t.expect("│ name   │ VARCHAR");
    t.enter(".tables par");
    t.expect("│ public │ parts");
    t.enter("\\d prts");
    t.expect("did you mean \"parts\"?");
    t.enter(".schema parts");
    t.expect("CREATE VIEW public.parts (");
    t.enter("\\df l2_dist*");
    t.expect("│ l2_distance");
    t.enter("\\h l2_distance");
    t.expect("l2_distance");
    t.enter("\\?");
    t.expect("Ctrl-D leaves the shell.");
    t.enter("\\q");
    assert_eq!(t.end(), 0);
}
