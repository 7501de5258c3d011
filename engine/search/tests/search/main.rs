//! `vector_search` from the text of a statement to its rows, in a small session that has this crate's
//! rules where the real one has them.

#[cfg(test)]
mod answers;
#[cfg(test)]
mod errors;
mod groups;
#[cfg(test)]
mod hybrid;
#[cfg(test)]
mod lance;
#[cfg(test)]
mod late;
#[cfg(test)]
mod lateral;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod property;
#[cfg(test)]
mod support;
#[cfg(test)]
mod text;
