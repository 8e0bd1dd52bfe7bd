//! The CUDA backend on a played driver: finding it, models on it against the CPU, and what a device can fail with.
#![allow(unsafe_code, reason = "the played driver is a library in C")]

mod common;

use common::played::{Played, built};
use common::{golden, same, short};
use latentblend::backend::{Backend, Cuda, CudaDriver, HostTensor};
use latentblend::{
    Batch, BlendOptions, Branch, Branching, Call, DeviceChoice, ErrorKind, Frame, Latent,
    LoadOptions, Model, NoiseKind, Precision, SchedulePolicy, Session, noise,
};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// The driver that models of this program find; one test at a time.
fn machine() -> (&'static Played, MutexGuard<'static, ()>) {
    static ONE: Mutex<()> = Mutex::new(());
    static PLAYED: OnceLock<Played> = OnceLock::new();
    let guard = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let played = PLAYED.get_or_init(|| {
        let played = Played::new("machine");
        played.set("devices", 2);
        let folder = played.path.parent().unwrap();
        // Nothing else of this program reads or writes the environment meanwhile: the lock is held.
        unsafe { std::env::set_var("LATENTBLEND_CUDA_PATH", folder) };
        played
    });
    (played, guard)
}

/// Of a run; the last two are a frame's own.
const STEPS: usize = 4;

fn tiny(device: DeviceChoice) -> Model {
    let options = LoadOptions { device, ..LoadOptions::default() };
    Model::load_with(golden::path("tiny").join("base"), &options, &Call::new()).unwrap()
}

/// As little as has a tree: an emulated device is slow.
fn session(model: &Model) -> Session {
    let (keyframes, options) = short();
    let options = BlendOptions {
        size: Some([16, 16]),
        steps: Some(STEPS),
        branching: Some(Branching { injections: vec![0, 2], branches: vec![2, 3] }),
        ..options
    };
    Session::new(model, &keyframes, &options).unwrap()
}

/// `count` branches of 16x16 pixels after a single step.
fn one_step(model: &Model, count: u64) -> Vec<Latent> {
    let context = |prompt: &str| {
        let ids = model.tokenize(prompt).unwrap().0;
        Arc::new(model.engine().encode_prompts(&[&ids]).unwrap().remove(0))
    };
    let (positive, negative) = (context("a lighthouse"), context(""));
    let branch = |seed| Branch {
        latent: noise(NoiseKind::Cuda, seed, [4, 2, 2]).unwrap(),
        history: None,
        feed: None,
        positive: Arc::clone(&positive),
        negative: Arc::clone(&negative),
        guidance: 4.0,
        extra: None,
    };
    let batch = Batch {
        branches: (0..count).map(branch).collect(),
        schedule: Arc::new(model.schedule(STEPS, SchedulePolicy::default()).unwrap()),
        steps: 0..1,
        keep: 0,
        guidance: Arc::default(),
    };
    let trails = Arc::clone(model.engine()).denoise(batch).unwrap().advance().unwrap().unwrap();
    trails.iter().map(|trail| trail.last().latent.clone()).collect()
}

/// The ratio of signal to noise of a picture in 0..=1, in decibels.
fn psnr(a: &Frame, b: &Frame) -> f64 {
    let squares = a
        .rgb()
        .iter()
        .zip(b.rgb())
        .map(|(&a, &b)| (f64::from(a.clamp(0.0, 1.0)) - f64::from(b.clamp(0.0, 1.0))).powi(2));
    -10.0 * (squares.sum::<f64>() / a.rgb().len() as f64).log10()
}

#[test]
fn a_missing_driver_is_an_error_that_says_where_it_was_looked_for() {
    let (_, _guard) = machine();
    let error = CudaDriver::open(Path::new("/nowhere/libcuda.so.1")).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("/nowhere/libcuda.so.1"), "{error}");
    // A library without the functions.
    let folder = built().parent().unwrap().join(format!("empty-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (source, library) = (folder.join("empty.c"), folder.join("libcuda.so.1"));
    std::fs::write(&source, "int cuInit(unsigned f) { return 0; }\n").unwrap();
    let mut compiler = std::process::Command::new("gcc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
    assert!(compiler.status().unwrap().success());
    let error = CudaDriver::open(&library).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("has no function cuDriverGetVersion"), "{error}");
}

#[test]
fn a_driver_without_a_device_and_an_old_one_are_refused_with_the_reason() {
    let played = Played::new("none");
    played.set("devices", 0);
    let error = CudaDriver::open(&played.path).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Device);
    assert!(error.message().contains("CUDA_ERROR_NO_DEVICE"), "{error}");
    let played = Played::new("old");
    played.set("version", 12040);
    let error = CudaDriver::open(&played.path).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("CUDA 12.4, wanted 13.0"), "{error}");
    let played = Played::new("pascal");
    played.set("major", 6);
    let driver = played.driver();
    let error = Cuda::new(&driver, 0, Precision::F16).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("capability 6.0, wanted 7.5"), "{error}");
    let error = Cuda::new(&driver, 3, Precision::F16).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn devices_are_chosen_by_number_by_uuid_and_by_themselves() {
    let (_, _guard) = machine();
    let uuid: [u8; 16] = std::array::from_fn(|i| i as u8 + 1);
    for choice in [DeviceChoice::Cuda(0), DeviceChoice::CudaUuid(uuid), DeviceChoice::Auto] {
        assert_eq!(tiny(choice).engine().numerics().device, "cuda", "{choice:?}");
    }
    assert_eq!(tiny(DeviceChoice::Cpu).engine().numerics().device, "cpu");
    // f32 is the CPU's.
    let exact = LoadOptions { precision: Precision::F32, ..LoadOptions::default() };
    let path = golden::path("tiny").join("base");
    let model = Model::load_with(&path, &exact, &Call::new()).unwrap();
    assert_eq!(model.engine().numerics().device, "cpu");
    let both = LoadOptions { device: DeviceChoice::Cuda(0), ..exact };
    let error = Model::load_with(&path, &both, &Call::new()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    for wrong in [DeviceChoice::Cuda(7), DeviceChoice::CudaUuid([9; 16])] {
        let options = LoadOptions { device: wrong, ..LoadOptions::default() };
        let path = golden::path("tiny").join("base");
        let error = Model::load_with(path, &options, &Call::new()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    assert_eq!("cuda:2".parse::<DeviceChoice>().unwrap(), DeviceChoice::Cuda(2));
    assert!("gpu".parse::<DeviceChoice>().is_err());
}

#[test]
fn a_device_is_found_by_what_a_host_has_on_it() {
    use latentblend::capi::*;
    use std::ffi::c_void;
    use std::ptr::{null, null_mut, without_provenance};
    let (played, _guard) = machine();
    let said = |error: *mut lb_error| unsafe {
        let text = match error.is_null() {
            true => String::new(),
            false => std::ffi::CStr::from_ptr(lb_error_message(error)).to_str().unwrap().to_owned(),
        };
        lb_error_free(error);
        text
    };
    let find = |by: lb_device_by, what: *const c_void| unsafe {
        let mut info = std::mem::zeroed::<lb_device_info>();
        info.struct_size = size_of::<lb_device_info>();
        let mut error = null_mut();
        let status = lb_device_find(by, what, &mut info, &mut error);
        (status, info.kind, info.ordinal, said(error))
    };
    let number = |value: u64| without_provenance::<c_void>(value as usize);
    let text = |text: &'static std::ffi::CStr| text.as_ptr().cast::<c_void>();
    let memory = [0, 1].map(|device| played.memory_of(device, 4096));
    let uuid =
        [0u8, 1].map(|device| std::array::from_fn::<u8, 16, _>(|i| i as u8 + 1 + 16 * device));
    let names = [
        text(c"GPU-01020304-0506-0708-090a-0b0c0d0e0f10"),
        text(c"MIG-11121314-1516-1718-191a-1b1c1d1e1f20"),
    ];
    for device in [0, 1] {
        let found = (LB_OK, LB_DEVICE_CUDA, device as u32, String::new());
        assert_eq!(find(LB_DEVICE_BY_UUID, uuid[device].as_ptr().cast()), found);
        assert_eq!(find(LB_DEVICE_BY_NAME, names[device]), found);
        assert_eq!(find(LB_DEVICE_BY_NAME, text([c"cuda", c"cuda:1"][device])), found);
        assert_eq!(find(LB_DEVICE_BY_POINTER, number(memory[device] + 4095)), found);
        assert_eq!(find(LB_DEVICE_BY_STREAM, number(5000 + device as u64)), found);
        assert_eq!(find(LB_DEVICE_BY_CONTEXT, number(77 + device as u64)), found);
        played.enter(device as i32);
        for by in [LB_DEVICE_BY_STREAM, LB_DEVICE_BY_CONTEXT] {
            assert_eq!(find(by, null()), found, "of the thread's context");
        }
        assert_eq!(played.get("context"), 77 + device as i64, "another context is current");
        played.enter(-1);
    }
    assert_eq!(find(LB_DEVICE_BY_NAME, text(c"cpu")), (LB_OK, LB_DEVICE_CPU, 0, String::new()));
    for (by, what, wanted) in [
        (LB_DEVICE_BY_UUID, text(c"sixteen bytes..."), "wanted GPU-01020304-0506-0708-090a-"),
        (LB_DEVICE_BY_NAME, text(c"cuda:2"), "CUDA device 2: wanted 0 to 1"),
        (LB_DEVICE_BY_POINTER, number(memory[1] + 4096), "no device's memory"),
        (LB_DEVICE_BY_STREAM, number(4), "stream 0x4: CUDA_ERROR"),
        (LB_DEVICE_BY_STREAM, null(), "or NULL with a current context"),
        (LB_DEVICE_BY_CONTEXT, number(5), "context 0x5: CUDA_ERROR"),
        (LB_DEVICE_BY_CONTEXT, null(), "or NULL with a current one"),
    ] {
        let (status, .., message) = find(by, what);
        assert_eq!(status, LB_ERROR_INVALID_ARGUMENT, "{message}");
        assert!(message.contains(wanted), "{message}");
    }
    // And models are loaded onto it: there or nowhere, or there before elsewhere.
    let path = golden::path("tiny").join("base");
    let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    let load = |device, device_by, device_what, precision| unsafe {
        let mut options = std::mem::zeroed::<lb_model_options>();
        lb_model_options_init(&mut options, size_of::<lb_model_options>());
        options = lb_model_options { device, device_by, device_what, precision, ..options };
        let (mut model, mut error) = (null_mut(), null_mut());
        let status = lb_model_load(path.as_ptr(), &options, null(), &mut model, &mut error);
        let held = ["held by 0", "held by 1"].map(|which| played.get(which));
        lb_model_release(model);
        (status, held, said(error))
    };
    let before = ["held by 0", "held by 1"].map(|which| played.get(which));
    let is_on = |(status, held, text): (lb_status, [i64; 2], String), wanted: Option<usize>| {
        assert_eq!((status, text), (LB_OK, String::new()));
        let grown = [held[0] > before[0], held[1] > before[1]];
        assert_eq!(grown, [wanted == Some(0), wanted == Some(1)]);
    };
    let auto = LB_PRECISION_AUTO;
    for device in [0, 1] {
        for kind in [LB_DEVICE_CUDA, LB_DEVICE_AUTO] {
            let pointer = number(memory[device]);
            is_on(load(kind, LB_DEVICE_BY_POINTER, pointer, auto), Some(device));
            let uuid = uuid[device].as_ptr().cast();
            is_on(load(kind, LB_DEVICE_BY_UUID, uuid, auto), Some(device));
        }
    }
    let pointer = number(memory[1]);
    // What that device has no numbers for is computed elsewhere, or nowhere.
    is_on(load(LB_DEVICE_AUTO, LB_DEVICE_BY_POINTER, pointer, LB_PRECISION_F32), None);
    let (status, ..) = load(LB_DEVICE_CUDA, LB_DEVICE_BY_POINTER, pointer, LB_PRECISION_F32);
    assert_eq!(status, LB_ERROR_UNSUPPORTED);
    assert_eq!(played.get("context"), 0, "a context was left current");
}

#[test]
fn frames_on_cuda_are_those_of_the_cpu_and_the_same_in_any_batch() {
    let (played, _guard) = machine();
    let (cuda, cpu) = (tiny(DeviceChoice::Cuda(0)), tiny(DeviceChoice::Cpu));
    let times = [0.0, 0.375, 0.75];
    let together = session(&cuda).render_many(&times, &Call::new()).unwrap();
    for (t, frame) in times.iter().zip(&together) {
        let wanted = session(&cpu).render(*t, &Call::new()).unwrap();
        let ratio = psnr(frame, &wanted);
        println!("t = {t}: {ratio:.1} dB");
        // A net of 8 to 16 channels, whose last layer is fitted to random features, makes more of what f16 rounds off
        // than a trained one, of which 45 dB are wanted (tests/gpu).
        assert!(ratio >= 35.0, "t = {t}: {ratio} dB");
    }
    for count in [1, 2] {
        let some = session(&cuda).render_many(&times[..count], &Call::new()).unwrap();
        for (a, b) in some.iter().zip(&together) {
            assert!(same(a, b), "in a batch of {count}");
        }
    }
    // Steps were recorded, and what was recorded is what runs.
    assert!(played.get("replays") > 0, "{} replays", played.get("replays"));
}

#[test]
fn a_replayed_step_asks_the_driver_for_no_memory_and_copies_nothing_from_the_host() {
    let (played, _guard) = machine();
    let model = tiny(DeviceChoice::Cuda(0));
    let session = session(&model);
    session.prepare(&Call::new()).unwrap();
    // By then everything is recorded, in an arena that holds the largest step.
    for t in [0.3, 0.35, 0.4] {
        session.render(t, &Call::new()).unwrap();
    }
    let count = |what| played.get(what);
    let (takes, launches, replays) = (count("takes"), count("launches"), count("replays"));
    session.render(0.45, &Call::new()).unwrap();
    assert_eq!(count("takes"), takes, "memory was taken");
    // Two gathers and a sum a step, and the keys and values of the frame's prompts at the start.
    let steps = count("replays") - replays;
    assert!(steps == 3, "{steps} steps, wanted two and a decode");
    let others = count("launches") - launches;
    assert!(others < 4 * steps + 40, "{others} launches beside {steps} replayed steps");
    assert_eq!(count("context"), 0, "a context was left current");
    model.trim();
    assert_eq!(count("graphs"), 0, "recordings were kept");
}

#[test]
fn too_little_memory_is_met_by_smaller_batches_and_then_is_an_error() {
    let (played, _guard) = machine();
    let model = tiny(DeviceChoice::Cuda(0));
    let wanted = one_step(&model, 2);
    // The same within the step that is now recorded: the branches go one by one.
    let before = played.get("launches");
    played.set("failure", 2);
    played.set("fail after", 100);
    let latents = one_step(&model, 2);
    assert_eq!(played.get("failing"), 0, "nothing failed");
    assert!(played.get("launches") - before > 200, "too few launches for two evaluations");
    assert_eq!(latents, wanted, "other latents");
    // What is too large by itself.
    let cuda = Cuda::new(&Played::new("little").driver(), 0, Precision::F16).unwrap();
    cuda.limit_memory(Some(64 << 20));
    let large = HostTensor::new([1, 4096, 4096, 2], vec![0.0; 1 << 25]).unwrap();
    let error = cuda.upload(&large).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert!(error.message().contains("134217728 more bytes"), "{error}");
    let small = HostTensor::new([1, 1, 2, 2], vec![1.0, 2.0, 3.0, 4.0]).unwrap();
    assert_eq!(cuda.download(&cuda.upload(&small).unwrap()).unwrap(), small);
    assert!(cuda.memory_held() <= 64 << 20);
}

#[test]
fn a_lost_device_is_an_error_and_the_cpu_goes_on() {
    let (played, _guard) = machine();
    let model = tiny(DeviceChoice::Cuda(0));
    let cpu = tiny(DeviceChoice::Cpu);
    let session = session(&model);
    played.set("failure", 700);
    played.set("fail after", 200);
    let error = session.render(0.5, &Call::new()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Device);
    assert!(error.message().contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{error}");
    let again = session.render(0.5, &Call::new()).err().unwrap();
    assert_eq!(again.kind(), ErrorKind::Device);
    assert!(again.message().contains("was lost"), "{again}");
    self::session(&cpu).render(0.5, &Call::new()).unwrap();
    drop((session, model));
    // It comes back, and so do models.
    played.set("lost", 0);
    let model = tiny(DeviceChoice::Cuda(0));
    self::session(&model).render(0.5, &Call::new()).unwrap();
}

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
                conversions += 1;
            }
        }
    }
    assert_eq!(played.get("convert") - before, conversions);
    // Sizes that don't agree.
    let layout = Layout::packed(5, 5, Format::RgbU8, Transfer::Srgb);
    let image = unsafe { CudaImage::from_raw(device, layout, 4711) }.unwrap();
    assert_eq!(picture.write(&image, None).err().unwrap().kind(), ErrorKind::InvalidArgument);
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
    let render = |data: u64, row_bytes: isize, memory: lb_memory| unsafe {
        let mut image = std::mem::zeroed::<lb_image>();
        lb_image_init(&mut image, size_of::<lb_image>());
        image.data = data as usize as *mut std::ffi::c_void;
        (image.width, image.height) = (width as u32, height as u32);
        (image.row_bytes, image.memory) = (row_bytes, memory);
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
    assert_eq!(render(address, row as isize, LB_MEMORY_HOST), (LB_OK, String::new()));
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
    let (status, text) = render(address, row as isize, LB_MEMORY_CUDA);
    assert_eq!(status, LB_ERROR_INVALID_ARGUMENT);
    assert!(text.contains("is no device's memory"), "{text}");
    // It juts out behind.
    let (status, text) = render(device + 64 * pitch as u64, pitch as isize, LB_MEMORY_CUDA);
    assert_eq!(status, LB_ERROR_INVALID_ARGUMENT, "{text}");
    let layout = Layout::packed(width, height, Format::RgbaU8, Transfer::Srgb);
    let null = unsafe { CudaImage::from_raw(0, layout, 0) };
    assert_eq!(null.err().unwrap().kind(), ErrorKind::InvalidArgument);
    lb_session_release(session);
    lb_model_release(model);
}
