//! In: the merges of CLIP that travel with the library. Out: the tokenizer files that a folder of
//! Stable Diffusion 2 would hold, for single files, which come without.

use crate::error::{Error, Result};

/// The names of the files of a tokenizer in a folder.
pub(super) const VOCABULARY: &str = "tokenizer/vocab.json";
pub(super) const MERGES: &str = "tokenizer/merges.txt";
pub(super) const SPECIAL: &str = "tokenizer/special_tokens_map.json";
#[cfg(feature = "clip-vocabulary")]
const CONFIG: &str = "tokenizer/tokenizer_config.json";

/// `models/clip/README.md` says where it comes from.
#[cfg(feature = "clip-vocabulary")]
static ARCHIVE: &[u8] = include_bytes!("../../models/clip/bpe_simple_vocab_16e6.txt.gz");

/// How many merges CLIP uses, of the many more that the file lists.
#[cfg(feature = "clip-vocabulary")]
const COUNT: usize = 48894;

/// The files of the tokenizer, by name.
#[cfg(feature = "clip-vocabulary")]
pub(super) fn files() -> Result<Vec<(&'static str, Vec<u8>)>> {
    use serde_json::json;
    use std::io::Read;
    let fault = |what: &dyn std::fmt::Display| Error::internal(format!("CLIP's merges: {what}"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(ARCHIVE)
        .take(16 << 20)
        .read_to_string(&mut text)
        .map_err(|e| fault(&e))?;
    // The first line names the version.
    let merges: Vec<&str> = text.lines().skip(1).take(COUNT).collect();
    if merges.len() != COUNT {
        return Err(fault(&"too few"));
    }
    let symbols = symbols();
    let joined = merges.iter().map(|pair| pair.replacen(' ', "", 1));
    let tokens = symbols
        .iter()
        .map(char::to_string)
        .chain(symbols.iter().map(|symbol| format!("{symbol}</w>")))
        .chain(joined)
        .chain(["<|startoftext|>".to_owned(), "<|endoftext|>".to_owned()]);
    let vocabulary: serde_json::Map<String, serde_json::Value> =
        tokens.enumerate().map(|(id, token)| (token, id.into())).collect();
    let vocabulary = serde_json::to_vec(&vocabulary).map_err(|e| fault(&e))?;
    let merges = format!("#version: 0.2\n{}\n", merges.join("\n"));
    let token = |content: &str| {
        json!({
            "content": content, "lstrip": false, "normalized": true, "rstrip": false,
            "single_word": false,
        })
    };
    let special = json!({
        "bos_token": token("<|startoftext|>"),
        "eos_token": token("<|endoftext|>"),
        "pad_token": "!",
        "unk_token": token("<|endoftext|>"),
    });
    let mut config = special.clone();
    config["do_lower_case"] = json!(true);
    config["model_max_length"] = json!(77);
    config["tokenizer_class"] = json!("CLIPTokenizer");
    for name in ["bos_token", "eos_token", "unk_token"] {
        config[name]["__type"] = json!("AddedToken");
    }
    Ok(vec![
        (VOCABULARY, vocabulary),
        (MERGES, merges.into_bytes()),
        (SPECIAL, special.to_string().into_bytes()),
        (CONFIG, config.to_string().into_bytes()),
    ])
}

#[cfg(not(feature = "clip-vocabulary"))]
pub(super) fn files() -> Result<Vec<(&'static str, Vec<u8>)>> {
    Err(Error::new(
        crate::error::ErrorKind::Unsupported,
        "a single file comes without a vocabulary, and this build has none (feature clip-vocabulary)",
    ))
}

/// The character that stands for each byte, printable ones for themselves, in CLIP's order.
#[cfg(feature = "clip-vocabulary")]
fn symbols() -> Vec<char> {
    let plain = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let kept = (0..=255u8).filter(plain).map(char::from);
    let moved = (0..=255u8).filter(|byte| !plain(byte)).count() as u32;
    kept.chain((0..moved).filter_map(|index| char::from_u32(256 + index))).collect()
}
