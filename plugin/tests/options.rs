//! What else shapes a transition: sampler, crossfeeds, look, and how time goes; each as the C API has it.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(unsafe_code, reason = "a host is called through pointers")]
#![allow(missing_docs, reason = "a test's own")]

mod host;

use host::bundle::bundle;
use host::compare::{FILTER, GENERATOR, TRANSITION, check, create, short, wanted};
use host::effect::{Effect, Shape};
use host::engine::{Wanted, engine};
use host::props::Value;
use host::{Host, Quirks};
use latentblend::capi::*;

fn shape() -> Shape {
    Shape::new(24, 18)
}

fn at(host: &Host, effect: &Effect, time: f64, wanted: &Wanted) {
    check(host, effect, (&shape(), shape().bounds, shape().bounds), (time, &[]), wanted);
}

/// Asserts that two frames are two.
fn differ(a: &Wanted, b: &Wanted, what: &str) {
    let [a, b] = [a, b].map(|w| engine().frame(w, &shape(), shape().bounds, shape().bounds));
    assert!(a != b, "{what} changes nothing");
}

/// Six steps, so that there are steps for every option to act on.
fn six(options: &mut lb_blend_options) {
    short(options);
    options.steps = 6;
}

/// Three keyframes, so that one has another before it and another behind.
fn three(t: f64, options: fn(&mut lb_blend_options)) -> Wanted {
    let mut three = Wanted { options, ..wanted(t) };
    three.prompts.push(("hills".into(), 422));
    three
}

#[test]
fn every_option_of_quality_changes_the_picture_as_it_does_in_c() {
    let host = Host::load(bundle(), Quirks::default());
    let chain = [
        ("steps", Value::I(6)),
        ("keyframeCount", Value::I(3)),
        ("promptC", Value::text("hills")),
        ("fraction", Value::D(0.65)),
    ];
    type Case = (&'static str, Vec<(&'static str, Value)>, fn(&mut lb_blend_options));
    let cases: [Case; 6] = [
        ("sampler", vec![("sampler", Value::I(1))], |o| {
            six(o);
            o.sampler = LB_SAMPLER_DPM_SOLVER_2M;
        }),
        ("mixing", vec![("mixing", Value::I(1))], |o| {
            six(o);
            o.latent_mix = LB_LATENT_MIX_ARC;
        }),
        ("crossfeed", vec![("crossfeedPower", Value::D(0.7))], |o| {
            six(o);
            o.branch1_crossfeed_power = 0.7;
            (o.branch1_crossfeed_range, o.branch1_crossfeed_decay) = (0.6, 0.8);
        }),
        (
            "branch crossfeed",
            vec![
                ("parentCrossfeedPower", Value::D(0.5)),
                ("parentCrossfeedRange", Value::D(1.0)),
                ("parentCrossfeedDecay", Value::D(0.25)),
            ],
            |o| {
                six(o);
                o.parental_crossfeed_power = 0.5;
                (o.parental_crossfeed_range, o.parental_crossfeed_decay) = (1.0, 0.25);
            },
        ),
        ("guidance in the middle", vec![("guidanceMid", Value::D(0.1))], |o| {
            six(o);
            o.guidance_mid_damper = 0.1;
        }),
        ("2022", vec![("look", Value::I(1))], |o| {
            six(o);
            o.look = LB_LOOK_COMPAT_2022;
        }),
    ];
    for (name, values, options) in cases {
        let all: Vec<_> = chain.iter().cloned().chain(values).collect();
        let effect = create(&host, GENERATOR, &all);
        at(&host, &effect, 0.0, &three(1.3, options));
        differ(&three(1.3, options), &three(1.3, six), name);
        host.destroy(effect);
    }
}

#[test]
fn the_looks_of_2022_and_2023_mix_on_the_arc_whatever_mixing_says() {
    let host = Host::load(bundle(), Quirks::default());
    for (choice, options) in [
        (
            1,
            (|o| (o.preset, o.steps, o.look) = (LB_PRESET_LOWEST, 30, LB_LOOK_COMPAT_2022))
                as fn(&mut lb_blend_options),
        ),
        (2, |o| (o.preset, o.steps, o.look) = (LB_PRESET_LOWEST, 30, LB_LOOK_COMPAT_2023)),
    ] {
        let values = [("steps", Value::I(30)), ("look", Value::I(choice)), ("mixing", Value::I(1))];
        let effect = create(&host, GENERATOR, &values);
        at(&host, &effect, 0.0, &Wanted { options, ..wanted(0.5) });
        host.destroy(effect);
    }
}

#[test]
fn the_look_of_2023_brings_its_own_crossfeeds() {
    let host = Host::load(bundle(), Quirks::default());
    let thirty = |o: &mut lb_blend_options| {
        short(o);
        (o.steps, o.look) = (30, LB_LOOK_COMPAT_2023);
    };
    let values = [("steps", Value::I(30)), ("look", Value::I(2))];
    let effect = create(&host, GENERATOR, &values);
    let own = Wanted { options: thirty, ..wanted(0.5) };
    at(&host, &effect, 0.0, &own);
    let none = |o: &mut lb_blend_options| {
        short(o);
        (o.steps, o.look) = (30, LB_LOOK_COMPAT_2023);
        (o.branch1_crossfeed_power, o.parental_crossfeed_power) = (0.0, 0.0);
    };
    differ(&own, &Wanted { options: none, ..wanted(0.5) }, "its crossfeed");
    host.destroy(effect);
}

#[test]
fn time_is_eased_as_the_library_eases_it() {
    let host = Host::load(bundle(), Quirks::default());
    for (choice, easing) in
        (0..).zip([LB_EASING_LINEAR, LB_EASING_IN_OUT, LB_EASING_IN, LB_EASING_OUT])
    {
        let timed = |t: f64| {
            let mut wanted = three(t, short);
            wanted.more.timing = Some((LB_PACE_LINEAR, easing));
            wanted
        };
        // By hand, over the clip's length, as a transition between clips.
        let chain = [
            ("keyframeCount", Value::I(3)),
            ("promptC", Value::text("hills")),
            ("easing", Value::I(choice)),
        ];
        let effect = create(&host, GENERATOR, &chain);
        *effect.p("fraction").keys.lock().unwrap() = vec![(0.0, 0.0), (10.0, 1.0)];
        for time in [0.0, 1.0, 5.0, 6.5, 10.0] {
            at(&host, &effect, time, &timed(time / 5.0));
        }
        host.destroy(effect);
        let effect = create(&host, FILTER, &chain);
        effect.set("timing", Value::I(1));
        effect.connect("Source", [0.0, 0.0, 64.0, 48.0]);
        let range = [101.0, 105.0].map(Value::D);
        effect.c("Source").props.put_all("OfxImageEffectPropFrameRange", range);
        at(&host, &effect, 104.0, &timed(1.5));
        host.destroy(effect);
        let effect = create(&host, TRANSITION, &chain);
        effect.set("Transition", Value::D(0.8));
        at(&host, &effect, 0.0, &timed(1.6));
        host.destroy(effect);
    }
}

#[test]
fn even_time_is_the_librarys_and_is_measured_once() {
    let host = Host::load(bundle(), Quirks::default());
    let even = |t: f64, easing: u32| {
        let mut wanted = wanted(t);
        wanted.more.timing = Some((LB_PACE_EVEN, easing));
        wanted
    };
    differ(&even(0.3, LB_EASING_LINEAR), &wanted(0.3), "even time");
    let effect = create(&host, GENERATOR, &[("evenTime", Value::I(1)), ("timing", Value::I(1))]);
    // Eleven frames.
    for time in [0.0, 3.0, 7.0, 10.0] {
        at(&host, &effect, time, &even(time / 10.0, LB_EASING_LINEAR));
    }
    effect.set("easing", Value::I(1));
    at(&host, &effect, 3.0, &even(0.3, LB_EASING_IN_OUT));
    // Drafts do without, for what is measured is measured on many frames.
    let draft = Wanted {
        options: |o| {
            short(o);
            (o.preset, o.steps) = (LB_PRESET_LOWEST, 8);
        },
        ..wanted(0.3125)
    };
    effect.set("easing", Value::I(0));
    let more = [("OfxImageEffectPropRenderQualityDraft", Value::I(1))];
    check(&host, &effect, (&shape(), shape().bounds, shape().bounds), (3.0, &more), &draft);
    host.destroy(effect);
}

#[test]
fn every_parameter_is_live() {
    let host = Host::load(bundle(), Quirks::default());
    for context in [GENERATOR, FILTER, TRANSITION, host::compare::GENERAL] {
        let effect = host.describe_in(context);
        for param in effect.params.lock().unwrap().iter() {
            let enabled = param.props.int("OfxParamPropEnabled") != Some(0);
            // What the host's colour came to is shown, and not to be set.
            assert_eq!(enabled, param.name != "hostColour", "{}", param.name);
            if let Some(Value::S(hint)) = param.props.get("OfxParamPropHint", 0) {
                let hint = hint.to_str().unwrap();
                assert!(!hint.contains("Not in this version"), "{}: {hint}", param.name);
            }
        }
    }
}
