//! tmp
pub mod catalog;
pub mod commands;
pub mod complete;
pub mod highlight;
pub mod keywords;
pub mod lex;
pub mod output;
pub mod script;
