//! A part of the Source repainted, over time: held frames, plates that move, what a host is asked for and shares.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(unsafe_code, reason = "a host is called through pointers")]
#![allow(missing_docs, reason = "a test's own")]

mod host;

use host::bundle::bundle;
use host::compare::{FILTER, GENERAL, check, scene};
use host::effect::{Effect, Image, Shape};
use host::engine::Still;
use host::props::{Props, Value};
use host::repainted::{
    ALPHA, assert_kept, inside, mask_image, middle, node, picture, rendered, repainted,
};
use host::{FAILED, Host, OK, Quirks, REPLY_DEFAULT};
use latentblend::capi::*;

/// What an action says of a clip.
fn said(host: &Host, effect: &Effect, action: &str, time: f64, name: &str) -> Option<Vec<f64>> {
    let (input, out) = (Props::default(), Props::default());
    input.put("OfxPropTime", Value::D(time));
    let action = format!("OfxImageEffectAction{action}");
    match host.act(&action, effect.handle(), Some(&input), Some(&out)) {
        OK => Some((0..).map_while(|index| out.real(name, index)).collect()),
        REPLY_DEFAULT => None,
        status => panic!("{action}: status {status}"),
    }
}

#[test]
fn a_held_frame_keeps_the_patch_still_while_the_plate_moves() {
    let host = Host::load(bundle(), Quirks::default());
    let shape = Shape { depth: "OfxBitDepthFloat", ..Shape::new(64, 48) };
    let plates: Vec<_> = (3..7).map(|time| picture(&shape, time)).collect();
    let effect = node(&host, GENERAL, &[("hold", Value::I(1)), ("holdFrame", Value::I(3))]);
    let masks = [mask_image(&shape), picture(&Shape { components: ALPHA, ..shape.clone() }, 0)];
    for (time, plate) in (3..).zip(&plates) {
        effect.show_at("Source", f64::from(time), plate);
        // The mask moves too: what is repainted is that of the held frame.
        effect.show_at("Mask", f64::from(time), &masks[usize::from(time > 3)]);
    }
    let held = Still::of(&plates[0], LB_TRANSFER_SRGB);
    let frames: Vec<_> = (3..7)
        .map(|time| {
            let frame = f64::from(time);
            let name = "OfxImageClipPropFrameRange_Source";
            let needed = said(&host, &effect, "GetFramesNeeded", frame, name);
            let two = if time == 3 { vec![3.0, 3.0] } else { vec![3.0, 3.0, frame, frame] };
            assert_eq!(needed, Some(two));
            let name = "OfxImageClipPropFrameRange_Mask";
            let needed = said(&host, &effect, "GetFramesNeeded", frame, name);
            assert_eq!(needed, Some(vec![3.0, 3.0]));
            effect.asked("Source");
            effect.asked("Mask");
            let mut wanted = repainted(0.5, held.clone(), middle(&shape));
            if time > 3 {
                let plate = &plates[time as usize - 3];
                wanted.more.plate = Some(Still::of(plate, LB_TRANSFER_SRGB));
            }
            check(&host, &effect, (&shape, shape.bounds, shape.bounds), (frame, &[]), &wanted);
            let asked = effect.asked("Source");
            assert!(asked.iter().all(|t| *t == 3.0 || *t == frame), "{asked:?}");
            assert_eq!(effect.asked("Mask"), [3.0]);
            rendered(&host, &effect, &shape, frame)
        })
        .collect();
    for (frame, plate) in frames.iter().zip(&plates) {
        assert_kept(frame, plate, |x, y| !inside(x, y));
        // Where all of the patch is seen, nothing moves.
        assert_eq!(frame.row(24, 28, 36), frames[0].row(24, 28, 36));
    }
    // Without: a session of each frame's own.
    effect.set("hold", Value::I(0));
    let needed = said(&host, &effect, "GetFramesNeeded", 5.0, "OfxImageClipPropFrameRange_Source");
    assert_eq!(needed, Some(vec![5.0, 5.0]));
    *effect.c("Mask").image.lock().unwrap() = Some((&raw const *masks[0]) as usize);
    effect.c("Mask").frames.lock().unwrap().clear();
    let own = Still::of(&plates[2], LB_TRANSFER_SRGB);
    let wanted = repainted(0.5, own, middle(&shape));
    check(&host, &effect, (&shape, shape.bounds, shape.bounds), (5.0, &[]), &wanted);
    // All of a picture is looked at, whatever part of the result is wanted.
    let name = "OfxImageClipPropRoI_Source";
    let region = said(&host, &effect, "GetRegionsOfInterest", 5.0, name);
    assert_eq!(region, Some(vec![0.0, 0.0, 64.0, 48.0]));
    // And nothing is, where nothing is repainted.
    effect.set("inpaint", Value::I(0));
    for action in ["GetFramesNeeded", "GetRegionsOfInterest"] {
        assert_eq!(said(&host, &effect, action, 5.0, name), None);
    }
    host.destroy(effect);
}

#[test]
fn a_plate_of_other_bounds_than_the_held_one_is_seen_whole() {
    let host = Host::load(bundle(), Quirks::default());
    let small = Shape { bounds: [0, 0, 64, 48], ..Shape::new(1, 1) };
    let large = Shape { bounds: [-6, 4, 70, 60], ..Shape::new(1, 1) };
    let (held, present, mask) = (picture(&small, 1), picture(&large, 2), mask_image(&small));
    let effect = node(&host, GENERAL, &[("hold", Value::I(1)), ("holdFrame", Value::I(1))]);
    effect.show("Mask", &mask);
    effect.show_at("Source", 1.0, &held);
    effect.show_at("Source", 2.0, &present);
    let got = rendered(&host, &effect, &large, 2.0);
    assert_kept(&got, &present, |x, y| !inside(x, y));
    // The patch, where it is whole, is that of the held frame.
    assert_eq!(got.row(24, 28, 36), rendered(&host, &effect, &small, 1.0).row(24, 28, 36));
    host.destroy(effect);
}

#[test]
fn what_is_missing_is_said_on_the_node() {
    let host = Host::load(bundle(), Quirks::default());
    let shape = Shape::new(64, 48);
    let image = Image::new(&shape);
    let fails = |effect: &Effect, time: f64, text: &str| {
        effect.target(&image);
        assert_ne!(host.render(effect, time, shape.bounds, &[]), OK, "{text}");
        assert!(effect.message().contains(text), "{text}: {}", effect.message());
        assert_eq!(image.written(), 0, "a failed render wrote pixels");
        assert_eq!(effect.images_held(), 0, "an image was not released");
        assert_eq!(host.edited(effect, "negative"), OK);
        assert_eq!(effect.value("status"), Value::text(&effect.message()));
    };
    let effect = node(&host, GENERAL, &[]);
    fails(&effect, 0.0, "'Repaint the Source' is on, but no Source is connected");
    // Connected, and without a picture at this time.
    let source = picture(&shape, 1);
    effect.show_at("Source", 1.0, &source);
    fails(&effect, 12.0, "The host gave no image of Source at frame 12");
    let source = picture(&Shape { components: "OfxImageComponentRGB", ..shape.clone() }, 1);
    effect.show("Source", &source);
    effect.c("Source").frames.lock().unwrap().clear();
    fails(&effect, 0.0, "'Mask channel' is Alpha, and Source has none");
    let odd = Image::new(&Shape { components: ALPHA, ..shape.clone() });
    effect.show("Source", &odd);
    fails(
        &effect,
        0.0,
        "The host's image of Source is of OfxImageComponentAlpha, OfxBitDepthByte: wanted RGB",
    );
    host.destroy(effect);
}

#[test]
fn a_host_that_gives_the_present_only_is_asked_for_no_more() {
    let host = Host::load(bundle(), Quirks::default());
    host.data.props.put("OfxImageEffectPropTemporalClipAccess", Value::I(0));
    let described = host.describe_in(FILTER);
    let declared = |props: &Props| props.int("OfxImageEffectPropTemporalClipAccess");
    assert_eq!(declared(&described.props), Some(0));
    assert_eq!(declared(&described.c("Source").props), Some(0));
    let shape = Shape::new(64, 48);
    let source = picture(&shape, 1);
    source.paint(|x, y| {
        let [r, g, b, _] = scene(x, y, 1);
        [r, g, b, f32::from(u8::from(inside(x, y)))]
    });
    let effect = node(&host, FILTER, &[("hold", Value::I(1)), ("holdFrame", Value::I(3))]);
    effect.show("Source", &source);
    let image = Image::new(&shape);
    effect.target(&image);
    assert_eq!(host.render(&effect, 7.0, shape.bounds, &[]), FAILED);
    assert!(effect.message().ends_with("switch 'Hold a frame' off"), "{}", effect.message());
    assert!(effect.asked("Source").is_empty(), "it was asked for another time");
    let wanted = repainted(0.5, Still::of(&source, LB_TRANSFER_SRGB), middle(&shape));
    check(&host, &effect, (&shape, shape.bounds, shape.bounds), (3.0, &[]), &wanted);
    effect.set("hold", Value::I(0));
    check(&host, &effect, (&shape, shape.bounds, shape.bounds), (7.0, &[]), &wanted);
    host.destroy(effect);
}

#[test]
fn nodes_with_the_same_pictures_share_and_others_do_not() {
    let host = Host::load(bundle(), Quirks::default());
    let shape = Shape::new(64, 48);
    let held = |effect: &Effect| {
        assert_eq!(host.edited(effect, "negative"), OK);
        let Value::S(status) = effect.value("status") else { panic!("no text") };
        status.into_string().unwrap()
    };
    let effect = node(&host, GENERAL, &[]);
    assert_eq!(host.edited(&effect, "freeMemory"), OK);
    let mask = mask_image(&shape);
    effect.show("Mask", &mask);
    // The same pixels, in another place of memory and in another order of rows.
    for top_down in [false, true] {
        let source = picture(&Shape { top_down, padding: 11, ..shape.clone() }, 1);
        effect.show("Source", &source);
        rendered(&host, &effect, &shape, 0.0);
        assert_eq!(held(&effect), "1 model, 1 transition in memory");
    }
    // One bit of one pixel.
    let source = picture(&shape, 1);
    source.paint(|x, y| {
        let [r, g, b, a] = scene(x, y, 1);
        [if (x, y) == (63, 0) { r + 1.0 / 255.0 } else { r }, g, b, a]
    });
    effect.show("Source", &source);
    rendered(&host, &effect, &shape, 0.0);
    assert_eq!(held(&effect), "1 model, 2 transitions in memory");
    // The mask; what its numbers stand for.
    effect.set("maskInvert", Value::I(1));
    rendered(&host, &effect, &shape, 0.0);
    assert_eq!(held(&effect), "1 model, 3 transitions in memory");
    effect.set("inputColour", Value::I(2));
    rendered(&host, &effect, &shape, 0.0);
    assert_eq!(held(&effect), "1 model, 4 transitions in memory");
    host.destroy(effect);
}

#[test]
fn without_a_model_the_demo_model_for_repainting_is_used() {
    let host = Host::load(bundle(), Quirks::default());
    let shape = Shape::new(64, 48);
    let (source, mask) = (picture(&shape, 1), mask_image(&shape));
    let effect = node(&host, GENERAL, &[("modelPath", Value::text("")), ("steps", Value::I(1))]);
    effect.show("Source", &source);
    effect.show("Mask", &mask);
    let mut wanted = repainted(0.5, Still::of(&source, LB_TRANSFER_SRGB), middle(&shape));
    (wanted.model, wanted.more.repaints) = (None, true);
    wanted.options = |options| (options.preset, options.steps) = (LB_PRESET_LOWEST, 1);
    check(&host, &effect, (&shape, shape.bounds, shape.bounds), (0.0, &[]), &wanted);
    host.destroy(effect);
}
