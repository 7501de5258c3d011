//! Searches over tables that change: through indexes against every row, and against plain readings of what they mean.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]

mod forms;
mod indexed;
mod lateral;
mod recall;
mod support;
mod text;
mod words;
