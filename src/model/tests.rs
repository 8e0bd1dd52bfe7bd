//! Names and sizes of single files, and pickles that no checkpoint is.

use super::config::{TextConfig, UnetConfig, VaeConfig};
use super::infer::Shapes;
use super::naming::{self, Pair};
use super::pickle;
use super::single::parameterization;
use super::source::Source;
use super::tensors::Entry;
use crate::golden;
use safetensors::Dtype;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};

/// The tensors of Stable Diffusion 2.0's single file, without their numbers.
fn stable_diffusion_2() -> HashMap<String, Entry> {
    let recorded: HashMap<String, Vec<usize>> =
        serde_json::from_value(golden::json("single_sd2")).unwrap();
    let entry = |shape| Entry { file: 0, dtype: Dtype::F16, shape, start: 0, strides: None };
    recorded.into_iter().map(|(name, shape)| (name, entry(shape))).collect()
}

/// What a configuration reads as, from a folder that holds it alone.
fn through_folder<T>(name: &str, value: &Value, read: impl Fn(&Source) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, value.to_string()).unwrap();
    read(&Source::open_path(folder.path(), None).unwrap())
}

#[test]
fn sizes_of_stable_diffusion_2_are_told_from_shapes() {
    let entries = stable_diffusion_2();
    let shapes = Shapes(&entries);
    shapes.check_family().unwrap();

    let unet = through_folder("unet/config.json", &shapes.unet().unwrap(), |source| {
        UnetConfig::read(source).unwrap()
    });
    assert_eq!((unet.in_channels, unet.out_channels), (4, 4));
    assert_eq!(unet.channels, [320, 640, 1280, 1280]);
    assert_eq!(unet.attention, [true, true, true, false]);
    assert_eq!(unet.heads, [5, 10, 20, 20]);
    assert_eq!((unet.layers, unet.context, unet.groups), (2, 1024, 32));

    let vae = through_folder("vae/config.json", &shapes.vae().unwrap(), |source| {
        VaeConfig::read(source).unwrap()
    });
    assert_eq!(vae.channels, [128, 256, 512, 512]);
    assert_eq!((vae.layers, vae.latent_channels, vae.groups), (2, 4, 32));

    let text = through_folder("text_encoder/config.json", &shapes.text().unwrap(), |source| {
        TextConfig::read(source).unwrap()
    });
    assert_eq!((text.width, text.layers, text.heads, text.inner), (1024, 23, 16, 4096));
    assert_eq!((text.vocab_size, text.positions), (49408, 77));

    // Every tensor in the file but those of the text encoder's last layer goes to some network, once.
    let names: Vec<Pair> = [naming::unet(&unet), naming::vae(&vae), naming::text(&text)]
        .into_iter()
        .flatten()
        .collect();
    let used: BTreeSet<&str> =
        names.iter().filter(|p| entries.contains_key(&p.single)).map(|p| &*p.single).collect();
    let last = "cond_stage_model.model.transformer.resblocks.23.";
    let mut left = entries.keys().filter(|name| !used.contains(name.as_str()));
    assert!(left.clone().count() == 12 && left.all(|name| name.starts_with(last)));
    assert!(names.iter().all(|p| p.optional || entries.contains_key(&p.single)));
}

#[test]
fn other_families_are_told_from_names_and_shapes() {
    let cases = [
        ("conditioner.embedders.0.transformer.weight", vec![1], "SDXL"),
        ("cond_stage_model.transformer.text_model.final_layer_norm.weight", vec![768], "SD 1.x"),
        ("cond_stage_model.model.token_embedding.weight", vec![49408, 768], "SD 1.x"),
        ("model.diffusion_model.label_emb.0.0.weight", vec![1280, 1024], "class embeddings"),
        ("model.diffusion_model.joint_blocks.0.x", vec![1], "SD 3"),
    ];
    for (name, shape, wanted) in cases {
        let mut entries = stable_diffusion_2();
        let entry = Entry { file: 0, dtype: Dtype::F16, shape, start: 0, strides: None };
        entries.insert(name.into(), entry);
        let what = Shapes(&entries).check_family().unwrap_err();
        assert!(what.contains(wanted), "{name}: {what}");
    }
    let mut entries = stable_diffusion_2();
    entries.retain(|name, _| !name.starts_with("first_stage_model."));
    assert!(Shapes(&entries).check_family().unwrap_err().contains("no VAE"));
}

#[test]
fn shapes_of_no_known_model_are_refused_by_name() {
    let unet = "model.diffusion_model.";
    let set = |name: &str, shape: &[usize]| {
        let mut entries = stable_diffusion_2();
        entries.get_mut(&format!("{unet}{name}")).unwrap().shape = shape.to_vec();
        Shapes(&entries).unet().unwrap_err()
    };
    assert!(set("input_blocks.0.0.weight", &[]).contains("no axes"));
    assert!(set("input_blocks.0.0.weight", &[64, 4, 3, 3]).contains("after a convolution of 64"));
    assert!(set("input_blocks.2.0.out_layers.3.weight", &[640, 9]).contains("unlike its level"));
    let mut entries = stable_diffusion_2();
    for index in [1, 2] {
        let name = format!("{unet}input_blocks.{index}.0.out_layers.3.weight");
        entries.get_mut(&name).unwrap().shape = vec![352, 320, 3, 3];
    }
    entries.get_mut(&format!("{unet}input_blocks.0.0.weight")).unwrap().shape = vec![352, 4, 3, 3];
    let what = Shapes(&entries).unet().unwrap_err();
    assert!(what.contains("352 channels do not split into heads of 64"), "{what}");
}

#[test]
fn original_configurations_say_what_the_unet_predicts() {
    let cases = [
        ("    parameterization: \"v\"\n    linear_start: 0.00085", Some("v_prediction")),
        ("    parameterization: eps # noise", Some("epsilon")),
        ("    linear_start: 0.00085\n    linear_end: 0.0120", Some("epsilon")),
        ("# parameterization: v", None),
        ("", None),
    ];
    for (text, wanted) in cases {
        assert_eq!(parameterization(text), Ok(wanted), "{text}");
    }
    assert!(parameterization("parameterization: x0").is_err());
}

/// The instructions that are met first in hostile or broken pickles.
#[test]
fn a_pickle_that_is_no_checkpoint_is_refused() {
    let deep: Vec<u8> = [b"\x80\x02)".to_vec(), vec![0x85; 100_000], b".".to_vec()].concat();
    let many: Vec<u8> = [b"\x80\x02".to_vec(), vec![b'}'; 100_000], b".".to_vec()].concat();
    let full: Vec<u8> = [b"\x80\x02".to_vec(), vec![b'N'; 2 << 20], b".".to_vec()].concat();
    let cases: [(&[u8], &str); 20] = [
        (b"", "ends early"),
        (b".", "empty stack"),
        (b"\x80\x07.", "protocol 7"),
        (b"\x80\x02N.", "no dictionary"),
        (b"\x80\x02]q\x00.", "no dictionary"),
        (b"\x80\x02cposix\nsystem\n(X\x02\x00\x00\x00lstR.", "names posix.system"),
        (b"\x80\x02c__builtin__\neval\n.", "names __builtin__.eval"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "names os.system"),
        (b"\x80\x02ctorch\nload\n.", "names torch.load"),
        (b"\x80\x02(iposix\nsystem\n.", "instruction 0x69"),
        (b"\x80\x02X\xff\xff\xff\xffab.", "ends early"),
        (b"\x80\x02t.", "lacks a mark"),
        (b"\x80\x02}(0t.", "empty stack"),
        (b"\x80\x02h\x05.", "never kept"),
        (b"\x80\x02NNR.", "isn't a tuple"),
        (b"\x80\x02K\x01)R.", "isn't a function"),
        (b"\x80\x02NQ.", "isn't a storage"),
        (&deep, "more than 64 deep"),
        (&many, "larger than any"),
        (&full, "larger than any"),
    ];
    for (bytes, wanted) in cases {
        let what = pickle::tensors(bytes).unwrap_err();
        assert!(what.contains(wanted), "{:?}: {what}", &bytes[..bytes.len().min(40)]);
    }
    assert!(pickle::tensors(b"\x80\x02}.").unwrap().is_empty());
}

/// One tensor "a" over a storage of 6 numbers.
fn pickled(offset: u8, shape: &[u8], strides: &[u8]) -> Vec<u8> {
    let tuple = |numbers: &[u8]| {
        let numbers = numbers.iter().flat_map(|&n| [b'K', n]);
        [vec![b'('], numbers.collect(), vec![b't']].concat()
    };
    [
        b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
            .to_vec(),
        b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ".to_vec(),
        vec![b'K', offset],
        tuple(shape),
        tuple(strides),
        b"\x89)tRs.".to_vec(),
    ]
    .concat()
}

#[test]
fn a_tensor_beyond_its_storage_is_refused() {
    let found = pickle::tensors(&pickled(0, &[2, 3], &[1, 2])).unwrap();
    assert_eq!((&found["a"].shape[..], &found["a"].strides[..]), (&[2, 3][..], &[1, 2][..]));
    let good: [(u8, &[u8], &[u8]); 4] =
        [(0, &[2, 3], &[3, 1]), (5, &[1], &[9]), (5, &[], &[]), (9, &[0, 200], &[1, 1])];
    for (offset, shape, strides) in good {
        pickle::tensors(&pickled(offset, shape, strides)).unwrap();
    }
    let bad: [(u8, &[u8], &[u8]); 5] = [
        (1, &[2, 3], &[3, 1]),
        (6, &[], &[]),
        (0, &[2, 3], &[4, 1]),
        (0, &[200, 200], &[0, 0]),
        (0, &[2, 3], &[1]),
    ];
    for (offset, shape, strides) in bad {
        let what = pickle::tensors(&pickled(offset, shape, strides)).unwrap_err();
        assert!(what.contains("shape"), "{what}");
    }
}
