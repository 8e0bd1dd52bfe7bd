//! In: bytes. Out: nothing, or a panic: the first byte says which file of a tiny model is damaged, the rest
//! how. The model must load or be refused with a reason; one that loads must tokenize and paint, or refuse
//! that with a reason. `Internal` is never one.

use latentblend::{
    BlendOptions, Branching, Call, Error, ErrorKind, Keyframe, LoadOptions, Model, PromptRules,
    Session,
};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

const UNET: &str = "unet/diffusion_pytorch_model.safetensors";

/// Small files that are replaced as a whole.
const TEXTS: [&str; 9] = [
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/tokenizer.json",
];

/// How many kinds of damage there are.
pub const KINDS: u8 = TEXTS.len() as u8 + 7;

/// What every run shares.
struct Place {
    /// The recorded files.
    golden: PathBuf,
    /// A folder of this process: `model`, which is whole between runs, and files of one run.
    scratch: PathBuf,
    archive: Vec<u8>,
    unet: Vec<u8>,
}

/// Copies a folder, following links.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a scratch folder");
    for entry in std::fs::read_dir(from).expect("recorded files") {
        let entry = entry.expect("recorded files");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else {
            std::fs::copy(&source, &target).expect("a scratch file");
        }
    }
}

fn place() -> &'static Mutex<Place> {
    static PLACE: OnceLock<Mutex<Place>> = OnceLock::new();
    PLACE.get_or_init(|| {
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let golden = [here.join("tests/golden"), here.join("../tests/golden")];
        let golden = golden.into_iter().find(|path| path.is_dir()).expect("tests/golden");
        let scratch = std::env::temp_dir().join(format!("latentblend-fuzz-{}", std::process::id()));
        copy(&golden.join("tiny/base"), &scratch.join("model"));
        let read = |path: PathBuf| std::fs::read(path).expect("recorded files");
        Mutex::new(Place {
            archive: read(golden.join("archives/tiny.ckpt")),
            unet: read(golden.join("tiny/base").join(UNET)),
            golden,
            scratch,
        })
    })
}

/// Removes what a process leaves behind; for those that end in order.
pub fn clean() {
    let place = place().lock().expect("no panic before");
    let _ = std::fs::remove_dir_all(&place.scratch);
}

/// Bytes put over others, in groups of three of place and one of value, and perhaps an end cut off. Places
/// are counted from both ends, where headers and directories lie.
fn patched(whole: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    let (cut, patches) = match data.split_first() {
        Some((cut, rest)) => (*cut, rest),
        None => (0, data),
    };
    for patch in patches.chunks_exact(4) {
        let at = (usize::from(patch[1]) << 8 | usize::from(patch[2])) % bytes.len();
        let at = if patch[0] & 1 == 0 { at } else { bytes.len() - 1 - at };
        let at = if patch[0] & 2 == 0 { at } else { at * 16 % bytes.len() };
        bytes[at] = patch[3];
    }
    if cut & 0x80 != 0 {
        bytes.truncate(bytes.len() * usize::from(cut & 0x7f) / 128);
    }
    bytes
}

fn refuse(error: &Error) {
    assert_ne!(error.kind(), ErrorKind::Internal, "{error}");
    assert!(!error.message().is_empty());
}

/// What a model that was loaded must bear.
fn use_it(model: &Model) {
    for prompt in
        ["", "wow! a lake, it's \u{1F30A}\u{0301} <|endoftext|>\0x", &"mountain ".repeat(90)]
    {
        for rules in [PromptRules::Transformers, PromptRules::OpenClip] {
            match model.tokenize_as(prompt, rules) {
                Ok((ids, _)) => assert!(ids.len() >= 3 && ids.len() <= 1 << 16),
                Err(error) => refuse(&error),
            }
        }
    }
    let side = model.info().factor;
    let options = BlendOptions {
        size: Some([side, side]),
        steps: Some(2),
        branching: Some(Branching { injections: vec![0, 1], branches: vec![2, 3] }),
        ..BlendOptions::default()
    };
    let keyframes = [Keyframe::new("a lake", 1), Keyframe::new("a castle", 2)];
    let session = Session::new(model, &keyframes, &options);
    if let Err(error) = session.and_then(|session| session.render(0.5, &Call::new())) {
        refuse(&error);
    }
}

/// Damages a model as `data` says, and loads it.
pub fn run(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else { return };
    let place = match place().lock() {
        Ok(place) => place,
        Err(poisoned) => poisoned.into_inner(),
    };
    let model = place.scratch.join("model");
    let alone = |name: &str| place.scratch.join(name);
    let write = |path: &Path, bytes: &[u8]| std::fs::write(path, bytes).expect("a scratch file");
    let like = LoadOptions { config: Some(place.golden.join("tiny/base")), ..Default::default() };
    let mut left = Vec::new();
    let loaded = match usize::from(kind % KINDS) {
        text @ 0..9 => {
            let path = model.join(TEXTS[text]);
            let before = std::fs::read(&path).ok();
            write(&path, data);
            let loaded = Model::load(&model, &Call::new());
            match before {
                Some(before) => write(&path, &before),
                None => std::fs::remove_file(&path).expect("a scratch file"),
            }
            loaded
        }
        // A single file: as it is, or the recorded archive with damage.
        9 | 10 => {
            let name = if kind % KINDS == 9 { "alone.safetensors" } else { "alone.ckpt" };
            write(&alone(name), data);
            left.push(alone(name));
            Model::load_with(alone(name), &like, &Call::new())
        }
        11 => {
            write(&alone("patched.ckpt"), &patched(&place.archive, data));
            left.push(alone("patched.ckpt"));
            Model::load_with(alone("patched.ckpt"), &like, &Call::new())
        }
        // What stands beside a single file.
        12 | 13 => {
            let ending = if kind % KINDS == 12 { "latentblend.json" } else { "yaml" };
            let (archive, beside) =
                (alone("whole.ckpt"), alone("whole.ckpt").with_extension(ending));
            write(&archive, &place.archive);
            write(&beside, data);
            left.extend([archive.clone(), beside]);
            Model::load(archive, &Call::new())
        }
        // A folder's weights: with damage, and with an index of shards.
        14 => {
            write(&model.join(UNET), &patched(&place.unet, data));
            let loaded = Model::load(&model, &Call::new());
            write(&model.join(UNET), &place.unet);
            loaded
        }
        _ => {
            let moved = alone("moved.safetensors");
            let index = model.join("unet/diffusion_pytorch_model.safetensors.index.json");
            std::fs::rename(model.join(UNET), &moved).expect("a scratch file");
            write(&index, data);
            let loaded = Model::load(&model, &Call::new());
            std::fs::rename(&moved, model.join(UNET)).expect("a scratch file");
            left.push(index);
            loaded
        }
    };
    match &loaded {
        Ok(model) => use_it(model),
        Err(error) => refuse(error),
    }
    for path in left {
        let _ = std::fs::remove_file(path);
    }
}
