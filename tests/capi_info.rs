//! What C is told of models and sessions, and the doctor's report.
#![cfg(feature = "demo")]
#![allow(unsafe_code, reason = "C hands over raw pointers")]

mod common;

use common::c::{empty, fail, image, load, made, session, small_options, succeed, tiny_path};
use latentblend::capi::*;
use latentblend::{Call, Model};
use std::ffi::{CStr, CString, c_char};
use std::ptr::{null, null_mut};

fn about(model: *const lb_model) -> lb_model_info {
    let mut info = empty();
    // SAFETY: as the header asks.
    succeed(|e| unsafe { lb_model_get_info(model, &mut info, e) });
    info
}

fn text<'a>(text: *const c_char) -> &'a str {
    assert!(!text.is_null());
    // SAFETY: the model, and so its text, is alive in these tests.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap()
}

fn state(session: *const lb_session) -> lb_session_info {
    let mut info = empty();
    // SAFETY: as the header asks.
    succeed(|e| unsafe { lb_session_get_info(session, &mut info, e) });
    info
}

#[test]
fn a_model_says_what_it_is_and_under_which_licence() {
    let mut model = null_mut();
    // SAFETY: as the header asks.
    succeed(|e| unsafe { lb_model_load(null(), null(), null(), &mut model, e) });
    let info = about(model);
    assert_eq!((info.native_width, info.native_height, info.size_multiple), (128, 128, 8));
    assert_eq!((info.prediction, info.inpainting, info.exact), (LB_PREDICTION_V, 0, 1));
    assert_eq!(text(info.name), "latentblend demo model");
    assert!(text(info.licence).starts_with("MIT OR Apache-2.0"), "{}", text(info.licence));
    assert!(text(info.licence).contains("Permission is hereby granted"));
    let rust = Model::demo(&Call::new()).unwrap();
    assert_eq!(text(info.fingerprint), rust.info().fingerprint.unwrap().to_string());
    assert_eq!(info.memory_bytes, rust.memory_bytes());
    // 0.93 + 3.41 + 7.62 million weights (the model's card). Kept as they are in their file they take two bytes
    // each; the 3x3 kernels among them take 64/9 as Winograd's method wants them.
    let each = info.memory_bytes as f64 / 11.96e6;
    assert!((2.0..64.0 / 9.0).contains(&each), "{each} bytes for a weight");
    lb_model_release(model);
}

#[test]
fn a_licence_beside_the_weights_goes_before_what_is_known() {
    let folder = common::folder::Folder::new();
    let licence = || folder.load().unwrap().licence().to_owned();
    assert_eq!(licence(), "No licence lies beside the weights, and they are of no known model.");
    folder.write("README.md", "---\nlicense: openrail++\n---\n# A model");
    assert_eq!(licence(), "openrail++ (as the model's card, README.md, says)");
    folder.write("LICENSE.md", "Do as you like.\n");
    assert_eq!(licence(), "Do as you like.\n");
    folder.write("LICENSE-MODEL", "The model's own.\0");
    let model = load(&CString::new(folder.path("").to_str().unwrap()).unwrap());
    assert_eq!(text(about(model).licence), "The model's own.\u{fffd}");
    assert_eq!(text(about(model).name), "");
    lb_model_release(model);
    // One that is not a text, or far too long, is not taken for a licence.
    folder.write("LICENSE-MODEL", vec![b'x'; 1 << 19]);
    assert_eq!(licence(), "Do as you like.\n");
}

#[test]
fn a_session_says_what_it_holds_has_done_and_would_do() {
    let model = load(&tiny_path("base"));
    let options = lb_blend_options { preset: LB_PRESET_MEDIUM, steps: 0, ..small_options() };
    let session = session(model, &options);
    let before = state(session);
    assert_eq!((before.evaluations_done, before.cached_bytes, before.memory_bytes), (0, 0, 0));
    assert!(before.evaluations_to_prepare > 0);
    // SAFETY: as the header asks.
    succeed(|e| unsafe { lb_session_prepare(session, null(), e) });
    let prepared = state(session);
    assert_eq!(prepared.evaluations_done, before.evaluations_to_prepare);
    assert_eq!(prepared.evaluations_to_prepare, 0);
    // Latents, and the conditioning of three prompts: 77 tokens of width 32.
    assert_eq!(prepared.memory_bytes, prepared.cached_bytes + 3 * 77 * 32 * 4);
    let mut pixels = [0; 8 * 8 * 3];
    let target = image(&mut pixels, 8, 8);
    // SAFETY: as the header asks.
    succeed(|e| unsafe { lb_session_render(session, 0.5, &target, null(), e) });
    assert_eq!(state(session).evaluations_done, prepared.evaluations_done + prepared.evaluations);
    lb_session_release(session);
    lb_model_release(model);
}

/// The report, and the length that was told.
fn report(path: Option<&CStr>, capacity: usize) -> (String, usize) {
    let mut bytes = vec![0x55u8; capacity + 1];
    let mut length = 0;
    let path = path.map_or(null(), CStr::as_ptr);
    let target = if capacity == 0 { null_mut() } else { bytes.as_mut_ptr().cast() };
    // SAFETY: as the header asks.
    succeed(|e| unsafe { lb_doctor(path, target, capacity, &mut length, e) });
    assert_eq!(bytes[capacity], 0x55, "written beyond the capacity");
    if capacity == 0 {
        return (String::new(), length);
    }
    let text = CStr::from_bytes_until_nul(&bytes).unwrap();
    (text.to_str().unwrap().to_owned(), length)
}

#[test]
fn the_doctor_says_all_and_its_test_frame_is_the_expected_one() {
    let path = tiny_path("inpainting");
    let (text, length) = report(Some(&path), 1 << 16);
    assert_eq!(text.len(), length);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    // SAFETY: static strings.
    let version = unsafe { CStr::from_ptr(lb_version_string()) }.to_str().unwrap();
    assert_eq!(value["library"]["version"], version);
    assert_eq!(value["library"]["abi_version"], lb_abi_version());
    assert!(value["library"]["features"].as_array().unwrap().contains(&"demo".into()));
    let threads = std::thread::available_parallelism().unwrap().get();
    assert_eq!(value["cpu"]["threads"], threads);
    assert!(value["cpu"]["level"].is_string());
    if cfg!(target_os = "linux") {
        let memory = |name: &str| value["memory"][name].as_u64().unwrap();
        assert!(memory("process_bytes") <= memory("process_peak_bytes"));
        assert!(memory("process_peak_bytes") < memory("machine_bytes"));
    }
    let devices = value["devices"].as_array().unwrap();
    assert_eq!((&devices[0]["kind"], &devices[0]["usable"]), (&"cpu".into(), &true.into()));
    let cuda = devices.iter().find(|device| device["kind"] == "cuda").unwrap();
    // On a machine with a driver the device says what it is instead.
    if cuda["usable"] == false {
        assert!(cuda["why"].as_str().unwrap().contains("CUDA"), "{cuda}");
    }
    for sought in cuda["looked_for"].as_array().into_iter().flatten() {
        let found = sought["found"].is_string();
        let places = sought["looked_in"].as_array().map_or(0, Vec::len);
        assert!(found != (places > 0), "{sought}");
    }
    let tried = value["models"]["tried"].as_array().unwrap();
    assert_eq!(tried[0]["path"], path.to_str().unwrap());
    assert_eq!((&tried[0]["usable"], &tried[0]["inpainting"]), (&true.into(), &true.into()));
    assert_eq!(tried[0]["from"], "argument");
    let embedded = tried.iter().find(|model| model["layout"] == "embedded").unwrap();
    assert_eq!(embedded["name"], "latentblend demo model");
    let frame = &value["test_frame"];
    assert_eq!(frame["as_expected"], true, "{frame}");
    assert_eq!(frame["hash"].as_str().unwrap().len(), 32);
}

#[test]
fn the_doctor_never_fails_and_keeps_to_the_room_it_was_given() {
    let (text, _) = report(Some(c"/no/such/model"), 1 << 16);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let tried = &value["models"]["tried"][0];
    assert_eq!(tried["usable"], false);
    assert!(tried["why"].as_str().unwrap().starts_with("/no/such/model: "), "{tried}");
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.safetensors");
    std::fs::write(&broken, "no model").unwrap();
    let path = CString::new(broken.to_str().unwrap()).unwrap();
    let value: serde_json::Value = serde_json::from_str(&report(Some(&path), 1 << 16).0).unwrap();
    let why = value["models"]["tried"][0]["why"].as_str().unwrap();
    assert!(why.contains("neither a safetensors file nor a PyTorch archive"), "{why}");
    // Cut off where there is less room, and nothing where there is none.
    let (cut, length) = report(None, 100);
    assert_eq!(cut.len(), 99);
    assert!(length > 1000 && cut.starts_with("{\"library\":"), "{cut}");
    assert_eq!(report(None, 1).0, "");
    assert!(report(None, 0).1 > 1000);
}

#[test]
fn weights_go_and_frames_stay_the_same() {
    let path = tiny_path("base");
    let mut model = null_mut();
    // The time comes late enough to see them there, and is long for no machine.
    let options = lb_model_options {
        precision: LB_PRECISION_F32,
        idle_seconds: 1e9,
        ..made(lb_model_options_init)
    };
    assert_eq!(made(lb_model_options_init).idle_seconds, 0.0);
    // SAFETY: as the header asks.
    succeed(|e| unsafe { lb_model_load(path.as_ptr(), &options, null(), &mut model, e) });
    let before = about(model);
    let session = session(model, &small_options());
    let frame = || {
        let mut pixels = vec![0; 8 * 8 * 3];
        let target = image(&mut pixels, 8, 8);
        // SAFETY: as the header asks.
        succeed(|e| unsafe { lb_session_render(session, 0.5, &target, null(), e) });
        lb_session_purge(session);
        pixels
    };
    let wanted = frame();
    let unload = || {
        let mut bytes = u64::MAX;
        // SAFETY: as the header asks.
        succeed(|e| unsafe { lb_model_unload(model, &mut bytes, e) });
        bytes
    };
    assert!(unload() >= before.memory_bytes);
    assert_eq!(unload(), 0, "there was nothing more");
    let after = about(model);
    assert_eq!((after.memory_bytes, after.peak_bytes), (0, before.peak_bytes));
    assert_eq!((after.precision, after.threads), (before.precision, before.threads));
    assert!(after.samples > 0 && text(after.fingerprint) == text(before.fingerprint));
    assert_eq!(frame(), wanted);
    assert_eq!(about(model).memory_bytes, before.memory_bytes);
    // SAFETY: as the header asks.
    fail(LB_ERROR_INVALID_ARGUMENT, "bytes is NULL", |e| unsafe {
        lb_model_unload(model, null_mut(), e)
    });
    assert_eq!(about(model).memory_bytes, before.memory_bytes, "a failed call acted");
    lb_session_release(session);
    lb_model_release(model);
}

#[test]
fn idle_weights_go_by_themselves() {
    let path = tiny_path("base");
    let options = lb_model_options { idle_seconds: 1e-3, ..made(lb_model_options_init) };
    let mut model = null_mut();
    // SAFETY: as the header asks.
    succeed(|e| unsafe { lb_model_load(path.as_ptr(), &options, null(), &mut model, e) });
    // Generous: a machine may be busy.
    let gone = (0..60_000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        about(model).memory_bytes == 0
    });
    assert!(gone);
    lb_model_release(model);
}

#[test]
fn idle_memory_goes_back_and_frames_stay_the_same() {
    let model = load(&tiny_path("base"));
    let session = session(model, &small_options());
    let frame = || {
        let mut pixels = vec![0; 8 * 8 * 3];
        let target = image(&mut pixels, 8, 8);
        // SAFETY: as the header asks.
        succeed(|e| unsafe { lb_session_render(session, 0.5, &target, null(), e) });
        lb_session_purge(session);
        pixels
    };
    let before = frame();
    let freed = lb_model_trim(model);
    // The reference backend keeps nothing.
    let keeps = std::env::var("LATENTBLEND_CPU_LEVEL").as_deref() != Ok("reference");
    assert_eq!(freed > 0, keeps, "{freed} bytes");
    assert_eq!(lb_model_trim(model), 0, "there was nothing more");
    assert_eq!(frame(), before);
    lb_session_release(session);
    lb_model_release(model);
}
