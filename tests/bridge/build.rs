//! Compiles `src/bridge.cpp` against the header that is checked in.

fn main() {
    cxx_build::bridge("src/lib.rs")
        .file("src/bridge.cpp")
        .include("../../include")
        .std("c++17")
        .flag_if_supported("-Wall")
        .flag_if_supported("-Wextra")
        .compile("latentblend-bridge");
    for path in ["src/lib.rs", "src/bridge.h", "src/bridge.cpp", "../../include"] {
        println!("cargo::rerun-if-changed={path}");
    }
}
