//! `SET search.mode = auto | exact | index`: whether searches go through indexes.
//!
//! | mode | a search whose table has an index for it | another one |
//! |---|---|---|
//! | `auto` | through the index | compares every row |
//! | `exact` | compares every row | compares every row |
//! | `index` | through the index; an index that cannot be read is an error | an error that says why |
//!
//! `exact => true` of a call is above the setting.

use std::fmt;
use std::str::FromStr;

use datafusion::common::config::ConfigExtension;
use datafusion::common::extensions_options;
use datafusion::config::ConfigOptions;
use triune_common::{Error, Result};

/// The full name of the setting.
pub const SEARCH_MODE: &str = "search.mode";

extensions_options! {
    /// Settings of searches.
    pub struct SearchSettings {
        /// auto, exact or index: whether searches go through indexes
        pub mode: String, default = "auto".to_owned()
    }
}

impl ConfigExtension for SearchSettings {
    const PREFIX: &'static str = "search";
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SearchMode {
    #[default]
    Auto,
    Exact,
    Index,
}

impl SearchMode {
    /// The mode of a session; `auto` where the settings of searches are not there.
    ///
    /// # Errors
    /// Invalid, if the setting has another value.
    pub fn of(options: &ConfigOptions) -> Result<Self> {
        options.extensions.get::<SearchSettings>().map_or(Ok(Self::Auto), |s| s.mode.parse())
    }
}

impl FromStr for SearchMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "exact" => Ok(Self::Exact),
            "index" => Ok(Self::Index),
            _ => Err(Error::invalid(format!("{SEARCH_MODE} cannot be set to '{text}'"))
                .with_hint("accepted are auto, exact and index")),
        }
    }
}

impl fmt::Display for SearchMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Exact => "exact",
            Self::Index => "index",
        })
    }
}
