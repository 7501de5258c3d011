//! One `object_store` client from a URL, a secret and the environment.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use triune_common::{Error, Result};
use url::Url;

use crate::environment::Environment;
use crate::registry::StoreLimits;
use crate::secret::{SecretKind, SecretSpec};
use crate::stall::BoundedConnector;

/// What every client is built with.
#[derive(Debug)]
pub(crate) struct Workshop {
    pub(crate) limits: StoreLimits,
    pub(crate) connector: BoundedConnector,
    pub(crate) environment: Environment,
}

/// A client and, in words, what it signs with.
pub(crate) struct Client {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) credentials: String,
}

impl Workshop {
    /// Builds the client for the bucket, container or host of `base`. No request is sent.
    pub(crate) fn build(&self, base: &Url, secret: Option<&SecretSpec>) -> Result<Client> {
        let named = || secret.map(|s| format!("secret \"{}\"", s.name));
        let (store, from_environment): (Arc<dyn ObjectStore>, String) =
            match SecretKind::of_scheme(base.scheme()) {
                None => (Arc::new(LocalFileSystem::new()), "the file system's permissions".to_owned()),
                Some(SecretKind::S3) => {
                    let settings = s3_settings(base, secret, &self.environment)?;
                    let told = settings.credentials();
                    (self.s3(base, &settings)?, told)
                }
                Some(SecretKind::Gcs) => match secret.filter(|s| s.get("key_id").is_some()) {
                    // HMAC keys belong to Google's S3-compatible door.
                    Some(s) => (self.s3(base, &interoperable(base, s)?)?, String::new()),
                    None => self.gcs(base, secret)?,
                },
                Some(SecretKind::Azure) => self.azure(base, secret)?,
                Some(SecretKind::Http) => (self.http(base, secret)?, "no credentials".to_owned()),
            };
        Ok(Client { store, credentials: named().unwrap_or(from_environment) })
    }

    fn client(&self) -> ClientOptions {
        ClientOptions::new().with_connect_timeout(self.limits.connect).with_timeout(self.limits.request)
    }

    fn retry(&self) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig { max_backoff: self.limits.stall, ..BackoffConfig::default() },
            max_retries: self.limits.retries,
            retry_timeout: self.limits.retry_for,
        }
    }

    fn s3(&self, base: &Url, settings: &S3Settings) -> Result<Arc<dyn ObjectStore>> {
        let mut builder = AmazonS3Builder::new()
            .with_client_options(self.client())
            .with_retry(self.retry())
            .with_http_connector(self.connector.clone())
            .with_bucket_name(base.host_str().unwrap_or_default());
        for (key, value) in &settings.options {
            // The environment may hold `AWS_…` variables that are no business of the store's.
            if let Ok(key) = key.parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        Ok(Arc::new(builder.build().map_err(|e| setup(base, &e))?))
    }

    fn gcs(&self, base: &Url, secret: Option<&SecretSpec>) -> Result<(Arc<dyn ObjectStore>, String)> {
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_client_options(self.client())
            .with_retry(self.retry())
            .with_http_connector(self.connector.clone())
            .with_bucket_name(base.host_str().unwrap_or_default());
        let mut told = "the machine's Google account".to_owned();
        match secret {
            Some(s) => {
                let account = s.get("service_account");
                let is_json = |text: &&str| text.trim_start().starts_with('{');
                if let Some(json) = s.get("service_account_key").or_else(|| account.filter(is_json)) {
                    builder = builder.with_service_account_key(json);
                } else if let Some(path) = s.get("service_account_path").or(account) {
                    builder = builder.with_service_account_path(path);
                }
                if let Some(endpoint) = s.get("endpoint") {
                    builder = builder
                        .with_config(GoogleConfigKey::BaseUrl, endpoint)
                        .with_client_options(self.client().with_allow_http(endpoint.starts_with("http://")));
                }
            }
            None => {
                if let Some(path) = self.environment.get("SERVICE_ACCOUNT") {
                    builder = builder.with_service_account_path(path);
                    told = "SERVICE_ACCOUNT from the environment".to_owned();
                }
                if let Some(path) = self.environment.get("GOOGLE_APPLICATION_CREDENTIALS") {
                    builder = builder.with_application_credentials(path);
                    told = "GOOGLE_APPLICATION_CREDENTIALS from the environment".to_owned();
                }
                for (key, value) in self.environment.with_prefix("GOOGLE_") {
                    if let Ok(key) = key.parse::<GoogleConfigKey>() {
                        if key == GoogleConfigKey::BaseUrl {
                            builder = builder.with_client_options(
                                self.client().with_allow_http(value.starts_with("http://")),
                            );
                        }
                        builder = builder.with_config(key, value);
                        told = "GOOGLE_… from the environment".to_owned();
                    }
                }
            }
        }
        Ok((Arc::new(builder.build().map_err(|e| setup(base, &e))?), told))
    }

    fn azure(&self, base: &Url, secret: Option<&SecretSpec>) -> Result<(Arc<dyn ObjectStore>, String)> {
        let mut options: Vec<(String, String)> = Vec::new();
        let mut told = "no credentials".to_owned();
        match secret {
            Some(s) => {
                if let Some(text) = s.get("connection_string") {
                    options.extend(connection_string(&s.name, text)?);
                }
                for (ours, theirs) in [
                    ("account_name", "azure_storage_account_name"),
                    ("account_key", "azure_storage_account_key"),
                    ("sas", "azure_storage_sas_key"),
                    ("tenant_id", "azure_storage_tenant_id"),
                    ("client_id", "azure_storage_client_id"),
                    ("client_secret", "azure_storage_client_secret"),
                    ("endpoint", "azure_storage_endpoint"),
                ] {
                    if let Some(value) = s.get(ours) {
                        options.push((theirs.to_owned(), value.to_owned()));
                    }
                }
            }
            None => {
                if let Some(text) = self.environment.get("AZURE_STORAGE_CONNECTION_STRING") {
                    options.extend(connection_string("AZURE_STORAGE_CONNECTION_STRING", text)?);
                    told = "AZURE_STORAGE_CONNECTION_STRING from the environment".to_owned();
                }
                for (key, value) in self.environment.with_prefix("AZURE_") {
                    if key.parse::<AzureConfigKey>().is_ok() {
                        told = "AZURE_… from the environment".to_owned();
                        // The command line tools' spelling.
                        let key = if key == "azure_storage_account" {
                            "azure_storage_account_name".into()
                        } else {
                            key
                        };
                        options.push((key, value.to_owned()));
                    }
                }
                if let Some(account) = self.environment.get("AZURE_STORAGE_ACCOUNT") {
                    options.push(("azure_storage_account_name".to_owned(), account.to_owned()));
                }
            }
        }
        let allow_http = options.iter().any(|(k, v)| k.ends_with("endpoint") && v.starts_with("http://"));
        let mut builder = MicrosoftAzureBuilder::new()
            .with_client_options(self.client().with_allow_http(allow_http))
            .with_retry(self.retry())
            .with_http_connector(self.connector.clone())
            .with_url(base.as_str());
        for (key, value) in options {
            if let Ok(key) = key.parse::<AzureConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        Ok((Arc::new(builder.build().map_err(|e| setup(base, &e))?), told))
    }

    fn http(&self, base: &Url, secret: Option<&SecretSpec>) -> Result<Arc<dyn ObjectStore>> {
        let mut client = self.client().with_allow_http(base.scheme() == "http");
        if let Some(s) = secret {
            let mut headers = HeaderMap::new();
            for (name, value) in s.headers()? {
                let wrong = |what: &str| {
                    Error::invalid(format!(
                        "secret \"{}\": {what} of a header is not allowed in HTTP",
                        s.name
                    ))
                };
                let name: HeaderName = name.parse().map_err(|_| wrong("the name"))?;
                let mut value: HeaderValue = value.parse().map_err(|_| wrong("the value"))?;
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            client = client.with_default_headers(headers);
            if let Some(proxy) = s.get("http_proxy") {
                client = client.with_proxy_url(proxy);
            }
        }
        let store = HttpBuilder::new()
            .with_url(base.as_str())
            .with_client_options(client)
            .with_retry(self.retry())
            .with_http_connector(self.connector.clone())
            .build()
            .map_err(|e| setup(base, &e))?;
        Ok(Arc::new(store))
    }
}

/// A builder's refusal; it names options, not values.
fn setup(base: &Url, error: &object_store::Error) -> Error {
    Error::invalid(format!("cannot set up access to {base}: {error}"))
        .with_hint("write CREATE SECRET, or set the store's variables in the environment")
}

/// Settings of an S3 client under `object_store`'s names (versions 0.13 and 0.14 share them).
pub(crate) struct S3Settings {
    pub(crate) options: Vec<(String, String)>,
    signed_by: &'static str,
}

impl S3Settings {
    fn credentials(&self) -> String {
        self.signed_by.to_owned()
    }
}

/// The settings for a bucket, from the secret when one covers it, else from the environment.
pub(crate) fn s3_settings(
    base: &Url,
    secret: Option<&SecretSpec>,
    environment: &Environment,
) -> Result<S3Settings> {
    let Some(secret) = secret else {
        let mut aws = environment.aws();
        if aws
            .get("aws_endpoint_url_s3")
            .or_else(|| aws.get("aws_endpoint_url"))
            .or_else(|| aws.get("aws_endpoint"))
            .is_some_and(|e| e.starts_with("http://"))
        {
            aws.insert("aws_allow_http".to_owned(), "true".to_owned());
        }
        let unsigned = aws.get("aws_skip_signature").is_some_and(|v| v == "true");
        let signed_by = if unsigned {
            "no signature (AWS_SKIP_SIGNATURE)"
        } else if environment.get("AWS_ACCESS_KEY_ID").is_some() {
            "AWS_ACCESS_KEY_ID from the environment"
        } else if aws.contains_key("aws_access_key_id") {
            "the key in the AWS credentials file"
        } else {
            "the machine's AWS role"
        };
        return Ok(S3Settings { options: aws.into_iter().collect(), signed_by });
    };
    let mut options = std::collections::BTreeMap::new();
    let chain = secret.get("provider").is_some_and(|p| p.eq_ignore_ascii_case("credential_chain"));
    if chain {
        options.extend(environment.aws());
    }
    for (ours, theirs) in [
        ("key_id", "aws_access_key_id"),
        ("secret", "aws_secret_access_key"),
        ("session_token", "aws_session_token"),
        ("region", "aws_region"),
    ] {
        if let Some(value) = secret.get(ours) {
            options.insert(theirs.to_owned(), value.to_owned());
        }
    }
    if secret.switch("requester_pays")? == Some(true) {
        options.insert("aws_request_payer".to_owned(), "true".to_owned());
    }
    if secret.get("key_id").is_none() && !chain {
        options.insert("aws_skip_signature".to_owned(), "true".to_owned());
    }
    let virtual_host = secret.get("url_style").is_some_and(|s| s.eq_ignore_ascii_case("vhost"));
    if virtual_host {
        options.insert("aws_virtual_hosted_style_request".to_owned(), "true".to_owned());
    }
    if let Some(endpoint) = secret.get("endpoint") {
        let use_ssl = secret.switch("use_ssl")?.unwrap_or(true);
        let endpoint = endpoint_url(endpoint, use_ssl);
        if endpoint.starts_with("http://") {
            options.insert("aws_allow_http".to_owned(), "true".to_owned());
        }
        // The client expects the bucket in the endpoint when it is addressed by host name.
        let endpoint = match (virtual_host, endpoint.split_once("://"), base.host_str()) {
            (true, Some((scheme, host)), Some(bucket)) if !host.starts_with(&format!("{bucket}.")) => {
                format!("{scheme}://{bucket}.{host}")
            }
            _ => endpoint,
        };
        options.insert("aws_endpoint".to_owned(), endpoint);
    }
    Ok(S3Settings { options: options.into_iter().collect(), signed_by: "" })
}

fn interoperable(base: &Url, secret: &SecretSpec) -> Result<S3Settings> {
    let mut settings = s3_settings(base, Some(secret), &Environment::default())?;
    let has = |settings: &S3Settings, key: &str| settings.options.iter().any(|(k, _)| k == key);
    if !has(&settings, "aws_endpoint") {
        settings.options.push(("aws_endpoint".to_owned(), "https://storage.googleapis.com".to_owned()));
    }
    settings.options.push(("aws_region".to_owned(), "auto".to_owned()));
    Ok(settings)
}

/// DuckDB's `ENDPOINT` is a host; a URL is taken as it is.
fn endpoint_url(endpoint: &str, use_ssl: bool) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    match endpoint.contains("://") {
        true => endpoint.to_owned(),
        false if use_ssl => format!("https://{endpoint}"),
        false => format!("http://{endpoint}"),
    }
}

/// `AccountName=…;AccountKey=…;…` as options of the Azure client.
fn connection_string(name: &str, text: &str) -> Result<Vec<(String, String)>> {
    let mut options = Vec::new();
    for part in text.split(';').map(str::trim).filter(|p| !p.is_empty()) {
        let (key, value) = part.split_once('=').ok_or_else(|| {
            Error::invalid(format!("the connection string of \"{name}\" has a part without \"=\""))
                .with_hint("it looks like AccountName=…;AccountKey=…;EndpointSuffix=core.windows.net")
        })?;
        let key = match key {
            "AccountName" => "azure_storage_account_name",
            "AccountKey" => "azure_storage_account_key",
            "SharedAccessSignature" => "azure_storage_sas_key",
            "BlobEndpoint" => "azure_storage_endpoint",
            "DefaultEndpointsProtocol"
            | "EndpointSuffix"
            | "QueueEndpoint"
            | "TableEndpoint"
            | "FileEndpoint" => continue,
            "UseDevelopmentStorage" => "azure_storage_use_emulator",
            other => {
                return Err(Error::invalid(format!(
                    "the connection string of \"{name}\" has the unknown part \"{other}\""
                ))
                .with_hint("accepted are AccountName, AccountKey, SharedAccessSignature and BlobEndpoint"));
            }
        };
        options.push((key.to_owned(), value.to_owned()));
    }
    Ok(options)
}
