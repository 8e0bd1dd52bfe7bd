//! Promise 7: seeds mean what they mean elsewhere.

mod common;

use common::golden::{json, read};
use latentblend::{NoiseKind, cpu_normals, cuda_normals, noise};

/// Logarithm and sine differ in their last bits between libraries.
const BOUND: f64 = 2e-6;

fn largest_difference(got: &[f32], wanted: &[f64]) -> f64 {
    assert_eq!(got.len(), wanted.len());
    got.iter().zip(wanted).map(|(&g, w)| (f64::from(g) - w).abs()).fold(0.0, f64::max)
}

#[test]
fn cpu_noise_equals_torch() {
    let mut cases = 0;
    for (name, recorded) in read("noise_cpu") {
        let Some((seed, count)) = name.strip_prefix("seed").and_then(|rest| rest.split_once(".n"))
        else {
            continue;
        };
        let got = cpu_normals(seed.parse().unwrap(), count.parse().unwrap());
        let difference = largest_difference(&got, &recorded.values);
        assert!(difference <= BOUND, "{name}: {difference:e}");
        cases += 1;
    }
    assert!(cases >= 50, "only {cases} cases were recorded");
    let latent = noise(NoiseKind::Cpu, 420, [4, 16, 16]).unwrap();
    let recorded = &read("noise_cpu")["latent.seed420"];
    assert!(largest_difference(latent.data(), &recorded.values) <= BOUND);
}

#[test]
fn cuda_noise_equals_the_algorithm() {
    let mut cases = 0;
    for (name, recorded) in read("noise_cuda") {
        let Some((seed, draw)) =
            name.strip_prefix("seed").and_then(|rest| rest.split_once(".call"))
        else {
            continue;
        };
        // Toy cards that have to wrap depend on their size; this noise is that of a large card.
        let Ok(seed) = seed.parse() else { continue };
        let got = cuda_normals(seed, draw.parse().unwrap(), recorded.values.len());
        let difference = largest_difference(&got, &recorded.values);
        assert!(difference <= BOUND, "{name}: {difference:e}");
        cases += 1;
    }
    assert!(cases >= 8, "only {cases} cases were recorded");
}

#[test]
fn cuda_noise_equals_what_cards_printed() {
    let known = json("noise_cuda_known");
    let entries: Vec<_> = match &known {
        serde_json::Value::Array(entries) => entries.clone(),
        other => other
            .as_object()
            .unwrap()
            .values()
            .flat_map(|v| v.as_array().cloned().unwrap_or_default())
            .collect(),
    };
    let mut cases = 0;
    for entry in entries {
        // An entry with a number of threads is of a tensor that one wave does not cover.
        if !entry["threads"].is_null() {
            continue;
        }
        let seed = entry["seed"].as_u64().unwrap();
        let wanted: Vec<f64> =
            entry["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        let start = entry["start"].as_u64().unwrap_or(0) as usize;
        let got = &cuda_normals(seed, 0, start + wanted.len())[start..];
        let difference = largest_difference(got, &wanted);
        // Printed with four digits, some of them.
        assert!(difference <= 6e-5, "seed {seed}: {difference:e}");
        cases += 1;
    }
    assert!(cases >= 3, "only {cases} cases were recorded");
}
