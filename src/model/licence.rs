//! In: a model's files. Out: the licence of its weights, in words that a person can act on.
//!
//! What stands beside the weights goes before what is known of their kind: a model that was fine-tuned
//! from a published one may have a licence of its own.

use super::known::Known;
use super::source::{Source, SourceFile};
use std::path::{Path, PathBuf};

/// What a licence is called beside weights, the text of the model's before that of its code.
const NAMES: [&str; 8] = [
    "LICENSE-MODEL",
    "LICENSE-MODEL.md",
    "LICENSE.md",
    "LICENSE.txt",
    "LICENSE",
    "LICENCE.md",
    "LICENCE.txt",
    "LICENCE",
];

/// The licences of the model in this crate, as they lie beside the sources.
#[cfg(any(feature = "demo", feature = "demo-inpainting"))]
const OWN: &str = concat!(
    "MIT OR Apache-2.0, as you choose.\n\n",
    include_str!("../../LICENSE-MIT"),
    "\n\n",
    include_str!("../../LICENSE-APACHE")
);
#[cfg(not(any(feature = "demo", feature = "demo-inpainting")))]
const OWN: &str = "MIT OR Apache-2.0";

/// No licence is longer.
const LIMIT: usize = 1 << 18;

/// The text of a small file, if there is one.
fn text(path: &Path) -> Option<String> {
    if !path.is_file() {
        return None;
    }
    let bytes = SourceFile::open(path).ok()?.read_whole().ok().filter(|b| b.len() <= LIMIT)?;
    Some(String::from_utf8_lossy(&bytes).into_owned()).filter(|text| !text.trim().is_empty())
}

/// What the head of a model card calls the licence: `license:` between two lines of dashes.
fn stated(card: &str) -> Option<&str> {
    let head = card.strip_prefix("---")?.split("\n---").next()?;
    let line = head.lines().find_map(|line| line.strip_prefix("license:"))?;
    Some(line.trim().trim_matches(['"', '\''])).filter(|name| !name.is_empty())
}

/// The licence of the model in `source`: a text beside the weights, else what its card or its header
/// names, else that of the published model it is of the kind of, else that nothing is known.
pub(crate) fn licence(source: &Source, known: Option<&Known>) -> String {
    let folder: Option<PathBuf> = match source {
        Source::Folder(folder) => Some(folder.clone()),
        Source::Single(single) => single.folder(),
        Source::Embedded(_) => None,
    };
    if let Some(folder) = folder {
        if let Some(text) = NAMES.iter().find_map(|name| text(&folder.join(name))) {
            return text;
        }
        let card = text(&folder.join("README.md"));
        if let Some(name) = card.as_deref().and_then(stated) {
            return format!("{name} (as the model's card, README.md, says)");
        }
    }
    if let Some(name) = source.stated_licence() {
        return format!("{name} (as the file's header says)");
    }
    match known {
        Some(known) if known.exact => OWN.to_owned(),
        Some(known) => format!(
            "No licence lies beside the weights. By its configuration this is {}, or a model made from \
             it, which was published under: {}. {}",
            known.name, known.licence, known.url
        ),
        None => "No licence lies beside the weights, and they are of no known model.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_names_its_licence_in_its_head_alone() {
        assert_eq!(stated("---\nlicense: openrail++\ntags:\n- a\n---\n# Card"), Some("openrail++"));
        assert_eq!(stated("---\ntags: a\n---\nlicense: mit"), None);
        assert_eq!(stated("license: mit"), None);
        assert_eq!(stated("---\nlicense:\n---"), None);
    }
}
