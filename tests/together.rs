//! Samplers, crossfeeds and looks, with loops, extending, placing by change and session files.

mod common;

use common::{same, short, tiny};
use latentblend::{
    Adapt, BlendOptions, Branching, Call, Crossfeed, Curve, ErrorKind, Even, Interpolation,
    Keyframe, Look, Pace, RestoreOptions, Sampler, Session, Timing,
};

fn keyframes() -> Vec<Keyframe> {
    let mut keyframes = short().0.to_vec();
    keyframes.push(Keyframe::new("dunes_of sand", 7).negative("fog_"));
    keyframes
}

fn options() -> BlendOptions {
    let branching = Branching { injections: vec![0, 4, 7], branches: vec![2, 3, 5] };
    BlendOptions { steps: Some(9), branching: Some(branching), size: Some([32, 32]), ..short().1 }
}

/// All kinds, looped or not, with a course of guidance.
fn kinds(looped: bool) -> Vec<(&'static str, BlendOptions)> {
    let course = Curve::new(&[[0.0, 0.5], [1.0, 1.0]], Interpolation::Linear).unwrap();
    let usual = BlendOptions { looped, ..options() };
    let course = |options: &BlendOptions| BlendOptions {
        guidance_over_steps: Some(course.clone()),
        guided_steps: Some(8),
        guidance_rescale: 0.7,
        ..options.clone()
    };
    let feed = Some(Crossfeed::new(0.4, 0.9, 0.5));
    let fed = BlendOptions { branch1_crossfeed: feed, parental_crossfeed: feed, ..course(&usual) };
    let of_2023 =
        BlendOptions { look: Look::Compat2023, branching: None, depth: 0.3, ..usual.clone() };
    let of_2023 = BlendOptions { steps: Some(12), frames: 40, ..of_2023 };
    vec![
        ("multistep", BlendOptions { sampler: Sampler::DpmSolver2M, ..course(&usual) }),
        ("crossfeeds", fed.clone()),
        ("multistep crossfeeds", BlendOptions { sampler: Sampler::DpmSolver2M, ..fed }),
        ("2023", of_2023),
    ]
}

#[test]
fn frames_are_the_same_in_any_order_with_any_cache_and_out_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    for looped in [false, true] {
        for (name, options) in kinds(looped) {
            let model = tiny("v");
            let times = [0.0, 0.3, 1.0, 1.61, 2.0];
            let times = times.into_iter().chain(looped.then_some(2.7)).chain(looped.then_some(3.0));
            let times: Vec<f64> = times.collect();
            let session = Session::new(&model, &keyframes(), &options).unwrap();
            session.prepare(&Call::new()).unwrap();
            assert_eq!(session.evaluations_to_prepare(), 0, "{name}");
            let wanted = session.render_many(&times, &Call::new()).unwrap();
            if looped {
                assert!(same(&wanted[0], wanted.last().unwrap()), "{name}: a loop comes back");
            }
            let path = folder.path().join("session");
            session.save(&path, &Call::new()).unwrap();
            let saved = Session::load(&model, &path, &RestoreOptions::default(), &Call::new());
            let saved = saved.unwrap();
            assert_eq!(saved.evaluations_to_prepare(), 0, "{name}: nothing of the work was lost");
            let bare = BlendOptions { cache_bytes: 0, ..options };
            let bare = Session::new(&model, &keyframes(), &bare).unwrap();
            for (t, wanted) in times.iter().zip(&wanted).rev() {
                for other in [&saved, &bare] {
                    let frame = other.render(*t, &Call::new()).unwrap();
                    assert!(same(&frame, wanted), "{name}, looped {looped}, at {t}");
                }
            }
            saved.purge();
            let again = saved.render(times[1], &Call::new()).unwrap();
            assert!(same(&again, &wanted[1]), "{name}: all that was decided is in the file");
        }
    }
}

#[test]
fn a_multistep_session_goes_on_bit_for_bit_and_so_does_its_file() {
    let model = tiny("v");
    let folder = tempfile::tempdir().unwrap();
    let options = BlendOptions { sampler: Sampler::DpmSolver2M, looped: true, ..options() };
    let session = Session::new(&model, &keyframes(), &options).unwrap();
    let to = Keyframe::new("a red house", 99);
    for t in [0.375, 1.0, 2.61, 3.0] {
        let extended = session.extend(t, &to, &Call::new()).unwrap();
        let frame = extended.render(0.0, &Call::new()).unwrap();
        assert!(same(&frame, &session.render(t, &Call::new()).unwrap()), "at {t}");
        let between = extended.render(0.4, &Call::new()).unwrap();
        let path = folder.path().join("session");
        extended.save(&path, &Call::new()).unwrap();
        let saved = Session::load(&model, &path, &RestoreOptions::default(), &Call::new()).unwrap();
        saved.purge();
        assert!(same(&saved.render(0.0, &Call::new()).unwrap(), &frame), "from a file, at {t}");
        assert!(same(&saved.render(0.4, &Call::new()).unwrap(), &between), "beside it, at {t}");
    }
    // An origin of one sampler is none for the other.
    let origin = session.origin(0.5, &Call::new()).unwrap();
    let from = Keyframe { origin: Some(std::sync::Arc::new(origin)), ..Keyframe::default() };
    let ddim = BlendOptions { sampler: Sampler::Ddim, ..options };
    let error = Session::new(&model, &[from, to], &ddim).map(|_| ()).unwrap_err();
    assert_eq!(error.message(), "a keyframe from a session of another sampler than ddim");
}

#[test]
fn what_a_frame_cannot_leave_behind_is_refused() {
    let model = tiny("base");
    for (name, options) in kinds(false).into_iter().skip(1) {
        let session = Session::new(&model, &keyframes(), &options).unwrap();
        let to = Keyframe::new("a red house", 99);
        let error = session.extend(0.5, &to, &Call::new()).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}");
        let what = if name == "2023" { "the tree of 2023" } else { "crossfeeds" };
        let said = format!("going on from a session's frame is not supported with {what}");
        assert_eq!(error.message(), said);
        let adapted = session.adapted(&Adapt { even: few(), strength: 1.0 }, &Call::new());
        match name {
            "2023" => {
                let error = adapted.map(|_| ()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unsupported);
            }
            _ => drop(adapted.unwrap()),
        }
    }
}

fn few() -> Even {
    Even { samples: 5, ..Even::default() }
}

#[test]
fn branches_placed_by_change_take_crossfeeds_and_any_sampler_along() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny("base");
    for (name, options) in kinds(true).into_iter().filter(|(name, _)| *name != "2023") {
        let session = Session::new(&model, &keyframes(), &options).unwrap();
        let adapted = session.adapted(&Adapt { even: few(), strength: 1.0 }, &Call::new()).unwrap();
        assert_ne!(adapted.leaves(), session.leaves(), "{name}");
        for t in [0.0, 1.0, 2.0] {
            let [old, new] = [&session, &adapted].map(|s| s.render(t, &Call::new()).unwrap());
            assert!(same(&old, &new), "{name}: keyframe {t}");
        }
        adapted.prepare(&Call::new()).unwrap();
        let path = folder.path().join("session");
        adapted.save(&path, &Call::new()).unwrap();
        let saved = Session::load(&model, &path, &RestoreOptions::default(), &Call::new()).unwrap();
        assert_eq!(saved.leaves(), adapted.leaves());
        let wanted = [2.3, 0.4].map(|t| adapted.render(t, &Call::new()).unwrap());
        saved.purge();
        let got = saved.render_many(&[2.3, 0.4], &Call::new()).unwrap();
        assert!(got.iter().zip(&wanted).all(|(a, b)| same(a, b)), "{name}");
    }
}

#[test]
fn leaves_of_2023_are_paced_by_all_its_pictures() {
    let (_, options) = kinds(false).pop().unwrap();
    let session = Session::new(&tiny("base"), &keyframes()[..2], &options).unwrap();
    let timing = Timing { pace: Pace::Leaves, ..Timing::default() };
    let timed = session.timed(&timing, &Call::new()).unwrap();
    assert_eq!(timed.timeline().frames(session.leaves().len()), session.leaves());
    let auto = session.timed(&Timing::default(), &Call::new()).unwrap();
    assert_eq!(auto.timeline().t(0.25), 0.25);
}
