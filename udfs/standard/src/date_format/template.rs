//! Templates of `to_char`, `to_date` and `to_timestamp`.
//!
//! ```text
//! FMDay, DDth "of" Mon YYYY      fields, with what changes them before or behind; quoted and other text as it is
//! ```
//!
//! Source: PostgreSQL 15, "Data Type Formatting Functions", table 9.27. `SP` and translated names (`TM`) change nothing.

/// A template, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) pieces: Vec<Piece>,
    /// `FX`: a text must fit exactly.
    pub(super) exact: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// A character that stands for itself.
    Char(char),
    /// A character between quotes.
    Quoted(char),
    Field(Field),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) code: Code,
    /// As it was written: names follow the case of their template.
    pub(super) case: Case,
    /// `FM`: no blanks and zeros before it.
    pub(super) bare: bool,
    /// `TH` or `th` behind it.
    pub(super) ordinal: Option<Case>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    Upper,
    Capital,
    Lower,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    Hour12,
    Hour24,
    Minute,
    Second,
    /// A fraction of a second by its number of digits.
    Fraction(u32),
    SecondsOfDay,
    /// AM or PM, with points.
    Half(bool),
    YearComma,
    /// The last so many digits of a year.
    Year(u32),
    IsoYear(u32),
    /// BC or AD, with points.
    Era(bool),
    MonthName,
    MonthShort,
    Month,
    MonthRoman,
    DayName,
    DayShort,
    DayOfYear,
    IsoDayOfYear,
    Day,
    DayOfWeek,
    IsoDayOfWeek,
    WeekOfMonth,
    WeekOfYear,
    IsoWeek,
    Century,
    Julian,
    Quarter,
    Zone,
    ZoneHour,
    ZoneMinute,
    Offset,
    Exact,
}

/// Longer ones before those that they begin with.
const CODES: [(&str, Code); 54] = [
    ("SSSSS", Code::SecondsOfDay),
    ("Y,YYY", Code::YearComma),
    ("MONTH", Code::MonthName),
    ("A.D.", Code::Era(true)),
    ("A.M.", Code::Half(true)),
    ("B.C.", Code::Era(true)),
    ("P.M.", Code::Half(true)),
    ("HH24", Code::Hour24),
    ("HH12", Code::Hour12),
    ("IDDD", Code::IsoDayOfYear),
    ("IYYY", Code::IsoYear(4)),
    ("SSSS", Code::SecondsOfDay),
    ("YYYY", Code::Year(4)),
    ("DAY", Code::DayName),
    ("DDD", Code::DayOfYear),
    ("FF1", Code::Fraction(1)),
    ("FF2", Code::Fraction(2)),
    ("FF3", Code::Fraction(3)),
    ("FF4", Code::Fraction(4)),
    ("FF5", Code::Fraction(5)),
    ("FF6", Code::Fraction(6)),
    ("IYY", Code::IsoYear(3)),
    ("MON", Code::MonthShort),
    ("TZH", Code::ZoneHour),
    ("TZM", Code::ZoneMinute),
    ("YYY", Code::Year(3)),
    ("AD", Code::Era(false)),
    ("AM", Code::Half(false)),
    ("BC", Code::Era(false)),
    ("CC", Code::Century),
    ("DD", Code::Day),
    ("DY", Code::DayShort),
    ("FX", Code::Exact),
    ("HH", Code::Hour12),
    ("ID", Code::IsoDayOfWeek),
    ("IW", Code::IsoWeek),
    ("IY", Code::IsoYear(2)),
    ("MI", Code::Minute),
    ("MM", Code::Month),
    ("MS", Code::Fraction(3)),
    ("OF", Code::Offset),
    ("PM", Code::Half(false)),
    ("RM", Code::MonthRoman),
    ("SS", Code::Second),
    ("TZ", Code::Zone),
    ("US", Code::Fraction(6)),
    ("WW", Code::WeekOfYear),
    ("YY", Code::Year(2)),
    ("D", Code::DayOfWeek),
    ("I", Code::IsoYear(1)),
    ("J", Code::Julian),
    ("Q", Code::Quarter),
    ("W", Code::WeekOfMonth),
    ("Y", Code::Year(1)),
];

impl Template {
    pub(super) fn parse(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut exact = false;
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let bare = starts(rest, "FM");
            let behind = if bare || starts(rest, "TM") { &rest[2..] } else { rest };
            if let Some((code, case, length)) = field(behind) {
                rest = &behind[length..];
                if code == Code::Exact {
                    exact = true;
                    continue;
                }
                let ordinal = match rest.get(..2) {
                    Some("TH") => Some(Case::Upper),
                    Some("th") => Some(Case::Lower),
                    _ => None,
                };
                if ordinal.is_some() || starts(rest, "SP") {
                    rest = &rest[2..];
                }
                pieces.push(Piece::Field(Field { code, case, bare, ordinal }));
                continue;
            }
            if behind.len() < rest.len() {
                // A prefix without a field writes nothing.
                rest = behind;
                continue;
            }
            rest = &rest[c.len_utf8()..];
            match c {
                '"' => {
                    while let Some(c) = rest.chars().next() {
                        rest = &rest[c.len_utf8()..];
                        match c {
                            '"' => break,
                            '\\' => {
                                if let Some(c) = rest.chars().next() {
                                    rest = &rest[c.len_utf8()..];
                                    pieces.push(Piece::Quoted(c));
                                }
                            }
                            c => pieces.push(Piece::Quoted(c)),
                        }
                    }
                }
                '\\' if rest.starts_with('"') => {
                    rest = &rest[1..];
                    pieces.push(Piece::Char('"'));
                }
                c => pieces.push(Piece::Char(c)),
            }
        }
        Self { pieces, exact }
    }
}

fn starts(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|t| t == prefix || t == prefix.to_ascii_lowercase())
}

/// The field that a text begins with: in capitals, in small letters, or, for names, with one capital.
fn field(text: &str) -> Option<(Code, Case, usize)> {
    CODES.iter().find_map(|(name, code)| {
        let head = text.get(..name.len())?;
        if head == *name {
            return Some((*code, Case::Upper, name.len()));
        }
        if head == name.to_ascii_lowercase() {
            return Some((*code, Case::Lower, name.len()));
        }
        let named = matches!(code, Code::MonthName | Code::MonthShort | Code::DayName | Code::DayShort);
        let capital =
            named && head.is_ascii() && head[..1] == name[..1] && head[1..] == name[1..].to_ascii_lowercase();
        capital.then_some((*code, Case::Capital, name.len()))
    })
}
