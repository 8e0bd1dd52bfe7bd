//! Weights are let go of, on request and when nobody calls, and come back with the next call: from a folder, a single
//! file and the program itself, to the same bytes.

mod common;

use common::folder::{Folder, Stored, TEXT, UNET, VAE};
use common::single::{archive, like};
use common::{Reports, golden, in_f32, load, same, short, tiny};
use latentblend::{
    BlendOptions, Call, Cancel, ErrorKind, Frame, LoadOptions, Model, Session, Stage,
};
use std::ops::ControlFlow;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn session(model: &Model) -> Session {
    let (keyframes, options) = short();
    let options = BlendOptions { size: Some([16, 16]), steps: Some(4), ..options };
    Session::new(model, &keyframes, &options).unwrap()
}

fn frame(session: &Session) -> Frame {
    session.purge();
    session.render(0.4, &Call::new()).unwrap()
}

/// Lets go of a model's weights and has them back.
fn goes_and_comes(model: &Model) {
    let session = session(model);
    let (before, held) = (frame(&session), model.memory_bytes());
    let (peak, samples, cached) =
        (model.peak_bytes([16, 16], 1), model.engine().samples(), session.cached_bytes());
    let freed = model.unload();
    assert!(freed >= held && held > 0, "{freed} bytes of {held}");
    assert_eq!((model.memory_bytes(), model.unload(), model.trim()), (0, 0, 0));
    // What a call would take is what it was, and so is everything else that is known.
    assert_eq!((model.peak_bytes([16, 16], 1), model.engine().samples()), (peak, samples));
    assert_eq!(session.cached_bytes(), cached);
    assert_eq!(model.tokenize("a lake").unwrap().0.len(), 77);
    let again = self::session(model);
    assert!(again.evaluations_to_prepare() > session.evaluations_to_prepare());
    assert_eq!(model.memory_bytes(), 0, "none of these wants weights");
    // From what is cached, and anew.
    assert!(same(&session.render(0.4, &Call::new()).unwrap(), &before), "from a kept latent");
    assert_eq!(model.memory_bytes(), held);
    assert!(model.engine().samples() >= samples, "samples were forgotten");
    model.unload();
    assert!(same(&frame(&again), &before), "another frame from weights that were loaded again");
}

#[test]
fn weights_of_a_folder_go_on_request_and_come_back_with_the_next_call() {
    for name in ["base", "v", "inpainting"] {
        goes_and_comes(&tiny(name));
    }
}

#[test]
fn weights_of_a_single_file_go_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base.ckpt");
    std::fs::copy(archive("tiny.ckpt"), &path).unwrap();
    let model = Model::load_with(&path, &like("base"), &Call::new()).unwrap();
    goes_and_comes(&model);
}

#[cfg(feature = "demo")]
#[test]
fn weights_in_the_program_go_and_come_back_in_every_precision() {
    for precision in [latentblend::Precision::F32, latentblend::Precision::Bf16] {
        let options = LoadOptions { precision, ..LoadOptions::default() };
        let model = Model::demo_with(&options, &Call::new()).unwrap();
        let held = model.memory_bytes();
        let prompt = model.tokenize("a lake").unwrap().0;
        let encoded = || model.engine().encode_prompts(&[&prompt]).unwrap();
        let before = encoded();
        assert!(model.unload() >= held && model.memory_bytes() == 0, "{precision:?}");
        assert_eq!(encoded()[0].data(), before[0].data(), "{precision:?}");
        assert_eq!(model.memory_bytes(), held, "{precision:?}");
    }
}

/// In a process of its own, whose memory nobody else takes or gives back meanwhile.
#[cfg(all(feature = "demo", target_os = "linux", target_env = "gnu"))]
#[test]
fn memory_that_went_is_the_systems_again() {
    const CHILD: &str = "LATENTBLEND_TEST_UNLOADS";
    if std::env::var_os(CHILD).is_none() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "memory_that_went_is_the_systems_again", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let resident = || -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() * 1024
    };
    let model = Model::demo_with(&in_f32(), &Call::new()).unwrap();
    let (held, before) = (model.memory_bytes(), resident());
    model.unload();
    let after = resident();
    assert!(after + held * 9 / 10 < before, "{held} bytes went: {after} of {before} are left");
}

#[test]
fn an_engine_of_the_callers_own_keeps_what_it_has() {
    let (model, _) = common::watched::watched_model();
    assert_eq!(model.unload(), 0);
    frame(&session(&model));
}

#[test]
fn a_call_that_runs_keeps_the_weights_and_they_go_when_it_is_done() {
    let model = tiny("base");
    let session = session(&model);
    let before = frame(&session);
    session.purge();
    let held = model.memory_bytes();
    let reports = AtomicUsize::new(0);
    let call = Call::new().on_progress(|progress| {
        assert_ne!(progress.stage, Stage::Load, "loaded in the middle of a call");
        assert_eq!((model.unload(), model.memory_bytes()), (0, held));
        reports.fetch_add(1, Ordering::SeqCst);
        ControlFlow::Continue(())
    });
    let frame = session.render(0.4, &call).unwrap();
    drop(call);
    assert!(reports.into_inner() > 3);
    assert!(same(&frame, &before));
    assert_eq!(model.memory_bytes(), 0);
}

#[test]
fn threads_that_render_while_weights_are_dropped_see_the_same_bytes() {
    const THREADS: usize = 4;
    let model = tiny("base");
    let times = [0.1, 0.4, 0.7, 0.95];
    let wanted = session(&model).render_many(&times, &Call::new()).unwrap();
    let start = Barrier::new(THREADS + 1);
    std::thread::scope(|scope| {
        let renders: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (model, wanted, start) = (&model, &wanted, &start);
                scope.spawn(move || {
                    let session = session(model);
                    start.wait();
                    for round in 0..8 {
                        session.purge();
                        let place = (thread + round) % times.len();
                        let frame = session.render(times[place], &Call::new()).unwrap();
                        assert!(same(&frame, &wanted[place]), "thread {thread}, round {round}");
                    }
                })
            })
            .collect();
        start.wait();
        while renders.iter().any(|render| !render.is_finished()) {
            model.unload();
            std::thread::yield_now();
        }
    });
    model.unload();
    assert_eq!(model.memory_bytes(), 0);
}

#[test]
fn loading_again_is_reported_and_the_fraction_never_falls() {
    let model = tiny("base");
    let session = session(&model);
    let before = frame(&session);
    session.purge();
    model.unload();
    let reports = Reports::default();
    assert!(same(&session.render(0.4, &reports.call()).unwrap(), &before));
    let reports = reports.0.lock().unwrap();
    assert_eq!(reports[0].stage, Stage::Load);
    let load: Vec<_> = reports.iter().filter(|report| report.stage == Stage::Load).collect();
    assert!(load.len() > 10, "{} reports of the load", load.len());
    assert!(load.iter().all(|report| report.done <= report.total));
    assert!(reports.windows(2).all(|pair| pair[0].fraction <= pair[1].fraction), "{reports:?}");
    assert_eq!(reports.last().unwrap().stage, Stage::Decode);
}

#[test]
fn loading_again_can_be_cancelled_and_the_next_call_loads_anew() {
    let model = tiny("base");
    let session = session(&model);
    let before = frame(&session);
    let token = Cancel::new();
    for by_token in [false, true] {
        session.purge();
        model.unload();
        let reports = AtomicUsize::new(0);
        let mut call = Call::new().on_progress(|progress| {
            assert_eq!(progress.stage, Stage::Load);
            match reports.fetch_add(1, Ordering::SeqCst) {
                0..5 => ControlFlow::Continue(()),
                _ if by_token => {
                    token.request();
                    ControlFlow::Continue(())
                }
                _ => ControlFlow::Break(()),
            }
        });
        if by_token {
            call = call.cancel(&token);
        }
        let error = session.render(0.4, &call).unwrap_err();
        assert_eq!((error.kind(), model.memory_bytes()), (ErrorKind::Cancelled, 0), "{error}");
        assert_eq!(reports.load(Ordering::SeqCst), 6);
        assert!(same(&frame(&session), &before), "by token: {by_token}");
    }
}

#[test]
fn files_that_are_gone_or_others_are_errors_that_name_them() {
    let folder = Folder::new();
    let model = folder.load().unwrap();
    let session = session(&model);
    let before = frame(&session);
    let refused = |kind: ErrorKind, text: &str| {
        session.purge();
        model.unload();
        let error = session.render(0.4, &Call::new()).unwrap_err();
        assert_eq!((error.kind(), model.memory_bytes()), (kind, 0), "{error}");
        let told = ["weights that were let go of cannot be loaded again: ", text];
        assert!(told.iter().all(|told| error.message().contains(told)), "{error}");
    };
    let whole = folder.tensors(UNET);
    let path = folder.path(UNET).display().to_string();
    // Other numbers.
    folder.edit_tensors(UNET, |tensors| {
        let bytes = &mut tensors.get_mut("conv_in.bias").unwrap().bytes;
        bytes[0] ^= 1;
    });
    let place = folder.path("").display().to_string();
    refused(ErrorKind::BadModel, place.trim_end_matches('/'));
    refused(ErrorKind::BadModel, &model.info().fingerprint.unwrap().to_string());
    // Another shape, a file that ends early, and none.
    folder.edit_tensors(UNET, |tensors| {
        tensors.insert("conv_in.bias".into(), Stored::f32(&[3], &[0.0; 3]));
    });
    refused(ErrorKind::BadModel, &path);
    let bytes = std::fs::read(folder.path(VAE)).unwrap();
    folder.write_tensors(UNET, &whole);
    folder.write(VAE, &bytes[..bytes.len() / 2]);
    refused(ErrorKind::BadModel, &folder.path(VAE).display().to_string());
    folder.remove(VAE);
    refused(ErrorKind::NotFound, &folder.path("vae").display().to_string());
    // It is there again.
    folder.write(VAE, bytes);
    assert!(same(&frame(&session), &before));
}

#[test]
fn the_same_weights_in_other_files_are_the_same_model() {
    let folder = Folder::new();
    let model = folder.load().unwrap();
    let session = session(&model);
    let before = frame(&session);
    widen(&folder);
    model.unload();
    assert!(same(&frame(&session), &before));
}

/// Writes the weights of a folder as f32.
fn widen(folder: &Folder) {
    for name in [TEXT, UNET, VAE] {
        folder.edit_tensors(name, |tensors| {
            for stored in tensors.values_mut() {
                *stored = Stored::f32(&stored.shape.clone(), &stored.values());
            }
        });
    }
}

#[test]
fn the_memory_limit_holds_while_weights_are_loaded_again() {
    let folder = Folder::new();
    let narrow = folder.load().unwrap().memory_bytes();
    // Files of f32 are taken to need more, before they are read.
    let limit = narrow + narrow / 16 + (1 << 16);
    let options = LoadOptions { memory_limit: Some(limit), ..in_f32() };
    let load = || Model::load_with(folder.path(""), &options, &Call::new());
    let model = load().unwrap();
    let prompt = model.tokenize("a lake").unwrap().0;
    let encoded = || model.engine().encode_prompts(&[&prompt]);
    model.unload();
    encoded().unwrap();
    widen(&folder);
    let refused = load().err().expect("the limit is too high to be one");
    model.unload();
    let error = encoded().unwrap_err();
    assert_eq!((error.kind(), refused.kind()), (ErrorKind::OutOfMemory, ErrorKind::OutOfMemory));
    assert!(error.message().ends_with(refused.message()), "{error}, not {refused}");
    assert_eq!(model.memory_bytes(), 0);
}

#[test]
fn a_single_file_that_is_gone_or_another_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.ckpt");
    std::fs::copy(archive("tiny.ckpt"), &path).unwrap();
    let model = Model::load_with(&path, &like("base"), &Call::new()).unwrap();
    let prompt = model.tokenize("a lake").unwrap().0;
    let encoded = || model.engine().encode_prompts(&[&prompt]);
    let before = encoded().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    model.unload();
    std::fs::remove_file(&path).unwrap();
    let error = encoded().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains(&path.display().to_string()), "{error}");
    std::fs::write(&path, b"no model").unwrap();
    let error = encoded().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadModel);
    assert!(error.message().contains(&path.display().to_string()), "{error}");
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(encoded().unwrap()[0].data(), before[0].data());
}

#[test]
fn weights_go_by_themselves_when_nobody_calls() {
    let path = golden::path("tiny").join("base");
    let options = LoadOptions { idle: Some(Duration::from_millis(1)), ..in_f32() };
    let model = Model::load_with(&path, &options, &Call::new()).unwrap();
    let stays = LoadOptions { idle: Some(Duration::MAX), ..in_f32() };
    let stays = Model::load_with(&path, &stays, &Call::new()).unwrap();
    let wanted = frame(&session(&load(&path).unwrap()));
    let session = session(&model);
    for _ in 0..3 {
        // Generous: a machine may be busy.
        let mut left = 60_000;
        while model.memory_bytes() > 0 {
            assert!(left > 0, "they are still there");
            left -= 1;
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(same(&frame(&session), &wanted));
    }
    assert!(stays.memory_bytes() > 0, "longer than any clock goes");
    // Whoever is last to know of a model whose time comes: its going is nobody's trouble.
    drop((session, model));
    frame(&self::session(&stays));
}
