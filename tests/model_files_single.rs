//! Models in single files and in archives of PyTorch: the same weights give the same frame, and what is
//! not in the file is told from it or from what stands beside it.

mod common;

use common::folder::{Folder, Stored, TEXT, VAE};
use common::golden;
use common::single::{File, archive, bundle, like, load, refused, safetensors, tensors};
use common::{same, short, tiny};
use half::f16;
use latentblend::{
    Call, ErrorKind, Frame, LoadOptions, Model, ModelLayout, PredictionType, Session, Spacing,
    convert,
};
use serde_json::json;

fn frame(model: &Model) -> Frame {
    let (keyframes, options) = short();
    Session::new(model, &keyframes, &options).unwrap().render(0.4, &Call::new()).unwrap()
}

/// A tiny model as a single safetensors file, with its configurations in the header.
fn single(name: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let from = golden::path("tiny").join(name);
    convert(from, &path, ModelLayout::SingleFile, &LoadOptions::default(), &Call::new()).unwrap();
    (folder, path)
}

#[test]
fn a_checkpoint_gives_the_frame_of_the_folder() {
    let folder = tiny("base");
    let model = load(&archive("tiny.ckpt"), &like("base")).unwrap();
    assert!(same(&frame(&model), &frame(&folder)));
    assert_eq!(model.info().fingerprint, folder.info().fingerprint);
    assert_eq!(model.info().native_size, [128, 128]);
}

#[test]
fn archives_stand_in_for_safetensors_in_a_folder() {
    let plain = frame(&tiny("base"));
    for variant in ["bin", "fp16.bin"] {
        let folder = Folder::new();
        folder.remove(VAE);
        folder.remove(TEXT);
        for (part, stem) in [("vae", "diffusion_pytorch_model"), ("text_encoder", "pytorch_model")]
        {
            let target = folder.path(&format!("{part}/{stem}.{variant}"));
            std::fs::copy(archive(&format!("{stem}.bin")), target).unwrap();
        }
        let model = folder.load().unwrap();
        assert!(same(&frame(&model), &plain));
        assert_eq!(model.info().fingerprint, tiny("base").info().fingerprint);
    }
}

#[test]
fn the_texts_of_a_model_may_stand_beside_it() {
    let file = File::new("model.ckpt", std::fs::read(archive("tiny.ckpt")).unwrap());
    let texts = bundle(&golden::path("tiny/base"));
    file.beside("latentblend.json", json!(texts).to_string());
    let model = load(&file.path(), &common::in_f32()).unwrap();
    assert!(same(&frame(&model), &frame(&tiny("base"))));

    for (text, wanted) in [("[]", "map"), ("{\"../evil\": 1}", "no text of a model"), ("{", "EOF")]
    {
        file.beside("latentblend.json", text);
        let error = load(&file.path(), &LoadOptions::default()).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadModel);
        assert!(error.message().contains("model.latentblend.json"), "{error}");
        assert!(error.message().contains(wanted), "{error}");
    }
    let nowhere = LoadOptions { config: Some("/nowhere".into()), ..LoadOptions::default() };
    assert_eq!(load(&file.path(), &nowhere).map(|_| ()).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn without_configurations_small_models_are_refused_with_the_reason() {
    let error = refused(&archive("tiny.ckpt"), &LoadOptions::default());
    assert_eq!(error.kind(), ErrorKind::BadModel);
    assert!(error.message().contains("8 channels do not split into 32 groups"), "{error}");
}

/// The demo model's VAE and text encoder have the proportions of Stable Diffusion 2, its UNet has not.
#[test]
fn sizes_are_told_from_shapes_where_nothing_says_them() {
    let demo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo/standard");
    let whole = common::load(&demo).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.safetensors");
    convert(&demo, &path, ModelLayout::SingleFile, &LoadOptions::default(), &Call::new()).unwrap();
    let mut all = tensors(&path);
    // A width of 128 is not that of the real text encoder: its last layer is taken for the unused one.
    let last: Vec<String> = all.keys().filter(|n| n.contains("resblocks.3.")).cloned().collect();
    for name in last {
        let copy = all[&name].clone();
        all.insert(name.replace("resblocks.3.", "resblocks.4."), copy);
    }
    let file = File::new("bare.safetensors", safetensors(&all));
    let error = refused(&file.path(), &LoadOptions::default());
    assert!(error.message().contains("96 channels do not split into heads of 64"), "{error}");

    let mut texts = bundle(&demo);
    texts.retain(|name, _| name.starts_with("tokenizer/") || name.starts_with("unet/"));
    file.beside("latentblend.json", json!(texts).to_string());
    let options = LoadOptions {
        prediction_type: Some(whole.info().prediction_type()),
        ..LoadOptions::default()
    };
    let model = load(&file.path(), &options).unwrap();
    assert_eq!(model.info().fingerprint, whole.info().fingerprint);
    // What no shape tells is that of Stable Diffusion 2: here the scale of the latents.
    let mut texts = bundle(&demo);
    texts["vae/config.json"]["scaling_factor"] = json!(0.18215);
    file.beside("latentblend.json", json!(texts).to_string());
    let told = load(&file.path(), &LoadOptions::default()).unwrap();
    assert!(same(&frame(&model), &frame(&told)));
}

#[test]
fn what_the_unet_predicts_is_asked_for_in_turn() {
    let file = File::new("model.ckpt", std::fs::read(archive("tiny.ckpt")).unwrap());
    let mut texts = bundle(&golden::path("tiny/base"));
    texts.remove("scheduler/scheduler_config.json");
    let texts = json!(texts).to_string();
    file.beside("latentblend.json", &texts);
    let kind =
        |options: &LoadOptions| load(&file.path(), options).unwrap().info().prediction_type();
    let none = LoadOptions::default();

    // Nothing says it: the UNet is asked. See `the_probe_...` for what it answers.
    assert_eq!(kind(&none), PredictionType::Epsilon);
    // The caller says it.
    let told = LoadOptions { prediction_type: Some(PredictionType::Velocity), ..none.clone() };
    assert_eq!(kind(&told), PredictionType::Velocity);
    // The configuration says it, and the caller has the last word.
    let mut all = bundle(&golden::path("tiny/v"));
    file.beside("latentblend.json", json!(all).to_string());
    assert_eq!(kind(&none), PredictionType::Velocity);
    let told = LoadOptions { prediction_type: Some(PredictionType::Epsilon), ..none.clone() };
    assert_eq!(kind(&told), PredictionType::Epsilon);
    // A folder's configuration without the entry means the noise, as it does to diffusers.
    all["scheduler/scheduler_config.json"].as_object_mut().unwrap().remove("prediction_type");
    file.beside("latentblend.json", json!(all).to_string());
    assert_eq!(kind(&none), PredictionType::Epsilon);
    // What the caller says of the spacing counts too.
    let told = LoadOptions { spacing: Some(Spacing::Trailing), ..none };
    let model = load(&file.path(), &told).unwrap();
    assert_eq!(model.info().diffusion.spacing, Spacing::Trailing);
}

/// Random weights answer the probe at random, so the answer is set: the mean of the UNet's output moves
/// with the bias of its last convolution, one for one.
#[test]
fn the_probe_takes_an_answer_far_below_its_question_for_a_velocity() {
    let (_folder, path) = single("base");
    let mut all = tensors(&path);
    let mut texts = bundle(&golden::path("tiny/base"));
    texts.remove("scheduler/scheduler_config.json");
    let bias = "model.diffusion_model.out.2.bias";
    let values: Vec<f32> = all[bias].values();
    for (shift, wanted) in [
        (-8.0, PredictionType::Velocity),
        (-4.0, PredictionType::Velocity),
        (4.0, PredictionType::Epsilon),
        (8.0, PredictionType::Epsilon),
    ] {
        let shifted: Vec<f32> = values.iter().map(|v| f16::from_f32(v + shift).to_f32()).collect();
        all.insert(bias.into(), Stored::f32(&[4], &shifted));
        let file = File::new("model.safetensors", safetensors(&all));
        file.beside("latentblend.json", json!(texts).to_string());
        let info = load(&file.path(), &LoadOptions::default()).unwrap().info().clone();
        assert_eq!(info.prediction_type(), wanted, "shift {shift}");
    }
}

#[test]
fn the_original_configuration_says_what_the_unet_predicts() {
    let demo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo/standard");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.safetensors");
    convert(&demo, &path, ModelLayout::SingleFile, &LoadOptions::default(), &Call::new()).unwrap();
    let file = File::new("bare.safetensors", safetensors(&tensors(&path)));
    for text in
        ["parameterization: \"x0\"\n", "model:\n  params:\n    parameterization: what # ever\n"]
    {
        file.beside("yaml", text);
        let error = load(&file.path(), &LoadOptions::default()).map(|_| ()).unwrap_err();
        assert!(error.message().contains("bare.yaml: parameterization '"), "{error}");
    }
    // A good one is read as far as the sizes, which it does not say in a form that is looked at.
    file.beside("yaml", "model:\n  params:\n    parameterization: \"v\"\n");
    let error = refused(&file.path(), &LoadOptions::default());
    assert!(error.message().contains("heads of 64"), "{error}");
}

#[cfg(feature = "clip-vocabulary")]
#[test]
fn the_vocabulary_of_clip_gives_the_ids_of_transformers() {
    let (_folder, path) = single("base");
    let mut all = tensors(&path);
    let embedding = all.get_mut("cond_stage_model.model.token_embedding.weight").unwrap();
    let row = embedding.bytes[..64].to_vec();
    embedding.shape[0] = 49408;
    embedding.bytes = row.repeat(49408);
    let file = File::new("model.safetensors", safetensors(&all));
    let mut texts = bundle(&golden::path("tiny/base"));
    texts.retain(|name, _| !name.starts_with("tokenizer/"));
    texts["text_encoder/config.json"]["vocab_size"] = json!(49408);
    file.beside("latentblend.json", json!(texts).to_string());
    let model = load(&file.path(), &LoadOptions::default()).unwrap();
    let recorded = golden::json("clip_tokenizer");
    let mut seen = 0;
    for case in recorded.as_array().unwrap() {
        let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        let prompt = case["prompt"].as_str().unwrap();
        assert_eq!(model.tokenize(prompt).unwrap().0, ids, "{prompt:?}");
        seen += 1;
    }
    assert!(seen >= 40, "only {seen} prompts");
    // The tokenizer that travels with the library need not travel with the file as well.
    let target = file.path().with_file_name("again.safetensors");
    let none = LoadOptions::default();
    convert(file.path(), &target, ModelLayout::SingleFile, &none, &Call::new()).unwrap();
    let header = std::fs::read(&target).unwrap();
    assert!(!header[..200_000].windows(10).any(|w| w == b"merges.txt"));
    let again = load(&target, &none).unwrap();
    assert_eq!(again.tokenize("a lighthouse").unwrap(), model.tokenize("a lighthouse").unwrap());
    assert_eq!(again.info().fingerprint, model.info().fingerprint);
}

#[test]
fn single_files_of_other_families_are_refused() {
    let (_folder, path) = single("base");
    let all = tensors(&path);
    let cases: [(&str, &[usize], &str); 4] = [
        ("conditioner.embedders.0.x", &[2], "SDXL"),
        ("cond_stage_model.transformer.text_model.x", &[2], "SD 1.x"),
        ("cond_stage_model.model.token_embedding.weight", &[2, 768], "SD 1.x"),
        ("model.diffusion_model.label_emb.0.0.weight", &[2], "class embeddings"),
    ];
    for (name, shape, wanted) in cases {
        let mut all = all.clone();
        let count = shape.iter().product();
        all.insert(name.into(), Stored::f32(shape, &vec![0.0; count]));
        let file = File::new("model.safetensors", safetensors(&all));
        let error = refused(&file.path(), &like("base"));
        assert_eq!(error.kind(), ErrorKind::BadModel);
        assert!(error.message().contains(wanted), "{error}");
    }
    // Depth and edit models have 5 and 8 channels.
    let mut other = all.clone();
    let name = "model.diffusion_model.input_blocks.0.0.weight";
    other.insert(name.into(), Stored::f32(&[8, 5, 3, 3], &[0.0; 8 * 5 * 9]));
    let file = File::new("model.safetensors", safetensors(&other));
    let error = refused(&file.path(), &like("base"));
    assert!(error.message().contains("wanted [8, 4, 3, 3]"), "{error}");
    // A message names the tensor as the file does.
    let mut other = all;
    other.remove("cond_stage_model.model.transformer.resblocks.1.attn.in_proj_weight");
    let file = File::new("model.safetensors", safetensors(&other));
    let error = refused(&file.path(), &like("base"));
    let wanted =
        "tensor cond_stage_model.model.transformer.resblocks.1.attn.in_proj_weight is missing";
    assert!(error.message().contains(wanted), "{error}");
}

#[test]
fn fingerprints_tell_weights_apart() {
    let print = |name| tiny(name).info().fingerprint.unwrap();
    let (base, v, inpainting) = (print("base"), print("v"), print("inpainting"));
    assert!(base != v && v != inpainting && base != inpainting);
    assert_eq!(base.to_string().len(), 32);
    // One bit of one number.
    let folder = Folder::new();
    folder.edit_tensors(VAE, |tensors| {
        tensors.get_mut("decoder.conv_out.bias").unwrap().bytes[0] ^= 1;
    });
    assert_ne!(folder.load().unwrap().info().fingerprint, Some(base));
    // Widened to f32, split by name: the same numbers.
    let folder = Folder::new();
    for name in [VAE, TEXT] {
        folder.edit_tensors(name, |tensors| {
            for stored in tensors.values_mut() {
                *stored = Stored::f32(&stored.shape, &stored.values());
            }
        });
    }
    assert_eq!(folder.load().unwrap().info().fingerprint, Some(base));
    // It is part of saved work, so it must never change.
    assert_eq!(base.to_string(), include_str!("golden/archives/fingerprint.txt").trim());
}
