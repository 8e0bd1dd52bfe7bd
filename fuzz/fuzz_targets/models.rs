//! Damaged files of models.
#![no_main]

#[path = "../harness/models.rs"]
mod models;

libfuzzer_sys::fuzz_target!(|data: &[u8]| models::run(data));
