//! Samplers, crossfeeds and looks, with loops, extending, placing by change and session files.

mod common;

use common::golden::relative_error;
use common::{same, short, tiny};
use latentblend::{
    Adapt, BlendOptions, Branching, Call, Crossfeed, Curve, Even, Interpolation, Keyframe, Latent,
    LatentMix, Look, Pace, RestoreOptions, Sampler, Session, Timing,
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
    let arc = BlendOptions { latent_mix: Some(LatentMix::Arc), ..fed.clone() };
    let of_2023 =
        BlendOptions { look: Look::Compat2023, branching: None, depth: 0.3, ..usual.clone() };
    let of_2023 = BlendOptions { steps: Some(12), frames: 40, ..of_2023 };
    vec![
        ("multistep", BlendOptions { sampler: Sampler::DpmSolver2M, ..course(&usual) }),
        ("crossfeeds", fed.clone()),
        ("multistep crossfeeds", BlendOptions { sampler: Sampler::DpmSolver2M, ..fed }),
        ("2023", of_2023),
        ("arc", arc),
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

/// More kinds: crossfeeds that go on to the end, with which nothing of a run is without effect.
fn strong() -> Vec<(&'static str, BlendOptions)> {
    let to_the_end = Some(Crossfeed::new(0.7, 1.0, 0.6));
    let mut kinds = kinds(false);
    let (_, of_2023) = kinds.iter().find(|(name, _)| *name == "2023").unwrap().clone();
    let fed = BlendOptions {
        branch1_crossfeed: to_the_end,
        parental_crossfeed: to_the_end,
        ..of_2023.clone()
    };
    kinds.push(("2023, strong crossfeeds", fed.clone()));
    kinds.push(("2023, none", {
        let off = Some(Crossfeed::OFF);
        BlendOptions { branch1_crossfeed: off, parental_crossfeed: off, ..of_2023 }
    }));
    kinds.push(("2023, branch 1", BlendOptions { parental_crossfeed: None, ..fed }));
    kinds
}

#[test]
fn with_every_kind_the_first_frame_of_an_extension_is_the_old_one_and_the_way_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session");
    let model = tiny("base");
    let to = Keyframe::new("a red house", 99);
    for (name, options) in strong() {
        let session = Session::new(&model, &keyframes(), &options).unwrap();
        let bare = BlendOptions { cache_bytes: 0, ..options.clone() };
        let bare = Session::new(&model, &keyframes(), &bare).unwrap();
        // At keyframes, between branches, and at the branches of the plan themselves.
        let leaf = session.leaves()[1];
        for t in [0.0, 0.375, leaf, 1.0, 1.61, 2.0] {
            let extended = session.extend(t, &to, &Call::new()).unwrap();
            let frame = extended.render(0.0, &Call::new()).unwrap();
            assert!(same(&frame, &session.render(t, &Call::new()).unwrap()), "{name} at {t}");
            let times = [0.3, 0.8, 1.0];
            let wanted = extended.render_many(&times, &Call::new()).unwrap();
            let other = bare.extend(t, &to, &Call::new()).unwrap();
            extended.prepare(&Call::new()).unwrap();
            assert_eq!(extended.evaluations_to_prepare(), 0, "{name}");
            extended.save(&path, &Call::new()).unwrap();
            let saved = Session::load(&model, &path, &RestoreOptions::default(), &Call::new());
            let saved = saved.unwrap();
            saved.purge();
            for (t, wanted) in times.iter().zip(&wanted).rev() {
                for other in [&other, &saved] {
                    let got = other.render(*t, &Call::new()).unwrap();
                    assert!(same(&got, wanted), "{name} at {t}");
                }
            }
            assert!(same(&saved.render(0.0, &Call::new()).unwrap(), &frame), "{name} at {t}");
            // And on again, from a place that was the first.
            let again = extended.extend(0.0, &keyframes()[0], &Call::new()).unwrap();
            assert!(same(&again.render(0.0, &Call::new()).unwrap(), &frame), "{name} at {t}");
        }
    }
}

#[test]
fn next_to_an_extensions_first_frame_nothing_jumps() {
    let model = tiny("base");
    let to = Keyframe::new("a red house", 99);
    for (name, options) in strong() {
        let session = Session::new(&model, &keyframes(), &options).unwrap();
        for t in [0.0, 0.375, 1.61] {
            let extended = session.extend(t, &to, &Call::new()).unwrap();
            let near = extended.latents(&[0.0, 1e-7], &Call::new()).unwrap();
            let jump = distance(&near[1], &near[0]);
            println!("{name} at {t}: {jump:.1e}");
            assert!(jump < 1e-5, "{name} at {t}: {jump}");
        }
    }
}

fn distance(a: &Latent, b: &Latent) -> f64 {
    let wanted: Vec<f64> = b.data().iter().map(|&v| f64::from(v)).collect();
    relative_error(a.data(), &wanted)
}

/// What docs/transitions.md says of the tree of 2023.
#[test]
fn frames_next_to_the_pictures_of_2023_part_from_them_as_far_as_its_crossfeeds_reach() {
    let model = tiny("base");
    for (name, options) in strong().into_iter().filter(|(name, _)| name.starts_with("2023")) {
        let session = Session::new(&model, &keyframes(), &options).unwrap();
        let leaf = session.leaves()[1];
        let of = |t: f64| session.latents(&[t], &Call::new()).unwrap().remove(0);
        let jump = |t: f64| distance(&of(t - 1e-7), &of(t));
        let [first, stem, drawn] = [distance(&of(1e-7), &of(0.0)), jump(leaf), jump(1.0)];
        println!("{name}: first keyframe {first:.1e}, branch {stem:.1e}, keyframe {drawn:.1e}");
        // The first keyframe is drawn nowhere.
        assert!(first < 1e-5, "{name}: {first}");
        match name {
            "2023" | "2023, none" => assert!(stem < 1e-5 && drawn < 1e-5, "{stem} {drawn}"),
            "2023, strong crossfeeds" => assert!(stem > 1e-3 && drawn > 1e-3, "{stem} {drawn}"),
            _ => assert!(stem < 1e-5 && drawn > 1e-3, "{stem} {drawn}"),
        }
    }
}

#[test]
fn an_origin_fits_only_sessions_that_are_drawn_as_far() {
    let model = tiny("base");
    let (_, fed) = kinds(false).swap_remove(1);
    let session = Session::new(&model, &keyframes(), &fed).unwrap();
    let origin = session.origin(0.5, &Call::new()).unwrap();
    let from = Keyframe { origin: Some(std::sync::Arc::new(origin)), ..Keyframe::default() };
    let to = Keyframe::new("a red house", 99);
    let plain = BlendOptions { branch1_crossfeed: None, parental_crossfeed: None, ..fed.clone() };
    let error = Session::new(&model, &[from.clone(), to.clone()], &plain).map(|_| ()).unwrap_err();
    let wanted = "a keyframe from a session with other crossfeeds: it has ";
    assert!(error.message().starts_with(wanted), "{}", error.message());
    let again = Session::new(&model, &[to, from], &fed).unwrap();
    let wanted = session.render(0.5, &Call::new()).unwrap();
    assert!(same(&again.render(1.0, &Call::new()).unwrap(), &wanted));
}

fn few() -> Even {
    Even { samples: 5, ..Even::default() }
}

#[test]
fn branches_placed_by_change_take_crossfeeds_any_sampler_and_2023_along() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny("base");
    for (name, options) in kinds(true) {
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
    let (_, options) = kinds(false).into_iter().find(|(name, _)| *name == "2023").unwrap();
    let session = Session::new(&tiny("base"), &keyframes()[..2], &options).unwrap();
    let timing = Timing { pace: Pace::Leaves, ..Timing::default() };
    let timed = session.timed(&timing, &Call::new()).unwrap();
    assert_eq!(timed.timeline().frames(session.leaves().len()), session.leaves());
    let auto = session.timed(&Timing::default(), &Call::new()).unwrap();
    assert_eq!(auto.timeline().t(0.25), 0.25);
}
