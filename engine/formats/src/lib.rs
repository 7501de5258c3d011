//! Rows as text: what the shell prints and what the server answers is written by the same code.
//!
//! | module | what |
//! |---|---|
//! | [`value`] | one value of any Arrow type |
//! | [`json`] | rows as objects or as arrays |
//! | [`separated`] | CSV and TSV |

pub mod json;
pub mod separated;
pub mod value;
