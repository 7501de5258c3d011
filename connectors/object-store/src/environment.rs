//! `AWS_*`, `GOOGLE_*`, `AZURE_*`: what the process was started with, and the AWS profile files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::redacted::Redacted;

/// A copy of the environment variables, taken once, so that tests can give their own.
///
/// `Debug` prints the names only: values may be keys.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, Redacted<String>>);

impl Environment {
    /// The process's variables; those that are not Unicode are left out.
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|v| v.expose().as_str()).filter(|v| !v.is_empty())
    }

    /// Variables whose names begin with `prefix`, names in lower case as `object_store` spells its keys.
    pub(crate) fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (String, &'a str)> {
        self.0
            .iter()
            .filter(move |(k, v)| k.starts_with(prefix) && !v.expose().is_empty())
            .map(|(k, v)| (k.to_ascii_lowercase(), v.expose().as_str()))
    }

    /// Every `aws_…` setting: variables first, then what they lack from the profile files
    /// (`~/.aws/credentials`, `~/.aws/config`) when no key is set in the variables.
    pub(crate) fn aws(&self) -> BTreeMap<String, String> {
        let mut all: BTreeMap<String, String> = self
            .with_prefix("AWS_")
            // Spelt differently by the command line tools and by `object_store`.
            .map(|(k, v)| (if k == "aws_default_region" { "aws_region".to_owned() } else { k }, v.to_owned()))
            .collect();
        if let Some(region) = self.get("AWS_REGION") {
            all.insert("aws_region".to_owned(), region.to_owned());
        }
        if !all.contains_key("aws_access_key_id") {
            for (key, value) in self.aws_profile() {
                all.entry(key).or_insert(value);
            }
        }
        all
    }

    fn aws_profile(&self) -> BTreeMap<String, String> {
        let profile = self.get("AWS_PROFILE").unwrap_or("default");
        let home = self.get("HOME").map(PathBuf::from);
        let file = |variable: &str, name: &str| {
            self.get(variable).map(PathBuf::from).or_else(|| Some(home.as_ref()?.join(".aws").join(name)))
        };
        let mut found = BTreeMap::new();
        for path in [file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), file("AWS_CONFIG_FILE", "config")]
            .into_iter()
            .flatten()
        {
            // No file is the usual case, and an unreadable one must not stop a query on public data.
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            for (key, value) in ini_section(&text, profile) {
                let key = match key.as_str() {
                    "aws_access_key_id" | "aws_secret_access_key" | "aws_session_token" => key,
                    "region" => "aws_region".to_owned(),
                    "endpoint_url" => "aws_endpoint_url".to_owned(),
                    _ => continue,
                };
                found.entry(key).or_insert(value);
            }
        }
        found
    }
}

/// The settings of `[profile]` or `[profile profile]`.
fn ini_section(text: &str, profile: &str) -> Vec<(String, String)> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            let name = name.trim();
            inside = name == profile || name.strip_prefix("profile ").is_some_and(|n| n.trim() == profile);
        } else if inside
            && !line.starts_with(['#', ';'])
            && let Some((key, value)) = line.split_once('=')
        {
            found.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    found
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Environment").field(&self.0.keys().collect::<Vec<_>>()).finish()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(iter: I) -> Self {
        Self(iter.into_iter().map(|(k, v)| (k.into(), Redacted::new(v.into()))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profile_files_fill_in_what_the_variables_lack() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".aws")).unwrap();
        std::fs::write(
            dir.path().join(".aws/credentials"),
            "# keys\n[default]\naws_access_key_id = D\n[work]\naws_access_key_id=W\naws_secret_access_key = s=s \n",
        )
        .unwrap();
        std::fs::write(dir.path().join(".aws/config"), "[profile work]\nregion = eu-west-3\noutput = json\n")
            .unwrap();
        let home = dir.path().to_str().unwrap();
        let env: Environment = [("HOME", home), ("AWS_PROFILE", "work")].into_iter().collect();
        let aws = env.aws();
        assert_eq!(aws.get("aws_access_key_id").map(String::as_str), Some("W"));
        assert_eq!(aws.get("aws_secret_access_key").map(String::as_str), Some("s=s"));
        assert_eq!(aws.get("aws_region").map(String::as_str), Some("eu-west-3"));

        let env: Environment = [("HOME", home), ("AWS_ACCESS_KEY_ID", "E")].into_iter().collect();
        assert_eq!(
            env.aws().get("aws_secret_access_key"),
            None,
            "a variable's key is never mixed with a file's secret"
        );
    }

    #[test]
    fn values_are_not_printed() {
        let env: Environment = [("AWS_SECRET_ACCESS_KEY", "hunter2")].into_iter().collect();
        let text = format!("{env:?}");
        assert!(text.contains("AWS_SECRET_ACCESS_KEY") && !text.contains("hunter2"), "{text}");
    }
}
