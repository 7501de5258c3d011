//! The crate against real files in a temporary folder.

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod reading;
#[cfg(test)]
mod support;
