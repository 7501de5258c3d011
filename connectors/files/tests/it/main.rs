//! The crate against real files in a temporary folder.

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod pieces;
#[cfg(test)]
mod reading;
#[cfg(test)]
mod s3;
#[cfg(test)]
#[path = "../../../../tests/src/s3.rs"]
#[expect(dead_code, unreachable_pub, reason = "shared with the tests of the whole")]
mod s3_server;
#[cfg(test)]
mod support;
#[cfg(test)]
mod vectors;
