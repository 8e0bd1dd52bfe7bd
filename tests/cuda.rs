//! The CUDA backend on a played driver: finding it, models on it against the CPU, and what a device can fail with.
#![allow(unsafe_code, reason = "the played driver is a library in C")]

mod common;

use common::played::{Played, built, machine};
use common::{golden, same, short};
use latentblend::backend::{Backend, Cuda, CudaDriver, CudaTensor, HostTensor};
use latentblend::{
    Batch, BlendOptions, Branch, Branching, Call, DeviceChoice, ErrorKind, Frame, Latent,
    LoadOptions, Model, NoiseKind, Precision, SchedulePolicy, Session, noise,
};
use std::path::Path;
use std::sync::Arc;

/// Of a run; the last two are a frame's own.
const STEPS: usize = 4;

fn tiny(device: DeviceChoice) -> Model {
    let options = LoadOptions { device, ..LoadOptions::default() };
    Model::load_with(golden::path("tiny").join("base"), &options, &Call::new()).unwrap()
}

/// As little as has a tree: an emulated device is slow.
fn session(model: &Model) -> Session {
    let (keyframes, options) = short();
    let options = BlendOptions {
        size: Some([16, 16]),
        steps: Some(STEPS),
        branching: Some(Branching { injections: vec![0, 2], branches: vec![2, 3] }),
        ..options
    };
    Session::new(model, &keyframes, &options).unwrap()
}

/// `count` branches of 16x16 pixels after a single step.
fn one_step(model: &Model, count: u64) -> Vec<Latent> {
    let context = |prompt: &str| {
        let ids = model.tokenize(prompt).unwrap().0;
        Arc::new(model.engine().encode_prompts(&[&ids]).unwrap().remove(0))
    };
    let (positive, negative) = (context("a lighthouse"), context(""));
    let branch = |seed| Branch {
        latent: noise(NoiseKind::Cuda, seed, [4, 2, 2]).unwrap(),
        history: None,
        feed: None,
        positive: Arc::clone(&positive),
        negative: Arc::clone(&negative),
        guidance: 4.0,
        extra: None,
    };
    let batch = Batch {
        branches: (0..count).map(branch).collect(),
        schedule: Arc::new(model.schedule(STEPS, SchedulePolicy::default()).unwrap()),
        steps: 0..1,
        keep: 0,
        guidance: Arc::default(),
    };
    let trails = Arc::clone(model.engine()).denoise(batch).unwrap().advance().unwrap().unwrap();
    trails.iter().map(|trail| trail.last().latent.clone()).collect()
}

/// The ratio of signal to noise of a picture in 0..=1, in decibels.
fn psnr(a: &Frame, b: &Frame) -> f64 {
    let squares = a
        .rgb()
        .iter()
        .zip(b.rgb())
        .map(|(&a, &b)| (f64::from(a.clamp(0.0, 1.0)) - f64::from(b.clamp(0.0, 1.0))).powi(2));
    -10.0 * (squares.sum::<f64>() / a.rgb().len() as f64).log10()
}

#[test]
fn a_missing_driver_is_an_error_that_says_where_it_was_looked_for() {
    let (_, _guard) = machine();
    let error = CudaDriver::open(Path::new("/nowhere/libcuda.so.1")).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("/nowhere/libcuda.so.1"), "{error}");
    // A library without the functions.
    let folder = built().parent().unwrap().join(format!("empty-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (source, library) = (folder.join("empty.c"), folder.join("libcuda.so.1"));
    std::fs::write(&source, "int cuInit(unsigned f) { return 0; }\n").unwrap();
    let mut compiler = std::process::Command::new("gcc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
    assert!(compiler.status().unwrap().success());
    let error = CudaDriver::open(&library).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("has no function cuDriverGetVersion"), "{error}");
}

#[test]
fn a_driver_without_a_device_and_an_old_one_are_refused_with_the_reason() {
    let played = Played::new("none");
    played.set("devices", 0);
    let error = CudaDriver::open(&played.path).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Device);
    assert!(error.message().contains("CUDA_ERROR_NO_DEVICE"), "{error}");
    let played = Played::new("old");
    played.set("version", 11080);
    let error = CudaDriver::open(&played.path).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("CUDA 11.8, wanted 12.0"), "{error}");
    // The oldest driver that will do, with a device of another generation: its machine code is another (driver.cpp looks).
    let played = Played::new("oldest");
    played.set("version", 12000);
    played.set("major", 8);
    Cuda::new(&played.driver(), 0, Precision::F16).unwrap();
    let played = Played::new("pascal");
    played.set("major", 6);
    let driver = played.driver();
    let error = Cuda::new(&driver, 0, Precision::F16).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("capability 6.0, wanted 7.5"), "{error}");
    let error = Cuda::new(&driver, 3, Precision::F16).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn devices_are_chosen_by_number_by_uuid_and_by_themselves() {
    let (_, _guard) = machine();
    let uuid: [u8; 16] = std::array::from_fn(|i| i as u8 + 1);
    for choice in [DeviceChoice::Cuda(0), DeviceChoice::CudaUuid(uuid), DeviceChoice::Auto] {
        assert_eq!(tiny(choice).engine().numerics().device, "cuda", "{choice:?}");
    }
    assert_eq!(tiny(DeviceChoice::Cpu).engine().numerics().device, "cpu");
    // f32 is the CPU's.
    let exact = LoadOptions { precision: Precision::F32, ..LoadOptions::default() };
    let path = golden::path("tiny").join("base");
    let model = Model::load_with(&path, &exact, &Call::new()).unwrap();
    assert_eq!(model.engine().numerics().device, "cpu");
    let both = LoadOptions { device: DeviceChoice::Cuda(0), ..exact };
    let error = Model::load_with(&path, &both, &Call::new()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    for wrong in [DeviceChoice::Cuda(7), DeviceChoice::CudaUuid([9; 16])] {
        let options = LoadOptions { device: wrong, ..LoadOptions::default() };
        let path = golden::path("tiny").join("base");
        let error = Model::load_with(path, &options, &Call::new()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    assert_eq!("cuda:2".parse::<DeviceChoice>().unwrap(), DeviceChoice::Cuda(2));
    assert!("gpu".parse::<DeviceChoice>().is_err());
}

#[test]
fn frames_on_cuda_are_those_of_the_cpu_and_the_same_in_any_batch() {
    let (played, _guard) = machine();
    let (cuda, cpu) = (tiny(DeviceChoice::Cuda(0)), tiny(DeviceChoice::Cpu));
    let times = [0.0, 0.375, 0.75];
    let together = session(&cuda).render_many(&times, &Call::new()).unwrap();
    for (t, frame) in times.iter().zip(&together) {
        let wanted = session(&cpu).render(*t, &Call::new()).unwrap();
        let ratio = psnr(frame, &wanted);
        println!("t = {t}: {ratio:.1} dB");
        // A net of 8 to 16 channels, whose last layer is fitted to random features, makes more of what f16 rounds off
        // than a trained one, of which 45 dB are wanted (tests/gpu).
        assert!(ratio >= 35.0, "t = {t}: {ratio} dB");
    }
    for count in [1, 2] {
        let some = session(&cuda).render_many(&times[..count], &Call::new()).unwrap();
        for (a, b) in some.iter().zip(&together) {
            assert!(same(a, b), "in a batch of {count}");
        }
    }
    // Steps were recorded, and what was recorded is what runs.
    assert!(played.get("replays") > 0, "{} replays", played.get("replays"));
}

#[test]
fn a_replayed_step_asks_the_driver_for_no_memory_and_copies_nothing_from_the_host() {
    let (played, _guard) = machine();
    let model = tiny(DeviceChoice::Cuda(0));
    let session = session(&model);
    session.prepare(&Call::new()).unwrap();
    // By then everything is recorded, in an arena that holds the largest step.
    for t in [0.3, 0.35, 0.4] {
        session.render(t, &Call::new()).unwrap();
    }
    let count = |what| played.get(what);
    let (takes, launches, replays) = (count("takes"), count("launches"), count("replays"));
    session.render(0.45, &Call::new()).unwrap();
    assert_eq!(count("takes"), takes, "memory was taken");
    // Two gathers and a sum a step, and the keys and values of the frame's prompts at the start.
    let steps = count("replays") - replays;
    assert!(steps == 3, "{steps} steps, wanted two and a decode");
    let others = count("launches") - launches;
    assert!(others < 4 * steps + 40, "{others} launches beside {steps} replayed steps");
    assert_eq!(count("context"), 0, "a context was left current");
    model.trim();
    assert_eq!(count("graphs"), 0, "recordings were kept");
}

#[test]
fn a_host_that_records_on_another_thread_is_left_alone() {
    let played = Played::new("recording");
    let driver = played.driver();
    played.set("host records", 1);
    let cuda = Cuda::new(&driver, 0, Precision::F16).unwrap();
    let host = HostTensor::new([1, 2, 2, 2], (0..8).map(|i| i as f32).collect()).unwrap();
    assert_eq!(cuda.download(&cuda.upload(&host).unwrap()).unwrap(), host);
    cuda.trim();
    drop(cuda);
    assert_eq!((played.get("held"), played.get("pinned")), (0, 0));
    assert_eq!(played.get("host records"), 1, "its recording was spoilt");
}

#[test]
fn what_is_copied_to_a_device_is_free_at_once_however_much() {
    let played = Played::new("ring");
    let cuda = Cuda::new(&played.driver(), 0, Precision::F16).unwrap();
    // Several rounds of the ring, beginning anywhere in it.
    for length in [1, 77, 1 << 20, 9_000_001, 3] {
        let host = HostTensor::new([length], (0..length).map(|i| i as f32).collect()).unwrap();
        let there = cuda.upload(&host).unwrap();
        assert_eq!(cuda.download(&there).unwrap().data(), host.data());
    }
    assert_eq!(played.get("pageable"), 0, "the driver reads memory that may be gone");
    assert_eq!(played.get("pinned"), 1);
}

#[test]
fn two_models_may_record_at_once() {
    let (played, _guard) = machine();
    let models = [0, 1].map(|_| tiny(DeviceChoice::Cuda(0)));
    let wanted = one_step(&models[0], 1);
    let of_device = Cuda::new(&CudaDriver::find().unwrap(), 0, Precision::F16).unwrap();
    let before = of_device.replays();
    assert_eq!(before.refused, None);
    one_step(&models[1], 1);
    // Both record now; whoever begins gives the other time to come in between.
    played.set("pause", 50);
    std::thread::scope(|scope| {
        for model in &models {
            scope.spawn(|| assert_eq!(one_step(model, 1), wanted));
        }
    });
    played.set("pause", 0);
    let after = of_device.replays();
    assert_eq!(after.refused, None);
    assert_eq!((after.recorded, after.replayed), (before.recorded + 2, before.replayed + 2));
}

#[test]
fn a_step_that_panics_while_it_is_recorded_leaves_the_recorder_free() {
    let played = Played::new("panics");
    let cuda = Cuda::new(&played.driver(), 0, Precision::F16).unwrap();
    let x = HostTensor::new([1, 2, 2, 8], vec![1.0; 32]).unwrap();
    let x = cuda.upload(&x).unwrap();
    let runs = std::cell::Cell::new(0);
    let run = |key: usize, panics: bool| {
        runs.set(0);
        let step = |inputs: &[CudaTensor]| {
            // Once as it is, once planned, once recorded.
            runs.set(runs.get() + 1);
            assert!(!panics || runs.get() < 3, "in the midst of it");
            cuda.combine(&[(&inputs[0], &[2.0])])
        };
        for _ in 0..3 {
            let y = cuda.recorded(&[key], &[&x], &step).unwrap();
            assert_eq!(cuda.download(&y).unwrap().data(), [2.0; 32]);
        }
    };
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(1, true)));
    assert!(outcome.is_err() && runs.get() == 3);
    run(2, false);
    let replays = cuda.replays();
    assert_eq!((replays.recorded, replays.replayed, replays.refused), (1, 2, None));
    assert_eq!(played.get("context"), 0, "a context was left current");
}

#[test]
fn too_little_memory_is_met_by_smaller_batches_and_then_is_an_error() {
    let (played, _guard) = machine();
    let model = tiny(DeviceChoice::Cuda(0));
    let wanted = one_step(&model, 2);
    // The same within the step that is now recorded: the branches go one by one.
    let before = played.get("launches");
    played.set("failure", 2);
    played.set("fail after", 100);
    let latents = one_step(&model, 2);
    assert_eq!(played.get("failing"), 0, "nothing failed");
    assert!(played.get("launches") - before > 200, "too few launches for two evaluations");
    assert_eq!(latents, wanted, "other latents");
    // What is too large by itself.
    let cuda = Cuda::new(&Played::new("little").driver(), 0, Precision::F16).unwrap();
    cuda.limit_memory(Some(64 << 20));
    let large = HostTensor::new([1, 4096, 4096, 2], vec![0.0; 1 << 25]).unwrap();
    let error = cuda.upload(&large).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert!(error.message().contains("134217728 more bytes"), "{error}");
    let small = HostTensor::new([1, 1, 2, 2], vec![1.0, 2.0, 3.0, 4.0]).unwrap();
    assert_eq!(cuda.download(&cuda.upload(&small).unwrap()).unwrap(), small);
    assert!(cuda.memory_held() <= 64 << 20);
}

#[test]
fn a_lost_device_is_an_error_and_the_cpu_goes_on() {
    let (played, _guard) = machine();
    let model = tiny(DeviceChoice::Cuda(0));
    let cpu = tiny(DeviceChoice::Cpu);
    let session = session(&model);
    played.set("failure", 700);
    played.set("fail after", 200);
    let error = session.render(0.5, &Call::new()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Device);
    assert!(error.message().contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{error}");
    let again = session.render(0.5, &Call::new()).err().unwrap();
    assert_eq!(again.kind(), ErrorKind::Device);
    assert!(again.message().contains("was lost"), "{again}");
    self::session(&cpu).render(0.5, &Call::new()).unwrap();
    drop((session, model));
    // It comes back, and so do models.
    played.set("lost", 0);
    // So it does where its context is gone, as when somebody resets the device.
    for status in [201, 226, 911] {
        let cuda = Cuda::new(&CudaDriver::find().unwrap(), 0, Precision::F16).unwrap();
        played.set("lost", status);
        assert_eq!(cuda.wait().err().unwrap().kind(), ErrorKind::Device);
        assert!(cuda.is_lost(), "status {status}");
        played.set("lost", 0);
    }
    let model = tiny(DeviceChoice::Cuda(0));
    self::session(&model).render(0.5, &Call::new()).unwrap();
}

#[test]
fn weights_that_are_let_go_of_go_back_to_the_driver_and_come_again() {
    let (played, _guard) = machine();
    let get = |what| played.get(what);
    let before = get("held");
    let model = tiny(DeviceChoice::Cuda(0));
    let session = session(&model);
    // Often enough that steps are recorded.
    let frames = || [0.3, 0.35, 0.4].map(|t| session.render(t, &Call::new()).unwrap());
    let wanted = frames();
    session.purge();
    assert!(get("held") > before && get("graphs") > 0);
    let held = model.memory_bytes();
    assert!(model.unload() >= held && held > 0);
    assert_eq!((get("held"), get("graphs"), model.memory_bytes()), (before, 0, 0));
    for (a, b) in frames().iter().zip(&wanted) {
        assert!(same(a, b), "another frame");
    }
    // Beside another model on the device, which keeps what is its own.
    session.purge();
    model.unload();
    let other = tiny(DeviceChoice::Cuda(0));
    let alone = get("held");
    let others = self::session(&other);
    assert!(same(&others.render(0.3, &Call::new()).unwrap(), &wanted[0]));
    assert!(same(&session.render(0.3, &Call::new()).unwrap(), &wanted[0]));
    assert!(model.unload() >= held);
    other.trim();
    assert_eq!(get("held"), alone, "the other has its own and no more");
    assert!(same(&others.render(0.35, &Call::new()).unwrap(), &wanted[1]));
    assert_eq!(get("context"), 0, "a context was left current");
}

#[test]
fn the_devices_memory_and_the_models_limit_hold_while_weights_are_loaded_again() {
    let (played, _guard) = machine();
    let load = |memory_limit| {
        let device = DeviceChoice::Cuda(0);
        let options = LoadOptions { device, memory_limit, ..LoadOptions::default() };
        Model::load_with(golden::path("tiny").join("base"), &options, &Call::new()).unwrap()
    };
    let limited = load(Some(1 << 30));
    let wanted = one_step(&limited, 1);
    assert!(limited.unload() > 0);
    let before = played.get("held");
    played.set("limit", before + (1 << 10));
    let prompt = limited.tokenize("a lake").unwrap().0;
    let error = limited.engine().encode_prompts(&[&prompt]).err().unwrap();
    played.set("limit", 4 << 30);
    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
    assert_eq!((limited.memory_bytes(), played.get("held")), (0, before));
    assert_eq!(one_step(&limited, 1), wanted);
    // The device was opened anew, with the model's own limit.
    let cuda = Cuda::new(&CudaDriver::find().unwrap(), 0, Precision::F16).unwrap();
    let large = HostTensor::new([1, 8192, 8192, 5], vec![0.0; 5 << 26]).unwrap();
    let error = cuda.upload(&large).err().unwrap();
    assert!(error.message().contains("of a limit of 1073741824"), "{error}");
}

#[test]
fn a_lost_device_is_tried_again_by_the_sessions_that_are_there() {
    let (played, _guard) = machine();
    let model = tiny(DeviceChoice::Cuda(0));
    let session = session(&model);
    let wanted = session.render(0.5, &Call::new()).unwrap();
    session.purge();
    played.set("failure", 700);
    played.set("fail after", 100);
    assert_eq!(session.render(0.5, &Call::new()).err().unwrap().kind(), ErrorKind::Device);
    played.set("lost", 0);
    assert_eq!(session.render(0.5, &Call::new()).err().unwrap().kind(), ErrorKind::Device);
    model.unload();
    assert!(same(&session.render(0.5, &Call::new()).unwrap(), &wanted));
}
