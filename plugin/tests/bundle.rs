//! The bundle as a host finds it: its files, what it exports and needs, and that describing it loads nothing.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(unsafe_code, reason = "a host is called through pointers")]
#![allow(missing_docs, reason = "a test's own")]

mod host;

use host::bundle::{alone, bundle, engine_is_mapped, tiny};
use host::effect::{Image, Shape};
use host::props::Value;
use host::{BAD_HANDLE, FAILED, Host, OK, Quirks};
use std::process::Command;
use std::ptr::null_mut;

const CONTEXTS: [&str; 4] = [
    "OfxImageEffectContextGenerator",
    "OfxImageEffectContextGeneral",
    "OfxImageEffectContextFilter",
    "OfxImageEffectContextTransition",
];

/// Every identifier and default, in their order. A line may be added, and an option at a line's end; nothing else
/// may ever change.
const PARAMETERS: &str = include_str!("parameters.txt");

fn described(host: &Host, context: &str) -> String {
    let effect = host.describe_in(context);
    let params = effect.params.lock().unwrap();
    let mut text = String::new();
    for param in params.iter().filter(|p| p.kind != "OfxParamTypePage" && p.name != "Transition") {
        let default = match param.props.get("OfxParamPropDefault", 0) {
            Some(Value::S(text)) => format!("{text:?}"),
            Some(Value::D(value)) => format!("{value:?}"),
            Some(Value::I(value)) => value.to_string(),
            _ => String::from("-"),
        };
        let options = param.props.texts("OfxParamPropChoiceOption").join("|");
        let kind = param.kind.trim_start_matches("OfxParamType");
        text += format!("{} {kind} {default} {options}", param.name).trim_end();
        text += "\n";
    }
    text
}

#[test]
fn parameters_of_saved_projects_keep_their_identifiers_and_defaults() {
    let host = Host::load(bundle(), Quirks::default());
    for context in CONTEXTS {
        let now = described(&host, context);
        if std::env::var_os("LATENTBLEND_BLESS").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parameters.txt");
            std::fs::write(path, &now).unwrap();
            continue;
        }
        assert_eq!(now, PARAMETERS, "{context}");
    }
}

#[test]
fn every_parameter_has_a_label_a_hint_a_script_name_and_both_ranges() {
    let host = Host::load(bundle(), Quirks::default());
    let effect = host.describe_in(CONTEXTS[1]);
    let params = effect.params.lock().unwrap();
    let groups: Vec<_> =
        params.iter().filter(|p| p.kind == "OfxParamTypeGroup").map(|p| p.name.clone()).collect();
    let mut on_pages = Vec::new();
    for param in params.iter() {
        let (name, props) = (&param.name, &param.props);
        assert!(!props.text("OfxPropLabel").is_empty(), "{name}");
        if param.kind == "OfxParamTypePage" {
            on_pages.extend(props.texts("OfxParamPropPageChild"));
            continue;
        }
        assert_eq!(&props.text("OfxParamPropScriptName"), name);
        assert!(!props.text("OfxParamPropHint").is_empty(), "{name}");
        if param.kind == "OfxParamTypeGroup" {
            continue;
        }
        assert!(groups.contains(&props.text("OfxParamPropParent")), "{name}");
        // Resolve clamps to -1..1, or to 0..0, where one of the ranges is missing.
        if ["OfxParamTypeDouble", "OfxParamTypeInteger"].contains(&param.kind.as_str()) {
            for range in ["Min", "Max", "DisplayMin", "DisplayMax"] {
                let range = format!("OfxParamProp{range}");
                assert!(props.get(&range, 0).is_some(), "{name}: {range}");
            }
        }
        assert_eq!(
            props.int("OfxParamPropAnimates").unwrap_or(0) == 1,
            name == "fraction",
            "{name}"
        );
    }
    for param in params
        .iter()
        .filter(|p| !["OfxParamTypePage", "OfxParamTypeGroup"].contains(&p.kind.as_str()))
    {
        assert_eq!(on_pages.iter().filter(|c| **c == param.name).count(), 1, "{}", param.name);
    }
}

#[test]
fn contexts_have_the_clips_that_the_specification_asks_for() {
    let host = Host::load(bundle(), Quirks::default());
    let effect = host.describe();
    assert_eq!(effect.props.texts("OfxImageEffectPropSupportedContexts"), CONTEXTS);
    let depths = ["Float", "Half", "Short", "Byte"].map(|d| format!("OfxBitDepth{d}"));
    assert_eq!(effect.props.texts("OfxImageEffectPropSupportedPixelDepths"), depths);
    let wanted: [&[&str]; 4] = [
        &["Output"],
        &["Source", "Mask", "SourceFrom", "SourceTo", "Output"],
        &["Source", "Output"],
        &["SourceFrom", "SourceTo", "Output"],
    ];
    for (context, wanted) in CONTEXTS.into_iter().zip(wanted) {
        let effect = host.describe_in(context);
        let clips = effect.clips.lock().unwrap();
        let names: Vec<_> = clips.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, wanted, "{context}");
        for clip in clips.iter().filter(|c| context == CONTEXTS[1] && c.name != "Output") {
            assert_eq!(clip.props.int("OfxImageClipPropOptional"), Some(1), "{}", clip.name);
        }
        let transition = effect.params.lock().unwrap().iter().any(|p| p.name == "Transition");
        assert_eq!(transition, context == CONTEXTS[3], "{context}");
    }
}

#[test]
fn describing_and_creating_loads_nothing() {
    // Other tests of this program open the engine.
    alone("describing_alone", &[]);
}

#[test]
#[ignore = "run by describing_and_creating_loads_nothing"]
fn describing_alone() {
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    for _ in 0..3 {
        let host = Host::load(bundle(), Quirks::default());
        for context in CONTEXTS {
            let effect = host.create(context, &[]);
            host.destroy(effect);
        }
    }
    assert!(!engine_is_mapped(), "the engine was opened");
    assert_eq!(threads(), before, "a thread was started");
    // And it is that very engine which a render opens.
    let host = Host::load(bundle(), Quirks::default());
    let effect = host.create(CONTEXTS[0], &quick());
    let image = Image::new(&Shape::new(64, 48));
    effect.target(&image);
    assert_eq!(host.render(&effect, 0.0, [0, 0, 64, 48], &[]), OK, "{}", effect.message());
    assert!(engine_is_mapped());
    host.destroy(effect);
}

#[test]
fn a_project_can_be_opened_without_the_node() {
    alone("disabled_alone", &[("LATENTBLEND_DISABLE", "1")]);
}

#[test]
#[ignore = "run by a_project_can_be_opened_without_the_node"]
fn disabled_alone() {
    let path =
        bundle().join("Contents").join(latentblend_ofx::ARCHITECTURE).join("LatentBlend.ofx");
    // SAFETY: the names and types are those of the specification.
    unsafe {
        let library = libloading::Library::new(path).unwrap();
        let count: libloading::Symbol<'_, unsafe extern "C" fn() -> i32> =
            library.get(b"OfxGetNumberOfPlugins").unwrap();
        let get: libloading::Symbol<'_, unsafe extern "C" fn(i32) -> *mut u8> =
            library.get(b"OfxGetPlugin").unwrap();
        assert_eq!((count(), get(0)), (0, null_mut()));
    }
}

#[test]
fn instances_leave_nothing_behind() {
    alone("instances_alone", &[]);
}

/// Bytes that are allocated by malloc at present, in whichever library.
#[cfg(target_env = "gnu")]
fn allocated() -> usize {
    #[repr(C)]
    struct Mallinfo2([usize; 10]);
    unsafe extern "C" {
        fn mallinfo2() -> Mallinfo2;
    }
    // SAFETY: takes nothing, returns ten numbers; the eighth is what is in use, the fifth what is mapped.
    let info = unsafe { mallinfo2() };
    info.0[7] + info.0[4]
}

#[test]
#[ignore = "run by instances_leave_nothing_behind"]
#[cfg(target_env = "gnu")]
fn instances_alone() {
    let host = Host::load(bundle(), Quirks::default());
    let once = |number: usize, renders: bool| {
        let mut values = quick();
        if number % 3 == 2 {
            values[0].1 = Value::text("/not/there");
        }
        let effect = host.create(CONTEXTS[number % 3], &values);
        let image = Image::new(&Shape::new(32, 32));
        effect.target(&image);
        if renders {
            let status = host.render(&effect, 0.0, [0, 0, 32, 32], &[]);
            assert_eq!(status == OK, number % 3 != 2, "{}", effect.message());
        }
        assert_eq!(host.edited(&effect, "negative"), OK);
        host.destroy(effect);
    };
    for (count, renders) in [(1000, false), (60, true)] {
        (0..count).for_each(|number| once(number, renders));
        // What allocators and caches hold on to grows now and then, what instances leave with each of them.
        let rounds = [(); 3].map(|()| {
            let before = allocated();
            (0..count).for_each(|number| once(number, renders));
            allocated().saturating_sub(before)
        });
        println!("{count} instances, rendering {renders}: {rounds:?} bytes more");
        // An instance has 2 kB.
        let least = rounds.into_iter().min().unwrap();
        assert!(least < 16 << 10, "{count} instances left {least} bytes each time");
    }
}

#[test]
#[ignore = "run by instances_leave_nothing_behind"]
#[cfg(not(target_env = "gnu"))]
fn instances_alone() {
    println!("skipped: only glibc says how much is allocated");
}

/// A picture in milliseconds.
fn quick() -> [(&'static str, Value); 2] {
    [("modelPath", Value::text(&tiny())), ("steps", Value::I(2))]
}

#[test]
fn only_the_entry_points_are_exported_and_only_the_system_is_needed() {
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).arg(latentblend_ofx::shim()).output();
        output.ok().map(|output| String::from_utf8(output.stdout).unwrap())
    };
    let (Some(symbols), Some(dynamic)) =
        (run("nm", &["-D", "--defined-only"]), run("readelf", &["-d"]))
    else {
        println!("skipped: nm or readelf is not here");
        return;
    };
    let mut names: Vec<_> =
        symbols.lines().filter_map(|line| line.split(' ').next_back()).collect();
    names.sort_unstable();
    assert_eq!(names, ["OfxGetNumberOfPlugins", "OfxGetPlugin", "OfxSetHost"]);
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
    for line in dynamic.lines().filter(|line| line.contains("(NEEDED)")) {
        let system = ["libc.so", "libm.so", "libdl.so", "libpthread.so", "ld-linux"];
        assert!(system.iter().any(|name| line.contains(name)), "{line}");
    }
}

#[test]
fn the_bundle_has_what_the_specification_names() {
    let contents = bundle().join("Contents");
    let plist = std::fs::read_to_string(contents.join("Info.plist")).unwrap();
    for wanted in ["BNDL", "<string>LatentBlend.ofx</string>", env!("CARGO_PKG_VERSION")] {
        assert!(plist.contains(wanted), "{wanted}: {plist}");
    }
    assert!(plist.starts_with("<?xml version=\"1.0\""), "{plist}");
    assert!(contents.join("Resources/org.latentblend.LatentBlend.svg").is_file());
    assert!(contents.join(latentblend_ofx::ARCHITECTURE).join("LatentBlend.ofx").is_file());
}

#[test]
fn a_host_may_load_unload_and_close_as_often_as_it_likes() {
    for round in 0..4 {
        let host = Host::load(bundle(), Quirks::default());
        // Twice without an Unload, as MLT does.
        assert_eq!(host.act("OfxActionLoad", null_mut(), None, None), OK);
        if round % 2 == 1 {
            let effect = host.create(
                CONTEXTS[0],
                &[("modelPath", Value::text(&tiny())), ("steps", Value::I(2))],
            );
            let image = Image::new(&Shape::new(32, 32));
            effect.target(&image);
            assert_eq!(host.render(&effect, 0.0, [0, 0, 32, 32], &[]), OK, "{}", effect.message());
            host.destroy(effect);
        }
        assert_eq!(host.act("OfxActionUnload", null_mut(), None, None), OK);
    }
}

#[test]
fn an_engine_that_cannot_be_opened_says_why_on_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("no-engine/LatentBlend.ofx.bundle");
    let libraries = other.join("Contents").join(latentblend_ofx::ARCHITECTURE);
    std::fs::create_dir_all(&libraries).unwrap();
    std::fs::copy(latentblend_ofx::shim(), libraries.join("LatentBlend.ofx")).unwrap();
    let host = Host::load(&other, Quirks::default());
    let effect = host.create(CONTEXTS[0], &[]);
    let image = Image::new(&Shape::new(32, 32));
    effect.target(&image);
    assert_eq!(host.render(&effect, 0.0, [0, 0, 32, 32], &[]), FAILED);
    assert!(
        effect.message().starts_with("The engine could not be opened: "),
        "{}",
        effect.message()
    );
    assert!(effect.message().contains("liblatentblend"), "{}", effect.message());
    assert_eq!(image.written(), 0);
    // One that is no engine, and, once it is there, the right one: the next render may succeed.
    std::fs::write(libraries.join(latentblend_ofx::ENGINE), b"not a library").unwrap();
    assert_eq!(host.render(&effect, 0.0, [0, 0, 32, 32], &[]), FAILED);
    assert!(
        effect.message().contains("invalid ELF header") || effect.message().contains("too short"),
        "{}",
        effect.message()
    );
    std::fs::remove_file(libraries.join(latentblend_ofx::ENGINE)).unwrap();
    std::fs::copy(host::bundle::engine(), libraries.join(latentblend_ofx::ENGINE)).unwrap();
    effect.set("modelPath", Value::text(&tiny()));
    effect.set("steps", Value::I(2));
    assert_eq!(host.render(&effect, 0.0, [0, 0, 32, 32], &[]), OK, "{}", effect.message());
    assert_eq!(effect.message(), "", "the message stays");
    host.destroy(effect);
}

#[test]
fn what_is_not_known_gets_the_default_answer() {
    let host = Host::load(bundle(), Quirks::default());
    let effect = host.create(CONTEXTS[0], &[]);
    for action in [
        "OfxImageEffectActionGetFramesNeeded",
        "OfxImageEffectActionGetTimeDomain",
        "OfxImageEffectActionGetRegionsOfInterest",
        "OfxActionSyncPrivateData",
        "OfxActionBeginInstanceEdit",
        "some.other.action",
    ] {
        assert_eq!(host.act(action, effect.handle(), None, None), host::REPLY_DEFAULT, "{action}");
    }
    host.destroy(effect);
    let never = host.describe();
    assert_eq!(
        host.render(&never, 0.0, [0, 0, 8, 8], &[]),
        BAD_HANDLE,
        "an instance that never was"
    );
}
