//! A host that isn't ours: HostSupport, from the sources of openfx-sys, renders the node in all four contexts.
//!
//! Wants those sources (cargo fetches them), a C++ compiler, and expat; where one is missing it says so.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(unsafe_code, reason = "the C API is called through pointers")]
#![allow(missing_docs, reason = "a test's own")]

mod host;

use host::bundle::{bundle, tiny};
use host::compare::wanted;
use host::effect::{Image, Shape};
use host::engine::{Still, Wanted, engine};
use latentblend::capi::*;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles one file; what the compiler says where it can't.
fn compile(arguments: &[&std::ffi::OsStr]) -> Result<(), String> {
    let compiler = std::env::var_os("CXX").unwrap_or("c++".into());
    let output = Command::new(&compiler).args(["-std=c++14", "-w"]).args(arguments).output();
    let output = output.map_err(|error| format!("{}: {error}", compiler.display()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// The host's program, built where it is older than its source; or why it can't be.
fn program() -> Result<PathBuf, String> {
    let openfx = host::sources::openfx()?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ofx/second_host");
    std::fs::create_dir_all(&folder).unwrap();
    let expat = folder.join("expat.cpp");
    std::fs::write(
        &expat,
        "#include <expat.h>\nint main() { return XML_ExpatVersionInfo().major == 0; }\n",
    )
    .unwrap();
    let (probe, flag) = (folder.join("expat"), "-lexpat");
    let wanted = [expat.as_os_str(), "-o".as_ref(), probe.as_os_str(), flag.as_ref()];
    compile(&wanted).map_err(|_| "expat is not here (Debian: libexpat1-dev)".to_owned())?;

    let support = openfx.join("HostSupport");
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/second_host/host.cpp");
    let program = folder.join("host");
    let changed = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    if changed(&program) > changed(&own) {
        return Ok(program);
    }
    let mut sources: Vec<PathBuf> = std::fs::read_dir(support.join("src"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "cpp"))
        .collect();
    sources.sort();
    sources.push(own);
    let includes = [openfx.join("include"), support.join("include")];
    let mut arguments: Vec<&std::ffi::OsStr> = Vec::new();
    for include in &includes {
        arguments.extend(["-I".as_ref(), include.as_os_str()]);
    }
    arguments.extend(sources.iter().map(|source| source.as_os_str()));
    arguments.extend([
        "-o".as_ref(),
        program.as_os_str(),
        flag.as_ref(),
        "-ldl".as_ref(),
        "-pthread".as_ref(),
    ]);
    compile(&arguments).unwrap_or_else(|error| panic!("HostSupport does not build: {error}"));
    Ok(program)
}

#[test]
fn host_support_renders_the_node_in_all_contexts() {
    let program = match program() {
        Ok(program) => program,
        Err(reason) => {
            println!("skipped: {reason}");
            return;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(program)
        .args([Path::new(&tiny()), folder.path()])
        .env("OFX_PLUGIN_PATH", bundle().parent().unwrap())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {told}", output.status);
    let shape = Shape { depth: "OfxBitDepthFloat", ..Shape::new(64, 48) };
    let seen = |name: &str, wanted: &Wanted| {
        let frame = engine().frame(wanted, &shape, shape.bounds, shape.bounds);
        let upwards: Vec<u8> = frame.chunks(64 * 16).rev().flatten().copied().collect();
        let path = folder.path().join(format!("{name}.rgba"));
        assert!(std::fs::read(path).unwrap() == upwards, "{name}: another picture");
    };
    for context in ["Generator", "General", "Filter"] {
        seen(&format!("OfxImageEffectContext{context}"), &wanted(0.5));
    }
    let shown = |seed: i32| {
        let image = Image::new(&shape);
        image.paint(|x, y| {
            let code = |c: i32| ((x * (c + 1) + y * (3 + seed) + seed * 31) & 127) as f32 / 128.0;
            [code(0), code(1), code(2), 1.0]
        });
        Still::of(&image, LB_TRANSFER_SRGB)
    };
    // The clips last from frame 0 to 10, and so does the transition.
    let mut transition = Wanted { fit: LB_FIT_STRETCH, ..wanted(0.5) };
    transition.more.images = [Some(shown(0)), Some(shown(60))];
    seen("OfxImageEffectContextTransition", &transition);
    let mask = Image::new(&Shape { components: "OfxImageComponentAlpha", ..shape.clone() });
    let inside = |x: i32, y: i32| (16..48).contains(&x) && (12..36).contains(&y);
    mask.paint(|x, y| [f32::from(u8::from(inside(x, y))); 4]);
    let mut repainted = Wanted { fit: LB_FIT_STRETCH, ..wanted(0.5) };
    repainted.more.repainted = Some((shown(4), Still::of(&mask, LB_TRANSFER_SRGB)));
    repainted.more.plate = Some(shown(6));
    seen("Repainted", &repainted);
}
