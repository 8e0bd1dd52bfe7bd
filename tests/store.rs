//! Sessions as files: disjoint parts of a transition, rendered by whoever, are those of one process.

mod common;

use common::mixture::{Mixture, rows};
use common::{golden, same, short, tiny};
use latentblend::backend::Numerics;
use latentblend::{
    Adapt, BlendOptions, Branching, Call, Cancel, Curve, Denoising, Engine, ErrorKind, Even, Frame,
    Interpolation, Keyframe, Latent, LatentMix, Look, Model, NoiseKind, Pace, Posterior,
    RestoreOptions, Sampler, Session, Timing,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn options() -> BlendOptions {
    let branching = Branching { injections: vec![0, 4, 7], branches: vec![2, 3, 5] };
    BlendOptions { steps: Some(9), branching: Some(branching), size: Some([32, 32]), ..short().1 }
}

fn keyframes() -> Vec<Keyframe> {
    let mut keyframes = short().0.to_vec();
    keyframes.push(Keyframe::new("dunes \"of\" Ω\n", u64::MAX));
    keyframes
}

fn load(model: &Model, path: &Path) -> Result<Session, latentblend::Error> {
    Session::load(model, path, &RestoreOptions::default(), &Call::new())
}

fn saved(session: &Session, folder: &Path) -> PathBuf {
    let path = folder.join("session.safetensors");
    session.save(&path, &Call::new()).unwrap();
    path
}

/// The error that loading gives.
fn refused(model: &Model, path: &Path) -> (ErrorKind, String) {
    let error = load(model, path).map(|_| ()).expect_err("it was loaded");
    let name = path.display().to_string();
    assert!(error.message().starts_with(&name), "{error} doesn't name {name}");
    (error.kind(), error.message()[name.len() + 2..].to_owned())
}

#[test]
fn disjoint_ranges_by_others_are_those_of_one_process_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let one = Session::new(&tiny("base"), &keyframes(), &options()).unwrap();
    let even = Pace::Even(Even { samples: 9, ..Even::default() });
    let one = one.timed(&Timing { pace: even, ..Timing::default() }, &Call::new()).unwrap();
    let times = one.timeline().frames(12);
    let wanted = one.render_many(&times, &Call::new()).unwrap();
    for prepared in [false, true] {
        one.purge();
        if prepared {
            one.prepare(&Call::new()).unwrap();
        }
        let path = saved(&one, folder.path());
        for range in [0..4, 4..7, 7..12] {
            // A model of its own: nothing is shared but the file.
            let session = load(&tiny("base"), &path).unwrap();
            assert_eq!(session.cached_bytes() > 0, prepared);
            assert_eq!(session.timeline().frames(12), times);
            for frame in range {
                let got = session.render(times[frame], &Call::new()).unwrap();
                assert!(same(&got, &wanted[frame]), "frame {frame}");
            }
        }
    }
}

#[test]
fn all_kinds_of_sessions_come_back() {
    let model = tiny("base");
    let folder = tempfile::tempdir().unwrap();
    let curve =
        |points: &[[f64; 2]]| Some(Curve::new(points, Interpolation::MonotoneCubic).unwrap());
    let plain = Session::new(&model, &keyframes(), &options()).unwrap();
    let with = |change: &dyn Fn(&mut BlendOptions)| {
        let mut options = options();
        change(&mut options);
        Session::new(&model, &keyframes(), &options).unwrap()
    };
    let start = latentblend::noise(NoiseKind::Cpu, 3, [4, 4, 4]).unwrap();
    let own = [Keyframe::new("a", 1).start(start), Keyframe::new("b", 2)];
    let adapt = Adapt { even: Even { samples: 9, ..Even::default() }, ..Adapt::default() };
    let line = curve(&[[0.0, 2.0], [1.0, 0.5]]).unwrap();
    let timing = Timing { pace: Pace::Curve(line), ..Timing::default() };
    let sessions = [
        ("looped", with(&|o| o.looped = true)),
        ("compat", with(&|o| o.look = Look::Compat2022)),
        ("guided over t", with(&|o| o.guidance_over_t = curve(&[[0.1, 3.0], [0.7, 9.0]]))),
        ("guided over steps", with(&|o| o.guidance_over_steps = curve(&[[0.1, 1.0], [1.0, 0.1]]))),
        ("rescaled", with(&|o| (o.guidance_rescale, o.guided_steps) = (0.7, Some(6)))),
        ("on the arc", with(&|o| o.latent_mix = Some(LatentMix::Arc))),
        ("cpu noise", with(&|o| o.noise = NoiseKind::Cpu)),
        ("own start", Session::new(&model, &own, &options()).unwrap()),
        ("extended", plain.extend(0.61, &keyframes()[2], &Call::new()).unwrap()),
        ("adapted", plain.adapted(&adapt, &Call::new()).unwrap()),
        ("timed", plain.timed(&timing, &Call::new()).unwrap()),
    ];
    for (name, session) in sessions {
        // Some share their cache, and finished frames in it.
        session.purge();
        session.prepare(&Call::new()).unwrap();
        let path = saved(&session, folder.path());
        let back = load(&model, &path).unwrap();
        assert_eq!(back.keyframes(), session.keyframes(), "{name}");
        assert_eq!(back.timeline(), session.timeline(), "{name}");
        assert_eq!(back.schedule(), session.schedule(), "{name}");
        assert_eq!(back.cached_bytes(), session.cached_bytes(), "{name}");
        for segment in 0..session.segments() {
            assert_eq!(back.plan_of(segment), session.plan_of(segment), "{name}");
        }
        back.purge();
        for t in [0.0, 0.3, 1.0, session.last_t()] {
            let (a, b) = (session.render(t, &Call::new()), back.render(t, &Call::new()));
            assert!(same(&a.unwrap(), &b.unwrap()), "{name} at {t}");
        }
        // Saved again, it is the same file.
        session.purge();
        back.purge();
        let first = std::fs::read(saved(&session, folder.path())).unwrap();
        assert_eq!(std::fs::read(saved(&back, folder.path())).unwrap(), first, "{name}");
    }
}

#[test]
fn a_damaged_file_is_an_error_and_never_a_crash() {
    let model = tiny("base");
    let folder = tempfile::tempdir().unwrap();
    let session = Session::new(&model, &keyframes(), &options()).unwrap();
    let session = session.extend(0.4, &keyframes()[1], &Call::new()).unwrap();
    session.prepare(&Call::new()).unwrap();
    let path = saved(&session, folder.path());
    let whole = std::fs::read(&path).unwrap();
    let damaged = folder.path().join("damaged");
    let check = |bytes: &[u8], what: &str| {
        std::fs::write(&damaged, bytes).unwrap();
        let (kind, message) = refused(&model, &damaged);
        let known = [ErrorKind::BadModel, ErrorKind::Unsupported, ErrorKind::InvalidArgument];
        assert!(known.contains(&kind), "{what}: {message}");
    };
    let mut cuts = 0;
    for length in (0..whole.len()).step_by(64) {
        check(&whole[..length], "cut");
        cuts += 1;
    }
    // Bits all over, by a generator with a fixed seed.
    let (mut state, mut harmless) = (7u64, 0);
    for _ in 0..1000 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bit = (state >> 11) as usize % (whole.len() * 8);
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&damaged, &bytes).unwrap();
        // What says nothing (spaces that fill the header) may change.
        match load(&model, &damaged) {
            Ok(same) => {
                assert_eq!(same.keyframes(), session.keyframes());
                harmless += 1;
            }
            Err(error) => assert_ne!(error.kind(), ErrorKind::Internal, "{error}"),
        }
    }
    println!("{} bytes, {cuts} cuts, 1000 flips, {harmless} of them harmless", whole.len());
    assert!(cuts > 100 && harmless < 20);
    let mut longer = whole.clone();
    longer.extend_from_slice(b"more");
    check(&longer, "longer");
    load(&model, &path).unwrap();
}

#[test]
fn a_foreign_file_is_refused() {
    let model = tiny("base");
    let folder = tempfile::tempdir().unwrap();
    let missing = refused(&model, &folder.path().join("none"));
    assert_eq!(missing.0, ErrorKind::NotFound);
    let weights = golden::path("tiny/base/vae/diffusion_pytorch_model.safetensors");
    let (kind, message) = refused(&model, &weights);
    assert_eq!(kind, ErrorKind::BadModel);
    let wanted = "not a session's file, or damaged: its header has no latentblend.session";
    assert_eq!(message, wanted);
    for bytes in [&b""[..], b"PK\x03\x04", b"{\"a\":1}", &[0xff; 64]] {
        let path = folder.path().join("foreign");
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(refused(&model, &path).0, ErrorKind::BadModel);
    }
    assert!(load(&model, folder.path()).is_err(), "a folder");
}

/// Rewrites a file's session text, with a checksum that fits.
fn forged(from: &Path, to: &Path, change: impl Fn(&str) -> String) {
    renamed(from, to, change, str::to_owned);
}

/// The same with other names for its tensors.
fn renamed(
    from: &Path,
    to: &Path,
    change: impl Fn(&str) -> String,
    rename: impl Fn(&str) -> String,
) {
    use safetensors::SafeTensors;
    use xxhash_rust::xxh3::Xxh3;
    let bytes = std::fs::read(from).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let text = change(&header.metadata().as_ref().unwrap()["latentblend.session"]);
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<_> =
        file.tensors().into_iter().filter(|(name, _)| name != "checksum").collect();
    tensors.iter_mut().for_each(|(name, _)| *name = rename(name));
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let mut hash = Xxh3::new();
    let mut add = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(text.as_bytes());
    for (name, view) in &tensors {
        add(name.as_bytes());
        view.shape().iter().for_each(|&axis| add(&(axis as u64).to_le_bytes()));
        add(view.data());
    }
    let sum = hash.digest128().to_le_bytes();
    let sum = safetensors::tensor::TensorView::new(safetensors::Dtype::U8, vec![16], &sum).unwrap();
    tensors.push(("checksum".into(), sum));
    let notes = std::collections::HashMap::from([("latentblend.session".to_owned(), text)]);
    safetensors::serialize_to_file(tensors, Some(notes), to).unwrap();
}

#[test]
fn numbers_that_cannot_be_are_refused_even_with_a_checksum_that_fits() {
    let model = tiny("base");
    let folder = tempfile::tempdir().unwrap();
    let session = Session::new(&model, &keyframes(), &options()).unwrap();
    session.prepare(&Call::new()).unwrap();
    let path = saved(&session, folder.path());
    let other = folder.path().join("forged");
    forged(&path, &other, str::to_owned);
    load(&model, &other).unwrap();
    for (from, to) in [
        ("\"shape\":[4,4,4]", "\"shape\":[4,0,4]"),
        ("\"shape\":[4,4,4]", "\"shape\":[4,4,400000000000000]"),
        ("\"shape\":[4,4,4]", "\"shape\":[9,4,4]"),
        ("\"shape\":[4,4,4]", "\"shape\":[4,8,4]"),
        ("[[0,4]", "[[0,3]"),
        ("[[0,4]", "[[4,0]"),
        ("[\"0\",\"1\"]", "[\"0\",\"2\"]"),
        ("[\"0\",\"1\"]", "[\"NaN\",\"1\"]"),
        ("[\"0\",\"1\"]", "[]"),
        ("\"guidance\":\"4\"", "\"guidance\":\"inf\""),
        ("\"guidance\":\"4\"", "\"guidance\":4"),
        ("\"damping\":\"towards-one\"", "\"damping\":\"upwards\""),
        ("\"latent_mix\":\"bands\"", "\"latent_mix\":\"sideways\""),
        ("\"looped\":false", "\"looped\":true"),
        ("\"start\":false", "\"start\":true"),
        ("\"length\":\"1\"", "\"length\":\"-1\""),
        ("\"spans\":[", "\"spans\":[{\"length\":\"1\",\"easing\":\"in\",\"curve\":null},"),
    ] {
        forged(&path, &other, |text| {
            assert!(text.contains(from), "{from} is not in {text}");
            text.replacen(from, to, 1)
        });
        let (kind, message) = refused(&model, &other);
        let known = [ErrorKind::BadModel, ErrorKind::OutOfMemory];
        assert!(known.contains(&kind), "{to}: {message}");
    }
    for level in ["7", "999", "18446744073709551615"] {
        renamed(&path, &other, str::to_owned, |name| {
            name.replacen("branch.2.", &format!("branch.{level}."), 1)
        });
        let (kind, message) = refused(&model, &other);
        assert_eq!(kind, ErrorKind::BadModel, "a branch of level {level}: {message}");
    }
    for (from, to, what) in [
        ("\"format\":3", "\"format\":4", "a session of format version 4"),
        ("\"format\":3", "\"format\":0", "a session of format version 0"),
        ("\"algorithm\":1", "\"algorithm\":9", "a session of algorithm version 9"),
    ] {
        forged(&path, &other, |text| text.replacen(from, to, 1));
        let (kind, message) = refused(&model, &other);
        assert_eq!(kind, ErrorKind::Unsupported);
        assert!(message.starts_with(what), "{message}");
    }
}

#[test]
fn another_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path =
        saved(&Session::new(&tiny("base"), &keyframes(), &options()).unwrap(), folder.path());
    let (kind, message) = refused(&tiny("v"), &path);
    assert_eq!(kind, ErrorKind::InvalidArgument);
    assert!(message.starts_with("made with a model of fingerprint "), "{message}");
}

/// A real engine that says it computes otherwise.
struct Other(Arc<dyn Engine>);

impl Engine for Other {
    fn encode_prompts(&self, prompts: &[&[u32]]) -> latentblend::Result<Vec<latentblend::Context>> {
        self.0.encode_prompts(prompts)
    }

    fn evaluations(&self, branches: usize, steps: usize) -> usize {
        self.0.evaluations(branches, steps)
    }

    fn numerics(&self) -> Numerics {
        Numerics { device: "cuda".into(), precision: "f16".into(), ..self.0.numerics() }
    }

    fn denoise(
        self: Arc<Self>,
        batch: latentblend::Batch,
    ) -> latentblend::Result<Box<dyn Denoising>> {
        Arc::clone(&self.0).denoise(batch)
    }

    fn encode(&self, frame: &Frame) -> latentblend::Result<Posterior> {
        self.0.encode(frame)
    }

    fn decode(&self, latents: &[Latent]) -> latentblend::Result<Vec<Frame>> {
        self.0.decode(latents)
    }
}

#[test]
fn other_numerics_are_refused_unless_they_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let here = tiny("base");
    let path = saved(&Session::new(&here, &keyframes(), &options()).unwrap(), folder.path());
    let engine = Arc::new(Other(here.engine().clone()));
    let there = Model::from_engine(engine, here.info().clone()).unwrap();
    let (kind, message) = refused(&there, &path);
    assert_eq!(kind, ErrorKind::Unsupported);
    let wanted = "made with other numerics (device 'cpu', here 'cuda', precision 'f32', here 'f16'), \
                  and those weren't accepted";
    assert_eq!(message, wanted);
    let accept = RestoreOptions { accept_other_numerics: true, ..RestoreOptions::default() };
    let session = Session::load(&there, &path, &accept, &Call::new()).unwrap();
    assert_eq!(session.segments(), 2);
}

#[test]
fn the_cache_may_be_another_and_a_failed_save_leaves_nothing() {
    let model = tiny("base");
    let folder = tempfile::tempdir().unwrap();
    let session = Session::new(&model, &keyframes(), &options()).unwrap();
    session.prepare(&Call::new()).unwrap();
    let path = saved(&session, folder.path());
    let small = RestoreOptions { cache_bytes: Some(600), ..RestoreOptions::default() };
    let small = Session::load(&model, &path, &small, &Call::new()).unwrap();
    assert!(small.cached_bytes() <= 600);
    let (a, b) = (small.render(0.7, &Call::new()), session.render(0.7, &Call::new()));
    assert!(same(&a.unwrap(), &b.unwrap()));
    let nowhere = folder.path().join("none").join("session");
    assert_eq!(session.save(nowhere, &Call::new()).unwrap_err().kind(), ErrorKind::NotFound);
    let token = Cancel::new();
    token.request();
    let other = folder.path().join("other");
    let error = session.save(&other, &Call::new().cancel(&token)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "only the first file");
}

#[test]
fn a_session_of_an_engine_of_the_callers_own_can_be_saved() {
    let recorded = golden::read("mixture_three");
    let mixture = || Mixture {
        weights: recorded["weights"].values.clone(),
        means: rows(&recorded["means"]),
        sigmas: recorded["sigmas"].values.clone(),
        prompts: rows(&recorded["prompts"]),
    };
    let folder = tempfile::tempdir().unwrap();
    let keyframes = [Keyframe::new("0", 1), Keyframe::new("1", 2)];
    let options = BlendOptions { size: Some([2, 2]), ..BlendOptions::default() };
    let session = Session::new(&mixture().model(), &keyframes, &options).unwrap();
    session.prepare(&Call::new()).unwrap();
    let back = load(&mixture().model(), &saved(&session, folder.path())).unwrap();
    let (a, b) = (session.render(0.3, &Call::new()), back.render(0.3, &Call::new()));
    assert!(same(&a.unwrap(), &b.unwrap()));
}

#[test]
fn a_file_of_format_1_is_still_read() {
    // Written by the library when that was its format, by other kernels perhaps.
    let options = RestoreOptions { accept_other_numerics: true, ..RestoreOptions::default() };
    let (model, path) = (tiny("v"), golden::path("session_1.safetensors"));
    let old = Session::load(&model, &path, &options, &Call::new()).unwrap();
    // The same session made anew.
    let mut keyframes = short().0.to_vec();
    keyframes.push(Keyframe::new("dunes_of sand", 7).negative("fog_"));
    let branching = Branching { injections: vec![0, 4, 7], branches: vec![2, 3, 5] };
    let options = BlendOptions {
        steps: Some(9),
        branching: Some(branching),
        size: Some([32, 32]),
        sampler: Sampler::DpmSolver2M,
        latent_mix: Some(LatentMix::Arc),
        looped: true,
        ..short().1
    };
    let session = Session::new(&model, &keyframes, &options).unwrap();
    let to = Keyframe::new("a red house", 99);
    let new = session.extend(3.0, &to, &Call::new()).unwrap();
    for t in [0.0, 0.4, 1.0] {
        let [old, new] = [&old, &new].map(|s| s.latents(&[t], &Call::new()).unwrap().remove(0));
        let new: Vec<f64> = new.data().iter().map(|&v| f64::from(v)).collect();
        let error = golden::relative_error(old.data(), &new);
        assert!(error < 1e-4, "at {t}: {error:e}");
    }
    // It goes on as a file of today.
    let folder = tempfile::tempdir().unwrap();
    let again = load(&model, &saved(&old, folder.path())).unwrap();
    assert_eq!(again.latents(&[0.4], &Call::new()), old.latents(&[0.4], &Call::new()));
}

#[test]
fn a_file_of_format_2_is_still_read_and_mixes_on_the_arc() {
    // Written by the library when that was its format, by `render_range plan`, by other kernels perhaps.
    let accept = RestoreOptions { accept_other_numerics: true, ..RestoreOptions::default() };
    let (model, path) = (tiny("base"), golden::path("session_2.safetensors"));
    let old = Session::load(&model, &path, &accept, &Call::new()).unwrap();
    assert!(old.looped() && old.keyframes().len() == 3 && old.cached_bytes() > 0);
    let keyframes = [
        Keyframe::new("a lighthouse at night", 420),
        Keyframe::new("a quiet lake", 69731932),
        Keyframe::new("dunes", 7),
    ];
    let made = |latent_mix: LatentMix| {
        let latent_mix = Some(latent_mix);
        let options = BlendOptions { looped: true, latent_mix, frames: 8, ..short().1 };
        let options = BlendOptions { size: None, ..options };
        Session::new(&model, &keyframes, &options).unwrap()
    };
    let (new, bands) = (made(LatentMix::Arc), made(LatentMix::Bands));
    assert_eq!(old.plan(), new.plan());
    for t in [0.0, 0.4, 1.7, 3.0] {
        let wanted = |session: &Session| -> Vec<f64> {
            let latent = session.latents(&[t], &Call::new()).unwrap().remove(0);
            latent.data().iter().map(|&v| f64::from(v)).collect()
        };
        let got = old.latents(&[t], &Call::new()).unwrap().remove(0);
        let error = golden::relative_error(got.data(), &wanted(&new));
        assert!(error < 1e-4, "at {t}: {error:e}");
        if t.fract() != 0.0 {
            let other = golden::relative_error(got.data(), &wanted(&bands));
            assert!(other > 1e-2, "at {t}: {other:e}");
        }
    }
    // It goes on as a file of today.
    let folder = tempfile::tempdir().unwrap();
    let again = load(&model, &saved(&old, folder.path())).unwrap();
    assert_eq!(again.latents(&[0.4], &Call::new()), old.latents(&[0.4], &Call::new()));
}
