//! Images as keyframes and inpainting, called as C calls them.
#![cfg(all(feature = "demo", feature = "demo-inpainting"))]
#![allow(unsafe_code, reason = "C hands over raw pointers")]

mod common;

use common::c::{keyframe, load, made, outcome, succeed, tiny_path};
use latentblend::capi::*;
use std::ptr::{null, null_mut};

fn tiny(name: &str) -> *mut lb_model {
    load(&tiny_path(name))
}

const SIZE: [usize; 2] = [64, 48];

/// An opaque-to-clear picture of SIZE.
fn pixels() -> Vec<u8> {
    (0..SIZE[0] * SIZE[1] * 4).map(|i| (i.wrapping_mul(2654435761) >> 9) as u8).collect()
}

/// 255 in a rectangle.
fn mask() -> Vec<u8> {
    let inside = |i: usize| (20..45).contains(&(i % 64)) && (10..40).contains(&(i / 64));
    (0..SIZE[0] * SIZE[1]).map(|i| if inside(i) { 255 } else { 0 }).collect()
}

fn source(pixels: &[u8], format: lb_format, channels: usize) -> lb_source {
    let mut source: lb_source = made(lb_source_init);
    source.data = pixels.as_ptr().cast();
    (source.width, source.height) = (SIZE[0] as u32, SIZE[1] as u32);
    source.row_bytes = (SIZE[0] * channels) as isize;
    source.format = format;
    source
}

fn image(pixels: &mut [u8]) -> lb_image {
    let mut image = std::mem::MaybeUninit::uninit();
    // SAFETY: the size is that of the memory.
    let mut image: lb_image = unsafe {
        lb_image_init(image.as_mut_ptr(), size_of::<lb_image>());
        image.assume_init()
    };
    image.data = pixels.as_mut_ptr().cast();
    (image.width, image.height) = (SIZE[0] as u32, SIZE[1] as u32);
    image.row_bytes = (SIZE[0] * 4) as isize;
    image
}

fn options() -> lb_blend_options {
    lb_blend_options {
        preset: LB_PRESET_LOWEST,
        width: 64,
        height: 48,
        ..made(lb_blend_options_init)
    }
}

fn inpainting(source: &lb_source, mask: &lb_source) -> lb_inpainting_options {
    lb_inpainting_options { source, mask, ..made(lb_inpainting_options_init) }
}

fn new_inpainting(
    model: *mut lb_model,
    inpainting: *const lb_inpainting_options,
) -> (*mut lb_session, (lb_status, String)) {
    let frames = [keyframe(c"a castle", 1), keyframe(c"a lake", 2)];
    let pointers = [&raw const frames[0], &raw const frames[1]];
    let mut session = null_mut();
    // SAFETY: as the header asks.
    let result = outcome(|error| unsafe {
        lb_session_new_inpainting(
            model,
            pointers.as_ptr(),
            2,
            &options(),
            inpainting,
            &mut session,
            error,
        )
    });
    (session, result)
}

#[test]
fn a_keyframe_with_an_image_is_the_image_and_pixels_are_copied() {
    let model = tiny("base");
    let wanted = pixels();
    let mut given = wanted.clone();
    let picture = source(&given, LB_FORMAT_RGBA_U8, 4);
    let frames = [lb_keyframe { image: &picture, ..keyframe(c"", 0) }, keyframe(c"a lake", 2)];
    let pointers = [&raw const frames[0], &raw const frames[1]];
    let mut session = null_mut();
    // SAFETY: as the header asks.
    succeed(|error| unsafe {
        lb_session_new(model, pointers.as_ptr(), 2, &options(), &mut session, error)
    });
    given.fill(0);
    let mut got = vec![0; wanted.len()];
    let target = image(&mut got);
    succeed(|error| unsafe { lb_session_render(session, 0.0, &target, null(), error) });
    assert!(got == wanted, "frame 0 is not the image");
    succeed(|error| unsafe { lb_session_render(session, 0.5, &target, null(), error) });
    assert!(got != wanted && got.iter().skip(3).step_by(4).all(|&a| a == 255));
    lb_session_release(session);
    // A caller who knows only the first version's keyframe is understood.
    let short = lb_keyframe {
        struct_size: std::mem::offset_of!(lb_keyframe, image),
        image: std::ptr::dangling(),
        ..keyframe(c"a lake", 2)
    };
    let pointers = [&raw const short];
    succeed(|error| unsafe {
        lb_session_new(model, pointers.as_ptr(), 1, &options(), &mut session, error)
    });
    lb_session_release(session);
    lb_model_release(model);
}

#[test]
fn a_patch_is_repainted_held_and_taken_alone() {
    let model = tiny("inpainting");
    let (plate, hole) = (pixels(), mask());
    let (picture, mask) = (source(&plate, LB_FORMAT_RGBA_U8, 4), source(&hole, LB_FORMAT_A_U8, 1));
    let (session, result) = new_inpainting(model, &inpainting(&picture, &mask));
    assert_eq!(result, (LB_OK, String::new()));
    let mut first = vec![0; plate.len()];
    let target = image(&mut first);
    succeed(|error| unsafe { lb_session_render(session, 0.5, &target, null(), error) });
    // The next frame of the plate.
    let mut moved = plate.clone();
    moved.rotate_left(8);
    let next = source(&moved, LB_FORMAT_RGBA_U8, 4);
    let mut over = vec![0; plate.len()];
    let target = lb_image { plate: &next, ..image(&mut over) };
    succeed(|error| unsafe { lb_session_render(session, 0.5, &target, null(), error) });
    let mut patch = vec![7; plate.len()];
    let target = lb_image { output: LB_OUTPUT_PATCH, ..image(&mut patch) };
    succeed(|error| unsafe { lb_session_render(session, 0.5, &target, null(), error) });
    let mut inside = 0;
    for (i, &hole) in hole.iter().enumerate() {
        let at = |of: &[u8]| [of[i * 4], of[i * 4 + 1], of[i * 4 + 2], of[i * 4 + 3]];
        if hole == 0 {
            assert_eq!((at(&first), at(&over), at(&patch)), (at(&plate), at(&moved), [0; 4]));
        } else if patch[i * 4 + 3] == 255 {
            assert_eq!((at(&first), at(&over)), (at(&patch), at(&patch)));
            inside += 1;
        }
    }
    assert!(inside > 100, "{inside} pixels are the patch's alone");
    lb_session_release(session);

    // The first keyframe may be the source itself.
    let options = lb_inpainting_options { first: LB_FIRST_SOURCE, ..inpainting(&picture, &mask) };
    let (session, result) = new_inpainting(model, &options);
    assert_eq!(result, (LB_OK, String::new()));
    let target = image(&mut first);
    succeed(|error| unsafe { lb_session_render(session, 0.0, &target, null(), error) });
    assert!(first == plate);
    lb_session_release(session);
    lb_model_release(model);
}

#[test]
fn bad_pictures_are_named_and_nothing_is_written() {
    let model = tiny("inpainting");
    let (plate, hole) = (pixels(), mask());
    let good = source(&plate, LB_FORMAT_RGBA_U8, 4);
    let good_mask = source(&hole, LB_FORMAT_A_U8, 1);
    let empty = vec![0u8; 64 * 48];
    let nothing = source(&empty, LB_FORMAT_A_U8, 1);
    let invalid = LB_ERROR_INVALID_ARGUMENT;
    let options = inpainting(&good, &good_mask);
    for (status, source, text) in [
        (
            invalid,
            lb_source { data: null(), ..good },
            "lb_inpainting_options.source: image data is NULL",
        ),
        (invalid, lb_source { width: 0, ..good }, "image width 0"),
        (invalid, lb_source { row_bytes: 9, ..good }, "row_bytes 9"),
        (invalid, lb_source { format: LB_FORMAT_A_U8, ..good }, "pixel format 0x0101"),
        (invalid, lb_source { transfer: 0, ..good }, "transfer 0"),
        (invalid, lb_source { memory: 7, ..good }, "memory 7"),
        (LB_ERROR_UNSUPPORTED, lb_source { memory: LB_MEMORY_CUDA, ..good }, "CUDA"),
        (LB_ERROR_UNSUPPORTED, lb_source { flags: 2, ..good }, "lb_source.flags 0x2"),
        (invalid, lb_source { struct_size: 3, ..good }, "lb_source.struct_size is 3"),
    ] {
        let changed = lb_inpainting_options { source: &source, ..options };
        let (_, (got, message)) = new_inpainting(model, &changed);
        assert_eq!(got, status, "{message}");
        assert!(message.contains(text), "{message:?} does not say {text:?}");
    }
    let tall = lb_source { width: 48, height: 64, row_bytes: 48, ..good_mask };
    for (status, changed, text) in [
        (invalid, lb_inpainting_options { source: null(), ..options }, "source: lb_source is NULL"),
        (invalid, lb_inpainting_options { mask: null(), ..options }, "mask: lb_source is NULL"),
        (invalid, lb_inpainting_options { mask: &nothing, ..options }, "the mask marks nothing"),
        (invalid, lb_inpainting_options { mask: &tall, ..options }, "a mask of 48x64 pixels"),
        (invalid, lb_inpainting_options { mask_channel: 9, ..options }, "mask channel 9"),
        (invalid, lb_inpainting_options { mask_channel: 1, ..options }, "alpha channel of AU8"),
        (invalid, lb_inpainting_options { first: 5, ..options }, "first 5"),
        (invalid, lb_inpainting_options { keep_base: 2, ..options }, "keep_base 2"),
        (
            invalid,
            lb_inpainting_options { region: [0, 0, 65, 48], ..options },
            "region [0, 0, 65, 48]",
        ),
        (invalid, lb_inpainting_options { feather: f64::NAN, ..options }, "feather NaN"),
        (invalid, lb_inpainting_options { peak: -2.0, ..options }, "highlight peak -2"),
        (LB_ERROR_UNSUPPORTED, lb_inpainting_options { flags: 1, ..options }, "flags 0x1"),
        (invalid, lb_inpainting_options { struct_size: 8, ..options }, "struct_size is 8"),
    ] {
        let (session, (got, message)) = new_inpainting(model, &changed);
        assert_eq!(got, status, "{message}");
        assert!(message.contains(text), "{message:?} does not say {text:?}");
        assert!(session.is_null(), "a failed call wrote its out parameter");
    }
    let (_, none) = new_inpainting(model, null());
    assert_eq!(none, (invalid, "lb_inpainting_options is NULL".into()));

    let (session, _) = new_inpainting(model, &options);
    let mut got = vec![7u8; plate.len()];
    let target = image(&mut got);
    let narrow = lb_source { width: 32, ..good };
    for (status, changed, text) in [
        (invalid, lb_image { plate: &narrow, ..target }, "a plate of 32x48 pixels"),
        (invalid, lb_image { output: 4, ..target }, "output 4"),
        (LB_ERROR_UNSUPPORTED, lb_image { reserved: 1, ..target }, "lb_image.reserved 0x1"),
        (
            invalid,
            lb_image { output: LB_OUTPUT_PATCH, format: LB_FORMAT_RGB_U8, ..target },
            "a patch alone in RgbU8",
        ),
    ] {
        let (got, message) =
            outcome(|error| unsafe { lb_session_render(session, 0.5, &changed, null(), error) });
        assert_eq!(got, status, "{message}");
        assert!(message.contains(text), "{message:?} does not say {text:?}");
    }
    assert!(got.iter().all(|&p| p == 7), "a failed call wrote pixels");
    lb_session_release(session);

    for (status, frame, text) in [
        (invalid, lb_keyframe { image_strength: 2.0, ..keyframe(c"", 0) }, "image strength 2"),
        (invalid, lb_keyframe { image_blend: 0.7, ..keyframe(c"", 0) }, "image blend 0.7"),
        (invalid, lb_keyframe { image_peak: 1e9, ..keyframe(c"", 0) }, "highlight peak 1000000000"),
        (invalid, lb_keyframe { image_fit: 8, ..keyframe(c"", 0) }, "fit 8"),
        (LB_ERROR_UNSUPPORTED, lb_keyframe { image_flags: 1, ..keyframe(c"", 0) }, "image_flags"),
    ] {
        let frame = lb_keyframe { image: &good, ..frame };
        let pointers = [&raw const frame];
        let mut session = null_mut();
        let (got, message) = outcome(|error| unsafe {
            lb_session_new(model, pointers.as_ptr(), 1, null(), &mut session, error)
        });
        assert_eq!(got, status, "{message}");
        assert!(message.contains(text), "{message:?} does not say {text:?}");
    }
    lb_model_release(model);
}

#[test]
fn the_example_in_c_compiles_without_a_warning() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let compiler = std::env::var("CC").unwrap_or_else(|_| "gcc".into());
    let folder = tempfile::tempdir().unwrap();
    let result = std::process::Command::new(&compiler)
        .args(["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-c", "-I"])
        .arg(root.join("include"))
        .arg(root.join("examples/c/inpainting_transition.c"))
        .arg("-o")
        .arg(folder.path().join("example.o"))
        .output();
    match result {
        Ok(result) => {
            let said = String::from_utf8_lossy(&result.stderr);
            assert!(result.status.success(), "{said}");
        }
        Err(e) => println!("skipped: no C compiler '{compiler}': {e}"),
    }
}
