//! What a host has on a CUDA device, on a played driver: its images filled and read, and images in its own memory that a
//! device converts.
#![allow(unsafe_code, reason = "the played driver is a library in C")]

mod common;

use common::golden;
use common::played::{Played, machine};
use latentblend::backend::{Backend, Cuda, CudaDriver, HostTensor};
use latentblend::{ErrorKind, Frame, Precision};

/// A device converts a picture to the very bytes that the host's own code writes.
#[test]
fn a_picture_is_converted_on_the_device_to_the_bytes_of_the_host() {
    use latentblend::backend::CudaImage;
    use latentblend::{Filter, Fit, Format, ImageMut, Layout, Placement, Transfer};
    let (played, _guard) = machine();
    let cuda = Cuda::new(&CudaDriver::find().unwrap(), 0, Precision::F16).unwrap();
    let [width, height] = [11, 7];
    let mut random = common::operations::Random(5);
    let mut values = random.tensor(&[1, height, width, 3], 1.5).into_data();
    values[..6].copy_from_slice(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38, -0.0, 1e-40]);
    let frame = values.iter().map(|v| v * 0.5 + 0.5).collect();
    let frame = Frame::new(width, height, frame).unwrap();
    let x = cuda.upload(&HostTensor::new([1, height, width, 3], values).unwrap()).unwrap();
    let picture = cuda.picture(&x).unwrap();
    assert_eq!(picture.size(), [width, height]);
    let part = |bounds, window: [i32; 4], fit, filter, pixel_aspect| {
        let size = [window[2] - window[0], window[3] - window[1]].map(|side| side as usize);
        (size, Some(Placement { bounds, window, fit, filter, pixel_aspect }))
    };
    let mut places = vec![([width, height], None)];
    // Enlarged and cut off, between bars, made smaller, with pixels beside the bounds.
    for filter in Filter::ALL {
        places.push(part([0, 0, 20, 13], [0, 0, 20, 13], Fit::Crop, filter, 1.0));
        places.push(part([-3, 2, 27, 19], [-5, 0, 14, 21], Fit::Letterbox, filter, 2.0));
        places.push(part([0, 0, 4, 3], [0, 0, 4, 3], Fit::Stretch, filter, 1.0));
    }
    places.push(part([50, 50, 60, 60], [0, 0, 3, 2], Fit::Crop, Filter::Bicubic, 1.0));
    // An odd address, and rows that are farther apart than they are long.
    let room = 40 * 40 * 16;
    let device = played.memory(room) + 1;
    let before = played.get("convert");
    let mut conversions = 0;
    for (index, (size, placement)) in places.iter().enumerate() {
        for format in Format::ALL {
            for transfer in Transfer::ALL {
                let mut layout = Layout::packed(size[0], size[1], format, transfer);
                layout.row_bytes += [0, 5, 16][index % 3];
                let length = layout.row_bytes as usize * size[1];
                let mut top = 0;
                if index % 2 == 1 {
                    top = length - layout.row_bytes as usize;
                    layout = layout.bottom_up();
                }
                let mut host = vec![0xa5; length];
                let mut image = ImageMut::new(&mut host, top, layout).unwrap();
                frame.write(&mut image, placement.as_ref()).unwrap();
                let there =
                    unsafe { std::slice::from_raw_parts_mut(device as usize as *mut u8, length) };
                there.fill(0xa5);
                let image = unsafe { CudaImage::from_raw(device + top as u64, layout, 4711) };
                picture.write(&image.unwrap(), placement.as_ref()).unwrap();
                let at = format!("{size:?} {format:?} {transfer:?} {placement:?}");
                assert!(there == host.as_slice(), "{at}");
                // The same for an image of the host's: without what lies between rows.
                let bytes = picture.read(&layout, placement.as_ref()).unwrap();
                let row = size[0] * format.bytes_per_pixel();
                for (y, line) in bytes.chunks(row).enumerate() {
                    let start = (top as isize + y as isize * layout.row_bytes) as usize;
                    assert!(line == &host[start..][..row], "row {y} of {at}");
                }
                conversions += 2;
            }
        }
    }
    assert_eq!(played.get("convert") - before, conversions);
    // Sizes that don't agree.
    let layout = Layout::packed(5, 5, Format::RgbU8, Transfer::Srgb);
    let image = unsafe { CudaImage::from_raw(device, layout, 4711) }.unwrap();
    assert_eq!(picture.write(&image, None).err().unwrap().kind(), ErrorKind::InvalidArgument);
    assert_eq!(picture.read(&layout, None).err().unwrap().kind(), ErrorKind::InvalidArgument);
}

/// What the caller's stream reads is not handed out again before it has been read.
#[test]
fn what_a_callers_stream_reads_is_kept_for_it() {
    use latentblend::backend::CudaImage;
    use latentblend::{Format, Layout, Transfer};
    let (played, _guard) = machine();
    let cuda = Cuda::new(&CudaDriver::find().unwrap(), 0, Precision::F16).unwrap();
    let layout = Layout::packed(2, 2, Format::RgbU8, Transfer::Srgb);
    let device = played.memory(64);
    let show = || {
        let x = cuda.upload(&HostTensor::new([1, 2, 2, 3], vec![0.0; 12]).unwrap()).unwrap();
        let image = unsafe { CudaImage::from_raw(device, layout, 4711) }.unwrap();
        cuda.picture(&x).unwrap().write(&image, None).unwrap();
    };
    show();
    cuda.trim();
    assert_eq!(played.get("lent"), 0, "what was read did not come back");
    played.set("busy", 1);
    show();
    show();
    cuda.trim();
    assert_eq!(played.get("lent"), 2, "what may still be read came back");
    // A model that goes waits for it.
    drop(cuda);
    played.set("busy", 0);
    assert_eq!(played.get("lent"), 0, "something stayed with its device");
    assert_eq!(played.get("context"), 0, "a context was left current");
}

/// Memory of a pool is of no context: its stream says which one it is used in.
#[test]
fn an_image_in_a_pools_memory_is_used_in_its_streams_context() {
    use latentblend::backend::CudaImage;
    use latentblend::{Format, Layout, Transfer};
    let (played, _guard) = machine();
    let cuda = Cuda::new(&CudaDriver::find().unwrap(), 0, Precision::F16).unwrap();
    let [width, height] = [160, 120];
    let layout = Layout::packed(width, height, Format::RgbaU8, Transfer::Srgb);
    let length = width * height * 4;
    let at = played.memory(length);
    let there = || unsafe { std::slice::from_raw_parts(at as usize as *const u8, length) };
    played.set("pooled", 1);
    for (stream, ours) in [(5000, true), (5100, false)] {
        let image = unsafe { CudaImage::from_raw(at, layout, stream) }.unwrap();
        assert_eq!(cuda.reaches(&image), ours, "stream {stream}");
        let mut bytes: Vec<u8> = (0..length).map(|i| (i * stream % 251) as u8).collect();
        let waits = played.get("waits");
        image.fill(&mut bytes).unwrap();
        assert!(there() == bytes && image.fetch().unwrap() == bytes, "stream {stream}");
        // The copy's, for its source goes; and that of reading it back.
        assert_eq!(played.get("waits") - waits, 2);
    }
    played.set("pooled", 0);
    assert_eq!(played.get("context"), 0, "a context was left current");
}

/// Where an event cannot say when something was read, it is waited for.
#[test]
fn what_no_event_tells_of_is_waited_for() {
    use latentblend::backend::CudaImage;
    use latentblend::{Format, Layout, Transfer};
    let (played, _guard) = machine();
    let cuda = Cuda::new(&CudaDriver::find().unwrap(), 0, Precision::F16).unwrap();
    let x = cuda.upload(&HostTensor::new([1, 2, 2, 3], vec![0.0; 12]).unwrap()).unwrap();
    let layout = Layout::packed(2, 2, Format::RgbU8, Transfer::Srgb);
    let image = unsafe { CudaImage::from_raw(played.memory(64), layout, 4711) }.unwrap();
    let waits = played.get("waits");
    played.set("unmarked", 1);
    let error = cuda.picture(&x).unwrap().write(&image, None).err().unwrap();
    played.set("unmarked", 0);
    assert_eq!(error.kind(), ErrorKind::Device, "{error}");
    assert_eq!(played.get("waits") - waits, 1, "it may still be read");
}

/// On failure no image is written, not even those before the one that fails.
#[test]
fn images_are_all_written_or_none() {
    use latentblend::backend::CudaImage;
    use latentblend::{
        BlendOptions, Call, DeviceChoice, Format, Layout, LoadOptions, Model, Session, Transfer,
    };
    let (played, _guard) = machine();
    let options = LoadOptions { device: DeviceChoice::Cuda(0), ..LoadOptions::default() };
    let path = golden::path("tiny").join("base");
    let model = Model::load_with(path, &options, &Call::new()).unwrap();
    let (keyframes, options) = common::short();
    let options = BlendOptions { size: Some([16, 16]), steps: Some(4), ..options };
    let session = Session::new(&model, &keyframes, &options).unwrap();
    let layout = Layout::packed(16, 16, Format::RgbU8, Transfer::Srgb);
    let places = [0, 1].map(|_| played.memory(16 * 16 * 3));
    let images = places.map(|at| unsafe { CudaImage::from_raw(at, layout, 4711) }.unwrap());
    let images = [(&images[0], None), (&images[1], None)];
    let render = || session.render_onto(&[0.0, 1.0], &images, &Call::new());
    let lent = played.get("lent");
    // The second's second is missing.
    played.set("events", 3);
    let error = render().err().unwrap();
    played.set("events", -1);
    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
    let bytes = |at: u64| unsafe { std::slice::from_raw_parts(at as usize as *const u8, 768) };
    assert!(places.iter().all(|&at| bytes(at) == [0xff; 768]), "one was written");
    assert!(render().unwrap());
    assert!(places.iter().all(|&at| bytes(at) != [0xff; 768]), "one was not written");
    model.trim();
    assert_eq!(played.get("lent"), lent, "something did not come back");
}

#[test]
fn a_frame_goes_into_device_memory_as_it_goes_into_the_hosts() {
    use latentblend::backend::CudaImage;
    use latentblend::capi::*;
    use latentblend::{Format, Layout, Transfer};
    use std::ptr::{null, null_mut};
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
    use common::c::{keyframe, load, made, outcome, small_options, succeed, tiny_path};
    use latentblend::capi::*;
    use std::ptr::{null, null_mut, without_provenance, without_provenance_mut};
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
