//! Model folders in every layout that is found in the field, and every way in which they can be wrong.

mod common;

use common::folder::{Folder, Stored, TEXT, UNET, VAE};
use common::{same, short};
use half::bf16;
use latentblend::{Call, ErrorKind, Frame, Model, PredictionType, Session, Spacing};
use safetensors::Dtype;
use serde_json::json;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is changed in a configuration.
type Change<'a> = &'a dyn Fn(&mut serde_json::Value);

fn frame(model: &Model) -> Frame {
    let (keyframes, options) = short();
    Session::new(model, &keyframes, &options).unwrap().render(0.4, &Call::new()).unwrap()
}

fn assert_same_frame(folder: &Folder, wanted: &Frame) {
    assert!(same(&frame(&folder.load().unwrap()), wanted));
}

#[test]
fn the_same_weights_in_other_layouts_give_the_same_frame() {
    let plain = frame(&Folder::new().load().unwrap());

    let variant = Folder::new();
    for name in [UNET, VAE, TEXT] {
        let renamed = name.replace(".safetensors", ".fp16.safetensors");
        std::fs::rename(variant.path(name), variant.path(&renamed)).unwrap();
    }
    assert_same_frame(&variant, &plain);

    let full = Folder::new();
    for name in [UNET, VAE, TEXT] {
        full.edit_tensors(name, |tensors| {
            for stored in tensors.values_mut() {
                *stored = Stored::f32(&stored.shape, &stored.values());
            }
        });
    }
    assert_same_frame(&full, &plain);

    for index in [
        "unet/diffusion_pytorch_model.safetensors.index.json",
        "unet/diffusion_pytorch_model.safetensors.index.fp16.json",
    ] {
        let sharded = Folder::new();
        let mut first = sharded.tensors(UNET);
        let mut second = first.split_off("mid_block");
        let (one, two) = ("part-00001-of-00002.safetensors", "part-00002-of-00002.safetensors");
        let map = first.keys().map(|k| (k, one)).chain(second.keys().map(|k| (k, two)));
        let map: serde_json::Map<_, _> = map.map(|(k, v)| (k.clone(), json!(v))).collect();
        sharded.write(index, json!({"metadata": {}, "weight_map": map}).to_string());
        sharded.write_tensors(&format!("unet/{one}"), &first);
        sharded.write_tensors(&format!("unet/{two}"), &second);
        sharded.remove(UNET);
        assert_same_frame(&sharded, &plain);
        // A tensor that is in none of the shards.
        second.remove("mid_block.resnets.0.conv1.weight");
        sharded.write_tensors(&format!("unet/{two}"), &second);
        let error = sharded.load().map(|_| ()).unwrap_err();
        assert!(error.message().contains("mid_block.resnets.0.conv1.weight"), "{error}");
    }
}

#[test]
fn bfloat16_weights_are_read_exactly() {
    let (short, long) = (Folder::new(), Folder::new());
    for name in [UNET, VAE, TEXT] {
        short.edit_tensors(name, |tensors| {
            for stored in tensors.values_mut() {
                let values = stored.values();
                let bytes = values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
                *stored = Stored { dtype: Dtype::BF16, shape: stored.shape.clone(), bytes };
            }
        });
        long.edit_tensors(name, |tensors| {
            for stored in tensors.values_mut() {
                let values: Vec<f32> =
                    stored.values().iter().map(|&v| bf16::from_f32(v).to_f32()).collect();
                *stored = Stored::f32(&stored.shape, &values);
            }
        });
    }
    assert_same_frame(&short, &frame(&long.load().unwrap()));
}

#[test]
fn names_of_other_years_are_read() {
    let plain = frame(&Folder::new().load().unwrap());
    let folder = Folder::new();
    folder.edit_tensors(VAE, |tensors| {
        let old =
            [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")];
        let names: Vec<String> = tensors.keys().filter(|k| k.contains(".to_")).cloned().collect();
        assert_eq!(names.len(), 16);
        for name in names {
            let mut stored = tensors.remove(&name).unwrap();
            if name.ends_with("weight") {
                // As in files that keep the projections as 1x1 convolutions.
                stored.shape.extend([1, 1]);
            }
            let renamed = old.iter().fold(name, |name, (new, old)| name.replace(new, old));
            tensors.insert(renamed, stored);
        }
    });
    folder.edit_tensors(TEXT, |tensors| {
        let all = std::mem::take(tensors);
        let bare = |k: String| k.trim_start_matches("text_model.").to_owned();
        tensors.extend(all.into_iter().map(|(k, v)| (bare(k), v)));
        // Older files carry the positions as a tensor of integers.
        let positions = Stored { dtype: Dtype::I64, shape: vec![1, 77], bytes: vec![0; 77 * 8] };
        tensors.insert("embeddings.position_ids".into(), positions);
    });
    assert_same_frame(&folder, &plain);
}

#[test]
fn the_configuration_decides_the_prediction_type() {
    let folder = Folder::new();
    assert_eq!(folder.load().unwrap().info().prediction_type(), PredictionType::Epsilon);
    folder.edit_json("scheduler/scheduler_config.json", |config| {
        config["prediction_type"] = json!("v_prediction");
    });
    assert_eq!(folder.load().unwrap().info().prediction_type(), PredictionType::Velocity);
}

#[test]
fn a_solvers_configuration_is_read_with_its_own_defaults() {
    let folder = Folder::new();
    let rewrite = |fields: serde_json::Value| {
        folder.edit_json("scheduler/scheduler_config.json", |config| {
            for name in ["timestep_spacing", "set_alpha_to_one", "skip_prk_steps"] {
                config.as_object_mut().unwrap().remove(name);
            }
            config["_class_name"] = json!("DPMSolverMultistepScheduler");
            config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        });
        folder.load().map(|model| model.info().diffusion.clone())
    };
    let solver = json!({"algorithm_type": "dpmsolver++", "solver_order": 2, "thresholding": false});
    let plain = rewrite(solver.clone()).unwrap();
    assert_eq!((plain.spacing, plain.final_alpha_one), (Spacing::Linspace, true));
    assert_eq!(plain.prediction_type, PredictionType::Epsilon);
    let leading = rewrite(json!({"timestep_spacing": "leading"})).unwrap();
    assert_eq!(leading.spacing, Spacing::Leading);
    let flow = rewrite(json!({"prediction_type": "flow_prediction"})).unwrap_err();
    assert_eq!(flow.kind(), ErrorKind::BadModel);
    let flow = rewrite(json!({"prediction_type": "epsilon", "use_flow_sigmas": true}));
    assert_eq!(flow.unwrap_err().kind(), ErrorKind::BadModel);
}

#[test]
fn what_is_missing_is_named() {
    let missing = Model::load("/nowhere/at/all", &Call::new()).map(|_| ()).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.message().starts_with("/nowhere/at/all: "), "{missing}");

    for name in [
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "scheduler/scheduler_config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
    ] {
        let folder = Folder::new();
        folder.remove(name);
        assert_eq!(folder.error(name).kind(), ErrorKind::NotFound, "{name}");
    }
    let folder = Folder::new();
    folder.remove(UNET);
    let error = folder.error("unet");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("looked for diffusion_pytorch_model.safetensors"), "{error}");
    folder.write("unet/diffusion_pytorch_model.bin", "pickle");
    assert_eq!(folder.error("unet/diffusion_pytorch_model.bin").kind(), ErrorKind::BadModel);

    let path = folder.path("model_index.json");
    let file = Model::load(&path, &Call::new()).map(|_| ()).unwrap_err();
    assert_eq!(file.kind(), ErrorKind::BadModel);
    assert!(file.message().starts_with(&path.display().to_string()), "{file}");
    assert!(file.message().contains("neither a safetensors file nor a PyTorch archive"), "{file}");
}

#[test]
fn models_of_another_family_are_refused() {
    let unet = "unet/config.json";
    let cases: [(&str, Change<'_>, &str); 7] = [
        (unet, &|c| c["use_linear_projection"] = json!(false), "SD 1.x"),
        (unet, &|c| c["addition_embed_type"] = json!("text_time"), "SDXL"),
        (unet, &|c| c["cross_attention_dim"] = json!(768), "SD 1.x"),
        (unet, &|c| c["in_channels"] = json!(8), "wanted 4 or 9"),
        (unet, &|c| c["down_block_types"][0] = json!("AttnDownBlock2D"), "AttnDownBlock2D"),
        ("text_encoder/config.json", &|c| c["hidden_act"] = json!("quick_gelu"), "SD 1.x"),
        ("vae/config.json", &|c| c["use_quant_conv"] = json!(false), "quant_conv"),
    ];
    for (name, change, wanted) in cases {
        let folder = Folder::new();
        folder.edit_json(name, change);
        let error = folder.error(name);
        assert_eq!(error.kind(), ErrorKind::BadModel, "{error}");
        assert!(error.message().contains(wanted), "{error}");
    }
}

#[test]
fn absurd_configurations_are_refused() {
    let cases: [(&str, Change<'_>); 24] = [
        ("unet/config.json", &|c| c["layers_per_block"] = json!(1u64 << 40)),
        ("vae/config.json", &|c| c["layers_per_block"] = json!(1u64 << 40)),
        ("text_encoder/config.json", &|c| c["num_hidden_layers"] = json!(1u64 << 60)),
        ("text_encoder/config.json", &|c| c["num_hidden_layers"] = json!(257)),
        ("unet/config.json", &|c| c["block_out_channels"] = json!([])),
        ("unet/config.json", &|c| c["norm_num_groups"] = json!(0)),
        ("unet/config.json", &|c| c["norm_num_groups"] = json!(7)),
        ("unet/config.json", &|c| c["attention_head_dim"] = json!([1, 2, 3, 2])),
        ("unet/config.json", &|c| c["attention_head_dim"] = json!(0)),
        ("vae/config.json", &|c| c["scaling_factor"] = json!(0.0)),
        ("text_encoder/config.json", &|c| c["num_attention_heads"] = json!(5)),
        ("scheduler/scheduler_config.json", &|c| c["beta_schedule"] = json!("cosine")),
        ("scheduler/scheduler_config.json", &|c| c["beta_end"] = json!(2.0)),
        ("scheduler/scheduler_config.json", &|c| c["num_train_timesteps"] = json!(1)),
        ("scheduler/scheduler_config.json", &|c| c["steps_offset"] = json!(u64::MAX)),
        ("scheduler/scheduler_config.json", &|c| c["thresholding"] = json!(true)),
        ("text_encoder/config.json", &|c| c["num_hidden_layers"] = json!(1_000_000_000_000u64)),
        ("text_encoder/config.json", &|c| c["layer_norm_eps"] = json!(-1.0)),
        ("unet/config.json", &|c| c["layers_per_block"] = json!(1u64 << 62)),
        ("unet/config.json", &|c| c["sample_size"] = json!(1u64 << 60)),
        ("unet/config.json", &|c| c["freq_shift"] = json!(4)),
        ("unet/config.json", &|c| c["transformer_layers_per_block"] = json!(2)),
        ("unet/config.json", &|c| c["center_input_sample"] = json!(true)),
        ("vae/config.json", &|c| c["layers_per_block"] = json!(1u64 << 62)),
    ];
    for (name, change) in cases {
        let folder = Folder::new();
        folder.edit_json(name, change);
        assert_eq!(folder.error(name).kind(), ErrorKind::BadModel);
    }
    for text in ["", "{", "[]", "{\"in_channels\": -4}", "\u{0}"] {
        let folder = Folder::new();
        folder.write("unet/config.json", text);
        assert_eq!(folder.error("unet/config.json").kind(), ErrorKind::BadModel, "{text:?}");
    }
}

#[test]
fn a_tensor_that_is_missing_or_misshaped_is_named() {
    let name = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight";
    let folder = Folder::new();
    folder.edit_tensors(UNET, |tensors| drop(tensors.remove(name)));
    let error = folder.error(UNET);
    assert_eq!(error.kind(), ErrorKind::BadModel);
    assert!(error.message().contains(&format!("tensor {name} is missing")), "{error}");

    let folder = Folder::new();
    folder.edit_tensors(UNET, |tensors| {
        let stored = tensors.get_mut(name).unwrap();
        stored.shape = vec![stored.shape[1], stored.shape[0]];
    });
    let error = folder.error(UNET);
    assert!(error.message().contains("has shape [32, 8], wanted [8, 32]"), "{error}");

    let folder = Folder::new();
    folder.edit_tensors(UNET, |tensors| {
        let stored = tensors.get_mut(name).unwrap();
        stored.dtype = Dtype::I16;
    });
    let error = folder.error(UNET);
    assert!(error.message().contains("has type I16, wanted F32, F16 or BF16"), "{error}");
}

#[test]
fn a_tensor_that_has_no_place_is_named() {
    let folder = Folder::new();
    let name = "down_blocks.0.attentions.0.transformer_blocks.1.norm1.weight";
    folder.edit_tensors(UNET, |tensors| {
        tensors.insert(name.into(), Stored::f32(&[8], &[1.0; 8]));
    });
    let error = folder.error(UNET);
    assert_eq!(error.kind(), ErrorKind::BadModel);
    assert!(error.message().contains(name), "{error}");
}

#[test]
fn full_precision_comes_before_the_variant() {
    let folder = Folder::new();
    let plain = frame(&folder.load().unwrap());
    let variant = UNET.replace(".safetensors", ".fp16.safetensors");
    folder.write(&variant, "not even a model");
    assert_same_frame(&folder, &plain);
}

#[test]
fn damaged_weight_files_are_refused() {
    let whole = std::fs::read(Folder::new().path(UNET)).unwrap();
    let mut huge = whole.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut garbage = whole.clone();
    garbage[9..200].fill(b'x');
    let damaged: [(&str, &[u8]); 7] = [
        ("empty", &[]),
        ("five bytes", &whole[..5]),
        ("cut in the header", &whole[..1000]),
        ("cut in the data", &whole[..whole.len() - 1]),
        ("half", &whole[..whole.len() / 2]),
        ("a header of 2^64 bytes", &huge),
        ("a header that isn't JSON", &garbage),
    ];
    for (what, bytes) in damaged {
        let folder = Folder::new();
        folder.write(UNET, bytes);
        assert_eq!(folder.error(UNET).kind(), ErrorKind::BadModel, "{what}");
    }
    let error = {
        let folder = Folder::new();
        folder.write(UNET, &whole[..whole.len() - 1]);
        folder.error(UNET)
    };
    assert!(error.message().contains("truncated"), "{error}");
}

#[test]
fn a_shard_outside_the_folder_is_refused() {
    let folder = Folder::new();
    folder.remove(UNET);
    let index = "unet/diffusion_pytorch_model.safetensors.index.json";
    folder.write(index, json!({"weight_map": {"a": "../vae/config.json"}}).to_string());
    let error = folder.error(index);
    assert!(error.message().contains("outside its folder"), "{error}");
}

#[test]
fn a_file_that_shrinks_or_vanishes_during_the_load_is_an_error() {
    for vanish in [false, true] {
        let folder = Folder::new();
        let path = folder.path(UNET);
        let reports = AtomicUsize::new(0);
        let call = Call::new().on_progress(|_| {
            if reports.fetch_add(1, Ordering::Relaxed) == 3 {
                if vanish {
                    std::fs::remove_file(&path).unwrap();
                } else {
                    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
                    file.set_len(100_000).unwrap();
                }
            }
            ControlFlow::Continue(())
        });
        let result = Model::load(folder.path(""), &call).map(|_| ());
        // An open file that is removed can be read to its end where the system keeps it.
        match result {
            Ok(()) => assert!(vanish),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::BadModel | ErrorKind::Io), "{error}");
                assert!(error.message().contains("ends"), "{error}");
            }
        }
    }
}

#[test]
fn a_load_can_be_cancelled_at_every_report() {
    let folder = Folder::new();
    let count = AtomicUsize::new(0);
    let call = Call::new().on_progress(|_| {
        count.fetch_add(1, Ordering::Relaxed);
        ControlFlow::Continue(())
    });
    Model::load(folder.path(""), &call).unwrap();
    let count = count.load(Ordering::Relaxed);
    assert!(count > 100, "only {count} reports");
    for stop in (0..count).step_by(97) {
        let seen = AtomicUsize::new(0);
        let call =
            Call::new().on_progress(|_| match seen.fetch_add(1, Ordering::Relaxed) == stop {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            });
        let error = Model::load(folder.path(""), &call).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(seen.load(Ordering::Relaxed), stop + 1, "reports went on after the cancel");
    }
}
