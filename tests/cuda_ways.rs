//! Ways that a machine or its environment asks for: a driver that the process has loaded by itself, and each block of memory
//! a piece of the driver's (LATENTBLEND_CUDA_EXACT). On a played driver.
#![allow(unsafe_code, reason = "the environment is set, and a library opened")]

mod common;

use common::operations::{Case, cases};
use common::played::Played;
use latentblend::Precision;
use latentblend::backend::{Backend, Cuda, CudaDriver, HostTensor};
use std::process::Command;
use std::sync::Mutex;

/// One at a time: both look at the environment.
static ONE: Mutex<()> = Mutex::new(());

#[test]
fn a_driver_that_the_process_has_loaded_is_taken_before_what_its_loader_finds() {
    let _guard = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let played = Played::new("loaded");
    // The loader knows it by that name, as it knows the real one, which lies nowhere that is looked for.
    let named = played.path.with_file_name("named.so");
    let mut linker = Command::new("gcc");
    let linker =
        linker.args(["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-Wl,--no-as-needed"]);
    let status = linker.arg("-o").arg(&named).arg(&played.path).status().unwrap();
    assert!(status.success());
    // SAFETY: it has no code of its own. It stays, as a driver does.
    let library = unsafe { libloading::Library::new(&named) }.unwrap();
    std::mem::forget(library);
    let driver = CudaDriver::find().unwrap();
    let own = played.path.canonicalize().unwrap();
    assert_eq!(std::path::Path::new(driver.path()), own);
    assert_eq!(driver.devices().len(), 1);
}

#[test]
fn each_block_is_a_piece_of_the_drivers_where_that_is_asked_for() {
    let _guard = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let plain = Played::new("pieces");
    let usual = Cuda::new(&plain.driver(), 0, Precision::F16).unwrap();
    let exact = Played::new("exact");
    // SAFETY: nobody else reads or writes the environment while the lock is held.
    unsafe { std::env::set_var("LATENTBLEND_CUDA_EXACT", "1") };
    let cuda = Cuda::new(&exact.driver(), 0, Precision::F16).unwrap();
    unsafe { std::env::remove_var("LATENTBLEND_CUDA_EXACT") };
    for (name, case) in cases() {
        let (wanted, got) = (case.run(&usual), case.run(&cuda));
        let same = wanted.data().iter().zip(got.data()).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same && wanted.shape() == got.shape(), "{name}: other bytes");
        // Nothing stays, and nothing is rounded up.
        assert_eq!((exact.get("held"), cuda.memory_held()), (0, 0), "{name}");
    }
    assert!(exact.get("takes") > 10 * plain.get("takes"), "{} takes", exact.get("takes"));
    let host = HostTensor::new([1, 1, 1, 3], vec![1.0, 2.0, 3.0]).unwrap();
    let x = cuda.upload(&host).unwrap();
    assert_eq!((exact.get("held"), cuda.memory_held()), (12, 12));
    // What is recorded has its arena, and its inputs, in the same way.
    let step = |inputs: &[_]| cuda.combine(&[(&inputs[0], &[2.0])]);
    for _ in 0..3 {
        let y = cuda.recorded(&[1], &[&x], &step).unwrap();
        assert_eq!(cuda.download(&y).unwrap().data(), [2.0, 4.0, 6.0]);
    }
    assert_eq!(cuda.replays().refused, None);
    assert!(exact.get("graphs") == 1 && cuda.memory_held() > 12);
    assert_eq!(cuda.memory_held() as i64, exact.get("held"));
    drop(x);
    cuda.trim();
    assert_eq!((exact.get("held"), cuda.memory_held()), (0, 0));
}
