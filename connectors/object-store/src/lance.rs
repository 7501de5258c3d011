//! The same credentials for Lance, which opens its stores itself, with `object_store` 0.14.
//!
//! Both versions share the names of their options, so they meet as a map of texts.

use std::collections::HashMap;

use triune_common::{Error, Result};
use url::Url;

use crate::clients::s3_settings;
use crate::registry::StoreRegistry;
use crate::secret::SecretKind;

impl StoreRegistry {
    /// Storage options for `lance_io` to open `url` with: nothing for local folders, keys, endpoint, region
    /// and limits for `s3://`. The map holds secrets in clear: hand it on, do not print it.
    ///
    /// Lance itself adds `AWS_…` variables of the process for what the map lacks; a secret without a
    /// `SESSION_TOKEN` is therefore refused while `AWS_SESSION_TOKEN` is set, rather than mixed with it.
    ///
    /// # Errors
    /// `Unsupported` for stores that Lance is not built with here.
    pub fn lance_options(&self, url: &Url) -> Result<HashMap<String, String>> {
        match SecretKind::of_scheme(url.scheme()) {
            None if url.scheme() == "file" => Ok(HashMap::new()),
            Some(SecretKind::S3) => {
                let secret = self.secret_for(url);
                let environment = self.environment();
                let settings = s3_settings(url, secret.as_deref(), environment)?;
                let mut options: HashMap<String, String> = settings.options.into_iter().collect();
                if let Some(secret) = &secret
                    && options.contains_key("aws_access_key_id")
                    && !options.contains_key("aws_session_token")
                    && environment.get("AWS_SESSION_TOKEN").is_some()
                {
                    return Err(Error::invalid(format!(
                            "secret \"{}\" has no SESSION_TOKEN and AWS_SESSION_TOKEN is set in the environment, which \
                             would be mixed",
                            secret.name
                        ))
                        .with_hint("unset the variable, or give the secret its token"));
                }
                let limits = self.limits();
                options.insert("connect_timeout".to_owned(), format!("{}ms", limits.connect.as_millis()));
                // Lance knows no limit on silence, only on a whole request.
                options.insert(
                    "timeout".to_owned(),
                    format!("{}ms", limits.upload.max(limits.stall).as_millis()),
                );
                options.insert("client_max_retries".to_owned(), limits.retries.to_string());
                options
                    .insert("client_retry_timeout".to_owned(), limits.retry_for.as_secs().max(1).to_string());
                Ok(options)
            }
            _ => Err(Error::unsupported(format!("a Lance table cannot be at {}://", url.scheme()))
                .with_hint("local folders and s3:// can hold Lance tables")),
        }
    }
}
