//! `SET search.mode = auto | exact | index`: whether searches go through indexes.
//!
//! | mode | a search whose table has an index for it | another one |
//! |---|---|---|
//! | `auto` | through the index | compares every row |
//! | `exact` | compares every row | compares every row |
//! | `index` | through the index; an index that cannot be read is an error | an error that says why |
//!
//! `exact => true` of a call is above the setting.

use std::any::Any;
use std::fmt;
use std::str::FromStr;

use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use triune_common::{Error, Result};

/// The full name of the setting.
pub const SEARCH_MODE: &str = "search.mode";

/// Settings of searches.
#[derive(Debug, Clone, Default)]
pub struct SearchSettings {
    pub mode: SearchMode,
}

impl ConfigExtension for SearchSettings {
    const PREFIX: &'static str = "search";
}

// By hand: DataFusion's macro lists settings without their prefix, and `SHOW` would not find them.
impl ExtensionOptions for SearchSettings {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> DfResult<()> {
        match key {
            "mode" => self.mode = value.parse().map_err(DataFusionError::from)?,
            _ => return Err(Error::not_found(format!("there is no setting \"search.{key}\"")).into()),
        }
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        vec![ConfigEntry {
            key: SEARCH_MODE.to_owned(),
            value: Some(self.mode.to_string()),
            description: "auto, exact or index: whether searches go through indexes",
        }]
    }
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
    pub fn of(options: &ConfigOptions) -> Self {
        options.extensions.get::<SearchSettings>().map_or(Self::Auto, |s| s.mode)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_found_by_its_full_name() {
        let mut options = ConfigOptions::new();
        assert_eq!(SearchMode::of(&options), SearchMode::Auto);
        options.extensions.insert(SearchSettings::default());
        let shown = |o: &ConfigOptions| {
            o.entries().into_iter().find(|e| e.key == SEARCH_MODE).and_then(|e| e.value).unwrap()
        };
        assert_eq!(shown(&options), "auto");
        options.set(SEARCH_MODE, "Exact").unwrap();
        assert_eq!((SearchMode::of(&options), shown(&options).as_str()), (SearchMode::Exact, "exact"));
        assert!(options.set(SEARCH_MODE, "fast").is_err());
        assert!(options.set("search.modus", "auto").is_err());
        assert_eq!(SearchMode::of(&options), SearchMode::Exact);
    }
}
