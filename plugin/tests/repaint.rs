//! A part of the Source repainted: the node's frames are the C API's, and what isn't masked is the Source's own bytes.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(unsafe_code, reason = "a host is called through pointers")]
#![allow(missing_docs, reason = "a test's own")]

mod host;

use host::bundle::bundle;
use host::compare::{FILTER, GENERAL, check, scene};
use host::effect::{Effect, Image, Shape, UNTOUCHED};
use host::engine::{Still, Wanted};
use host::props::{Props, Value};
use host::repainted::{
    ALPHA, assert_kept, inside, mask, mask_image, middle, node, picture, rendered, repainted,
};
use host::{FAILED, Host, OK, Quirks};
use latentblend::capi::*;

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
