//! What a report of a problem should come with: the library, the machine, the models in reach, and whether
//! a small frame of the embedded model comes out as it should.
//!
//! ```text
//! cargo run --example doctor
//! cargo run --example doctor -- path/to/model --json
//! ```

use clap::Parser;
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;

/// A report on this library and machine.
#[derive(Parser)]
struct Arguments {
    /// A model to look at: a folder, or a .safetensors or .ckpt file
    model: Option<PathBuf>,
    /// The report as JSON, as the library makes it
    #[arg(long)]
    json: bool,
}

/// A text, or what stands for its absence.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

fn bytes(value: &Value) -> String {
    value.as_f64().map_or("-".into(), |bytes| format!("{:.1} GiB", bytes / f64::from(1 << 30)))
}

fn line(name: &str, value: impl AsRef<str>) {
    println!("  {name:<16}{}", value.as_ref());
}

/// A part of the report, or its error in its place.
fn part<'a>(report: &'a Value, name: &str, title: &str) -> Option<&'a Value> {
    println!("\n{title}");
    let part = &report[name];
    if let Some(error) = part["error"].as_str() {
        line("not known", error);
        return None;
    }
    Some(part)
}

fn print(report: &Value) {
    let library = &report["library"];
    println!("latentblend {}, ABI {}", text(&library["version"]), library["abi_version"]);
    line("features", text(&library["features"]));
    line("built for", text(&library["target"]));
    if library["optimised"] == false {
        line("", "not optimised: a debug build, several times slower");
    }
    let set = report["environment"].as_array().into_iter().flatten();
    for variable in set.filter(|variable| !variable["value"].is_null()) {
        line(&text(&variable["name"]), text(&variable["value"]));
    }
    if let Some(cpu) = part(report, "cpu", "Processor") {
        line("model", text(&cpu["model"]));
        line("level", format!("{} ({})", text(&cpu["level"]), text(&cpu["instructions"])));
        line("threads", text(&cpu["threads"]));
        line("precision", format!("{}, where the choice is left open", text(&cpu["precision"])));
    }
    if let Some(memory) = part(report, "memory", "Memory") {
        line("machine", bytes(&memory["machine_bytes"]));
        line("available", bytes(&memory["available_bytes"]));
        line("this process", bytes(&memory["process_bytes"]));
        line("at its highest", bytes(&memory["process_peak_bytes"]));
    }
    if let Some(devices) = part(report, "devices", "Devices") {
        for device in devices.as_array().into_iter().flatten() {
            let sign = if device["usable"] == true { "yes" } else { "no" };
            line(&format!("{}: {sign}", text(&device["kind"])), text(&device["name"]));
            line("", text(&device["why"]));
            for sought in device["looked_for"].as_array().into_iter().flatten() {
                let place = match &sought["found"] {
                    Value::Null => format!("not in {}", text(&sought["looked_in"])),
                    found => text(found),
                };
                line("", format!("{}: {place}", text(&sought["what"])));
            }
        }
    }
    if let Some(models) = part(report, "models", "Models") {
        for folder in models["search_path"].as_array().into_iter().flatten() {
            let there = if folder["there"] == true { "" } else { " (not there)" };
            line(
                "looked in",
                format!("{}{there}: {}", text(&folder["path"]), text(&folder["from"])),
            );
        }
        for tried in models["tried"].as_array().into_iter().flatten() {
            let sign = if tried["usable"] == true { "usable" } else { "not usable" };
            line(sign, format!("{} ({})", text(&tried["path"]), text(&tried["from"])));
            match tried["why"].as_str() {
                Some(why) => line("", why),
                None => {
                    line("", format!("{}, {}", text(&tried["name"]), text(&tried["layout"])));
                    line("", format!("licence: {}", text(&tried["licence"])));
                    let [weights, peak] = ["weight_bytes", "peak_bytes"].map(|b| bytes(&tried[b]));
                    line("", format!("memory: {weights} of weights, {peak} with a frame"));
                }
            }
        }
    }
    if let Some(frame) = part(report, "test_frame", "Test frame of the embedded model") {
        let as_expected = frame["as_expected"] == true;
        line("as expected", if as_expected { "yes" } else { "NO: please report this" });
        line("hash", text(&frame["hash"]));
        match frame["expected_hash"].as_str() {
            Some(expected) => line("expected", expected),
            None => line("expected", "none was recorded for this level of processor"),
        }
        line(
            "difference",
            format!("{:.1e} of 255", frame["largest_difference"].as_f64().unwrap_or(0.0)),
        );
        line("took", format!("{:.2} s", frame["seconds"].as_f64().unwrap_or(0.0)));
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let report = latentblend::doctor(arguments.model.as_deref());
    if arguments.json {
        println!("{report}");
        return ExitCode::SUCCESS;
    }
    match serde_json::from_str(&report) {
        Ok(report) => {
            print(&report);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("doctor: the report is not JSON: {error}");
            ExitCode::FAILURE
        }
    }
}
