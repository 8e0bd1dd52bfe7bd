//! Every kernel of the CUDA backend, run by emulation on this processor, against the reference backend; and what was
//! compiled ahead against its sources.
#![allow(unsafe_code, reason = "the played driver is a library in C")]

mod common;

use common::operations::{Case, Random, cases, difference, norm};
use common::played::Played;
use latentblend::backend::{
    Activation, Add, Backend, ConvSpec, Cuda, CudaDriver, CudaTile, HostTensor, Reference,
};
use latentblend::{ErrorKind, Precision};
use std::path::Path;
use std::process::Command;

#[test]
fn every_operation_is_what_the_reference_says() {
    let played = Played::new("kernels");
    let driver = played.driver();
    for (precision, bound) in [(Precision::F16, 2e-3), (Precision::Bf16, 1.6e-2)] {
        let cuda = Cuda::new(&driver, 0, precision).unwrap();
        for (name, case) in cases() {
            let wanted = case.run(&Reference);
            let values = |tile| {
                cuda.force_tile(tile);
                case.run(&cuda)
            };
            let [small, lean, large] =
                [CudaTile::Small, CudaTile::Lean, CudaTile::Large].map(values);
            let error = difference(&large, &wanted);
            println!("{precision} {name}: {error:.1e}");
            // NaN is no error below a bound.
            assert!(error <= bound, "{precision} {name}: {error:e}");
            let same = |other: &HostTensor| {
                other.data().iter().zip(large.data()).all(|(a, b)| a.to_bits() == b.to_bits())
            };
            assert!(same(&small) && same(&lean), "{precision} {name}: the tile changes the bytes");
        }
    }
    // tests/cuda.rs has that one.
    assert_eq!(played.never(), "convert ", "kernels that no case has reached");
}

/// A sample of each case alone, against the same sample in a batch.
#[test]
fn a_sample_has_the_same_bytes_in_any_batch() {
    let played = Played::new("batches");
    let cuda = Cuda::new(&played.driver(), 0, Precision::F16).unwrap();
    let mut r = Random(3);
    let (h, w, c) = (9, 8, 64);
    let x = r.tensor(&[8, h, w, c], 1.0);
    let weight = r.tensor(&[264, c, 3, 3], 0.05);
    let conv = cuda.conv(weight, None, ConvSpec::same(1)).unwrap();
    let deep = cuda.conv(r.tensor(&[64, 264, 3, 3], 0.05), None, ConvSpec::same(1)).unwrap();
    let scales = HostTensor::new([264], vec![1.0; 264]).unwrap();
    let norm = cuda.norm(scales.clone(), scales, norm(8)).unwrap();
    let qkv = cuda.linear(r.tensor(&[192, 64], 0.1), None).unwrap();
    let run = |n: usize| {
        let some = x.data()[..n * h * w * c].to_vec();
        let x = cuda.upload(&HostTensor::new([n, h, w, c], some).unwrap()).unwrap();
        let x = cuda.conv2d((&x).into(), &conv, Add::Nothing).unwrap();
        let x =
            cuda.norm_conv2d((&x).into(), &norm, Activation::Silu, &deep, Add::Nothing).unwrap();
        let x = cuda.dense(&x, &qkv, Activation::Identity, Add::Nothing).unwrap();
        cuda.download(&cuda.self_attention(&x, 1, false).unwrap()).unwrap().into_data()
    };
    let all = run(8);
    for n in [1, 2, 3, 5] {
        let some = run(n);
        let same = some.iter().zip(&all).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same && some.len() * 8 == all.len() * n, "a batch of {n}");
    }
    // Nor do the bytes depend on the tile.
    for tile in [CudaTile::Small, CudaTile::Lean, CudaTile::Large] {
        cuda.force_tile(tile);
        for n in [1, 8] {
            let same = run(n).iter().zip(&all).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{tile:?}, a batch of {n}");
        }
    }
    // Both tiles were used, or there would be nothing to compare.
    assert!(played.get("product_large_f16") > 0 && played.get("product_small_f16") > 0);
}

#[test]
fn what_was_compiled_ahead_is_of_these_sources() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/backend/cuda/kernels");
    for (name, sources) in [
        ("kernels", "common.cuh product.cu attention.cu norm.cu plain.cu kernels.cu"),
        ("convert", "common.cuh convert.cu"),
    ] {
        let both = format!("cat {sources} build.py | sha256sum; sha256sum < {name}.code");
        let output = Command::new("sh").arg("-c").arg(both).current_dir(&folder).output().unwrap();
        let now = String::from_utf8(output.stdout).unwrap().replace("  -", "");
        let then = std::fs::read_to_string(folder.join(format!("{name}.sources"))).unwrap();
        assert_eq!(now, then, "{name}.code is stale: run kernels/build.py");
    }
}

#[test]
fn a_machine_without_a_driver_says_where_it_was_looked_for() {
    match CudaDriver::find() {
        Ok(driver) => println!("skipped: this machine has a driver, {}", driver.path()),
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            let text = error.message();
            let told = text.contains("libcuda.so.1 not found; looked in ")
                && text.contains("/usr/lib")
                && text.contains(
                    &std::env::current_exe().unwrap().parent().unwrap().display().to_string(),
                );
            assert!(told || text.contains("wanted 12.0"), "{text}");
        }
        // A driver without a device.
        Err(error) => assert_eq!(error.kind(), ErrorKind::Device, "{error}"),
    }
}
