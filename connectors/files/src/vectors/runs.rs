//! Parquet's hybrid of repeated and bit-packed values, run by run.
//!
//! ```text
//!  header ▸ even: (header / 2) times one value      odd: (header / 2) groups of eight packed values
//! ```

use parquet::errors::{ParquetError, Result};

/// One run of values of up to 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Run<'a> {
    Repeated {
        value: u32,
        count: usize,
    },
    /// Little-endian, the lowest bit first; the last run of a page may be padded.
    Packed {
        bytes: &'a [u8],
        count: usize,
    },
}

/// The runs of a buffer, up to a number of values.
#[derive(Debug)]
pub(crate) struct Runs<'a> {
    data: &'a [u8],
    width: usize,
    left: usize,
}

impl<'a> Runs<'a> {
    /// `count` values of `width` bits (at most 32).
    pub(crate) fn new(data: &'a [u8], width: usize, count: usize) -> Self {
        Self { data, width, left: count }
    }

    fn header(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.data.split_first().ok_or_else(ends)?;
            self.data = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ParquetError::General("a run's length has more than 64 bits".to_owned()))
    }

    /// The next run, cut to the values that are left; `None` after the last of them.
    pub(crate) fn next_run(&mut self) -> Result<Option<Run<'a>>> {
        if self.left == 0 {
            return Ok(None);
        }
        let header = self.header()?;
        let length = usize::try_from(header >> 1).unwrap_or(usize::MAX);
        if header & 1 == 0 {
            let bytes = self.width.div_ceil(8);
            let (value, rest) = self.data.split_at_checked(bytes).ok_or_else(ends)?;
            self.data = rest;
            let value = value.iter().rev().fold(0_u32, |v, b| v << 8 | u32::from(*b));
            let count = length.min(self.left);
            if count == 0 {
                return Err(ParquetError::General("a run of no values".to_owned()));
            }
            self.left -= count;
            return Ok(Some(Run::Repeated { value, count }));
        }
        let count = length.saturating_mul(8).min(self.left);
        let whole = length.saturating_mul(self.width);
        // Writers may leave out the padding of the last run.
        let needed = (count * self.width).div_ceil(8);
        if self.data.len() < needed || count == 0 {
            return Err(ends());
        }
        let (bytes, rest) = self.data.split_at(whole.min(self.data.len()));
        self.data = rest;
        self.left -= count;
        Ok(Some(Run::Packed { bytes, count }))
    }
}

fn ends() -> ParquetError {
    ParquetError::EOF("the runs of a page end before its values".to_owned())
}

/// Value `index` of packed values of `width` bits, 1 to 32.
#[inline]
pub(crate) fn packed(bytes: &[u8], width: usize, index: usize) -> u32 {
    let bit = index * width;
    let start = bit / 8;
    let window = match bytes.get(start..start + 8).and_then(|w| w.try_into().ok()) {
        Some(eight) => u64::from_le_bytes(eight),
        None => bytes[start.min(bytes.len())..].iter().rev().fold(0_u64, |v, b| v << 8 | u64::from(*b)),
    };
    let mask = (1_u64 << width) - 1;
    // At most 32 bits are left by the mask.
    ((window >> (bit % 8)) & mask) as u32
}

/// Whether all `count` values are `expected`.
pub(crate) fn all_are(data: &[u8], width: usize, count: usize, expected: u32) -> Result<bool> {
    let mut runs = Runs::new(data, width, count);
    while let Some(run) = runs.next_run()? {
        let same = match run {
            Run::Repeated { value, .. } => value == expected,
            Run::Packed { bytes, count } => (0..count).all(|i| packed(bytes, width, i) == expected),
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether, of `count` levels of one bit, the zeros are those at every `dims`-th place. The first level is at
/// place `first` of its list.
pub(crate) fn zeros_every(data: &[u8], count: usize, first: usize, dims: usize) -> Result<bool> {
    let mut runs = Runs::new(data, 1, count);
    let mut at = first;
    let mut zeros = 0_usize;
    while let Some(run) = runs.next_run()? {
        match run {
            Run::Repeated { value: 0, count } => {
                if !at.is_multiple_of(dims) || (count > 1 && dims > 1) {
                    return Ok(false);
                }
                zeros += count;
                at += count;
            }
            Run::Repeated { count, .. } => at += count,
            Run::Packed { bytes, count } => {
                for (i, chunk) in bytes.chunks(8).enumerate() {
                    let begin = i * 64;
                    if begin >= count {
                        break;
                    }
                    let word = chunk.iter().rev().fold(0_u64, |v, b| v << 8 | u64::from(*b));
                    let valid = count - begin;
                    let mut holes = !word & if valid >= 64 { u64::MAX } else { (1 << valid) - 1 };
                    while holes != 0 {
                        let place = holes.trailing_zeros() as usize;
                        if !(at + begin + place).is_multiple_of(dims) {
                            return Ok(false);
                        }
                        zeros += 1;
                        holes &= holes - 1;
                    }
                }
                at += count;
            }
        }
    }
    let multiples = |end: usize| end.div_ceil(dims);
    Ok(zeros == multiples(first + count) - multiples(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_both_kinds() {
        // Five times 3, then eight values of three bits: 0 to 7.
        let data = [10, 3, 3, 0b1000_1000, 0b1100_0110, 0b1111_1010];
        let mut runs = Runs::new(&data, 3, 13);
        assert_eq!(runs.next_run().unwrap(), Some(Run::Repeated { value: 3, count: 5 }));
        let Some(Run::Packed { bytes, count: 8 }) = runs.next_run().unwrap() else { panic!("packed") };
        let values: Vec<u32> = (0..8).map(|i| packed(bytes, 3, i)).collect();
        assert_eq!(values, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(runs.next_run().unwrap(), None);
        assert!(Runs::new(&data[..1], 3, 5).next_run().is_err());
        assert!(Runs::new(&[], 3, 1).next_run().is_err());
    }

    #[test]
    fn regular_lists_are_told_from_others() {
        let regular = |zeros: &[usize], n: usize, first: usize, dims: usize| {
            let mut bytes = vec![0_u8; n.div_ceil(8)];
            for i in (0..n).filter(|i| !zeros.contains(i)) {
                bytes[i / 8] |= 1 << (i % 8);
            }
            let mut data = vec![(bytes.len() as u8) << 1 | 1];
            data.extend(bytes);
            zeros_every(&data, n, first, dims).unwrap()
        };
        assert!(regular(&[0, 5, 10], 15, 0, 5));
        assert!(regular(&[0, 5, 10], 13, 0, 5));
        assert!(regular(&[3, 8], 10, 2, 5));
        assert!(!regular(&[0, 4, 10], 15, 0, 5));
        assert!(!regular(&[0, 10], 15, 0, 5));
        assert!(!regular(&[0, 5, 7, 10], 15, 0, 5));
        assert!(regular(&(0..90).collect::<Vec<_>>(), 90, 0, 1));
        assert!(regular(&[0, 70], 71, 0, 70));
        // One zero, then a run of ones: 0 1 1 1 1.
        assert!(zeros_every(&[2, 0, 8, 1], 5, 0, 5).unwrap());
        assert!(!zeros_every(&[4, 0, 8, 1], 6, 0, 5).unwrap());
    }
}
