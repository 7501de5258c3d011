//! Where the records of a CSV file begin, without parsing their values.
//!
//! Used to cut samples at the end of a record and to say in which line an error is: the parser counts records
//! of the part of a file that it was given, and stops counting fields at the first one too many.

use std::ops::ControlFlow;

/// The letters that give a CSV file its structure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dialect {
    pub(crate) delimiter: u8,
    pub(crate) quote: u8,
    pub(crate) escape: Option<u8>,
    /// `None`: `\n`, `\r` and `\r\n`.
    pub(crate) terminator: Option<u8>,
    pub(crate) comment: Option<u8>,
}

/// One record; blank lines and comments are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// Of its first byte, from the start of the file.
    pub(crate) start: u64,
    /// After its terminator.
    pub(crate) end: u64,
    /// Of the text, from 1, as editors count.
    pub(crate) line: u64,
    pub(crate) fields: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    RecordStart,
    FieldStart,
    Unquoted,
    Quoted,
    /// After an escape within quotes.
    Escaped,
    /// After a quote within quotes: the end of the value, or half of a doubled quote.
    QuoteInQuoted,
    Comment,
}

/// Walks over a file given in pieces.
#[derive(Debug)]
pub(crate) struct Walker {
    dialect: Dialect,
    state: State,
    offset: u64,
    line: u64,
    after_return: bool,
    record: Record,
}

impl Walker {
    pub(crate) fn new(dialect: Dialect) -> Self {
        let record = Record { start: 0, end: 0, line: 1, fields: 1 };
        Self { dialect, state: State::RecordStart, offset: 0, line: 1, after_return: false, record }
    }

    /// Takes the next piece; `each` sees every record that ends in it and may stop.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Record) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for &byte in bytes {
            self.offset += 1;
            let ended = self.step(byte);
            if ended {
                let record = Record { end: self.offset, ..self.record };
                each(record)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// The last record, when the file does not end in a terminator.
    pub(crate) fn finish(&mut self) -> Option<Record> {
        let open = !matches!(self.state, State::RecordStart | State::Comment);
        open.then_some(Record { end: self.offset, ..self.record })
    }

    fn is_end(&self, byte: u8) -> bool {
        match self.dialect.terminator {
            Some(t) => byte == t,
            None => byte == b'\n' || byte == b'\r',
        }
    }

    /// Whether `byte` ends a record.
    fn step(&mut self, byte: u8) -> bool {
        // The second half of \r\n counts no line.
        let new_line = byte == b'\r' || (byte == b'\n' && !self.after_return);
        self.after_return = byte == b'\r';
        let d = self.dialect;
        let mut ended = false;
        self.state = match self.state {
            State::RecordStart if self.is_end(byte) => State::RecordStart,
            State::RecordStart => {
                self.record = Record { start: self.offset - 1, end: 0, line: self.line, fields: 1 };
                if Some(byte) == d.comment {
                    State::Comment
                } else if byte == d.quote {
                    State::Quoted
                } else if byte == d.delimiter {
                    self.record.fields += 1;
                    State::FieldStart
                } else {
                    State::Unquoted
                }
            }
            State::FieldStart | State::Unquoted | State::QuoteInQuoted if self.is_end(byte) => {
                ended = true;
                State::RecordStart
            }
            State::FieldStart if byte == d.quote => State::Quoted,
            State::QuoteInQuoted if byte == d.quote => State::Quoted,
            State::FieldStart | State::Unquoted | State::QuoteInQuoted => {
                if byte == d.delimiter {
                    self.record.fields += 1;
                    State::FieldStart
                } else {
                    State::Unquoted
                }
            }
            State::Quoted if Some(byte) == d.escape => State::Escaped,
            State::Quoted if byte == d.quote => State::QuoteInQuoted,
            State::Quoted | State::Escaped => State::Quoted,
            State::Comment if byte == b'\n' || byte == b'\r' => State::RecordStart,
            State::Comment => State::Comment,
        };
        if new_line {
            self.line += 1;
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMAS: Dialect =
        Dialect { delimiter: b',', quote: b'"', escape: None, terminator: None, comment: None };

    fn walk(text: &str, dialect: Dialect, piece: usize) -> Vec<(u64, usize)> {
        let mut walker = Walker::new(dialect);
        let mut found = Vec::new();
        for chunk in text.as_bytes().chunks(piece) {
            let _ = walker.push(chunk, |r| {
                found.push((r.line, r.fields));
                ControlFlow::Continue(())
            });
        }
        found.extend(walker.finish().map(|r| (r.line, r.fields)));
        found
    }

    #[test]
    fn records_lines_and_fields() {
        for piece in [1, 2, 1000] {
            assert_eq!(walk("a,b\n1,2\n\n3,4,5\n", COMMAS, piece), [(1, 2), (2, 2), (4, 3)]);
            assert_eq!(walk("a,b\r\n1,2\r\n\r\n3", COMMAS, piece), [(1, 2), (2, 2), (4, 1)]);
            assert_eq!(walk("\"a\n,\"\"x\",b\n1,\n", COMMAS, piece), [(1, 2), (3, 2)]);
            assert_eq!(walk("a\"b,c\"\n,,\n", COMMAS, piece), [(1, 2), (2, 3)]);
            let escaped = Dialect { escape: Some(b'\\'), comment: Some(b'#'), ..COMMAS };
            assert_eq!(walk("#x,\"\n\"a\\\"\n\",b\n", escaped, piece), [(2, 2)]);
        }
        assert_eq!(walk("", COMMAS, 1), []);
        assert_eq!(walk("\n\n", COMMAS, 1), []);
    }

    #[test]
    fn a_walk_can_stop() {
        let mut walker = Walker::new(COMMAS);
        let mut last = None;
        let flow = walker.push(b"a\nb\nc\n", |r| {
            last = Some(r);
            if r.line == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(flow, ControlFlow::Break(()));
        assert_eq!(last.map(|r| (r.start, r.end)), Some((2, 4)));
    }
}
