//! A host's memory on a CUDA device, as C calls have it, on a played driver: images filled and in its own memory by way of a
//! device; sources, masks, plates and keyframes read.
#![allow(
    unsafe_code,
    reason = "C hands over raw pointers, and the played driver is a library in C"
)]

mod common;

use common::c::{keyframe, load, made, outcome, small_options, succeed, tiny_path};
use common::golden;
use common::played::{Played, machine};
use latentblend::backend::CudaImage;
use latentblend::capi::*;
use latentblend::{ErrorKind, Format, Layout, Transfer};
use std::ptr::{null, null_mut, without_provenance, without_provenance_mut};

#[test]
fn a_frame_goes_into_device_memory_as_it_goes_into_the_hosts() {
    let (played, _guard) = machine();
    let (width, height) = (16usize, 16usize);
    // SAFETY of all calls: arguments as the header asks.
    let model = unsafe {
        let path = golden::path("tiny").join("base");
        let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        let mut options = std::mem::zeroed::<lb_model_options>();
        lb_model_options_init(&mut options, size_of::<lb_model_options>());
        options.device = LB_DEVICE_CUDA;
        let mut model = null_mut();
        let status = lb_model_load(path.as_ptr(), &options, null(), &mut model, null_mut());
        assert_eq!(status, LB_OK);
        model
    };
    let session = unsafe {
        let mut keyframes: [lb_keyframe; 2] = std::mem::zeroed();
        for (index, keyframe) in keyframes.iter_mut().enumerate() {
            keyframe.struct_size = size_of::<lb_keyframe>();
            keyframe.prompt = [c"a lighthouse", c"a lake"][index].as_ptr();
            keyframe.seed = index as u64;
        }
        let mut options = std::mem::zeroed::<lb_blend_options>();
        lb_blend_options_init(&mut options, size_of::<lb_blend_options>());
        (options.width, options.height) = (width as u32, height as u32);
        (options.preset, options.steps) = (LB_PRESET_LOWEST, 4);
        let mut session = null_mut();
        let all = [&raw const keyframes[0], &raw const keyframes[1]];
        let status = lb_session_new(model, all.as_ptr(), 2, &options, &mut session, null_mut());
        assert_eq!(status, LB_OK);
        session
    };
    let flags = std::cell::Cell::new(0);
    let render = |data: u64, row_bytes: isize, memory: lb_memory| unsafe {
        let mut image = std::mem::zeroed::<lb_image>();
        lb_image_init(&mut image, size_of::<lb_image>());
        image.data = data as usize as *mut std::ffi::c_void;
        (image.width, image.height) = (width as u32, height as u32);
        (image.row_bytes, image.memory, image.flags) = (row_bytes, memory, flags.get());
        let mut error = null_mut();
        let status = lb_session_render(session, 0.5, &image, null(), &mut error);
        let text = match error.is_null() {
            true => String::new(),
            false => std::ffi::CStr::from_ptr(lb_error_message(error)).to_str().unwrap().to_owned(),
        };
        lb_error_free(error);
        (status, text)
    };
    let row = width * 4;
    let mut host = vec![0u8; row * height];
    let address = host.as_mut_ptr() as u64;
    let before = played.get("convert");
    assert_eq!(render(address, row as isize, LB_MEMORY_HOST), (LB_OK, String::new()));
    assert_eq!(played.get("convert") - before, 1, "the device did not convert it");
    assert_eq!(played.get("pinned"), 3, "to both streams, and from the one that decodes");
    // Rows farther apart than they are long, top row first and last.
    let pitch = row + 64;
    let device = played.memory(pitch * height);
    let before = played.get("convert");
    assert_eq!(render(device, pitch as isize, LB_MEMORY_CUDA), (LB_OK, String::new()));
    let bytes = |at: u64, length: usize| unsafe {
        std::slice::from_raw_parts(at as usize as *const u8, length)
    };
    for y in 0..height {
        let wanted = &host[y * row..(y + 1) * row];
        assert_eq!(bytes(device + (y * pitch) as u64, row), wanted, "row {y}");
        assert_eq!(bytes(device + (y * pitch + row) as u64, 64), [0xff; 64], "behind row {y}");
    }
    assert_eq!(played.get("convert") - before, 1, "it went through the host");
    let top = device + ((height - 1) * pitch) as u64;
    assert_eq!(render(top, -(pitch as isize), LB_MEMORY_CUDA), (LB_OK, String::new()));
    for y in 0..height {
        let wanted = &host[y * row..(y + 1) * row];
        assert_eq!(bytes(top - (y * pitch) as u64, row), wanted, "row {y}, bottom up");
    }
    assert_eq!(played.get("context"), 0, "a context was left current");
    // Nor does it where the model is on no device when it is asked.
    let mut freed = 0;
    assert_eq!(unsafe { lb_model_unload(model, &mut freed, null_mut()) }, LB_OK);
    assert!(freed > 0);
    assert_eq!(render(device, pitch as isize, LB_MEMORY_CUDA), (LB_OK, String::new()));
    assert_eq!(bytes(device, row), &host[..row], "after weights were loaded again");
    let (status, text) = render(address, row as isize, LB_MEMORY_CUDA);
    assert_eq!(status, LB_ERROR_INVALID_ARGUMENT);
    assert!(text.contains("is no device's memory"), "{text}");
    // It juts out behind.
    let (status, text) = render(device + 64 * pitch as u64, pitch as isize, LB_MEMORY_CUDA);
    assert_eq!(status, LB_ERROR_INVALID_ARGUMENT, "{text}");
    // Waited for only where the caller says so.
    let waits = played.get("waits");
    assert_eq!(render(device, pitch as isize, LB_MEMORY_CUDA), (LB_OK, String::new()));
    assert_eq!(played.get("waits"), waits, "a stream of the caller's was waited for");
    flags.set(LB_IMAGE_COMPLETE);
    assert_eq!(render(device, pitch as isize, LB_MEMORY_CUDA), (LB_OK, String::new()));
    assert_eq!(played.get("waits"), waits + 1, "what was to be complete wasn't waited for");
    let layout = Layout::packed(width, height, Format::RgbaU8, Transfer::Srgb);
    let null = unsafe { CudaImage::from_raw(0, layout, 0) };
    assert_eq!(null.err().unwrap().kind(), ErrorKind::InvalidArgument);
    lb_session_release(session);
    lb_model_release(model);
}

/// Pixels in a device's memory that nobody but the driver may reach.
struct There {
    at: u64,
    row_bytes: isize,
}

impl There {
    /// `bytes` in rows of `row`, farther apart than they are long; top row last where `up`.
    fn new(played: &Played, device: i32, bytes: &[u8], row: usize, up: bool) -> Self {
        let (pitch, height) = (row + 24, bytes.len() / row);
        let start = played.guarded(device, pitch * height);
        let (top, row_bytes) = match up {
            true => (start + ((height - 1) * pitch) as u64, -(pitch as isize)),
            false => (start, pitch as isize),
        };
        let there = There { at: top, row_bytes };
        played.opened(|| {
            for (y, line) in bytes.chunks(row).enumerate() {
                unsafe { there.line(y, row) }.copy_from_slice(line);
            }
        });
        there
    }

    unsafe fn line<'a>(&self, y: usize, row: usize) -> &'a mut [u8] {
        let at = self.at as isize + y as isize * self.row_bytes;
        unsafe { std::slice::from_raw_parts_mut(at as usize as *mut u8, row) }
    }

    fn bytes(&self, played: &Played, row: usize, height: usize) -> Vec<u8> {
        let line = |y| unsafe { self.line(y, row) }.to_vec();
        played.opened(|| (0..height).flat_map(line).collect())
    }
}

#[test]
fn pictures_in_device_memory_are_those_in_the_hosts() {
    let (played, _guard) = machine();
    // On the CPU, and so by way of it.
    let model = load(&tiny_path("base"));
    const SIDE: usize = 8;
    const ROW: usize = SIDE * 4;
    let pixels = |seed: usize| -> Vec<u8> {
        (0..SIDE * ROW).map(|i| if i % 4 == 3 { 255 } else { (i * seed % 251) as u8 }).collect()
    };
    let (source, plate, end) = (pixels(37), pixels(91), pixels(53));
    let marks: Vec<u8> = (0..SIDE * SIDE).map(|i| u8::from(i % SIDE < 5) * 255).collect();
    let host = |bytes: &[u8], format: lb_format| lb_source {
        data: bytes.as_ptr().cast(),
        row_bytes: (bytes.len() / SIDE) as isize,
        width: SIDE as u32,
        height: SIDE as u32,
        format,
        ..made(lb_source_init)
    };
    let there = |device: i32, bytes: &[u8], format: lb_format, up: bool| {
        let place = There::new(played, device, bytes, bytes.len() / SIDE, up);
        lb_source {
            data: without_provenance(place.at as usize),
            row_bytes: place.row_bytes,
            memory: LB_MEMORY_CUDA,
            cuda_stream: without_provenance_mut(5000 + device as usize),
            ..host(bytes, format)
        }
    };
    let rgba = LB_FORMAT_RGBA_U8;
    let own =
        [host(&source, rgba), host(&marks, LB_FORMAT_A_U8), host(&end, rgba), host(&plate, rgba)];
    // On the second device, the first, and with the top row last.
    let other = [
        there(1, &source, rgba, false),
        there(0, &marks, LB_FORMAT_A_U8, true),
        there(1, &end, rgba, true),
        there(0, &plate, rgba, false),
    ];
    let session = |[source, mask, end, _]: &[lb_source; 4]| {
        let first = keyframe(c"a lake", 1);
        let last = lb_keyframe { image: end, ..keyframe(c"a castle", 2) };
        let options = lb_inpainting_options { source, mask, ..made(lb_inpainting_options_init) };
        let (mut session, frames) = (null_mut(), [&raw const first, &raw const last]);
        succeed(|e| unsafe {
            let (frames, blend) = (frames.as_ptr(), small_options());
            lb_session_new_inpainting(model, frames, 2, &blend, &options, &mut session, e)
        });
        session
    };
    let render = |session, t, plate: Option<&lb_source>, output, target: lb_image| {
        let plate = plate.map_or(null(), std::ptr::from_ref);
        let target = lb_image { plate, output, ..target };
        outcome(|e| unsafe { lb_session_render(session, t, &target, null(), e) })
    };
    let image = |bytes: &mut Vec<u8>| lb_image {
        data: bytes.as_mut_ptr().cast(),
        row_bytes: ROW as isize,
        width: SIDE as u32,
        height: SIDE as u32,
        ..made(lb_image_init)
    };
    let (a, b) = (session(&own), session(&other));
    let waits = played.get("waits");
    for (t, plated, output) in [
        (0.0, false, LB_OUTPUT_PICTURE),
        (0.6, true, LB_OUTPUT_PICTURE),
        (0.6, false, LB_OUTPUT_PATCH),
        (1.0, true, LB_OUTPUT_PICTURE),
    ] {
        let (mut wanted, mut got) = (vec![7; SIDE * ROW], vec![9; SIDE * ROW]);
        let status = render(a, t, plated.then_some(&own[3]), output, image(&mut wanted));
        assert_eq!(status, (LB_OK, String::new()));
        let status = render(b, t, plated.then_some(&other[3]), output, image(&mut got));
        assert_eq!(status, (LB_OK, String::new()));
        assert!(got == wanted, "t {t}, plate {plated}, output {output}");
        let place = There::new(played, 1, &vec![3; SIDE * ROW], ROW, true);
        let target = lb_image {
            data: without_provenance_mut(place.at as usize),
            row_bytes: place.row_bytes,
            memory: LB_MEMORY_CUDA,
            cuda_stream: without_provenance_mut(5001),
            ..image(&mut Vec::new())
        };
        let status = render(b, t, plated.then_some(&other[3]), output, target);
        assert_eq!(status, (LB_OK, String::new()));
        assert!(place.bytes(played, ROW, SIDE) == wanted, "t {t}, in device memory");
    }
    assert_eq!(played.get("waits") - waits, 4, "plates alone are waited for");
    // Copies, whatever lies where.
    let mut back = vec![0; SIDE * ROW];
    let place = There::new(played, 0, &vec![3; SIDE * ROW], ROW, false);
    let target = lb_image {
        data: without_provenance_mut(place.at as usize),
        row_bytes: place.row_bytes,
        memory: LB_MEMORY_CUDA,
        ..image(&mut Vec::new())
    };
    for (from, wanted) in [(&own[0], &source), (&other[2], &end), (&other[3], &plate)] {
        succeed(|e| unsafe { lb_copy(from, &image(&mut back), e) });
        assert!(&back == wanted);
        succeed(|e| unsafe { lb_copy(from, &target, e) });
        assert!(&place.bytes(played, ROW, SIDE) == wanted);
    }
    let mut narrow = vec![0u8; SIDE * SIDE];
    let one = lb_image { format: LB_FORMAT_A_U8, row_bytes: SIDE as isize, ..image(&mut narrow) };
    succeed(|e| unsafe { lb_copy(&other[1], &one, e) });
    assert_eq!(narrow, marks);
    let (status, text) = outcome(|e| unsafe { lb_copy(&other[1], &target, e) });
    assert_eq!(status, LB_ERROR_INVALID_ARGUMENT);
    assert!(text.contains("wanted the same of both"), "{text}");
    assert_eq!(played.get("context"), 0, "a context was left current");
    lb_session_release(a);
    lb_session_release(b);
    lb_model_release(model);
}
