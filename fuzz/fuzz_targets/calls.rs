//! Random sequences of calls over the C surface.
#![no_main]
#![allow(unsafe_code, reason = "C hands over raw pointers")]

#[path = "../harness/calls.rs"]
#[allow(dead_code, reason = "the tests clean up; a fuzzer does not end in order")]
mod calls;

libfuzzer_sys::fuzz_target!(|data: &[u8]| calls::run(data));
