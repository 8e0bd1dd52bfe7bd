//! What the node costs: `cargo bench -p latentblend-ofx`. Describing it, the first picture after adding it, and a warm
//! frame against the C API's own render of the same, side by side.
//!
//! Wall clock, and the process's processor time, which a busy machine disturbs less.
#![cfg_attr(
    not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))),
    allow(unused, reason = "the test's host speaks to these systems only")
)]
#![allow(unsafe_code, reason = "a host is called through pointers")]
#![allow(missing_docs, reason = "a bench's own")]

#[path = "../tests/host/mod.rs"]
mod host;

use host::bundle::{bundle, engine_is_mapped};
use host::effect::{Image, Shape};
use host::engine::{More, Still, Wanted, engine};
use host::{Host, OK, Quirks};
use latentblend::capi::*;
use std::time::Instant;

const GENERATOR: &str = "OfxImageEffectContextGenerator";

/// Processor time of this process so far, in seconds; the kernel counts in hundredths.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after = &stat[stat.rfind(')').unwrap() + 2..];
    let fields: Vec<&str> = after.split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

struct Clock(Instant, f64);

impl Clock {
    fn start() -> Self {
        Clock(Instant::now(), processor())
    }

    fn told(&self) -> [f64; 2] {
        [self.0.elapsed().as_secs_f64(), processor() - self.1]
    }
}

fn main() {
    let bundle = bundle();
    let clock = Clock::start();
    let host = Host::load(bundle, Quirks::default());
    drop(host.describe_in(GENERATOR));
    let [wall, _] = clock.told();
    let load = if engine_is_mapped() { "and opens the engine" } else { "and opens no engine" };
    println!("describe: {:.1} ms {load} (wanted: below 50 ms)", wall * 1e3);

    // As it is when added: the demo model, 30 steps, half-way, at 640x360.
    let clock = Clock::start();
    let effect = host.create(GENERATOR, &[]);
    let shape = Shape::new(640, 360);
    effect
        .props
        .put_all("OfxImageEffectPropProjectSize", [640.0, 360.0].map(host::props::Value::D));
    let image = Image::new(&shape);
    effect.target(&image);
    assert_eq!(host.render(&effect, 0.0, shape.bounds, &[]), OK, "{}", effect.message());
    let [wall, work] = clock.told();
    println!(
        "first picture after adding: {wall:.2} s, {work:.2} s of processor (wanted: below 2 s on 2 cores)"
    );

    let wanted = |t: f64| Wanted {
        model: None,
        prompts: vec![
            ("a white lighthouse on the left, the sea at sunset".into(), 420),
            ("an old castle in the middle, mountains by night".into(), 421),
        ],
        negative: String::new(),
        options: |_| (),
        size: latentblend::working_size([128, 128], 640.0 / 360.0).unwrap().map(|side| side as u32),
        t,
        transfer: LB_TRANSFER_SRGB,
        fit: LB_FIT_CROP,
        filter: LB_FILTER_BICUBIC,
        pixel_aspect: 1.0,
        more: More::default(),
    };
    // The same by the C API alone: its model is loaded anew.
    let clock = Clock::start();
    let session = engine().session(&wanted(0.5));
    let [_, loaded] = clock.told();
    engine().render(session, &wanted(0.5), &shape, shape.bounds, shape.bounds);
    let [_, own] = clock.told();
    println!(
        "the same by the C API: {own:.2} s of processor, {loaded:.2} s of them to load; ratio {:.3}",
        work / own
    );
    // Warm: both sessions are prepared, and each t is rendered once by each, in turns.
    assert_eq!(host.edited(&effect, "prepare"), OK);
    // Both have their parents now.
    for t in [0.02, 0.98] {
        engine().render(session, &wanted(t), &shape, shape.bounds, shape.bounds);
    }
    let (mut node, mut own) = ([0.0; 2], [0.0; 2]);
    let add = |sum: &mut [f64; 2], clock: Clock| {
        let told = clock.told();
        sum.iter_mut().zip(told).for_each(|(sum, part)| *sum += part);
    };
    const FRAMES: u32 = 48;
    for frame in 0..FRAMES {
        let t = (f64::from(frame) + 0.37) / f64::from(FRAMES);
        let by_node = |node: &mut [f64; 2]| {
            effect.set("fraction", host::props::Value::D(t));
            let clock = Clock::start();
            assert_eq!(host.render(&effect, 0.0, shape.bounds, &[]), OK);
            add(node, clock);
        };
        let by_engine = |own: &mut [f64; 2]| {
            let clock = Clock::start();
            engine().render(session, &wanted(t), &shape, shape.bounds, shape.bounds);
            add(own, clock);
        };
        // Neither is always the first of the two.
        if frame % 2 == 0 {
            by_node(&mut node);
            by_engine(&mut own);
        } else {
            by_engine(&mut own);
            by_node(&mut node);
        }
    }
    for (index, name) in ["wall clock", "processor"].into_iter().enumerate() {
        let [a, b] = [node[index], own[index]].map(|sum| sum / f64::from(FRAMES) * 1e3);
        println!(
            "warm frame, {name}: node {a:.1} ms, C API {b:.1} ms, ratio {:.3} (wanted: up to 1.10)",
            a / b
        );
    }
    engine().release(session);
    host.destroy(effect);
    repainted(&host);
}

/// A held patch over a plate that moves, 1280x720 in floats: what reading and comparing the clips costs.
fn repainted(host: &Host) {
    let values =
        [("inpaint", 1), ("holdFrame", 0)].map(|(name, v)| (name, host::props::Value::I(v)));
    let effect = host.create("OfxImageEffectContextGeneral", &values);
    let shape = Shape { depth: "OfxBitDepthFloat", ..Shape::new(1280, 720) };
    let plates = [1, 2].map(|seed| {
        let image = Image::new(&shape);
        image.paint(|x, y| host::compare::scene(x, y, seed));
        image
    });
    let mask = Image::new(&Shape { components: "OfxImageComponentAlpha", ..shape.clone() });
    mask.paint(|x, y| [f32::from(u8::from((400..800).contains(&x) && (200..500).contains(&y))); 4]);
    effect.show("Mask", &mask);
    effect.show_at("Source", 0.0, &plates[0]);
    effect.show_at("Source", 1.0, &plates[1]);
    let image = Image::new(&shape);
    effect.target(&image);
    let still = |image: &Image| Still::of(image, LB_TRANSFER_SRGB);
    let wanted = |t: f64| Wanted {
        model: None,
        options: |_| (),
        size: latentblend::working_size([128, 128], 1280.0 / 720.0)
            .unwrap()
            .map(|side| side as u32),
        fit: LB_FIT_STRETCH,
        more: More {
            repainted: Some((still(&plates[0]), still(&mask))),
            plate: Some(still(&plates[1])),
            repaints: true,
            ..More::default()
        },
        ..host::compare::wanted(t)
    };
    let session = engine().session(&wanted(0.0));
    let (mut node, mut own) = ([0.0; 2], [0.0; 2]);
    const FRAMES: u32 = 12;
    for frame in 0..=FRAMES {
        let t = (f64::from(frame) + 0.37) / f64::from(FRAMES + 1);
        let wanted = wanted(t);
        effect.set("fraction", host::props::Value::D(t));
        let clock = Clock::start();
        assert_eq!(host.render(&effect, 1.0, shape.bounds, &[]), OK, "{}", effect.message());
        let by_node = clock.told();
        let clock = Clock::start();
        engine().render(session, &wanted, &shape, shape.bounds, shape.bounds);
        let by_engine = clock.told();
        // The first of each fills its session.
        if frame > 0 {
            (0..2).for_each(|i| (node[i], own[i]) = (node[i] + by_node[i], own[i] + by_engine[i]));
        }
    }
    for (index, name) in ["wall clock", "processor"].into_iter().enumerate() {
        let [a, b] = [node[index], own[index]].map(|sum| sum / f64::from(FRAMES) * 1e3);
        println!(
            "repainted frame, {name}: node {a:.1} ms, C API {b:.1} ms, ratio {:.3} (wanted: up to 1.10)",
            a / b
        );
    }
    engine().release(session);
    host.destroy(effect);
}
