//! A device chosen by what a host has on it (memory, a stream, a context, a UUID), on a played driver.
#![allow(unsafe_code, reason = "functions of the C surface are called")]

mod common;

use common::golden;
use common::played::machine;

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
