//! Pixels are the caller's: every format, colour space, row order and size; nothing beside the pixels is
//! touched, and what cannot be is refused before anything is written.
#![allow(unsafe_code, reason = "images from raw pointers are tested as the C layer makes them")]

use latentblend::{ErrorKind, Format, Frame, ImageMut, ImageRef, Layout, Placement, Transfer};

/// Numbers that look like a picture's: some below 0 and above 1, the same in every run.
fn picture(width: usize, height: usize) -> Frame {
    let mut state = 1u32;
    let rgb = (0..width * height * 3).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 * 1.2 - 0.1
    });
    Frame::new(width, height, rgb.collect()).unwrap()
}

/// Memory for an image with padding around every row; its layout and where its top row starts.
fn memory(layout: Layout, padding: usize, bottom_up: bool) -> (Vec<u8>, usize, Layout) {
    let row = layout.width * layout.format.bytes_per_pixel() + padding;
    let bytes = vec![0xa5; row * layout.height + 7];
    let layout = Layout { row_bytes: row as isize, ..layout };
    // An odd start: no format may need alignment.
    if bottom_up {
        (bytes, 3 + row * (layout.height - 1), layout.bottom_up())
    } else {
        (bytes, 3, layout)
    }
}

/// The bytes of row `y`.
fn row(bytes: &[u8], top: usize, layout: &Layout, y: usize) -> std::ops::Range<usize> {
    let start = top.checked_add_signed(y as isize * layout.row_bytes).unwrap();
    assert!(start < bytes.len());
    start..start + layout.width * layout.format.bytes_per_pixel()
}

/// The pixels of a written image, rows from the top, without what lies between.
fn pixels(bytes: &[u8], top: usize, layout: &Layout) -> Vec<u8> {
    (0..layout.height).flat_map(|y| bytes[row(bytes, top, layout, y)].to_vec()).collect()
}

fn written(frame: &Frame, layout: Layout, placement: Option<&Placement>) -> Vec<u8> {
    let mut bytes = vec![0xa5; layout.height * layout.row_bytes.unsigned_abs()];
    frame.write(&mut ImageMut::new(&mut bytes, 0, layout).unwrap(), placement).unwrap();
    bytes
}

#[test]
fn every_format_transfer_and_row_order_comes_back() {
    for (width, height) in [(1, 1), (2, 3), (7, 5), (17, 4), (64, 31)] {
        let frame = picture(width, height);
        for format in Format::ALL {
            for transfer in Transfer::ALL {
                let packed = written(&frame, Layout::packed(width, height, format, transfer), None);
                for (padding, bottom_up) in [(0, false), (5, false), (0, true), (13, true)] {
                    let layout = Layout::packed(width, height, format, transfer);
                    let (mut bytes, top, layout) = memory(layout, padding, bottom_up);
                    let mut image = ImageMut::new(&mut bytes, top, layout).unwrap();
                    frame.write(&mut image, None).unwrap();
                    assert_eq!(pixels(&bytes, top, &layout), packed, "{layout:?}");
                    check_back(&frame, &ImageRef::new(&bytes, top, layout).unwrap());
                    // Sentinels between rows and around the image.
                    let mut pixel = vec![false; bytes.len()];
                    for y in 0..height {
                        pixel[row(&bytes, top, &layout, y)].fill(true);
                    }
                    let beside = bytes.iter().zip(&pixel).filter(|(_, pixel)| !**pixel);
                    assert!(beside.into_iter().all(|(&b, _)| b == 0xa5), "{layout:?}");
                }
            }
        }
    }
}

/// Reading an image gives what was written, as far as its format holds it.
fn check_back(frame: &Frame, image: &ImageRef<'_>) {
    let layout = *image.layout();
    let (rgb, rgba) = (image.read_rgb().unwrap(), image.read_rgba().unwrap());
    assert_eq!((rgb.width(), rgb.height()), (frame.width(), frame.height()));
    let without: Vec<f32> = rgba.chunks(4).flat_map(|p| p[..3].to_vec()).collect();
    assert_eq!(rgb.rgb(), without);
    assert!(rgba.chunks(4).all(|p| p[3] == 1.0), "alpha of {layout:?}");
    let float = layout.format.is_float();
    // Half a code, times the steepest slope of the curve where codes are linear (12.92 at black), times
    // the largest row sum of ACEScg's matrix, 2.41 (colours that it clamps are left out).
    let bytes = layout.format.bytes_per_pixel() / layout.format.channels();
    let slope: f32 = if layout.transfer == Transfer::Srgb { 1.0 } else { 32.0 };
    for (pixel, &back) in rgb.rgb().iter().enumerate() {
        let value = frame.rgb()[pixel];
        let colour = &frame.rgb()[pixel / 3 * 3..][..3];
        let clamped = !float && colour.iter().any(|c| !(0.0..=1.0).contains(c));
        if clamped && layout.transfer == Transfer::AcesCg {
            continue;
        }
        let wanted = if float { value } else { value.clamp(0.0, 1.0) };
        let tolerance = match (float, bytes) {
            (false, 1) => 0.501 / 255.0 * slope,
            (false, _) => 0.501 / 65535.0 * slope,
            (true, 2) => 1e-3 * slope.sqrt(),
            (true, _) => 1e-6 * slope.sqrt(),
        };
        assert!((back - wanted).abs() <= tolerance, "{layout:?}: {back} instead of {wanted}");
    }
}

#[test]
fn without_placement_codes_are_those_of_the_frame() {
    let frame = picture(33, 9);
    let srgb = |format| written(&frame, Layout::packed(33, 9, format, Transfer::Srgb), None);
    assert_eq!(srgb(Format::RgbU8), frame.to_rgb8());
    let wide: Vec<u8> = frame.to_rgb16().iter().flat_map(|v| v.to_ne_bytes()).collect();
    assert_eq!(srgb(Format::RgbU16), wide);
    let exact: Vec<u8> = frame.rgb().iter().flat_map(|v| v.to_ne_bytes()).collect();
    assert_eq!(srgb(Format::RgbF32), exact);
    let with_alpha: Vec<u8> =
        frame.to_rgb8().chunks(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
    assert_eq!(srgb(Format::RgbaU8), with_alpha);
    let halves: Vec<u8> =
        frame.rgb().iter().flat_map(|&v| half::f16::from_f32(v).to_ne_bytes()).collect();
    assert_eq!(srgb(Format::RgbF16), halves);
    // Reading codes and writing them again changes none.
    let bytes = srgb(Format::RgbU8);
    let image = ImageRef::new(&bytes, 0, Layout::packed(33, 9, Format::RgbU8, Transfer::Srgb));
    assert_eq!(image.unwrap().read_rgb().unwrap().to_rgb8(), bytes);
}

#[test]
fn linear_light_is_known_where_it_is_known() {
    // Grey 18% and its well-known code, primaries, white.
    let frame =
        Frame::new(3, 1, vec![0.461_356_13, 0.5, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0]).unwrap();
    let floats = |transfer| -> Vec<f32> {
        let bytes = written(&frame, Layout::packed(3, 1, Format::RgbF32, transfer), None);
        bytes.chunks(4).map(|b| f32::from_ne_bytes(b.try_into().unwrap())).collect()
    };
    let close = |got: &[f32], wanted: &[f32]| {
        assert!(
            got.iter().zip(wanted).all(|(g, w)| (g - w).abs() < 1e-6),
            "{got:?}, not {wanted:?}"
        );
    };
    close(&floats(Transfer::Linear), &[0.18, 0.214_041_14, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    close(
        &floats(Transfer::AcesCg)[3..],
        &[0.613_097_4, 0.070_193_72, 0.020_615_59, 1.0, 1.0, 1.0],
    );
}

#[test]
fn strange_numbers_become_ordinary_ones() {
    let strange = vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1e30, -1e-45];
    let frame = Frame::new(2, 1, strange).unwrap();
    for transfer in Transfer::ALL {
        for format in Format::ALL {
            for placement in [None, Some(Placement::whole(2, 1))] {
                let layout = Layout::packed(2, 1, format, transfer);
                let bytes = written(&frame, layout, placement.as_ref());
                let read = ImageRef::new(&bytes, 0, layout).unwrap().read_rgb().unwrap();
                assert!(read.rgb().iter().all(|v| v.is_finite()), "{layout:?} {read:?}");
            }
        }
    }
    let bytes = written(&frame, Layout::packed(2, 1, Format::RgbF16, Transfer::Srgb), None);
    let most = half::f16::MAX.to_ne_bytes();
    assert_eq!([&bytes[..2], &bytes[2..4]], [&[0, 0], &most]);
}

#[test]
fn alpha_of_a_source_is_read_as_it_is() {
    let bytes = [10, 20, 30, 0, 40, 50, 60, 51];
    let layout = Layout::packed(2, 1, Format::RgbaU8, Transfer::Linear);
    let image = ImageRef::new(&bytes, 0, layout).unwrap();
    let rgba = image.read_rgba().unwrap();
    assert_eq!([rgba[3], rgba[7]], [0.0, 0.2]);
    assert_eq!(image.read_rgb().unwrap().rgb()[3..], rgba[4..7]);
}

#[test]
fn sizes_must_agree_and_both_are_named() {
    let frame = picture(16, 8);
    let layout = Layout::packed(15, 8, Format::RgbU8, Transfer::Srgb);
    let mut bytes = vec![0xa5; 15 * 8 * 3];
    let mut image = ImageMut::new(&mut bytes, 0, layout).unwrap();
    let error = frame.write(&mut image, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(
        error.message(),
        "the frame has 16x8 pixels, the image 15x8: give a placement to resample"
    );
    let other = Placement::whole(16, 8);
    assert!(frame.write(&mut image, Some(&other)).is_err());
    let broken = Placement { pixel_aspect: f64::NAN, ..Placement::whole(15, 8) };
    assert!(frame.write(&mut image, Some(&broken)).is_err());
    assert!(bytes.iter().all(|&b| b == 0xa5), "written in spite of an error");
}

#[test]
fn memory_that_cannot_hold_the_image_is_refused() {
    let layout = Layout::packed(10, 4, Format::RgbaF32, Transfer::Srgb);
    let mut bytes = vec![0; 640];
    let mut fits = |top, layout| {
        ImageMut::new(&mut bytes, top, layout).map(|_| ()).map_err(|e| {
            assert_eq!(e.kind(), ErrorKind::InvalidArgument);
            e.message().to_owned()
        })
    };
    assert_eq!(fits(0, layout), Ok(()));
    assert_eq!(fits(480, layout.bottom_up()), Ok(()));
    for top in [1, 160, 640, usize::MAX] {
        assert!(fits(top, layout).is_err(), "{top}");
    }
    for top in [0, 479, 481, 640, usize::MAX] {
        assert!(fits(top, layout.bottom_up()).is_err(), "{top}");
    }
    // The last row needs its pixels only.
    assert_eq!(fits(0, Layout { width: 9, height: 4, ..layout }), Ok(()));
    assert_eq!(fits(16, Layout { width: 9, height: 4, ..layout }), Ok(()));
    assert!(fits(17, Layout { width: 9, height: 4, ..layout }).is_err());
    assert_eq!(
        fits(0, Layout { width: 11, ..layout }).unwrap_err(),
        "row_bytes 160 is less than the 176 bytes of 11 pixels of RgbaF32"
    );
    for row_bytes in [0, 159, -159, 1, -1] {
        assert!(fits(320, Layout { row_bytes, ..layout }).is_err(), "{row_bytes}");
    }
    for row_bytes in [isize::MIN, isize::MAX, isize::MIN + 1, isize::MAX / 3] {
        assert!(fits(320, Layout { row_bytes, ..layout }).is_err(), "{row_bytes}");
        assert!(fits(320, Layout { row_bytes, height: 1 << 17, ..layout }).is_err(), "{row_bytes}");
    }
    for side in [0, (1 << 17) + 1, u32::MAX as usize, usize::MAX] {
        let message = fits(0, Layout { width: side, ..layout }).unwrap_err();
        assert_eq!(message, format!("image width {side} is not within 1..=131072"));
        assert!(fits(0, Layout { height: side, ..layout }).is_err());
        assert!(fits(0, Layout::packed(side, side, Format::RgbaF32, Transfer::Srgb)).is_err());
    }
}

#[test]
fn raw_images_are_checked_as_far_as_can_be() {
    let layout = Layout::packed(4, 4, Format::RgbU8, Transfer::Srgb);
    // SAFETY: refused, whatever they point to.
    let refused = |top: *mut u8, layout: Layout| unsafe {
        ImageMut::from_raw(top, layout).is_err() && ImageRef::from_raw(top, layout).is_err()
    };
    assert!(refused(std::ptr::null_mut(), layout));
    assert!(refused(std::ptr::without_provenance_mut(35), layout.bottom_up()));
    assert!(refused(std::ptr::without_provenance_mut(usize::MAX - 46), layout));
    let far = Layout { height: 1 << 17, row_bytes: isize::MAX / 4, ..layout };
    assert!(refused(std::ptr::without_provenance_mut(4096), far));

    let frame = picture(4, 4);
    let mut bytes = Vec::<u8>::with_capacity(48);
    // SAFETY: 48 bytes, exclusive, and uninitialized until they are written.
    unsafe {
        let top = bytes.as_mut_ptr().add(36);
        frame.write(&mut ImageMut::from_raw(top, layout.bottom_up()).unwrap(), None).unwrap();
        bytes.set_len(48);
        let read = ImageRef::from_raw(bytes.as_ptr().add(36), layout.bottom_up()).unwrap();
        assert_eq!(read.read_rgb().unwrap().to_rgb8(), frame.to_rgb8());
    }
    let upright: Vec<u8> = bytes.chunks(12).rev().flatten().copied().collect();
    assert_eq!(upright, frame.to_rgb8());
}

#[test]
fn numbers_of_formats_say_what_they_are() {
    for format in Format::ALL {
        assert_eq!(Format::try_from(format as u32).unwrap(), format);
        assert_eq!(
            format.is_float(),
            format.bytes_per_pixel() / format.channels() == 4 || {
                matches!(format, Format::RgbF16 | Format::RgbaF16)
            }
        );
    }
    assert_eq!(Format::RgbaF32.bytes_per_pixel(), 16);
    for number in [0, 1, 0x0101, 0x0304, 0x0501, 0x0418, u32::MAX] {
        let error = Format::try_from(number).unwrap_err();
        assert!(error.message().starts_with(&format!("pixel format {number:#06x} is not known")));
    }
}
