//! Damaged files of models.
#![no_main]
#![allow(unsafe_code, reason = "C hands over raw pointers")]

#[path = "../harness/models.rs"]
#[allow(dead_code, reason = "the tests clean up; a fuzzer does not end in order")]
mod models;

libfuzzer_sys::fuzz_target!(|data: &[u8]| models::run(data));
