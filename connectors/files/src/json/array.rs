//! `[ {…}, {…} ]` as `{…}` after `{…}`, in pieces as they arrive.
//!
//! Only the brackets and commas of the outermost array are looked at; what is between them is left to the parser.

use std::result::Result;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Before,
    /// Between records or inside one: the depth tells.
    Inside,
    After,
}

/// Turns the bytes of an array of records into records one after the other.
#[derive(Debug)]
pub(crate) struct Unwrapped {
    state: State,
    depth: usize,
    in_text: bool,
    escaped: bool,
    /// Whether a record has to follow: after a comma.
    expects: bool,
    /// Whether a record began or ended and no comma came yet.
    has: bool,
    /// Bytes so far, and where the last whole record ended.
    offset: usize,
    last_end: Option<usize>,
}

impl Default for Unwrapped {
    fn default() -> Self {
        Self {
            state: State::Before,
            depth: 0,
            in_text: false,
            escaped: false,
            expects: false,
            has: false,
            offset: 0,
            last_end: None,
        }
    }
}

impl Unwrapped {
    /// The records in the next piece.
    pub(crate) fn take(&mut self, piece: &[u8]) -> Result<Vec<u8>, &'static str> {
        let mut out = piece.to_vec();
        for byte in &mut out {
            self.offset += 1;
            if self.in_text {
                match *byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_text = false,
                    _ => {}
                }
                continue;
            }
            match (self.state, *byte) {
                (_, b) if b.is_ascii_whitespace() => {}
                (State::Before, b'[') => {
                    self.state = State::Inside;
                    *byte = b' ';
                }
                (State::Before, _) => return Err("the file does not begin with ["),
                (State::After, _) => return Err("something follows the array's ]"),
                (State::Inside, b']') if self.depth == 0 => {
                    if self.expects {
                        return Err("a comma is followed by no record");
                    }
                    self.state = State::After;
                    *byte = b' ';
                }
                (State::Inside, b',') if self.depth == 0 => {
                    if !self.has {
                        return Err("a comma follows no record");
                    }
                    (self.has, self.expects) = (false, true);
                    *byte = b'\n';
                }
                (State::Inside, b) => {
                    if self.depth == 0 {
                        if b != b'{' {
                            return Err("a record is no object");
                        }
                        if self.has {
                            return Err("two records have no comma between them");
                        }
                        (self.has, self.expects) = (true, false);
                    }
                    match b {
                        b'{' | b'[' => self.depth += 1,
                        b'}' | b']' => {
                            self.depth -= 1;
                            if self.depth == 0 {
                                self.last_end = Some(self.offset);
                            }
                        }
                        b'"' => self.in_text = true,
                        _ => {}
                    }
                }
            }
        }
        Ok(out)
    }

    /// Where the last whole record ended, in bytes from the start.
    pub(crate) fn last_end(&self) -> Option<usize> {
        self.last_end
    }

    /// Whether the array was closed.
    pub(crate) fn finish(&self) -> Result<(), &'static str> {
        match self.state {
            State::After => Ok(()),
            _ => Err("the array has no end; the file may have been cut off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str, piece: usize) -> Result<String, &'static str> {
        let mut u = Unwrapped::default();
        let mut out = Vec::new();
        for chunk in text.as_bytes().chunks(piece) {
            out.extend(u.take(chunk)?);
        }
        u.finish()?;
        Ok(String::from_utf8(out).unwrap().split_whitespace().collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn arrays_are_unwrapped() {
        for piece in [1, 3, 1000] {
            assert_eq!(all(" [ ]\n", piece).unwrap(), "");
            assert_eq!(
                all("[{\"a\":[1,2]},{\"b\":\"],\\\"\"}]", piece).unwrap(),
                "{\"a\":[1,2]} {\"b\":\"],\\\"\"}"
            );
            for bad in
                ["", "[", "[{}", "[{},", "[{},]", "[,{}]", "[{}{}]", "[1]", "{}", "[{}] x", "[{}],", "[[{}]]"]
            {
                assert!(all(bad, piece).is_err(), "{bad}");
            }
        }
    }
}
