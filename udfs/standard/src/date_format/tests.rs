//! Templates against chrono, and against themselves.

use chrono::{DateTime, NaiveDateTime};
use proptest::prelude::*;

use super::*;

fn written(local: NaiveDateTime, format: &str) -> String {
    write::write(&Template::parse(format), &write::Fields::of_moment(local, None)).unwrap()
}

fn read_back(text: &str, format: &str) -> NaiveDateTime {
    read::read(&Template::parse(format), text, format)
        .unwrap_or_else(|e| panic!("{text} {format}: {e}"))
        .local
}

/// From the year 1000 to 9999, in microseconds.
fn any_moment() -> impl Strategy<Value = NaiveDateTime> {
    (-30_610_224_000_000_000i64..253_402_300_799_999_999)
        .prop_map(|micros| DateTime::from_timestamp_micros(micros).unwrap().naive_utc())
}

proptest! {
    /// The same time by a template and by chrono's format.
    #[test]
    fn as_chrono(t in any_moment()) {
        let pairs = [
            ("YYYY-MM-DD HH24:MI:SS.US", "%Y-%m-%d %H:%M:%S%.6f"),
            ("IYYY-IW-ID DDD", "%G-%V-%u %j"),
            ("HH12 AM Mon DY FMMonth FMDay", "%I %p %b %a %B %A"),
            ("YY FMDD FMMM MS", "%y %-d %-m %3f"),
        ];
        for (template, format) in pairs {
            let want = t.and_utc().format(format).to_string();
            // Days of the week come in capitals from DY.
            let got = written(t, &template.replace("DY", "Dy"));
            prop_assert_eq!(got, want, "{}", template);
        }
    }

    /// What is written is read again.
    #[test]
    fn there_and_back(t in any_moment()) {
        let formats = [
            "YYYY-MM-DD HH24:MI:SS.US",
            "YYYYMMDDHH24MISSUS",
            "FMDay, DD Month YYYY HH12:MI:SS.US PM",
            "IYYY-IW-ID HH24:MI:SS US",
            "YYYY-DDD SSSSS US",
            "Dy DDth Mon Y,YYY A.M. HH:MI:SS.US",
            "J HH24 MI SS US",
            "DD.RM.YYYY HH24\"h\"MI:SS.US",
        ];
        for format in formats {
            let text = written(t, format);
            prop_assert_eq!(read_back(&text, format), t, "{} {}", text, format);
        }
    }

    /// No text makes it fail otherwise than with an error.
    #[test]
    fn any_text(text in "\\PC{0,20}", format in "(YYYY|MM|DD|HH24|AM|TZH|Month|D|J|\\PC){0,6}") {
        let template = Template::parse(&format);
        let _ = read::read(&template, &text, &format);
        let _ = write::write(&template, &write::Fields::of_moment(NaiveDateTime::default(), None));
    }
}

/// What PostgreSQL 15 answers.
#[test]
fn partial_years() {
    let cases = [
        ("24", "YY", 2024),
        ("70", "YY", 1970),
        ("519", "YYY", 2519),
        ("520", "YYY", 1520),
        ("2024", "YY", 2024),
    ];
    for (text, format, year) in cases {
        assert_eq!(read_back(text, format).format("%Y").to_string(), year.to_string(), "{text} {format}");
    }
}
