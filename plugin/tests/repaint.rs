//! A part of the Source repainted: the node's frames are the C API's, and what isn't masked is the Source's own bytes.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(unsafe_code, reason = "a host is called through pointers")]
#![allow(missing_docs, reason = "a test's own")]

mod host;

use host::bundle::bundle;
use host::compare::{FILTER, GENERAL, check, create, scene, wanted};
use host::effect::{Effect, Image, Shape, UNTOUCHED};
use host::engine::{More, Still, Wanted};
use host::props::{Props, Value};
use host::{FAILED, Host, OK, Quirks, REPLY_DEFAULT};
use latentblend::capi::*;

const ALPHA: &str = "OfxImageComponentAlpha";

/// Whether the middle of a picture of 64x48 is masked at x, y.
fn inside(x: i32, y: i32) -> bool {
    (16..48).contains(&x) && (12..36).contains(&y)
}

fn picture(shape: &Shape, seed: i32) -> Box<Image> {
    let image = Image::new(shape);
    image.paint(|x, y| scene(x, y, seed));
    image
}

/// A mask image of one channel: 1 in the middle.
fn mask_image(shape: &Shape) -> Box<Image> {
    let image = Image::new(&Shape { components: ALPHA, ..shape.clone() });
    image.paint(|x, y| [f32::from(u8::from(inside(x, y))); 4]);
    image
}

/// What the C API is told of a mask: floats, top row first.
fn mask(shape: &Shape, value: impl Fn(i32, i32) -> f32) -> Still {
    let [x1, y1, x2, y2] = shape.bounds;
    let values = (y1..y2).rev().flat_map(|y| (x1..x2).map(move |x| (x, y)));
    let bytes: Vec<u8> = values.flat_map(|(x, y)| value(x, y).to_ne_bytes()).collect();
    let size = [shape.width() as u32, shape.height() as u32];
    Still { bytes: bytes.into(), size, format: LB_FORMAT_A_F32, transfer: LB_TRANSFER_SRGB }
}

fn middle(shape: &Shape) -> Still {
    mask(shape, |x, y| f32::from(u8::from(inside(x, y))))
}

/// The frame of a source and a mask, which lie on the output's pixels.
fn repainted(t: f64, source: Still, mask: Still) -> Wanted {
    let more = More { repainted: Some((source, mask)), ..More::default() };
    Wanted { fit: LB_FIT_STRETCH, more, ..wanted(t) }
}

fn node(host: &Host, context: &str, more: &[(&str, Value)]) -> Box<Effect> {
    let mut values = vec![("inpaint", Value::I(1)), ("hold", Value::I(0))];
    values.extend_from_slice(more);
    create(host, context, &values)
}

/// Renders all of an image.
fn rendered(host: &Host, effect: &Effect, shape: &Shape, time: f64) -> Box<Image> {
    let image = Image::new(shape);
    effect.target(&image);
    assert_eq!(host.render(effect, time, shape.bounds, &[]), OK, "{}", effect.message());
    assert_eq!(effect.images_held(), 0, "an image was not released");
    image
}

/// Asserts that `got` is `source` wherever `kept` says.
fn assert_kept(got: &Image, source: &Image, kept: impl Fn(i32, i32) -> bool) {
    let [x1, y1, x2, y2] = got.shape.bounds;
    let mut changed = 0;
    for (x, y) in (y1..y2).flat_map(|y| (x1..x2).map(move |x| (x, y))) {
        let same = got.row(y, x, x + 1) == source.row(y, x, x + 1);
        assert!(same || !kept(x, y), "{x}, {y} isn't the source's");
        changed += usize::from(!same);
    }
    assert!(changed > 50, "nothing was repainted");
}

#[test]
fn what_is_not_masked_is_the_source_bit_for_bit_in_every_format() {
    let host = Host::load(bundle(), Quirks::default());
    for depth in ["OfxBitDepthByte", "OfxBitDepthShort", "OfxBitDepthHalf", "OfxBitDepthFloat"] {
        for components in ["OfxImageComponentRGBA", "OfxImageComponentRGB"] {
            // The source lies otherwise in memory than what is rendered.
            let shape = Shape { depth, components, padding: 5, ..Shape::new(64, 48) };
            let there = Shape { top_down: true, padding: 32, ..shape.clone() };
            let (source, mask) = (picture(&there, 1), mask_image(&shape));
            let effect = node(&host, GENERAL, &[]);
            effect.show("Source", &source);
            effect.show("Mask", &mask);
            let own = Still::of(&source, LB_TRANSFER_SRGB);
            for window in [shape.bounds, [3, 7, 50, 41]] {
                let wanted = repainted(0.5, own.clone(), middle(&shape));
                check(&host, &effect, (&shape, window, shape.bounds), (0.0, &[]), &wanted);
            }
            let got = rendered(&host, &effect, &shape, 0.0);
            assert_kept(&got, &source, |x, y| !inside(x, y));
            host.destroy(effect);
        }
    }
}

#[test]
fn the_mask_is_any_channel_of_the_mask_or_of_the_source_and_may_be_inverted() {
    let host = Host::load(bundle(), Quirks::default());
    let shape = Shape::new(64, 48);
    // Every channel marks another part, softly; all of it in codes of 8 bits.
    let value = |x: i32, y: i32, channel: i32| {
        let edge = (x - 8 - channel * 6).clamp(0, 15) * 17;
        if y > 6 * channel { edge as f32 / 255.0 } else { 0.0 }
    };
    let image = Image::new(&shape);
    image.paint(|x, y| [0, 1, 2, 3].map(|channel| value(x, y, channel)));
    let source = picture(&shape, 2);
    for (context, clip) in [(GENERAL, "Mask"), (FILTER, "Source"), (GENERAL, "Source")] {
        let effect = node(&host, context, &[]);
        effect.show("Source", if clip == "Mask" { &source } else { &image });
        if clip == "Mask" {
            effect.show("Mask", &image);
        }
        let plate = Still::of(if clip == "Mask" { &source } else { &image }, LB_TRANSFER_SRGB);
        for (choice, inverted) in (0..5).flat_map(|choice| [(choice, false), (choice, true)]) {
            effect.set("maskChannel", Value::I(choice));
            effect.set("maskInvert", Value::I(i32::from(inverted)));
            let mask = mask(&shape, |x, y| {
                let of = |channel| value(x, y, channel);
                let value = match choice {
                    0 => of(3),
                    4 => 0.2126f32 * of(0) + 0.7152f32 * of(1) + 0.0722f32 * of(2),
                    _ => of(choice - 1),
                };
                if inverted { 1.0 - value } else { value }
            });
            let wanted = repainted(0.5, plate.clone(), mask);
            check(&host, &effect, (&shape, shape.bounds, shape.bounds), (0.0, &[]), &wanted);
        }
        host.destroy(effect);
    }
}

#[test]
fn a_patch_alone_is_multiplied_by_its_matte_and_wants_alpha() {
    let host = Host::load(bundle(), Quirks::default());
    let shape = Shape { depth: "OfxBitDepthFloat", ..Shape::new(64, 48) };
    let (source, mask) = (picture(&shape, 1), mask_image(&shape));
    let effect = node(&host, GENERAL, &[("outputMode", Value::I(1))]);
    effect.show("Source", &source);
    effect.show("Mask", &mask);
    let mut wanted = repainted(0.5, Still::of(&source, LB_TRANSFER_SRGB), middle(&shape));
    wanted.more.patch = true;
    check(&host, &effect, (&shape, shape.bounds, shape.bounds), (0.0, &[]), &wanted);
    let got = rendered(&host, &effect, &shape, 0.0);
    let alpha = |x: i32, y: i32| f32::from_ne_bytes(got.row(y, x, x + 1)[12..].try_into().unwrap());
    assert_eq!((alpha(2, 2), alpha(32, 24)), (0.0, 1.0));

    let preferences = |effect: &Effect| {
        let out = Props::default();
        let action = "OfxImageEffectActionGetClipPreferences";
        assert_eq!(host.act(action, effect.handle(), None, Some(&out)), OK);
        out
    };
    let out = preferences(&effect);
    assert_eq!(out.text("OfxImageEffectPropPreMultiplication"), "OfxImageAlphaPremultiplied");
    assert_eq!(out.text("OfxImageClipPropComponents_Output"), "OfxImageComponentRGBA");
    // The whole picture has the alpha of its source.
    effect.set("outputMode", Value::I(0));
    for state in ["OfxImageAlphaUnPremultiplied", "OfxImageOpaque"] {
        effect.c("Source").props.put("OfxImageEffectPropPreMultiplication", Value::text(state));
        assert_eq!(preferences(&effect).text("OfxImageEffectPropPreMultiplication"), state);
    }
    // A host that hands over no alpha all the same.
    effect.set("outputMode", Value::I(1));
    let image = Image::new(&Shape { components: "OfxImageComponentRGB", ..shape });
    effect.target(&image);
    assert_eq!(host.render(&effect, 0.0, image.shape.bounds, &[]), FAILED);
    assert!(effect.message().contains("wanted RGBA"), "{}", effect.message());
    host.destroy(effect);
}

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
fn a_mask_that_marks_nothing_leaves_the_source() {
    let host = Host::load(bundle(), Quirks::default());
    let shape = Shape { padding: 3, ..Shape::new(64, 48) };
    let source = picture(&shape, 4);
    // Nothing; a speck that is too small for the model to see.
    for speck in [0, 1] {
        let mask = Image::new(&Shape { components: ALPHA, ..shape.clone() });
        mask.paint(|x, y| [f32::from(u8::from(x < speck && y < speck)); 4]);
        let effect = node(&host, GENERAL, &[]);
        effect.show("Source", &source);
        effect.show("Mask", &mask);
        let got = rendered(&host, &effect, &shape, 0.0);
        assert!(got.pixels() == source.pixels(), "speck {speck}");
        assert_eq!(effect.message(), "");
        effect.set("outputMode", Value::I(1));
        let got = rendered(&host, &effect, &shape, 0.0);
        assert!(got.pixels().iter().all(|&byte| byte == 0), "a patch of nothing");
        assert!(got.guards_are_whole());
        assert_eq!(host.edited(&effect, "prepare"), OK);
        let Value::S(status) = effect.value("status") else { panic!("no text") };
        assert!(status.to_str().unwrap().starts_with("The mask marks nothing"), "{status:?}");
        host.destroy(effect);
    }
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
fn pictures_come_in_their_own_colour() {
    let shape = Shape { depth: "OfxBitDepthFloat", ..Shape::new(64, 48) };
    let transfers = [LB_TRANSFER_SRGB, LB_TRANSFER_LINEAR, LB_TRANSFER_ACESCG];
    let (source, mask) = (picture(&shape, 1), mask_image(&shape));
    // Lights beyond 1 come back.
    source.paint(|x, y| scene(x, y, 1).map(|value| 3.0 * value));
    for (name, by_host) in [("uk.co.thefoundry.nuke", LB_TRANSFER_LINEAR), ("", LB_TRANSFER_SRGB)] {
        let host = Host::load(bundle(), Quirks { name, ..Quirks::default() });
        let effect = node(&host, GENERAL, &[]);
        effect.show("Source", &source);
        effect.show("Mask", &mask);
        let at = |input: u32, output: u32| {
            let source = Still::of(&source, input);
            let wanted = Wanted { transfer: output, ..repainted(0.5, source, middle(&shape)) };
            check(&host, &effect, (&shape, shape.bounds, shape.bounds), (0.0, &[]), &wanted);
        };
        at(by_host, by_host);
        for (input, output) in [(1, 1), (2, 2), (3, 3), (2, 3), (3, 1)] {
            effect.set("inputColour", Value::I(input));
            effect.set("outputColour", Value::I(output));
            at(transfers[input as usize - 1], transfers[output as usize - 1]);
            if input == output {
                let got = rendered(&host, &effect, &shape, 0.0);
                assert_kept(&got, &source, |x, y| !inside(x, y));
            }
        }
        // A host that manages colour says it of each clip.
        effect.set("inputColour", Value::I(0));
        effect.c("Source").props.put("OfxImageClipPropColourspace", Value::text("ACEScg"));
        at(LB_TRANSFER_ACESCG, LB_TRANSFER_SRGB);
        host.destroy(effect);
    }
}

#[test]
fn a_proxy_and_anamorphic_pixels_keep_each_pixel_in_its_place() {
    let host = Host::load(bundle(), Quirks::default());
    for (scale, bounds, pixel_aspect, aspect) in [
        ([0.5, 0.5], [0, 0, 32, 24], 1.0, 64.0 / 48.0),
        ([1.0, 1.0], [5, -3, 69, 45], 2.0, 128.0 / 48.0),
    ] {
        let shape = Shape { bounds, pixel_aspect, ..Shape::new(1, 1) };
        let mask = |x: i32, y: i32| f32::from(u8::from(x > bounds[0] + 10 && y > bounds[1] + 8));
        let (source, image) =
            (picture(&shape, 1), Image::new(&Shape { components: ALPHA, ..shape.clone() }));
        image.paint(|x, y| [mask(x, y); 4]);
        let effect = node(&host, GENERAL, &[]);
        effect.show("Source", &source);
        effect.show("Mask", &image);
        // Regions are those of the full size.
        let [w, h] = [f64::from(bounds[2] - bounds[0]), f64::from(bounds[3] - bounds[1])];
        effect.connect("Source", [0.0, 0.0, w * pixel_aspect / scale[0], h / scale[1]]);
        for image in [&source, &image] {
            image.props.put_all("OfxImageEffectPropRenderScale", scale.map(Value::D));
        }
        let source = Still::of(&source, LB_TRANSFER_SRGB);
        let wanted = Wanted {
            size: host::compare::size(aspect),
            ..repainted(0.5, source, self::mask(&shape, mask))
        };
        let more = scale.map(|s| ("OfxImageEffectPropRenderScale", Value::D(s)));
        check(&host, &effect, (&shape, bounds, bounds), (0.0, &more), &wanted);
        host.destroy(effect);
    }
}

#[test]
fn fields_of_a_repainted_picture_leave_the_other_lines_alone() {
    let host = Host::load(bundle(), Quirks::default());
    let shape = Shape::new(64, 48);
    let (source, mask) = (picture(&shape, 1), mask_image(&shape));
    let effect = node(&host, GENERAL, &[]);
    effect.show("Source", &source);
    effect.show("Mask", &mask);
    let whole = rendered(&host, &effect, &shape, 0.0);
    let image = Image::new(&shape);
    effect.target(&image);
    let more = [("OfxImageEffectPropFieldToRender", Value::text("OfxFieldUpper"))];
    assert_eq!(host.render(&effect, 0.0, shape.bounds, &more), OK, "{}", effect.message());
    for y in 0..48 {
        let line = image.row(y, 0, 64);
        match y % 2 {
            1 => assert!(line == whole.row(y, 0, 64), "line {y}"),
            _ => assert!(line.iter().all(|&byte| byte == UNTOUCHED), "line {y}"),
        }
    }
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
