//! What a model computes with: its precision, its threads, its memory. Chosen when it is loaded; pictures stay the
//! same to the eye, and where they don't stay the same to the bit a session's file says so.
#![cfg(feature = "demo")]

mod common;

use common::{in_f32, same, short};
use latentblend::backend::Level;
use latentblend::{
    BlendOptions, Call, ErrorKind, Frame, Keyframe, LoadOptions, Model, Precision, RestoreOptions,
    Session,
};
use std::process::Command;

fn demo(options: &LoadOptions) -> Model {
    Model::demo_with(options, &Call::new()).unwrap()
}

fn in_bf16() -> LoadOptions {
    LoadOptions { precision: Precision::Bf16, ..LoadOptions::default() }
}

fn precision(model: &Model) -> String {
    model.engine().numerics().precision
}

/// Peak signal to noise, of pictures from 0 to 1, in dB.
fn psnr(a: &Frame, b: &Frame) -> f64 {
    let squares = a.rgb().iter().zip(b.rgb()).map(|(a, b)| f64::from(a - b).powi(2));
    -10.0 * (squares.sum::<f64>() / a.rgb().len() as f64).log10()
}

#[test]
fn a_picture_in_bf16_is_that_in_f32_to_40_db() {
    let keyframes = [
        Keyframe::new("a photo of a mountain lake at dawn", 420),
        Keyframe::new("a lighthouse by the sea at night, with stars", 69731932).negative("rain"),
        Keyframe::new("a poster of a hot air balloon", 7),
    ];
    let frames = |model: &Model| -> Vec<Frame> {
        let session = Session::new(model, &keyframes, &BlendOptions::default()).unwrap();
        let times = [0.0, 0.5, 1.0, 1.37, 2.0];
        times.iter().map(|&t| session.render(t, &Call::new()).unwrap()).collect()
    };
    let (full, brain) = (demo(&in_f32()), demo(&in_bf16()));
    assert_eq!([precision(&full), precision(&brain)], ["f32", "bf16"]);
    assert_eq!(full.info().fingerprint, brain.info().fingerprint);
    for (full, brain) in frames(&full).iter().zip(&frames(&brain)) {
        let found = psnr(full, brain);
        println!("{found:.1} dB");
        assert!(found >= 40.0, "{found} dB");
    }
}

/// Run by the tests below, with an environment of their choice.
#[test]
fn what_the_caller_leaves_open() {
    let result = Model::demo(&Call::new());
    println!("found: {}", result.as_ref().map_or_else(|e| e.to_string(), precision));
}

/// What a model is computed with where the variables are set so and the caller leaves the choice.
fn left_open(variables: &[(&str, &str)]) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.env_remove("LATENTBLEND_PRECISION").env_remove("LATENTBLEND_CPU_LEVEL");
    child.envs(variables.iter().copied());
    let child = child.args(["--exact", "what_the_caller_leaves_open", "--nocapture"]);
    let output = String::from_utf8(child.output().unwrap().stdout).unwrap();
    let found = output.lines().find_map(|line| Some(line.split_once("found: ")?.1.to_owned()));
    found.unwrap_or_else(|| panic!("{output}"))
}

#[test]
fn auto_is_what_the_processor_is_best_at_and_the_environment_may_name_another() {
    let best = Level::best().precision();
    assert_eq!(left_open(&[]), best.name());
    assert_eq!(left_open(&[("LATENTBLEND_PRECISION", "")]), best.name());
    assert_eq!(left_open(&[("LATENTBLEND_PRECISION", "Auto")]), best.name());
    for name in ["f32", "bf16"] {
        assert_eq!(left_open(&[("LATENTBLEND_PRECISION", name)]), name);
    }
    for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
        let wanted = level.precision();
        // Vectors of pairs are faster on some processors only, which `level.rs` knows.
        match level {
            Level::Amx => assert_eq!(wanted, Precision::Bf16),
            Level::Avx512Bf16 => assert!([Precision::F32, Precision::Bf16].contains(&wanted)),
            _ => assert_eq!(wanted, Precision::F32),
        }
        assert_eq!(left_open(&[("LATENTBLEND_CPU_LEVEL", level.name())]), wanted.name());
    }
    assert_eq!(left_open(&[("LATENTBLEND_CPU_LEVEL", "reference")]), "f32");
    assert_eq!(
        left_open(&[("LATENTBLEND_PRECISION", "fast")]),
        "LATENTBLEND_PRECISION: precision \"fast\" is none of \"auto\", \"f32\", \"f16\", \"bf16\""
    );
    assert_eq!(
        left_open(&[("LATENTBLEND_PRECISION", "bf16"), ("LATENTBLEND_CPU_LEVEL", "reference")]),
        "precision bf16: the reference backend computes in f32"
    );
}

#[test]
fn what_the_caller_says_goes_before_the_environment() {
    // Whatever it is set to in this run.
    assert_eq!(precision(&demo(&in_f32())), "f32");
    assert_eq!(precision(&demo(&in_bf16())), "bf16");
    let half = LoadOptions { precision: Precision::F16, ..LoadOptions::default() };
    let error = Model::demo_with(&half, &Call::new()).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.message(), "precision f16: the processor computes in f32 or bf16");
}

#[test]
fn a_session_of_another_precision_is_refused_unless_it_is_accepted() {
    let (keyframes, options) = short();
    let (full, brain) = (demo(&in_f32()), demo(&in_bf16()));
    let folder = tempfile::tempdir().unwrap();
    for (there, here) in [(&full, &brain), (&brain, &full)] {
        let session = Session::new(there, &keyframes, &options).unwrap();
        session.prepare(&Call::new()).unwrap();
        let path = folder.path().join(precision(there));
        session.save(&path, &Call::new()).unwrap();
        let load = |model: &Model, accept_other_numerics: bool| {
            let options = RestoreOptions { accept_other_numerics, ..RestoreOptions::default() };
            Session::load(model, &path, &options, &Call::new())
        };
        let error = load(here, false).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let named = format!("precision '{}', here '{}'", precision(there), precision(here));
        assert!(error.message().contains(&named), "{error}");
        let wanted = session.render(0.37, &Call::new()).unwrap();
        let again = load(there, false).unwrap().render(0.37, &Call::new()).unwrap();
        assert!(same(&again, &wanted));
        // Plan and branches are the file's, only the last steps are of another precision.
        let accepted = load(here, true).unwrap().render(0.37, &Call::new()).unwrap();
        let found = psnr(&accepted, &wanted);
        assert!(found >= 40.0 && !same(&accepted, &wanted), "{found} dB");
    }
}

#[test]
fn a_frame_does_not_depend_on_the_number_of_threads() {
    let (keyframes, options) = short();
    let options = BlendOptions { size: Some([128, 96]), ..options };
    for precision in [Precision::F32, Precision::Bf16] {
        let frames = |threads: usize| -> Vec<Frame> {
            let how = LoadOptions { precision, threads, ..LoadOptions::default() };
            let model = demo(&how);
            let cores = std::thread::available_parallelism().unwrap().get();
            let wanted = if threads == 0 { cores } else { threads };
            assert_eq!(model.engine().threads(), wanted);
            let session = Session::new(&model, &keyframes, &options).unwrap();
            session.prepare(&Call::new()).unwrap();
            [0.0, 0.3, 0.8].iter().map(|&t| session.render(t, &Call::new()).unwrap()).collect()
        };
        let one = frames(1);
        for threads in [0, 2, 3, 8] {
            let others = frames(threads);
            assert!(one.iter().zip(&others).all(|(a, b)| same(a, b)), "{precision}, {threads}");
        }
    }
}

/// The names of this process's threads.
#[cfg(target_os = "linux")]
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().filter_map(Result::ok);
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}

/// Neither the engine called by itself nor a session computes on the caller's threads, or makes more of its own
/// for more callers.
#[cfg(target_os = "linux")]
#[test]
fn no_more_threads_compute_than_were_asked_for() {
    // A number that no other test has: the last of them tells of the pool.
    let how = LoadOptions { threads: 11, ..in_f32() };
    let first = demo(&how);
    let second = Model::demo_inpainting_with(&how, &Call::new()).unwrap();
    let (keyframes, options) = short();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let session = Session::new(&first, &keyframes, &options).unwrap();
                session.render(0.4, &Call::new()).unwrap();
            });
            scope.spawn(|| {
                let (ids, _) = second.tokenize("a castle").unwrap();
                second.engine().encode_prompts(&[&ids]).unwrap();
            });
        }
    });
    let names = threads();
    assert_eq!(names.iter().filter(|name| *name == "latentblend-10").count(), 1, "{names:?}");
    assert_eq!(names.iter().filter(|name| *name == "latentblend-11").count(), 0, "{names:?}");
    // The caller's own thread waits.
    let (ids, _) = first.tokenize("a castle").unwrap();
    let before = ticks();
    for _ in 0..20 {
        first.engine().encode_prompts(&[&ids]).unwrap();
    }
    let spent = ticks() - before;
    assert!(spent <= 3, "{spent} hundredths of a second were computed on the caller's thread");
}

/// The processor time of this thread so far, in hundredths of a second.
#[cfg(target_os = "linux")]
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn more_threads_than_anybody_has_are_refused() {
    let options = LoadOptions { threads: 1025, ..LoadOptions::default() };
    let error = Model::demo_with(&options, &Call::new()).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(error.message(), "1025 threads: wanted 0 (all cores) to 1024");
}

#[test]
fn a_model_beyond_the_memory_that_is_allowed_is_refused_before_it_is_read() {
    let limited = |bytes: u64| LoadOptions { memory_limit: Some(bytes), ..in_f32() };
    let weights = demo(&in_f32()).memory_bytes();
    let error = Model::demo_with(&limited(1 << 20), &Call::new()).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    let told: u64 = error
        .message()
        .strip_prefix("the model needs about ")
        .and_then(|rest| rest.strip_suffix(" MiB of memory, 1 are allowed"))
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{error}"));
    // The estimate is that of what is then held.
    let held = weights as f64 / f64::from(1 << 20);
    assert!((held - 1.0..held * 1.02 + 1.0).contains(&(told as f64)), "{told} MiB for {held}");
}

#[test]
fn a_size_beyond_the_memory_that_is_allowed_is_refused_before_it_is_begun() {
    let open = demo(&in_f32());
    let [small, large] = [[128, 128], [512, 512]].map(|size| open.peak_bytes(size, usize::MAX));
    assert!(open.memory_bytes() < small && small < large);
    // One branch takes less than several at a time, and no more are taken than the engine's batch.
    assert!(open.peak_bytes([512, 512], 1) <= open.peak_bytes([512, 512], 4));
    assert_eq!(open.peak_bytes([512, 512], 1000), large);
    let model = demo(&LoadOptions { memory_limit: Some(small), ..in_f32() });
    let (keyframes, options) = short();
    let session = |size| {
        let options = BlendOptions { size: Some(size), ..options.clone() };
        Session::new(&model, &keyframes, &options)
    };
    session([128, 128]).unwrap().render(0.5, &Call::new()).unwrap();
    let error = session([512, 512]).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let wanted = format!(
        "a frame of 512x512 pixels needs about {} MiB of memory, {} are allowed",
        mib(large),
        small >> 20
    );
    assert_eq!(error.message(), wanted);
}
