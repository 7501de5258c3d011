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

/// A number too large for any field is an error.
#[test]
fn large_numbers() {
    let cases = [
        ("2024-01-01 10 02:999999999999999999", "YYYY-MM-DD HH24 TZH:TZM"),
        ("2024-01-01 10 02:60", "YYYY-MM-DD HH24 TZH:TZM"),
        ("9223372036854775,999", "Y,YYY"),
        ("999999999999999999", "CC"),
        ("999999999999999999", "WW"),
        ("999999999999999999", "W"),
        ("999999999999999999", "J"),
        ("999999999999999999 BC", "YYYY BC"),
        ("999999999999999999", "SSSSS"),
    ];
    for (text, format) in cases {
        assert!(read::read(&Template::parse(format), text, format).is_err(), "{text} {format}");
    }
}

/// What PostgreSQL 15 answers.
#[test]
fn clocks_of_twelve_hours() {
    let cases = [
        ("12:30", "HH:MI", Some("00:30")),
        ("11:30", "HH12:MI", Some("11:30")),
        ("12:30 AM", "HH24:MI AM", Some("00:30")),
        ("12:30 PM", "HH24:MI AM", Some("12:30")),
        ("02:30 PM", "HH24:MI PM", Some("14:30")),
        ("14:30 PM", "HH24:MI PM", None),
        ("13:30", "HH:MI", None),
    ];
    for (text, format, want) in cases {
        let got = read::read(&Template::parse(format), text, format).ok();
        let got = got.map(|r| r.local.format("%H:%M").to_string());
        assert_eq!(got.as_deref(), want, "{text} {format}");
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
