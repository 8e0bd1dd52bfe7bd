//! Concatenated transitions: keyframes in a row or in a ring, each computed once, and time over them.

mod common;

use common::{same, short, tiny};
use latentblend::{
    BlendOptions, Branching, Call, Easing, Frame, Keyframe, Model, Pace, Segment, Session, Timing,
};

fn options() -> BlendOptions {
    let branching = Branching { injections: vec![0, 4, 7], branches: vec![2, 3, 5] };
    BlendOptions { steps: Some(9), branching: Some(branching), ..short().1 }
}

fn keyframes() -> Vec<Keyframe> {
    let mut keyframes = short().0.to_vec();
    keyframes.push(Keyframe::new("dunes", 7));
    keyframes
}

fn ring(model: &Model, change: impl FnOnce(&mut BlendOptions)) -> Session {
    let mut options = BlendOptions { looped: true, ..options() };
    change(&mut options);
    Session::new(model, &keyframes(), &options).unwrap()
}

fn render(session: &Session, t: f64) -> Frame {
    session.render(t, &Call::new()).unwrap()
}

#[test]
fn a_loop_leads_from_the_last_keyframe_to_the_first() {
    let model = tiny("base");
    let session = ring(&model, |_| {});
    assert_eq!((session.last_t(), session.segments(), session.keyframes().len()), (3.0, 3, 3));
    let keyframes = keyframes();
    let closing = [keyframes[2].clone(), keyframes[0].clone()];
    let closing = Session::new(&model, &closing, &options()).unwrap();
    // Halves, so that t and its fraction are the same place on the grid of t.
    for t in [2.0, 2.25, 2.5, 2.8125, 3.0] {
        assert!(same(&render(&session, t), &render(&closing, t - 2.0)), "at {t}");
    }
    assert!(same(&render(&session, 3.0), &render(&session, 0.0)), "the end is the start");
    let open = Session::new(&model, &keyframes, &options()).unwrap();
    for t in [0.0, 0.4, 1.0, 1.7, 2.0] {
        assert!(same(&render(&session, t), &render(&open, t)), "at {t}");
    }
    assert_eq!(session.leaves().len(), 3 * 4 + 1);
    let error = session.render(3.1, &Call::new()).unwrap_err();
    assert_eq!(error.message(), "t 3.1: wanted 0 to 3");
}

#[test]
fn a_loop_of_one_keyframe_is_refused() {
    let model = tiny("base");
    let options = BlendOptions { looped: true, ..options() };
    let error = Session::new(&model, &keyframes()[..1], &options).map(|_| ()).unwrap_err();
    assert_eq!(error.message(), "a loop of 1 keyframe: wanted at least 2");
}

#[test]
fn inner_keyframes_are_computed_once_and_shared() {
    for looped in [false, true] {
        let model = tiny("base");
        let options = BlendOptions { looped, ..options() };
        let session = Session::new(&model, &keyframes(), &options).unwrap();
        session.prepare(&Call::new()).unwrap();
        // Branches of a level over all segments: inner keyframes count once, and a ring's ends are one.
        let segments = session.segments();
        let count = |per_segment: usize| segments * per_segment + usize::from(!looped);
        let evaluated = model.engine().samples();
        // The first level's branches take 4 steps, the second's 3; a guided step is two samples.
        assert_eq!(evaluated as usize, 2 * (count(1) * 4 + count(2) * 3), "looped: {looped}");
        let inner = count(2) * 4 * 6 * 8 * 4;
        assert_eq!(session.cached_bytes(), inner, "only what frames start from is kept");
        assert_eq!(session.evaluations(&[0.3]).unwrap(), 2);
        assert_eq!(session.evaluations(&[2.0]).unwrap(), 2);
    }
}

#[test]
fn a_loop_is_the_same_in_any_order_whatever_the_cache() {
    let model = tiny("base");
    let times = [3.0, 0.0, 2.9, 0.1, 1.5, 2.0];
    let wanted: Vec<Frame> = times.map(|t| render(&ring(&model, |_| {}), t)).into();
    for limit in [0, 1000, usize::MAX] {
        let session = ring(&model, |options| options.cache_bytes = limit);
        session.prepare(&Call::new()).unwrap();
        for (t, wanted) in times.iter().zip(&wanted).rev() {
            assert!(same(&render(&session, *t), wanted), "at {t} with {limit} bytes");
        }
        let many = session.render_many(&times, &Call::new()).unwrap();
        assert!(many.iter().zip(&wanted).all(|(a, b)| same(a, b)));
    }
}

#[test]
fn frames_of_the_whole_have_no_keyframe_twice() {
    let model = tiny("base");
    let open = Session::new(&model, &keyframes(), &options()).unwrap();
    let linear = Timing { pace: Pace::Linear, ..Timing::default() };
    let timed = open.timed(&linear, &Call::new()).unwrap();
    assert_eq!(timed.timeline().frames(5), [0.0, 0.5, 1.0, 1.5, 2.0]);
    assert_eq!(open.timeline(), timed.timeline(), "a new session's time is linear");
    let ring = ring(&model, |_| {});
    assert_eq!(ring.timeline().frames(6), [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]);
    // Frames of a long sequence: each keyframe once, none close to it but its neighbours.
    for (session, frames) in [(&open, 241), (&ring, 360)] {
        let times = session.timeline().frames(frames);
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]));
        let keyframes = times.iter().filter(|t| t.fract() == 0.0).count();
        assert_eq!(keyframes, 3);
    }
}

#[test]
fn segments_have_lengths_and_easings() {
    let model = tiny("base");
    let session = Session::new(&model, &keyframes(), &options()).unwrap();
    let segment = |length, easing| Segment { length, easing };
    let timing = Timing {
        pace: Pace::Linear,
        segments: vec![segment(3.0, Easing::Linear), segment(1.0, Easing::InOut)],
    };
    let timed = session.timed(&timing, &Call::new()).unwrap();
    let times = timed.timeline().frames(9);
    let wanted = [0.0, 1.0 / 6.0, 2.0 / 6.0, 0.5, 4.0 / 6.0, 5.0 / 6.0, 1.0, 1.5, 2.0];
    assert!(times.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-7), "{times:?}");
    // The same frames at the same t, from one cache.
    assert!(same(&render(&timed, 0.3), &render(&session, 0.3)));
    assert_eq!(timed.cached_bytes(), session.cached_bytes());
    let message = |segments: Vec<Segment>| {
        let timing = Timing { pace: Pace::Linear, segments };
        session.timed(&timing, &Call::new()).map(|_| ()).unwrap_err().message().to_owned()
    };
    assert_eq!(message(vec![Segment::default()]), "timing of 1 segments: the transition has 2");
    let bad = vec![segment(0.0, Easing::Linear), Segment::default()];
    assert_eq!(message(bad), "a segment of length 0: wanted above 0");
    let bad = vec![segment(f64::NAN, Easing::Linear), Segment::default()];
    assert_eq!(message(bad), "a segment of length NaN: wanted above 0");
}
