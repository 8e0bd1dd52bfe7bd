//! In: a prompt. Out: the token ids that the text encoder reads.
//!
//! CLIP's byte-pair encoding: text is brought to NFC, its white space collapsed, lower-cased, split
//! into words, digits and runs of signs, and merged within each, `</w>` marking a word's end.

use super::source::Source;
use crate::error::{Error, Result};
use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer as Inner};

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
/// CLIP's words: contractions, letters, single digits, runs of anything else.
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Whose reading of a prompt is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PromptRules {
    /// That of transformers, and so of diffusers: start, end and padding tokens are such wherever they
    /// stand in a prompt. Stable Diffusion 2 pads with "!".
    #[default]
    Transformers,
    /// That of open_clip, which the original of 2022 used: those are ordinary text, HTML entities are
    /// resolved twice, and curly quotes made straight (of the repairs that its ftfy makes, this one).
    OpenClip,
}

/// Turns prompts into token ids.
pub(crate) struct Tokenizer {
    inner: Inner,
    /// The same without special tokens, where the folder has the vocabulary to make it of.
    plain: Option<Inner>,
    start: u32,
    end: u32,
    pad: u32,
    length: usize,
}

/// A prompt as the text encoder reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    /// Start, at most 75 tokens, end, and padding: always the full length.
    pub(crate) ids: Vec<u32>,
    /// The end of the prompt that found no room.
    pub(crate) dropped: Option<String>,
}

impl Tokenizer {
    /// Reads the folder's own tokenizer: `tokenizer.json`, or `vocab.json` and `merges.txt`.
    /// `positions` is how many tokens the text encoder takes, `vocabulary` how many it knows.
    pub(crate) fn read(source: &Source, positions: usize, vocabulary: usize) -> Result<Self> {
        let at = |name: &str, what: &dyn std::fmt::Display| {
            Error::bad_model(format!("{}: {what}", source.label(name)))
        };
        let (mut inner, name) = if source.exists("tokenizer/tokenizer.json") {
            let name = "tokenizer/tokenizer.json";
            (Inner::from_bytes(source.read(name)?).map_err(|e| at(name, &e))?, name)
        } else {
            let name = "tokenizer/vocab.json";
            let mut inner = from_vocabulary(source)?;
            let ends = [START, END].map(|token| AddedToken::from(token, true).normalized(true));
            inner.add_special_tokens(ends).map_err(|e| at(name, &e))?;
            (inner, name)
        };
        let vocabulary_there = ["vocab.json", "merges.txt"]
            .iter()
            .all(|file| source.exists(&format!("tokenizer/{file}")));
        let plain = if vocabulary_there { Some(from_vocabulary(source)?) } else { None };
        inner.with_truncation(None).map_err(|e| at(name, &e))?;
        inner.with_padding(None);
        let id = |token: &str| {
            inner
                .token_to_id(token)
                .ok_or_else(|| at(name, &format!("the token '{token}' is missing")))
        };
        let (start, end) = (id(START)?, id(END)?);
        let pad_token = pad_token(source)?;
        let pad = match &pad_token {
            Some(token) => id(token)?,
            None => end,
        };
        if let Some(token) = pad_token {
            // As in transformers, the padding token is one wherever it stands in a prompt.
            let token = AddedToken::from(token, true);
            inner.add_special_tokens([token]).map_err(|e| at(name, &e))?;
        }
        let known = inner.get_vocab_size(true);
        if known > vocabulary {
            return Err(at(name, &format!("{known} tokens, the text encoder knows {vocabulary}")));
        }
        Ok(Tokenizer { inner, plain, start, end, pad, length: positions })
    }

    /// The ids of `prompt`, cut or padded to the encoder's length.
    pub(crate) fn encode(&self, prompt: &str, rules: PromptRules) -> Result<Tokens> {
        let resolved;
        let (inner, prompt) = match (rules, &self.plain) {
            (PromptRules::Transformers, _) => (&self.inner, prompt),
            (PromptRules::OpenClip, plain) => {
                let straight = prompt.replace(['\u{2018}', '\u{2019}'], "'");
                let straight = straight.replace(['\u{201c}', '\u{201d}'], "\"");
                let once = html_escape::decode_html_entities(&straight);
                resolved = html_escape::decode_html_entities(&once).into_owned();
                (plain.as_ref().unwrap_or(&self.inner), resolved.as_str())
            }
        };
        let encoding = inner
            .encode(prompt, false)
            .map_err(|e| Error::invalid(format!("the prompt cannot be tokenized: {e}")))?;
        let room = self.length - 2;
        let words = encoding.get_ids();
        let kept = words.len().min(room);
        let dropped = encoding
            .get_offsets()
            .get(kept)
            .and_then(|&(start, _)| prompt.get(start..))
            .map(|rest| rest.trim().to_owned());
        let mut ids = Vec::with_capacity(self.length);
        ids.push(self.start);
        ids.extend_from_slice(&words[..kept]);
        ids.push(self.end);
        ids.resize(self.length, self.pad);
        Ok(Tokens { ids, dropped })
    }
}

/// CLIP's tokenizer over `vocab.json` and `merges.txt`, without special tokens.
fn from_vocabulary(source: &Source) -> Result<Inner> {
    const VOCABULARY: &str = "tokenizer/vocab.json";
    const MERGES: &str = "tokenizer/merges.txt";
    let vocabulary: std::collections::HashMap<String, u32> = source.json(VOCABULARY)?;
    let bad = |what: String| Error::bad_model(format!("{}: {what}", source.label(MERGES)));
    let merges = String::from_utf8(source.read(MERGES)?).map_err(|e| bad(e.to_string()))?;
    let merges = merges
        .lines()
        .enumerate()
        .filter(|(number, line)| !(line.is_empty() || *number == 0 && line.starts_with("#version")))
        .map(|(number, line)| match line.split_once(' ') {
            Some((a, b)) if !b.contains(' ') => Ok((a.to_owned(), b.to_owned())),
            _ => Err(bad(format!("line {}: two parts are wanted", number + 1))),
        })
        .collect::<Result<Vec<_>>>()?;
    for token in [START, END] {
        if !vocabulary.contains_key(token) {
            return Err(Error::bad_model(format!(
                "{}: the token '{token}' is missing",
                source.label(VOCABULARY)
            )));
        }
    }
    let bpe = BPE::builder()
        .vocab_and_merges(
            vocabulary.into_iter().collect::<tokenizers::models::bpe::Vocab>(),
            merges,
        )
        .end_of_word_suffix("</w>".into())
        .continuing_subword_prefix(String::new())
        .unk_token(END.into())
        .build()
        .map_err(|e| bad(e.to_string()))?;
    let internal = |e: tokenizers::Error| Error::internal(format!("tokenizer: {e}"));
    let spaces = Replace::new(ReplacePattern::Regex(r"\s+".into()), " ").map_err(internal)?;
    let words =
        Split::new(SplitPattern::Regex(WORDS.into()), SplitDelimiterBehavior::Removed, true)
            .map_err(internal)?;
    let bytes = ByteLevel::new(false, true, true);
    let mut inner = Inner::new(bpe);
    inner
        .with_normalizer(Some(Normalizers::new(vec![NFC.into(), spaces.into(), Lowercase.into()])))
        .map_err(internal)?;
    inner.with_pre_tokenizer(Some(PreTokenizers::new(vec![words.into(), bytes.into()])));
    Ok(inner)
}

/// The padding token that the folder names: "!" in SD 2. A token may be a string or an object.
fn pad_token(source: &Source) -> Result<Option<String>> {
    for name in ["tokenizer/special_tokens_map.json", "tokenizer/tokenizer_config.json"] {
        if !source.exists(name) {
            continue;
        }
        let map: Value = source.json(name)?;
        let token = &map["pad_token"];
        if let Some(token) = token.as_str().or_else(|| token["content"].as_str()) {
            return Ok(Some(token.to_owned()));
        }
    }
    Ok(None)
}
