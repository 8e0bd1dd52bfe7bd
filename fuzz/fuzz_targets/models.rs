//! Damaged files of models.
#![no_main]
#![allow(unsafe_code, reason = "C hands over raw pointers")]

#[path = "../harness/models.rs"]
mod models;

libfuzzer_sys::fuzz_target!(|data: &[u8]| models::run(data));
