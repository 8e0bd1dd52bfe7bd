//! What the node renders is what the C API renders, byte for byte: in every format, layout, window, scale and context.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(unsafe_code, reason = "a host is called through pointers")]
#![allow(missing_docs, reason = "a test's own")]

mod host;

use host::bundle::bundle;
use host::compare::{FILTER, GENERAL, GENERATOR, TRANSITION, check, create, short, size, wanted};
use host::effect::{Effect, Image, Shape, UNTOUCHED};
use host::engine::{Wanted, engine};
use host::props::{Props, Value};
use host::{Host, OK, Quirks, REPLY_DEFAULT};
use latentblend::capi::*;

#[test]
fn every_format_row_order_and_place_in_memory() {
    let host = Host::load(bundle(), Quirks::default());
    let effect = create(&host, GENERATOR, &[]);
    for depth in ["OfxBitDepthByte", "OfxBitDepthShort", "OfxBitDepthHalf", "OfxBitDepthFloat"] {
        for components in ["OfxImageComponentRGBA", "OfxImageComponentRGB"] {
            for (top_down, padding) in [(false, 0), (true, 0), (false, 24), (true, 7)] {
                let shape = Shape {
                    bounds: [-7, 5, 57, 53],
                    depth,
                    components,
                    top_down,
                    padding,
                    ..Shape::new(1, 1)
                };
                let asked = (&shape, shape.bounds, shape.bounds);
                check(&host, &effect, asked, (0.0, &[]), &wanted(0.5));
            }
        }
    }
    host.destroy(effect);
}

#[test]
fn odd_windows_are_parts_of_the_whole() {
    let host = Host::load(bundle(), Quirks::default());
    let effect = create(&host, GENERATOR, &[]);
    for region in [None, Some([0, 0, 64, 48])] {
        let shape = Shape { bounds: [0, 0, 64, 48], region, padding: 4, ..Shape::new(1, 1) };
        for window in
            [[0, 0, 64, 48], [3, 5, 4, 6], [1, 0, 64, 1], [17, 11, 40, 48], [-9, -3, 200, 100]]
        {
            check(&host, &effect, (&shape, window, [0, 0, 64, 48]), (0.0, &[]), &wanted(0.5));
        }
    }
    // The host's memory holds a part of the picture only, and a border beyond it.
    let shape = Shape { bounds: [10, 8, 70, 50], region: Some([0, 0, 64, 48]), ..Shape::new(1, 1) };
    check(&host, &effect, (&shape, [12, 8, 60, 48], [0, 0, 64, 48]), (0.0, &[]), &wanted(0.5));
    // A window that holds nothing is no failure.
    effect.target(&Image::new(&shape));
    let image = Image::new(&shape);
    effect.target(&image);
    assert_eq!(host.render(&effect, 0.0, [200, 8, 300, 48], &[]), OK);
    assert_eq!(image.written(), 0);
    host.destroy(effect);
}

#[test]
fn a_proxy_shows_the_same_picture() {
    let host = Host::load(bundle(), Quirks::default());
    let effect = create(&host, GENERATOR, &[]);
    for (scale, bounds, aspect) in [
        ([0.5, 0.5], [0, 0, 32, 24], 1.0),
        ([0.25, 0.25], [0, 0, 16, 12], 1.0),
        ([1.0, 0.5], [0, 0, 64, 24], 0.5),
        ([2.0, 2.0], [0, 0, 128, 96], 1.0),
    ] {
        let shape = Shape { bounds, region: Some(bounds), ..Shape::new(1, 1) };
        let more = scale.map(|s| ("OfxImageEffectPropRenderScale", Value::D(s)));
        // The size at which the model works stays that of the full picture.
        let wanted = Wanted { pixel_aspect: aspect, ..wanted(0.5) };
        check(&host, &effect, (&shape, bounds, bounds), (0.0, &more), &wanted);
    }
    // A scale that isn't the images' (Fusion, while scrubbing): the images are believed.
    let shape = Shape { bounds: [0, 0, 32, 24], region: Some([0, 0, 21, 16]), ..Shape::new(1, 1) };
    let more = [1.0 / 3.0; 2].map(|s| ("OfxImageEffectPropRenderScale", Value::D(s)));
    check(&host, &effect, (&shape, shape.bounds, shape.bounds), (0.0, &more), &wanted(0.5));
    host.destroy(effect);
}

#[test]
fn the_model_works_at_the_shape_of_the_plate_and_a_circle_stays_round() {
    let host = Host::load(bundle(), Quirks::default());
    for (region, pixel_aspect) in [
        ([0.0, 0.0, 64.0, 48.0], 1.0),
        ([10.0, 5.0, 138.0, 53.0], 2.0),
        ([0.0, 0.0, 20.0, 60.0], 0.5),
    ] {
        for context in [FILTER, GENERAL] {
            let effect = create(&host, context, &[("fit", Value::I(1)), ("filter", Value::I(2))]);
            effect.connect("Source", region);
            let [x1, y1, x2, y2] = region;
            let bounds =
                [(x1 / pixel_aspect) as i32, y1 as i32, (x2 / pixel_aspect) as i32, y2 as i32];
            let shape = Shape { bounds, region: Some(bounds), pixel_aspect, ..Shape::new(1, 1) };
            let wanted = Wanted {
                size: size((x2 - x1) / (y2 - y1)),
                fit: LB_FIT_LETTERBOX,
                filter: LB_FILTER_BILINEAR,
                pixel_aspect,
                ..wanted(0.5)
            };
            check(&host, &effect, (&shape, bounds, bounds), (0.0, &[]), &wanted);
            host.destroy(effect);
        }
    }
    // The rule of the library, over many shapes: a stretched frame of another size would be another picture.
    for (w, h) in [(16, 9), (9, 16), (3, 2), (1, 1), (37, 10), (10, 41), (239, 100), (5, 4)] {
        let effect = create(&host, GENERATOR, &[("fit", Value::I(2)), ("steps", Value::I(1))]);
        effect
            .props
            .put_all("OfxImageEffectPropProjectSize", [f64::from(w), f64::from(h)].map(Value::D));
        let shape = Shape::new(16, 16);
        let wanted = Wanted {
            size: size(f64::from(w) / f64::from(h)),
            fit: LB_FIT_STRETCH,
            options: |o| {
                short(o);
                o.steps = 1;
            },
            ..wanted(0.5)
        };
        check(&host, &effect, (&shape, shape.bounds, shape.bounds), (0.0, &[]), &wanted);
        host.destroy(effect);
    }
    // The model's own size, whatever the plate.
    let effect = create(&host, GENERATOR, &[("sizeMode", Value::I(1))]);
    let shape = Shape::new(64, 48);
    check(
        &host,
        &effect,
        (&shape, shape.bounds, shape.bounds),
        (0.0, &[]),
        &Wanted { size: [128, 128], ..wanted(0.5) },
    );
    host.destroy(effect);
}

#[test]
fn hosts_that_know_no_project_are_served_by_the_shape_of_their_images() {
    let host = Host::load(bundle(), Quirks { no_project: true, ..Quirks::default() });
    for context in [GENERATOR, FILTER, GENERAL] {
        let effect = create(&host, context, &[]);
        let out = Props::default();
        let action = "OfxImageEffectActionGetRegionOfDefinition";
        let input = Props::default();
        input.put("OfxPropTime", Value::D(0.0));
        assert_eq!(host.act(action, effect.handle(), Some(&input), Some(&out)), REPLY_DEFAULT);
        let shape = Shape::new(64, 48);
        check(&host, &effect, (&shape, shape.bounds, shape.bounds), (0.0, &[]), &wanted(0.5));
        host.destroy(effect);
    }
}

#[test]
fn time_is_a_fraction_a_keyframe_or_the_clips_length() {
    let host = Host::load(bundle(), Quirks::default());
    let shape = Shape::new(24, 18);
    let at = |effect: &Effect, time: f64, wanted: Wanted| {
        check(&host, effect, (&shape, shape.bounds, shape.bounds), (time, &[]), &wanted);
    };
    let effect = create(&host, GENERATOR, &[]);
    *effect.p("fraction").keys.lock().unwrap() = vec![(0.0, 0.0), (10.0, 1.0)];
    for (time, t) in [(0.0, 0.0), (2.5, 0.25), (7.0, 0.7), (10.0, 1.0), (99.0, 1.0)] {
        at(&effect, time, wanted(t));
    }
    host.destroy(effect);

    // Eleven frames.
    let effect = create(&host, GENERATOR, &[("timing", Value::I(1))]);
    for (time, t) in [(-3.0, 0.0), (0.0, 0.0), (4.0, 0.4), (10.0, 1.0), (50.0, 1.0)] {
        at(&effect, time, wanted(t));
    }
    effect.set("easing", Value::I(1));
    at(&effect, 2.5, wanted(0.25 * 0.25 * 2.5));
    host.destroy(effect);

    // The clip that is filtered begins at frame 101.
    let effect = create(&host, FILTER, &[("timing", Value::I(1))]);
    effect.connect("Source", [0.0, 0.0, 64.0, 48.0]);
    effect.c("Source").props.put_all("OfxImageEffectPropFrameRange", [101.0, 105.0].map(Value::D));
    for (time, t) in [(101.0, 0.0), (102.0, 0.25), (105.0, 1.0)] {
        at(&effect, time, wanted(t));
    }
    host.destroy(effect);

    // Four keyframes, by whole and by number.
    let more = [
        ("keyframeCount", Value::I(4)),
        ("promptC", Value::text("rolling hills in fog")),
        ("promptD", Value::text("a desert at noon")),
        ("seedD", Value::I(2_147_483_647)),
        ("negative", Value::text("rain")),
    ];
    let effect = create(&host, GENERATOR, &more);
    let mut chain = wanted(0.0);
    chain.negative = "rain".into();
    chain.prompts.push(("rolling hills in fog".into(), 422));
    chain.prompts.push(("a desert at noon".into(), 2_147_483_647));
    effect.set("fraction", Value::D(0.75));
    at(&effect, 0.0, Wanted { t: 2.25, ..chain.clone() });
    effect.set("fractionScale", Value::I(1));
    for fraction in [0.75, 3.0, 1.0] {
        effect.set("fraction", Value::D(fraction));
        at(&effect, 0.0, Wanted { t: fraction, ..chain.clone() });
    }
    effect.set("fraction", Value::D(f64::NAN));
    at(&effect, 0.0, Wanted { t: 0.5, ..chain.clone() });
    host.destroy(effect);
}

#[test]
fn a_transition_is_its_clips_at_the_ends_and_the_prompts_between() {
    let host = Host::load(bundle(), Quirks::default());
    let effect = create(&host, TRANSITION, &[]);
    let identity = |time: f64| {
        let (input, out) = (Props::default(), Props::default());
        input.put("OfxPropTime", Value::D(time));
        let action = "OfxImageEffectActionIsIdentity";
        match host.act(action, effect.handle(), Some(&input), Some(&out)) {
            OK => out.text("OfxPropName"),
            REPLY_DEFAULT => String::from("none"),
            other => panic!("status {other}"),
        }
    };
    *effect.p("Transition").keys.lock().unwrap() = vec![(0.0, 0.0), (8.0, 1.0)];
    assert_eq!(identity(0.0), "none", "nothing is connected");
    effect.connect("SourceFrom", [0.0, 0.0, 64.0, 48.0]);
    effect.connect("SourceTo", [0.0, 0.0, 64.0, 48.0]);
    assert_eq!(
        (identity(0.0), identity(4.0), identity(8.0)),
        ("SourceFrom".into(), "none".into(), "SourceTo".into())
    );
    effect.set("clipsAsKeyframes", Value::I(0));
    assert_eq!((identity(0.0).as_str(), identity(8.0).as_str()), ("none", "none"));
    let shape = Shape::new(64, 48);
    for time in [0.0, 3.0, 8.0] {
        check(
            &host,
            &effect,
            (&shape, shape.bounds, shape.bounds),
            (time, &[]),
            &wanted(time / 8.0),
        );
    }
    host.destroy(effect);
}

#[test]
fn colour_is_the_hosts_or_the_users() {
    let float = Shape { depth: "OfxBitDepthFloat", ..Shape::new(16, 12) };
    let transfers = [LB_TRANSFER_SRGB, LB_TRANSFER_LINEAR, LB_TRANSFER_ACESCG];
    for (name, by_host) in [
        ("uk.co.thefoundry.nuke", 2),
        ("fr.inria.Natron", 2),
        ("DaVinciResolve", 1),
        ("MLT", 1),
        ("", 1),
    ] {
        let host = Host::load(bundle(), Quirks { name, ..Quirks::default() });
        let effect = create(&host, GENERATOR, &[]);
        assert_eq!(effect.value("hostColour"), Value::I(by_host), "{name}: shown and saved");
        let at = |wanted| {
            check(&host, &effect, (&float, float.bounds, float.bounds), (0.0, &[]), &wanted);
        };
        at(Wanted { transfer: transfers[by_host as usize - 1], ..wanted(0.5) });
        for (choice, transfer) in (1..).zip(transfers) {
            effect.set("outputColour", Value::I(choice));
            at(Wanted { transfer, ..wanted(0.5) });
        }
        // A project that was saved elsewhere keeps its picture.
        effect.set("outputColour", Value::I(0));
        effect.set("hostColour", Value::I(3));
        at(Wanted { transfer: LB_TRANSFER_ACESCG, ..wanted(0.5) });
        host.destroy(effect);
    }
}

#[test]
fn hosts_that_manage_colour_are_answered() {
    let host = Host::load(bundle(), Quirks::default());
    let described = host.describe();
    assert_eq!(
        described.props.text("OfxImageEffectPropColourManagementStyle"),
        "OfxImageEffectColourManagementCore"
    );
    let effect = create(&host, FILTER, &[]);
    let ask = |wishes: &[&str]| {
        let (input, out) = (Props::default(), Props::default());
        input.put_all(
            "OfxImageClipPropPreferredColourspaces",
            wishes.iter().map(|w| Value::text(w)),
        );
        let action = "OfxImageEffectActionGetOutputColourspace";
        assert_eq!(host.act(action, effect.handle(), Some(&input), Some(&out)), OK);
        out.text("OfxImageClipPropColourspace")
    };
    assert_eq!(ask(&["arri_logc4", "ACEScg", "ofx_scene_linear"]), "ACEScg");
    assert_eq!(ask(&["ofx_scene_linear"]), "ofx_scene_linear");
    assert_eq!(ask(&["arri_logc4"]), "srgb_tx");
    assert_eq!(ask(&[]), "srgb_tx");
    effect.set("outputColour", Value::I(2));
    assert_eq!(ask(&["ACEScg"]), "lin_rec709_srgb");
    effect.set("outputColour", Value::I(0));
    // What was answered, the host writes onto the clip, and the picture follows.
    effect.c("Output").props.put("OfxImageClipPropColourspace", Value::text("ACEScg"));
    let float = Shape { depth: "OfxBitDepthFloat", ..Shape::new(64, 48) };
    let wanted = Wanted { transfer: LB_TRANSFER_ACESCG, ..wanted(0.5) };
    check(&host, &effect, (&float, float.bounds, float.bounds), (0.0, &[]), &wanted);
    let out = Props::default();
    let action = "OfxImageEffectActionGetClipPreferences";
    assert_eq!(host.act(action, effect.handle(), None, Some(&out)), OK);
    assert_eq!(out.text("OfxImageEffectPropPreMultiplication"), "OfxImageOpaque");
    assert_eq!(out.int("OfxImageEffectFrameVarying"), Some(0));
    assert_eq!(out.texts("OfxImageClipPropPreferredColourspaces_Source").len(), 3);
    effect.set("timing", Value::I(1));
    assert_eq!(host.act(action, effect.handle(), None, Some(&Props::default())), OK);
    let out = Props::default();
    assert_eq!(host.act(action, effect.handle(), None, Some(&out)), OK);
    assert_eq!(out.int("OfxImageEffectFrameVarying"), Some(1), "time alone changes the picture");
    host.destroy(effect);
}

#[test]
fn a_field_is_every_second_line() {
    let host = Host::load(bundle(), Quirks::default());
    let effect = create(&host, GENERATOR, &[]);
    let shape = Shape { bounds: [0, 1, 20, 16], top_down: true, ..Shape::new(1, 1) };
    let frame = engine().frame(&wanted(0.5), &shape, shape.bounds, shape.bounds);
    let row = 20 * shape.pixel_bytes();
    for (field, parity) in [("OfxFieldLower", 0), ("OfxFieldUpper", 1)] {
        let image = Image::new(&shape);
        effect.target(&image);
        let more = [("OfxImageEffectPropFieldToRender", Value::text(field))];
        assert_eq!(host.render(&effect, 0.5, shape.bounds, &more), OK, "{}", effect.message());
        for y in 1..16 {
            let line = image.row(y, 0, 20);
            let whole = &frame[(15 - y) as usize * row..][..row];
            match y % 2 == parity {
                true => assert_eq!(line, whole, "{field}, line {y}"),
                false => assert!(line.iter().all(|&b| b == UNTOUCHED), "{field}, line {y}"),
            }
        }
    }
    host.destroy(effect);
}

#[test]
fn drafts_have_a_fixed_recipe_whatever_is_held() {
    let host = Host::load(bundle(), Quirks::default());
    let effect = create(&host, GENERATOR, &[("steps", Value::I(50)), ("preset", Value::I(4))]);
    let shape = Shape::new(32, 24);
    let draft = |t: f64| Wanted {
        options: |o| {
            o.preset = LB_PRESET_LOWEST;
            o.steps = 8;
        },
        ..wanted(t)
    };
    for more in [
        [("OfxImageEffectPropRenderQualityDraft", Value::I(1))],
        [("OfxImageEffectPropThumbnailRender", Value::text("true"))],
    ] {
        for (fraction, t) in [(0.5, 0.5), (0.3, 0.3125), (0.97, 1.0)] {
            effect.set("fraction", Value::D(fraction));
            check(&host, &effect, (&shape, shape.bounds, shape.bounds), (0.0, &more), &draft(t));
        }
    }
    host.destroy(effect);
}

#[test]
fn the_demo_model_gives_a_picture_at_once() {
    let host = Host::load(bundle(), Quirks::default());
    let effect = host.create(GENERATOR, &[("steps", Value::I(2)), ("preset", Value::I(0))]);
    let shape = Shape::new(64, 48);
    let wanted = Wanted {
        model: None,
        options: |o| {
            o.preset = LB_PRESET_LOWEST;
            o.steps = 2;
        },
        ..wanted(0.5)
    };
    check(&host, &effect, (&shape, shape.bounds, shape.bounds), (0.0, &[]), &wanted);
    host.destroy(effect);
}
