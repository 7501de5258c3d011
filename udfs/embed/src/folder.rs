//! What a folder says of its model, in the files that sentence-transformers writes.
//!
//! | file | what is read |
//! |---|---|
//! | `config.json` | the architecture (`model_type` must be `bert`), sizes |
//! | `tokenizer.json` | the tokenizer |
//! | `model.safetensors` | the weights, as 32- or 16-bit floats |
//! | `modules.json` | Transformer, Pooling, Normalize, in this order; without the file: mean pooling, no normalising |
//! | `1_Pooling/config.json` | how the vectors of the tokens become one: mean, first token, maximum, sum over √n |
//! | `sentence_bert_config.json` | `max_seq_length`, tokens after which a text is cut |
//! | `tokenizer_config.json` | `model_max_length`, where the former says nothing |

use std::path::{Path, PathBuf};

use candle_transformers::models::bert::Config;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use triune_common::{Error, ErrorKind, Result};

/// How the vectors of a text's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooling {
    Mean,
    /// The vector of the first token.
    First,
    Max,
    /// The sum divided by the root of the number of tokens.
    MeanSqrt,
}

/// A folder's files, read and understood; the weights and the tokenizer are still to be loaded.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) config: Config,
    pub(crate) tokenizer: PathBuf,
    pub(crate) weights: PathBuf,
    pub(crate) pooling: Pooling,
    pub(crate) normalise: bool,
    /// Tokens of a text, those at its ends among them.
    pub(crate) max_tokens: usize,
}

#[derive(Deserialize)]
struct Kind {
    model_type: Option<String>,
}

#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    r#type: String,
}

#[derive(Deserialize)]
struct PoolingConfig {
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
    #[serde(default)]
    pooling_mode_weightedmean_tokens: bool,
    #[serde(default)]
    pooling_mode_lasttoken: bool,
}

#[derive(Deserialize)]
struct MaxSeqLength {
    max_seq_length: Option<usize>,
}

#[derive(Deserialize)]
struct MaxModelLength {
    /// Written as 1e30 where there is none.
    model_max_length: Option<f64>,
}

fn unreadable(path: &Path, e: &std::io::Error) -> Error {
    let kind = match e.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        std::io::ErrorKind::PermissionDenied => ErrorKind::Permission,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("{} cannot be read: {e}", path.display()))
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| unreadable(path, &e))
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_slice(&read(path)?)
        .map_err(|e| Error::data(format!("{} does not say what is expected of a model: {e}", path.display())))
}

fn optional<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if path.exists() { json(path).map(Some) } else { Ok(None) }
}

impl Folder {
    /// Reads a folder's settings.
    ///
    /// Errors: not found for a missing folder or file, unsupported for an architecture that is not BERT's or modules that
    /// are not known, bad data for files that say something else.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Err(Error::not_found(format!("there is no folder {}", path.display())).with_hint(
                "a model is a folder with config.json, tokenizer.json and model.safetensors, or a URL",
            ));
        }
        let config = path.join("config.json");
        if let Some(kind) = json::<Kind>(&config)?.model_type
            && kind != "bert"
        {
            return Err(Error::unsupported(format!(
                "the model in {} is of type {kind}, only models of type bert are run here",
                path.display()
            ))
            .with_hint("all-MiniLM-L6-v2, bge and e5 models are; others can be served behind a URL"));
        }
        let config: Config = json(&config)?;
        if config.num_attention_heads == 0 || !config.hidden_size.is_multiple_of(config.num_attention_heads) {
            return Err(Error::data(format!(
                "{}: {} dimensions cannot be divided among {} heads",
                path.join("config.json").display(),
                config.hidden_size,
                config.num_attention_heads
            )));
        }
        let (pooling, normalise) = modules(path)?;
        let tokenizer = path.join("tokenizer.json");
        let weights = path.join("model.safetensors");
        for needed in [&tokenizer, &weights] {
            if !needed.is_file() {
                let error =
                    Error::not_found(format!("the model in {} has no {}", path.display(), name(needed)));
                return Err(match path.join("pytorch_model.bin").is_file() && needed == &weights {
                    true => error.with_hint("weights of PyTorch are not read; convert them to safetensors"),
                    false => error,
                });
            }
        }
        let max_tokens = max_tokens(path, &config)?;
        Ok(Self { config, tokenizer, weights, pooling, normalise, max_tokens })
    }
}

fn name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

fn max_tokens(path: &Path, config: &Config) -> Result<usize> {
    let sentence: Option<MaxSeqLength> = optional(&path.join("sentence_bert_config.json"))?;
    let model: Option<MaxModelLength> = optional(&path.join("tokenizer_config.json"))?;
    let most = config.max_position_embeddings;
    let said = sentence.and_then(|s| s.max_seq_length).or_else(|| {
        let length = model.and_then(|m| m.model_max_length)?;
        (length >= 1.0 && length <= most as f64).then_some(length as usize)
    });
    // Two tokens stand at the ends of a text.
    Ok(said.unwrap_or(most).clamp(3.min(most), most))
}

fn modules(path: &Path) -> Result<(Pooling, bool)> {
    let Some(modules) = optional::<Vec<Module>>(&path.join("modules.json"))? else {
        return Ok((Pooling::Mean, false));
    };
    let (mut pooling, mut normalise) = (None, false);
    for module in modules {
        match module.r#type.rsplit('.').next().unwrap_or_default() {
            "Transformer" if pooling.is_none() => {}
            "Pooling" if pooling.is_none() && !normalise => {
                pooling = Some(pooling_of(&path.join(&module.path).join("config.json"))?);
            }
            "Normalize" if pooling.is_some() => normalise = true,
            other => {
                return Err(Error::unsupported(format!(
                    "the model in {} has the module {other}",
                    path.display()
                ))
                .with_hint("Transformer, Pooling and Normalize, in this order, are known"));
            }
        }
    }
    Ok((pooling.unwrap_or(Pooling::Mean), normalise))
}

fn pooling_of(path: &Path) -> Result<Pooling> {
    let config: PoolingConfig = json(path)?;
    let modes = [
        (config.pooling_mode_mean_tokens, Some(Pooling::Mean)),
        (config.pooling_mode_cls_token, Some(Pooling::First)),
        (config.pooling_mode_max_tokens, Some(Pooling::Max)),
        (config.pooling_mode_mean_sqrt_len_tokens, Some(Pooling::MeanSqrt)),
        (config.pooling_mode_weightedmean_tokens || config.pooling_mode_lasttoken, None),
    ];
    match modes.iter().filter(|(on, _)| *on).collect::<Vec<_>>().as_slice() {
        [(_, Some(one))] => Ok(*one),
        _ => Err(Error::unsupported(format!("{} asks for another pooling than is known", path.display()))
            .with_hint("one of mean, cls, max and mean_sqrt_len is known")),
    }
}
