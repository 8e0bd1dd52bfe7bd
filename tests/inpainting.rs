//! Inpainting: what diffusers' pipeline makes, and a source that stays what it was.

mod common;

use common::golden::{Recorded, read, relative_error};
use common::{same, short, tiny};
use latentblend::{
    BlendOptions, Branching, Call, Crossfeed, ErrorKind, Format, Frame, ImageMut, ImageRef,
    Inpainting, Keyframe, Layout, Mask, NoiseKind, Placement, Sampler, Session, Source, Target,
    Transfer,
};
use std::collections::HashMap;

/// The prompts of `tests/golden/sampling.py`.
const PROMPT: &str = "photo of a bright blue sky with white clouds";
const NEGATIVE: &str = "blurry painting, low light";

fn bytes(recorded: &Recorded) -> Vec<u8> {
    recorded.values.iter().map(|&v| v as u8).collect()
}

/// The recorded picture and mask.
fn recorded_inpainting(recorded: &HashMap<String, Recorded>) -> Inpainting {
    let picture = bytes(&recorded["picture"]);
    let layout = Layout::packed(80, 64, Format::RgbU8, Transfer::Srgb);
    let source = Source::new(&ImageRef::new(&picture, 0, layout).unwrap()).unwrap();
    let mask = Mask::from_u8(80, 64, &bytes(&recorded["mask"])).unwrap();
    Inpainting::new(source, mask)
}

#[test]
fn a_whole_pipeline_equals_diffusers() {
    let recorded = read("images");
    let inpainting = recorded_inpainting(&recorded);
    for name in ["inpainting", "base"] {
        let keyframe = Keyframe::new(PROMPT, 62).negative(NEGATIVE);
        let options = BlendOptions {
            steps: Some(10),
            guidance: 2.0,
            noise: NoiseKind::Cpu,
            size: Some([80, 64]),
            branching: Some(Branching { injections: vec![0], branches: vec![2] }),
            ..BlendOptions::default()
        };
        let model = tiny(name);
        let session = Session::inpainting(&model, &[keyframe], &options, &inpainting).unwrap();
        let latents = session.latents(&[0.0], &Call::new()).unwrap();
        let wanted = &recorded[&format!("{name}.final")].values;
        let error = relative_error(latents[0].data(), wanted);
        println!("{name}, 10 steps: relative error {error:.1e}");
        assert!(error <= 1e-4);
    }
}

/// A source of `size` whose values, alpha included, are all over their range.
fn source_bytes(size: [usize; 2], format: Format) -> Vec<u8> {
    let [width, height] = size;
    let values = width * height * format.channels();
    let noisy = |i: usize| (i.wrapping_mul(2654435761) >> 7) % 1000;
    match format.bytes_per_pixel() / format.channels() {
        1 => (0..values).map(|i| noisy(i) as u8).collect(),
        2 if format.is_float() => (0..values)
            .flat_map(|i| half::f16::from_f32(noisy(i) as f32 / 300.0 - 0.1).to_ne_bytes())
            .collect(),
        2 => (0..values).flat_map(|i| (noisy(i) as u16 * 65).to_ne_bytes()).collect(),
        _ => (0..values)
            .flat_map(|i| {
                match i % 997 {
                    // Nobody asks for these, but nobody may change them either.
                    0 => f32::NAN,
                    1 => f32::INFINITY,
                    2 => -0.0,
                    _ => noisy(i) as f32 / 300.0 - 0.1,
                }
                .to_ne_bytes()
            })
            .collect(),
    }
}

fn source(bytes: &[u8], size: [usize; 2], format: Format, transfer: Transfer) -> Source {
    let layout = Layout::packed(size[0], size[1], format, transfer);
    Source::new(&ImageRef::new(bytes, 0, layout).unwrap()).unwrap()
}

fn session(name: &str, inpainting: &Inpainting) -> Session {
    let (keyframes, options) = short();
    Session::inpainting(&tiny(name), &keyframes, &options, inpainting).unwrap()
}

/// Renders into packed bytes of the session's size.
fn rendered(session: &Session, t: f64, format: Format, transfer: Transfer) -> Vec<u8> {
    let [width, height] = session.size();
    let layout = Layout::packed(width, height, format, transfer);
    let mut bytes = vec![0xAA; width * height * format.bytes_per_pixel()];
    let target = Target::new(ImageMut::new(&mut bytes, 0, layout).unwrap());
    session.render_into(&[t], &mut [target], &Call::new()).unwrap();
    bytes
}

#[test]
fn outside_of_the_mask_the_source_stays_bit_for_bit() {
    for (name, size) in [("inpainting", [64, 48]), ("base", [64, 48]), ("inpainting", [150, 101])] {
        let mask = Mask::rectangle(size[0], size[1], [20, 15, 45, 40]).unwrap();
        for format in Format::ALL {
            for transfer in Transfer::ALL {
                if name == "base" && (format != Format::RgbaF32 || transfer != Transfer::Linear) {
                    continue;
                }
                let bytes = source_bytes(size, format);
                let source = source(&bytes, size, format, transfer);
                let mut inpainting = Inpainting::new(source, mask.clone());
                // Infinite lights have no curve.
                inpainting.peak = Some(3.0);
                let session = session(name, &inpainting);
                assert_eq!(session.size(), size);
                let got = rendered(&session, 0.4, format, transfer);
                let pixel = format.bytes_per_pixel();
                let (mut kept, mut changed) = (0, 0);
                for (i, &value) in mask.values().iter().enumerate() {
                    let same = got[i * pixel..][..pixel] == bytes[i * pixel..][..pixel];
                    assert!(value > 0.0 || same, "{format:?} {transfer:?}, pixel {i}");
                    kept += usize::from(same);
                    changed += usize::from(!same);
                }
                assert!(changed > 500 && kept >= size[0] * size[1] - 625, "{changed} changed");
            }
        }
    }
}

#[test]
fn a_tile_is_the_whole_and_a_window_reaches_beyond() {
    let size = [96, 64];
    let bytes = source_bytes(size, Format::RgbaF16);
    let source = source(&bytes, size, Format::RgbaF16, Transfer::Linear);
    let mask = Mask::rectangle(96, 64, [30, 20, 70, 50]).unwrap();
    let session = session("inpainting", &Inpainting::new(source, mask));
    let whole = rendered(&session, 0.5, Format::RgbaF16, Transfer::Linear);
    let window = [-10, 30, 60, 80];
    let layout = Layout::packed(70, 50, Format::RgbaF16, Transfer::Linear);
    let mut tile = vec![0xAA; 70 * 50 * 8];
    let placement = Placement { window, ..Placement::whole(96, 64) };
    let target = Target::new(ImageMut::new(&mut tile, 0, layout).unwrap()).placed(placement);
    session.render_into(&[0.5], &mut [target], &Call::new()).unwrap();
    for y in 0..50 {
        for x in 0..70 {
            let (px, py) = (x as i32 - 10, y + 30);
            let got = &tile[(y * 70 + x) * 8..][..8];
            if px < 0 || py >= 64 {
                assert_eq!(got, [0; 8], "outside of the bounds");
            } else {
                assert_eq!(got, &whole[(py * 96 + px as usize) * 8..][..8], "at {px}, {py}");
            }
        }
    }
}

#[test]
fn a_patch_is_what_the_composite_adds() {
    let size = [64, 48];
    let (format, transfer) = (Format::RgbaF32, Transfer::Srgb);
    let bytes: Vec<u8> = (0..64 * 48 * 4)
        .flat_map(|i| if i % 4 == 3 { 1f32 } else { (i % 71) as f32 / 71.0 }.to_ne_bytes())
        .collect();
    let source = source(&bytes, size, format, transfer);
    let mask = Mask::rectangle(64, 48, [16, 8, 50, 40]).unwrap();
    let session = session("inpainting", &Inpainting::new(source, mask.clone()));
    let values = |bytes: &[u8]| -> Vec<f32> {
        bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_ne_bytes(b)).collect()
    };
    let whole = values(&rendered(&session, 0.3, format, transfer));
    let layout = Layout::packed(64, 48, format, transfer);
    let mut patch = vec![0xAA; 64 * 48 * 16];
    let target = Target::new(ImageMut::new(&mut patch, 0, layout).unwrap()).patch();
    session.render_into(&[0.3], &mut [target], &Call::new()).unwrap();
    let (patch, under) = (values(&patch), values(&bytes));
    let mut alphas = Vec::new();
    for (i, &inside) in mask.values().iter().enumerate() {
        let pixel = &patch[i * 4..][..4];
        alphas.push(pixel[3]);
        assert!((0.0..=1.0).contains(&pixel[3]));
        if inside == 0.0 {
            assert_eq!(pixel, [0.0; 4]);
        }
        for c in 0..3 {
            let over = pixel[c] + (1.0 - pixel[3]) * under[i * 4 + c];
            assert!((over - whole[i * 4 + c]).abs() < 1e-5, "pixel {i}");
        }
    }
    // The matte is feathered: it rises over more than one pixel.
    assert!(alphas.iter().filter(|a| **a > 0.05 && **a < 0.95).count() > 100);
    let mut rgb = vec![0; 64 * 48 * 3];
    let layout = Layout::packed(64, 48, Format::RgbU8, Transfer::Srgb);
    let target = Target::new(ImageMut::new(&mut rgb, 0, layout).unwrap()).patch();
    let error = session.render_into(&[0.3], &mut [target], &Call::new()).unwrap_err();
    assert_eq!(error.message(), "a patch alone in RgbU8: wanted RGBA, for its matte");
}

#[test]
fn a_held_patch_stays_while_the_plate_moves() {
    let size = [64, 48];
    let bytes = source_bytes(size, Format::RgbU8);
    let source = source(&bytes, size, Format::RgbU8, Transfer::Srgb);
    let mask = Mask::rectangle(64, 48, [16, 8, 50, 40]).unwrap();
    let session = session("inpainting", &Inpainting::new(source, mask.clone()));
    let matte = {
        let layout = Layout::packed(64, 48, Format::RgbaU8, Transfer::Srgb);
        let mut patch = vec![0; 64 * 48 * 4];
        let target = Target::new(ImageMut::new(&mut patch, 0, layout).unwrap()).patch();
        session.render_into(&[0.6], &mut [target], &Call::new()).unwrap();
        patch.chunks(4).map(|p| p[3]).collect::<Vec<u8>>()
    };
    let first = rendered(&session, 0.6, Format::RgbU8, Transfer::Srgb);
    // The next frame of the plate is the first, moved by three pixels.
    let mut moved = bytes.clone();
    moved.rotate_right(9);
    let layout = Layout::packed(64, 48, Format::RgbU8, Transfer::Srgb);
    let mut over = vec![0; 64 * 48 * 3];
    let target = Target::new(ImageMut::new(&mut over, 0, layout).unwrap())
        .over(ImageRef::new(&moved, 0, layout).unwrap());
    let evaluations = session.evaluations(&[0.6]).unwrap();
    session.render_into(&[0.6], &mut [target], &Call::new()).unwrap();
    assert_eq!(session.evaluations(&[0.6]).unwrap(), evaluations, "nothing is made anew");
    for (i, &inside) in mask.values().iter().enumerate() {
        let pixel = |of: &[u8]| [of[i * 3], of[i * 3 + 1], of[i * 3 + 2]];
        if inside == 0.0 {
            assert_eq!(pixel(&over), pixel(&moved));
        } else if matte[i] == 255 {
            assert_eq!(pixel(&over), pixel(&first), "the patch moved");
        }
    }
    let small = Layout::packed(32, 48, Format::RgbU8, Transfer::Srgb);
    let target = Target::new(ImageMut::new(&mut over, 0, layout).unwrap())
        .over(ImageRef::new(&moved, 0, small).unwrap());
    let error = session.render_into(&[0.6], &mut [target], &Call::new()).unwrap_err();
    assert_eq!(error.message(), "a plate of 32x48 pixels: wanted 64x48, as the source");
}

#[test]
fn frames_are_the_same_in_any_order_and_whatever_the_cache() {
    let recorded = read("images");
    let times = [0.0, 0.05, 0.3, 0.5, 1.0];
    let feed = Some(Crossfeed::new(0.5, 0.9, 0.5));
    let solver = |options| BlendOptions {
        sampler: Sampler::DpmSolver2M,
        branch1_crossfeed: feed,
        parental_crossfeed: feed,
        ..options
    };
    let cases = [("inpainting", false), ("base", false), ("inpainting", true), ("base", true)];
    for (name, crossfed) in cases {
        for from_source in [false, true] {
            let inpainting = Inpainting { from_source, ..recorded_inpainting(&recorded) };
            let make = |cache_bytes: usize| {
                let (keyframes, options) = short();
                let options = if crossfed { solver(options) } else { options };
                let options = BlendOptions { cache_bytes, ..options };
                Session::inpainting(&tiny(name), &keyframes, &options, &inpainting).unwrap()
            };
            let session = make(usize::MAX);
            let wanted: Vec<Frame> =
                times.iter().map(|&t| session.render(t, &Call::new()).unwrap()).collect();
            for cache_bytes in [0, 3000] {
                let session = make(cache_bytes);
                session.prepare(&Call::new()).unwrap();
                assert!(session.cached_bytes() <= cache_bytes);
                let together = session.render_many(&times, &Call::new()).unwrap();
                assert!(together.iter().zip(&wanted).all(|(a, b)| same(a, b)), "{name}");
                session.purge();
                for (&t, wanted) in times.iter().zip(&wanted).rev() {
                    assert!(same(&session.render(t, &Call::new()).unwrap(), wanted), "{name}");
                }
            }
            if crossfed {
                continue;
            }
            // A keyframe is what it is alone.
            let (keyframes, options) = short();
            let last = &keyframes[1..];
            let alone = Inpainting { from_source: false, ..inpainting.clone() };
            let alone = Session::inpainting(&tiny(name), last, &options, &alone).unwrap();
            assert!(same(&alone.render(0.0, &Call::new()).unwrap(), &wanted[4]), "{name} alone");
        }
    }
}

#[test]
fn the_first_frame_may_be_the_source_itself() {
    let size = [150, 101];
    for (format, transfer) in
        [(Format::RgbaU8, Transfer::Srgb), (Format::RgbaF32, Transfer::AcesCg)]
    {
        let bytes = source_bytes(size, format);
        let mut inpainting = Inpainting::new(
            source(&bytes, size, format, transfer),
            Mask::rectangle(150, 101, [20, 15, 95, 80]).unwrap(),
        );
        inpainting.from_source = true;
        inpainting.peak = Some(3.0);
        let session = session("inpainting", &inpainting);
        assert!(rendered(&session, 0.0, format, transfer) == bytes, "{format:?}");
        assert!(rendered(&session, 0.5, format, transfer) != bytes);
    }
}

#[test]
fn a_region_is_repainted_and_nothing_else() {
    let size = [160, 120];
    let bytes = source_bytes(size, Format::RgbU8);
    let region = [40, 30, 104, 78];
    let inpainting = Inpainting {
        region: Some(region),
        ..Inpainting::new(
            source(&bytes, size, Format::RgbU8, Transfer::Srgb),
            Mask::rectangle(160, 120, [10, 40, 90, 70]).unwrap(),
        )
    };
    let session = session("inpainting", &inpainting);
    assert_eq!((session.size(), session.working_size()), (size, [64, 48]));
    let got = rendered(&session, 0.5, Format::RgbU8, Transfer::Srgb);
    let mut changed = 0;
    for i in 0..160 * 120 {
        let (x, y) = (i % 160, i / 160);
        let inside = (40..90).contains(&x) && (40..70).contains(&y);
        let same = got[i * 3..][..3] == bytes[i * 3..][..3];
        assert!(inside || same, "at {x}, {y}");
        changed += usize::from(!same);
    }
    assert!(changed > 1000, "{changed}");
}

#[test]
fn what_cannot_be_is_refused_with_its_values() {
    let bytes = source_bytes([64, 48], Format::RgbU8);
    let source = source(&bytes, [64, 48], Format::RgbU8, Transfer::Srgb);
    let mask = Mask::rectangle(64, 48, [16, 8, 50, 40]).unwrap();
    let good = Inpainting::new(source, mask);
    let model = tiny("inpainting");
    let refused = |inpainting: Inpainting| {
        let (keyframes, options) = short();
        let error = Session::inpainting(&model, &keyframes, &options, &inpainting).map(|_| ());
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        error.message().to_owned()
    };
    let mask = |w: usize, h: usize, v: f32| Mask::new(w, h, vec![v; w * h]).unwrap();
    assert_eq!(
        refused(Inpainting { mask: mask(48, 64, 1.0), ..good.clone() }),
        "a mask of 48x64 pixels for a source of 64x48: wanted the same shape"
    );
    for value in [0.0, 0.49] {
        let message = refused(Inpainting { mask: mask(64, 48, value), ..good.clone() });
        assert!(message.starts_with("the mask marks nothing: wanted 0.5"), "{message}");
    }
    for feather in [-1.0, f64::NAN, 1e9] {
        let message = refused(Inpainting { feather: Some(feather), ..good.clone() });
        assert_eq!(message, format!("feather {feather}: wanted 0 to 10000 pixels"));
    }
    let message = refused(Inpainting { region: Some([10, 10, 65, 20]), ..good.clone() });
    assert!(message.starts_with("inpainting region [10, 10, 65, 20]: wanted"), "{message}");
    let message = refused(Inpainting { peak: Some(f64::NAN), ..good.clone() });
    assert_eq!(message, "highlight peak NaN: wanted 0 to 1000");
    // Of another size, but of the same shape, a mask fits: here that of a proxy.
    let (keyframes, options) = short();
    for (w, h) in [(32, 24), (33, 25), (640, 480)] {
        let inpainting = Inpainting { mask: mask(w, h, 1.0), ..good.clone() };
        Session::inpainting(&model, &keyframes, &options, &inpainting).unwrap();
    }
    let options = BlendOptions { size: Some([60, 48]), ..options };
    let error = Session::inpainting(&model, &keyframes, &options, &good).map(|_| ()).unwrap_err();
    assert_eq!(error.message(), "width 60 is not a multiple of 8");
    // A session that repaints nothing has no patch.
    let (keyframes, options) = short();
    let plain = Session::new(&tiny("base"), &keyframes, &options).unwrap();
    let layout = Layout::packed(64, 48, Format::RgbaU8, Transfer::Srgb);
    let mut pixels = vec![7; 64 * 48 * 4];
    let target = Target::new(ImageMut::new(&mut pixels, 0, layout).unwrap()).patch();
    let error = plain.render_into(&[0.5], &mut [target], &Call::new()).unwrap_err();
    assert!(error.message().starts_with("a patch alone of a session that repaints nothing"));
    assert!(pixels.iter().all(|&p| p == 7), "a failed call wrote pixels");
}

/// Mean difference of neighbours from ring `d` to the next inwards, rings around a rectangle, d < 0 outside.
#[cfg(all(feature = "demo", feature = "demo-inpainting"))]
fn gradient(frame: &Frame, [x1, y1, x2, y2]: [usize; 4], d: isize) -> f64 {
    let at = |x: usize, y: usize| &frame.rgb()[(y * frame.width() + x) * 3..][..3];
    let off = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / 3.0
    };
    let place = |side: usize, step: isize| side.checked_add_signed(step).unwrap();
    let (mut sum, mut count) = (0.0, 0);
    for y in y1 + 12..y2 - 12 {
        sum += off(at(place(x1, d), y), at(place(x1, d + 1), y));
        sum += off(at(place(x2, -d - 1), y), at(place(x2, -d - 2), y));
        count += 2;
    }
    for x in x1 + 12..x2 - 12 {
        sum += off(at(x, place(y1, d)), at(x, place(y1, d + 1)));
        sum += off(at(x, place(y2, -d - 1)), at(x, place(y2, -d - 2)));
        count += 2;
    }
    sum / f64::from(count)
}

#[cfg(all(feature = "demo", feature = "demo-inpainting"))]
#[test]
fn no_seam_shows_at_the_edge() {
    use latentblend::Model;
    // Its edges lie inside of latent pixels, as masks' do.
    let hole = [37, 33, 94, 101];
    let branching = Branching { injections: vec![0, 6], branches: vec![2, 3] };
    let options =
        BlendOptions { steps: Some(9), branching: Some(branching), ..BlendOptions::default() };
    let scene = "a photo of a red castle in the middle over green hills by day, sunny";
    let standard = Model::demo(&Call::new()).unwrap();
    let picture = Session::new(&standard, &[Keyframe::new(scene, 4)], &options).unwrap();
    let picture = picture.render(0.0, &Call::new()).unwrap();
    let bytes = picture.to_rgb8();
    let source = source(&bytes, [128, 128], Format::RgbU8, Transfer::Srgb);
    let mask = Mask::rectangle(128, 128, hole).unwrap();
    let keyframes = [
        Keyframe::new("a photo of green hills by day, sunny, no buildings", 5),
        Keyframe::new("a photo of a blue windmill over green hills by day", 6),
    ];
    for (name, model) in
        [("nine channels", Model::demo_inpainting(&Call::new()).unwrap()), ("four", standard)]
    {
        for (how, feather, lead_over) in [
            ("as it is", None, true),
            ("not led over", None, false),
            ("neither led over nor feathered", Some(0.0), false),
        ] {
            if name == "four" && how != "as it is" {
                continue;
            }
            let inpainting =
                Inpainting { feather, lead_over, ..Inpainting::new(source.clone(), mask.clone()) };
            let session = Session::inpainting(&model, &keyframes, &options, &inpainting).unwrap();
            let frame = session.render(0.5, &Call::new()).unwrap();
            let edge = gradient(&frame, hole, -1);
            let band = (-1..9).map(|d| gradient(&frame, hole, d)).fold(0.0, f64::max);
            let around = |rings: std::ops::Range<isize>| {
                let count = rings.len() as f64;
                rings.map(|d| gradient(&frame, hole, d)).sum::<f64>() / count
            };
            let (inside, outside) = (around(12..24), around(-12..-2));
            println!(
                "{name}, {how}: across the edge {edge:.4}, most in the band {band:.4}, inside \
                 {inside:.4}, outside {outside:.4}"
            );
            if how == "as it is" {
                assert!(edge < 1.5 * inside.max(outside), "an edge shows");
            }
        }
    }
}
