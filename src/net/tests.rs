//! The networks against outputs recorded from diffusers and transformers.

use super::{Evaluation, Layers, TextEncoder, Unet, Vae};
use crate::backend::{Backend, HostTensor, Reference, Workers};
use crate::golden::{Recorded, path, read, relative_error};
use crate::model::{LoadMeter, Source, TextConfig, UnetConfig, VaeConfig, Weights};
use crate::progress::Call;

/// The bound for one network.
const BOUND: f64 = 1e-5;

/// Recorded NCHW values as an activation, and back.
fn channels_last(recorded: &Recorded) -> HostTensor {
    let [n, c, h, w]: [usize; 4] = recorded.shape.as_slice().try_into().unwrap();
    let values = recorded.f32();
    let at = |i: usize| values[((i / (h * w * c) * c) + i % c) * h * w + i / c % (h * w)];
    HostTensor::new([n, h, w, c], (0..values.len()).map(at).collect()).unwrap()
}

fn channels_first(x: &HostTensor) -> Vec<f32> {
    let [n, h, w, c]: [usize; 4] = x.shape().try_into().unwrap();
    let at = |i: usize| {
        let (sample, channel, pixel) = (i / (c * h * w), i / (h * w) % c, i % (h * w));
        x.data()[(sample * h * w + pixel) * c + channel]
    };
    (0..n * h * w * c).map(at).collect()
}

fn with_weights<R>(
    model: &str,
    folder: &str,
    stem: &str,
    load: impl FnOnce(&Source, &mut Layers<'_, '_, Reference>) -> R,
) -> R {
    let source = Source::open_path(&path(&format!("tiny/{model}")), None).unwrap();
    let call = Call::new();
    let meter = LoadMeter::new(&call);
    let mut weights = Weights::open(&source, folder, stem, &meter).unwrap();
    let workers = Workers::caller();
    let weights = Some(&mut weights);
    let mut layers = Layers { backend: &Reference, weights, workers: &workers };
    load(&source, &mut layers)
}

#[test]
fn text_encoder_equals_transformers() {
    let encoder = with_weights("base", "text_encoder", "model", |source, layers| {
        TextEncoder::load(layers, &TextConfig::read(source).unwrap()).unwrap()
    });
    let recorded = read("text_encoder");
    let ids: Vec<u32> = recorded["ids"].values.iter().map(|&id| id as u32).collect();
    let prompts: Vec<&[u32]> = ids.chunks(77).collect();
    let states = encoder.forward(&Reference, &prompts).unwrap();
    let error = relative_error(states.data(), &recorded["last_hidden_state"].values);
    println!("text encoder: {error:.1e}");
    assert!(error <= BOUND, "{error:e}");
}

fn unet(model: &str) -> Unet<Reference> {
    with_weights(model, "unet", "diffusion_pytorch_model", |source, layers| {
        Unet::load(layers, &UnetConfig::read(source).unwrap()).unwrap()
    })
}

fn context(recorded: &Recorded) -> HostTensor {
    let [n, tokens, width]: [usize; 3] = recorded.shape.as_slice().try_into().unwrap();
    HostTensor::new([n, 1, tokens, width], recorded.f32()).unwrap()
}

fn check_unet(model: &str) {
    let unet = unet(model);
    let recorded = read(&format!("unet_{model}"));
    let keys_values = unet.keys_values(&Reference, &context(&recorded["context"])).unwrap();
    for case in ["square8", "square16", "odd9x13", "mixed_t"] {
        let all = &recorded[&format!("{case}.latent")];
        let times = &recorded[&format!("{case}.timestep")].values;
        for (sample, &timestep) in times.iter().enumerate() {
            let one = all.row(sample);
            let one = Recorded { shape: [&[1], &one.shape[..]].concat(), values: one.values };
            let input = channels_last(&one);
            // An inpainting model's input comes in two parts, as two sources of the first convolution.
            let [_, h, w, c]: [usize; 4] = input.shape().try_into().unwrap();
            let part = |channels: std::ops::Range<usize>| {
                let values = input.data().chunks(c).flat_map(|p| p[channels.clone()].to_vec());
                let host = HostTensor::new([1, h, w, channels.len()], values.collect()).unwrap();
                Reference.upload(&host).unwrap()
            };
            let extra = (c > 4).then(|| part(4..c));
            let output = unet.forward(
                &Reference,
                &Evaluation {
                    latents: &part(0..4),
                    extra: extra.as_ref(),
                    rows: &[0],
                    prompts: &[sample],
                    time: &unet.time(&Reference, timestep).unwrap(),
                    keys_values: &keys_values,
                },
            );
            let output = channels_first(&Reference.download(&output.unwrap()).unwrap());
            let wanted = recorded[&format!("{case}.output")].row(sample);
            let error = relative_error(&output, &wanted.values);
            println!("unet {model} {case} sample {sample}: {error:.1e}");
            assert!(error <= BOUND, "{case}, sample {sample}: {error:e}");
        }
    }
}

#[test]
fn unet_equals_diffusers_with_4_channels_epsilon() {
    check_unet("base");
}

#[test]
fn unet_equals_diffusers_with_4_channels_velocity() {
    check_unet("v");
}

#[test]
fn unet_equals_diffusers_with_9_channels() {
    check_unet("inpainting");
}

#[test]
fn a_guidance_pair_that_shares_its_first_layers_gives_the_same_bits() {
    let unet = unet("base");
    let recorded = read("unet_base");
    let keys_values = unet.keys_values(&Reference, &context(&recorded["context"])).unwrap();
    let latents = channels_last(&recorded["square8.latent"]);
    let latents = Reference.upload(&latents).unwrap();
    let time = unet.time(&Reference, 500.0).unwrap();
    let run = |latents: &_, rows: &[usize], prompts: &[usize]| {
        let (time, keys_values) = (&time, &keys_values);
        let evaluation = Evaluation { latents, extra: None, rows, prompts, time, keys_values };
        Reference.download(&unet.forward(&Reference, &evaluation).unwrap()).unwrap().into_data()
    };
    let shared = run(&latents, &[0, 0, 1, 1], &[0, 1, 0, 1]);
    let repeated = Reference.gather(&latents, &[0, 0, 1, 1]).unwrap();
    let plain = run(&repeated, &[0, 1, 2, 3], &[0, 1, 0, 1]);
    assert!(shared.iter().zip(&plain).all(|(a, b)| a.to_bits() == b.to_bits()));
}

#[test]
fn vae_equals_diffusers_both_ways() {
    let vae = with_weights("base", "vae", "diffusion_pytorch_model", |source, layers| {
        Vae::load(layers, &VaeConfig::read(source).unwrap()).unwrap()
    });
    let recorded = read("vae");
    for case in ["even", "odd"] {
        let image = channels_last(&recorded[&format!("{case}.image")]);
        let moments = vae.encode(&Reference, &Reference.upload(&image).unwrap()).unwrap();
        let moments = channels_first(&Reference.download(&moments).unwrap());
        let (mean, log_variance) = moments.split_at(moments.len() / 2);
        let latent = channels_last(&recorded[&format!("{case}.latent")]);
        let decoded = vae.decode(&Reference, &Reference.upload(&latent).unwrap()).unwrap();
        let decoded = channels_first(&Reference.download(&decoded).unwrap());
        for (what, got) in [("mean", mean), ("logvar", log_variance), ("decoded", &decoded)] {
            let error = relative_error(got, &recorded[&format!("{case}.{what}")].values);
            println!("vae {case} {what}: {error:.1e}");
            assert!(error <= BOUND, "{case} {what}: {error:e}");
        }
    }
}
