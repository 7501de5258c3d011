//! `Redacted("hunter2")` prints as `***`.

use std::fmt;

use zeroize::Zeroize;

/// A value that must not reach logs, errors, plans or the catalog by accident.
///
/// `Debug` and `Display` print `***`. The only way to the value is [`Redacted::expose`], so that every
/// use can be found by its name; there is deliberately no `Serialize`, `Deref` or `AsRef`. The memory is
/// overwritten when the value is dropped (copies that others made are theirs).
#[derive(Clone, PartialEq, Eq)]
pub struct Redacted<T: Zeroize>(T);

impl<T: Zeroize> Redacted<T> {
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Whoever calls this sees to it that it is not printed or stored in clear.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Redacted<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T: Zeroize> fmt::Display for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T: Zeroize> From<T> for Redacted<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl From<&str> for Redacted<String> {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::Redacted;

    #[test]
    fn it_prints_as_stars() {
        let r = Redacted::new("hunter2".to_owned());
        assert_eq!(format!("{r} {r:?} {:#?}", Some(&r)), "*** *** Some(\n    ***,\n)");
        assert_eq!(r.expose(), "hunter2");
    }
}
