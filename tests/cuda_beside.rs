//! Pictures that are decoded beside the steps of others, on a played driver that does what is queued on each stream as late as
//! the order of streams and events allows: the same bytes, on a stream of their own, in the memory that there is.
#![allow(unsafe_code, reason = "the played driver is a library in C")]

mod common;

use common::played::machine;
use common::{golden, same, short};
use latentblend::backend::{Backend, Cuda, CudaDriver, HostTensor};
use latentblend::{
    BlendOptions, Branching, Call, DeviceChoice, Format, Frame, Latent, Layout, LoadOptions, Model,
    NoiseKind, Precision, Session, Stage, Transfer, noise,
};
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn tiny() -> Model {
    let options = LoadOptions { device: DeviceChoice::Cuda(0), ..LoadOptions::default() };
    Model::load_with(golden::path("tiny").join("base"), &options, &Call::new()).unwrap()
}

/// A frame is one step, and a decode.
fn session(model: &Model) -> Session {
    let (keyframes, options) = short();
    let options = BlendOptions {
        size: Some([16, 16]),
        steps: Some(2),
        branching: Some(Branching { injections: vec![0, 1], branches: vec![2, 3] }),
        ..options
    };
    Session::new(model, &keyframes, &options).unwrap()
}

fn latent(seed: u64) -> Latent {
    noise(NoiseKind::Cuda, seed, [4, 2, 2]).unwrap()
}

fn cuda() -> Cuda {
    Cuda::new(&CudaDriver::find().unwrap(), 0, Precision::F16).unwrap()
}

#[test]
fn frames_of_a_batch_are_decoded_while_the_next_is_denoised() {
    let (played, _guard) = machine();
    let model = tiny();
    // More than are denoised together, in an order of their own.
    let times: Vec<f64> = (0..19).map(|i| f64::from(i * 7 % 19) / 18.0).collect();
    let session_of_all = session(&model);
    // A decode counts as two evaluations; the last batch of branches, which takes one, begins at this share.
    let evaluations = session_of_all.evaluations(&times).unwrap() as f64;
    let last = (evaluations - 1.0) / (evaluations + 2.0 * times.len() as f64) - 1e-9;
    let queued = || played.get("on second");
    let (before, stages) = (queued(), Mutex::new(Vec::new()));
    let beside = AtomicBool::new(false);
    let call = Call::new().on_progress(|progress| {
        let mut stages = stages.lock().unwrap();
        let begun = stages.iter().any(|&(stage, _, _, at)| stage == Stage::Denoise && at >= last);
        stages.push((progress.stage, progress.done, progress.total, progress.fraction));
        // While this one waits, nobody can begin anything after the last batch.
        if begun && progress.stage == Stage::Denoise {
            for _ in 0..6000 {
                if queued() > before {
                    beside.store(true, Ordering::Relaxed);
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        ControlFlow::Continue(())
    });
    let together = session_of_all.render_many(&times, &call).unwrap();
    assert!(beside.load(Ordering::Relaxed), "nothing was decoded before all was denoised");
    // One by one, so that nothing is beside anything.
    let alone = session(&model);
    for (t, frame) in times.iter().zip(&together) {
        assert!(same(&alone.render(*t, &Call::new()).unwrap(), frame), "t = {t}");
    }
    drop(call);
    let stages = stages.into_inner().unwrap();
    assert_eq!(stages.last(), Some(&(Stage::Decode, 19, 19, 1.0)));
    assert_eq!(played.get("context"), 0, "a context was left current");
}

#[test]
fn once_a_picture_cannot_be_made_no_more_are_denoised() {
    let (played, _guard) = machine();
    let model = tiny();
    let session = session(&model);
    // In three batches, each of which is one evaluation; a decode counts as two.
    let times: Vec<f64> = (0..40).map(|i| f64::from(i) / 39.0).collect();
    let evaluations = session.evaluations(&times).unwrap() as f64;
    let share = |left: f64| (evaluations - left) / (evaluations + 80.0) - 1e-9;
    played.set("failure", 1);
    played.set("fail second", 1);
    let fractions = Mutex::new(Vec::new());
    let call = Call::new().on_progress(|progress| {
        if progress.stage == Stage::Denoise {
            let mut fractions = fractions.lock().unwrap();
            let begun = fractions.last().is_some_and(|&fraction| fraction >= share(2.0));
            fractions.push(progress.fraction);
            // The second batch waits until the first one's decode has failed, and a while for that to be known.
            if begun && played.get("failing second") != 0 {
                for _ in 0..6000 {
                    if played.get("failing second") == 0 {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
                std::thread::sleep(Duration::from_millis(500));
            }
        }
        ControlFlow::Continue(())
    });
    let error = session.render_many(&times, &call).unwrap_err();
    drop(call);
    assert_eq!(played.get("failing second"), 0, "no decode failed: {error}");
    let denoised = fractions.into_inner().unwrap().into_iter().fold(0.0, f64::max);
    assert!(denoised >= share(2.0), "{denoised} of it was denoised when a decode failed");
    assert!(denoised < share(0.0), "all was denoised after a decode had failed");
    // The device is none the worse for it.
    assert_eq!(session.render_many(&times[..3], &Call::new()).unwrap().len(), 3);
}

#[test]
fn a_picture_is_whole_when_the_weights_have_gone_before_it_was_made() {
    let (played, _guard) = machine();
    // Another model has weights in the same piece of memory, so that it stays with the device.
    let (model, other) = (tiny(), tiny());
    let layout = Layout::packed(16, 16, Format::RgbF32, Transfer::Srgb);
    let picture = || model.engine().decode_there(&latent(1)).unwrap().unwrap();
    let wanted = picture().read(&layout, None).unwrap();
    let late = picture();
    assert!(model.unload() > 0);
    // Whatever has the place of the weights now.
    let cuda = cuda();
    let junk = HostTensor::new([64], vec![f32::NAN; 64]).unwrap();
    let _junk: Vec<_> = (0..20_000).map(|_| cuda.upload(&junk).unwrap()).collect();
    cuda.wait().unwrap();
    assert!(late.read(&layout, None).unwrap() == wanted, "other bytes");
    assert!(other.memory_bytes() > 0 && played.get("on second") > 0);
}

#[test]
fn where_there_is_no_room_for_both_pictures_are_decoded_between_the_steps() {
    let (played, _guard) = machine();
    let model = tiny();
    let decode = || -> Frame { model.engine().decode(&[latent(1)]).unwrap().remove(0) };
    let wanted = decode();
    model.trim();
    // The first stream has a piece with the weights, the second none: nor does it get one.
    played.set("limit", played.get("held"));
    let before = played.get("on second");
    for _ in 0..3 {
        assert!(same(&decode(), &wanted));
    }
    assert_eq!(played.get("on second"), before, "something was decoded beside the rest");
    // There is room again, which the model hears of when it lets go of what it keeps.
    played.set("limit", 4 << 30);
    model.trim();
    assert!(same(&decode(), &wanted));
    assert!(played.get("on second") > before, "nothing was decoded beside the rest");
}

#[test]
fn what_runs_out_of_memory_by_itself_is_tried_once_more() {
    let (played, _guard) = machine();
    let model = tiny();
    let decode = || -> Frame { model.engine().decode(&[latent(1)]).unwrap().remove(0) };
    let (picture, frame) = (decode(), session(&model).render(0.3, &Call::new()).unwrap());
    let near = session(&model);
    // All but the last step is there for the other one, too.
    near.render(0.25, &Call::new()).unwrap();
    model.trim();
    played.set("limit", played.get("held"));
    let before = played.get("on second");
    played.set("failure", 2);
    // A decode beside the rest finds no room, and then runs out of memory between the rest.
    played.set("fail after", 5);
    assert!(same(&decode(), &picture));
    assert_eq!(played.get("failing"), 0, "no decode failed");
    // Nothing is decoded beside this step, nor recorded of it.
    played.set("fail after", 100);
    assert!(same(&near.render(0.3, &Call::new()).unwrap(), &frame));
    assert_eq!(played.get("failing"), 0, "no step failed");
    assert_eq!(played.get("on second"), before, "something was decoded beside the rest");
    played.set("limit", 4 << 30);
}

#[test]
fn what_has_no_room_beside_the_rest_takes_turns_with_it() {
    let (played, _guard) = machine();
    // One thread for both, on which neither may keep the other from its end.
    let device = DeviceChoice::Cuda(0);
    let options = LoadOptions { device, threads: 1, ..LoadOptions::default() };
    let path = golden::path("tiny").join("base");
    let model = Model::load_with(path, &options, &Call::new()).unwrap();
    let decode = || -> Frame { model.engine().decode(&[latent(1)]).unwrap().remove(0) };
    let render = || -> Frame { session(&model).render(0.25, &Call::new()).unwrap() };
    let (picture, frame) = (decode(), render());
    model.trim();
    played.set("limit", played.get("held"));
    let before = played.get("on second");
    std::thread::scope(|scope| {
        scope.spawn(|| (0..8).for_each(|_| assert!(same(&decode(), &picture))));
        scope.spawn(|| (0..3).for_each(|_| assert!(same(&render(), &frame))));
        // Each time it is tried anew whether there is room for both.
        for _ in 0..20 {
            model.trim();
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    assert_eq!(played.get("on second"), before, "something was decoded beside the rest");
    played.set("limit", 4 << 30);
}

#[test]
fn what_decoding_holds_is_within_the_limit_and_goes_with_the_weights() {
    let (played, _guard) = machine();
    let before = played.get("held");
    let limit = 192 << 20;
    let device = DeviceChoice::Cuda(0);
    let options = LoadOptions { device, memory_limit: Some(limit), ..LoadOptions::default() };
    let path = golden::path("tiny").join("base");
    let model = Model::load_with(path, &options, &Call::new()).unwrap();
    let session = session(&model);
    for t in [0.25, 0.5, 0.75] {
        session.render(t, &Call::new()).unwrap();
    }
    // Of both streams.
    let meter = cuda();
    let held = meter.memory_held();
    assert!(held >= 64 << 20 && held <= limit, "{held} bytes");
    assert_eq!(held as i64, played.get("held") - before);
    let needs = model.engine().needs([16, 16], 1);
    let both = needs.denoise + needs.decode;
    assert!(model.peak_bytes([16, 16], 1) >= model.memory_bytes() + both);
    drop(meter);
    model.unload();
    assert_eq!(played.get("held"), before);
}
