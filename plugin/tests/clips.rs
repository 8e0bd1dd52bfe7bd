//! Clips as keyframes: a transition grows out of SourceFrom into SourceTo, as the C API has it.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(unsafe_code, reason = "a host is called through pointers")]
#![allow(missing_docs, reason = "a test's own")]

mod host;

use host::bundle::bundle;
use host::compare::{GENERAL, TRANSITION, check, create, scene, wanted};
use host::effect::{Effect, Image, Shape};
use host::engine::{More, Still, Wanted};
use host::props::{Props, Value};
use host::{FAILED, Host, OK, Quirks, REPLY_DEFAULT};
use latentblend::capi::*;

fn picture(shape: &Shape, seed: i32) -> Box<Image> {
    let image = Image::new(shape);
    image.paint(|x, y| scene(x, y, seed));
    image
}

/// The frame at `t` between two pictures.
fn between(t: f64, images: [Option<Still>; 2]) -> Wanted {
    Wanted { fit: LB_FIT_STRETCH, more: More { images, ..More::default() }, ..wanted(t) }
}

fn stills(images: [&Image; 2], transfer: u32) -> [Option<Still>; 2] {
    images.map(|image| Some(Still::of(image, transfer)))
}

/// A transition from frame 0 to frame 8.
fn node(host: &Host, more: &[(&str, Value)]) -> Box<Effect> {
    let effect = create(host, TRANSITION, more);
    *effect.p("Transition").keys.lock().unwrap() = vec![(0.0, 0.0), (8.0, 1.0)];
    effect
}

/// The frames that are needed of SourceFrom and SourceTo.
fn needed(host: &Host, effect: &Effect, time: f64) -> Option<[f64; 2]> {
    let (input, out) = (Props::default(), Props::default());
    input.put("OfxPropTime", Value::D(time));
    let action = "OfxImageEffectActionGetFramesNeeded";
    match host.act(action, effect.handle(), Some(&input), Some(&out)) {
        OK => Some(["From", "To"].map(|end| {
            let name = format!("OfxImageClipPropFrameRange_Source{end}");
            assert_eq!(out.real(&name, 0), out.real(&name, 1));
            assert_eq!(out.real(&name, 2), None);
            out.real(&name, 0).unwrap()
        })),
        REPLY_DEFAULT => None,
        status => panic!("status {status}"),
    }
}

#[test]
fn a_transition_grows_out_of_its_clips_in_every_format_and_colour() {
    let host = Host::load(bundle(), Quirks::default());
    let transfers = [LB_TRANSFER_SRGB, LB_TRANSFER_LINEAR, LB_TRANSFER_ACESCG];
    for depth in ["OfxBitDepthByte", "OfxBitDepthShort", "OfxBitDepthHalf", "OfxBitDepthFloat"] {
        for (colour, transfer) in (1..).zip(transfers) {
            let components =
                if colour == 2 { "OfxImageComponentRGB" } else { "OfxImageComponentRGBA" };
            let shape = Shape { depth, components, padding: 9, ..Shape::new(64, 48) };
            let clips =
                [picture(&shape, 1), picture(&Shape { top_down: true, ..shape.clone() }, 2)];
            let colours = [("inputColour", Value::I(colour)), ("outputColour", Value::I(colour))];
            let effect = node(&host, &colours);
            effect.show("SourceFrom", &clips[0]);
            effect.show("SourceTo", &clips[1]);
            for time in [0.0, 0.25, 4.0, 8.0] {
                let images = stills([&clips[0], &clips[1]], transfer);
                let wanted = Wanted { transfer, ..between(time / 8.0, images) };
                check(&host, &effect, (&shape, shape.bounds, shape.bounds), (time, &[]), &wanted);
            }
            // Hosts that don't ask for identity get the clips all the same.
            for (time, clip) in [(0.0, &clips[0]), (8.0, &clips[1])] {
                let image = Image::new(&shape);
                effect.target(&image);
                assert_eq!(host.render(&effect, time, shape.bounds, &[]), OK);
                assert!(image.pixels() == clip.pixels(), "{depth} {colour}: not the clip");
            }
            host.destroy(effect);
        }
    }
}

#[test]
fn moving_clips_are_held_where_the_transition_begins_and_ends() {
    let shape = Shape::new(64, 48);
    let frames: Vec<_> = (0..20).map(|seed| picture(&shape, seed)).collect();
    let show = |effect: &Effect| {
        for (time, frame) in (0..).zip(&frames) {
            effect.show_at("SourceFrom", f64::from(time), frame);
            effect.show_at("SourceTo", f64::from(time), &frames[frames.len() - 1 - time as usize]);
        }
    };
    let host = Host::load(bundle(), Quirks::default());
    let effect = create(&host, TRANSITION, &[]);
    show(&effect);
    // By the keys of the mandated parameter.
    *effect.p("Transition").keys.lock().unwrap() = vec![(6.0, 0.0), (14.0, 1.0)];
    for time in [7.0, 9.0, 13.0] {
        assert_eq!(needed(&host, &effect, time), Some([6.0, 14.0]));
        effect.asked("SourceFrom");
        effect.asked("SourceTo");
        let images = stills([&frames[6], &frames[5]], LB_TRANSFER_SRGB);
        let wanted = between((time - 6.0) / 8.0, images);
        check(&host, &effect, (&shape, shape.bounds, shape.bounds), (time, &[]), &wanted);
        assert_eq!((effect.asked("SourceFrom"), effect.asked("SourceTo")), (vec![6.0], vec![14.0]));
    }
    // Before and behind it the clips move: they are what is shown.
    for (time, shown) in [(3.0, 3), (17.0, 2)] {
        assert_eq!(needed(&host, &effect, time), Some([time, time]));
        let image = Image::new(&shape);
        effect.target(&image);
        assert_eq!(host.render(&effect, time, shape.bounds, &[]), OK, "{}", effect.message());
        assert!(image.pixels() == frames[shown].pixels(), "frame {time}");
    }
    // A clip that ends before gives its last frame.
    effect.c("SourceFrom").props.put_all("OfxImageEffectPropFrameRange", [8.0, 11.0].map(Value::D));
    effect.c("SourceTo").props.put_all("OfxImageEffectPropFrameRange", [8.0, 11.0].map(Value::D));
    assert_eq!(needed(&host, &effect, 9.0), Some([8.0, 11.0]));
    // Each frame by its own.
    effect.set("hold", Value::I(0));
    assert_eq!(needed(&host, &effect, 9.0), Some([9.0, 9.0]));
    let wanted = between(0.375, stills([&frames[9], &frames[10]], LB_TRANSFER_SRGB));
    check(&host, &effect, (&shape, shape.bounds, shape.bounds), (9.0, &[]), &wanted);
    host.destroy(effect);
    drop(host);

    // A host that says nothing of keys: by what the output lasts, else by the node's duration.
    let host = Host::load(bundle(), Quirks { null_functions: true, ..Quirks::default() });
    let effect = create(&host, TRANSITION, &[("Transition", Value::D(0.5))]);
    show(&effect);
    assert_eq!(needed(&host, &effect, 5.0), Some([0.0, 10.0]));
    effect.c("Output").props.put_all("OfxImageEffectPropFrameRange", [2.0, 12.0].map(Value::D));
    assert_eq!(needed(&host, &effect, 5.0), Some([2.0, 12.0]));
    let wanted = between(0.5, stills([&frames[2], &frames[7]], LB_TRANSFER_SRGB));
    check(&host, &effect, (&shape, shape.bounds, shape.bounds), (5.0, &[]), &wanted);
    host.destroy(effect);
}

#[test]
fn clips_lie_where_they_lie() {
    let host = Host::load(bundle(), Quirks::default());
    let shape = Shape { bounds: [0, 0, 64, 48], region: Some([0, 0, 64, 48]), ..Shape::new(1, 1) };
    // Smaller than the project, and larger.
    let from = picture(&Shape { bounds: [10, 6, 40, 44], ..Shape::new(1, 1) }, 1);
    let to = picture(&Shape { bounds: [-5, -9, 90, 60], ..Shape::new(1, 1) }, 2);
    let effect = node(&host, &[]);
    effect.show("SourceFrom", &from);
    effect.show("SourceTo", &to);
    let laid = |image: &Image| {
        let on_plane = Image::new(&shape);
        let [x1, y1, x2, y2] = image.shape.bounds;
        on_plane.paint(|x, y| {
            if !(x1..x2).contains(&x) || !(y1..y2).contains(&y) {
                return [0.0; 4];
            }
            let pixel = image.row(y, x, x + 1);
            [0, 1, 2, 3].map(|channel| f32::from(pixel[channel]) / 255.0)
        });
        on_plane
    };
    let images = stills([&laid(&from), &laid(&to)], LB_TRANSFER_SRGB);
    for (time, window) in [(0.0, shape.bounds), (3.0, shape.bounds), (5.0, [9, 1, 33, 48])] {
        let wanted = between(time / 8.0, images.clone());
        check(&host, &effect, (&shape, window, shape.bounds), (time, &[]), &wanted);
    }
    host.destroy(effect);
}

#[test]
fn colours_are_multiplied_by_alpha_as_the_output_wants_them() {
    let host = Host::load(bundle(), Quirks::default());
    let shape = Shape { depth: "OfxBitDepthFloat", ..Shape::new(64, 48) };
    let (pre, un) = ("OfxImageAlphaPremultiplied", "OfxImageAlphaUnPremultiplied");
    for (input, output) in [(pre, pre), (pre, un), (un, pre), (un, un), ("OfxImageOpaque", pre)] {
        let effect = node(&host, &[]);
        effect.c("Output").props.put("OfxImageEffectPropPreMultiplication", Value::text(output));
        let clips = [1, 2].map(|seed| picture(&shape, seed));
        for (name, clip) in ["SourceFrom", "SourceTo"].into_iter().zip(&clips) {
            clip.props.put("OfxImageEffectPropPreMultiplication", Value::text(input));
            effect.show(name, clip);
        }
        let brought = [1, 2].map(|seed| {
            let image = Image::new(&shape);
            image.paint(|x, y| {
                let [r, g, b, a] = scene(x, y, seed);
                match (input == un && output == pre, input == pre && output == un) {
                    (true, _) => [r * a, g * a, b * a, a],
                    (_, true) => [r / a, g / a, b / a, a],
                    _ => [r, g, b, a],
                }
            });
            image
        });
        let images = stills([&brought[0], &brought[1]], LB_TRANSFER_SRGB);
        for time in [0.0, 0.25, 4.0] {
            let wanted = between(time / 8.0, images.clone());
            check(&host, &effect, (&shape, shape.bounds, shape.bounds), (time, &[]), &wanted);
        }
        host.destroy(effect);
    }
}

#[test]
fn an_end_without_a_clip_is_its_prompts() {
    let host = Host::load(bundle(), Quirks::default());
    let shape = Shape::new(64, 48);
    let clip = picture(&shape, 1);
    let still = || Some(Still::of(&clip, LB_TRANSFER_SRGB));
    let at = |effect: &Effect, wanted: Wanted| {
        check(&host, effect, (&shape, shape.bounds, shape.bounds), (2.0, &[]), &wanted);
    };
    let effect = node(&host, &[]);
    effect.show("SourceTo", &clip);
    at(&effect, between(0.25, [None, still()]));
    // Keyframes between the clips are prompts.
    effect.set("keyframeCount", Value::I(3));
    effect.set("promptC", Value::text("hills"));
    let mut three = between(0.5, [None, still()]);
    three.prompts.push(("hills".into(), 422));
    at(&effect, three);
    host.destroy(effect);

    // Where there is no context for transitions, as in Nuke: inputs of a General node.
    let values = [("fraction", Value::D(0.25)), ("holdFrame", Value::I(5))];
    let effect = create(&host, GENERAL, &values);
    assert_eq!(effect.c("SourceFrom").props.int("OfxImageClipPropOptional"), Some(1));
    assert_eq!(effect.p("clipsAsKeyframes").props.int("OfxParamPropSecret").unwrap_or(0), 0);
    effect.show_at("SourceFrom", 5.0, &clip);
    at(&effect, between(0.25, [still(), None]));
    assert_eq!(effect.asked("SourceFrom"), [5.0]);
    effect.set("clipsAsKeyframes", Value::I(0));
    at(&effect, wanted(0.25));
    assert!(effect.asked("SourceFrom").is_empty());
    host.destroy(effect);
}

#[test]
fn pre_computing_reads_the_clips_and_frames_then_share_it() {
    let host = Host::load(bundle(), Quirks::default());
    let shape = Shape { region: Some([0, 0, 64, 48]), ..Shape::new(64, 48) };
    let effect = node(&host, &[]);
    assert_eq!(host.edited(&effect, "freeMemory"), OK);
    let clips = [1, 2].map(|seed| picture(&shape, seed));
    effect.show("SourceFrom", &clips[0]);
    effect.show_at("SourceTo", 8.0, &clips[1]);
    *effect.p("Transition").keys.lock().unwrap() = vec![(-1.0, 0.0), (8.0, 1.0)];
    assert_eq!(host.edited(&effect, "prepare"), OK);
    let Value::S(status) = effect.value("status") else { panic!("no text") };
    assert!(status.to_str().unwrap().starts_with("Pre-computed: 64x48"), "{status:?}");
    assert_eq!(effect.images_held(), 0, "an image was not released");
    let images = stills([&clips[0], &clips[1]], LB_TRANSFER_SRGB);
    let wanted = between(5.0 / 9.0, images);
    check(&host, &effect, (&shape, shape.bounds, shape.bounds), (4.0, &[]), &wanted);
    assert_eq!(host.edited(&effect, "negative"), OK);
    assert_eq!(effect.value("status"), Value::text("1 model, 1 transition in memory"));
    // A clip that gives nothing.
    effect.c("SourceTo").frames.lock().unwrap().clear();
    let image = Image::new(&shape);
    effect.target(&image);
    assert_eq!(host.render(&effect, 4.0, shape.bounds, &[]), FAILED);
    assert_eq!(effect.message(), "The host gave no image of SourceTo at frame 8");
    host.destroy(effect);
}
