//! A host's images on a CUDA device, on a played driver: filled by the device and by way of the host, in order with what is on
//! the host's streams.
#![allow(unsafe_code, reason = "the played driver is a library in C")]

mod common;

use common::golden;
use common::played::machine;
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
