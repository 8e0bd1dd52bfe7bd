//! What is held in memory, computed ahead, and let go of.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(unsafe_code, reason = "a host is called through pointers")]
#![allow(missing_docs, reason = "a test's own")]

mod host;

use host::bundle::{bundle, copy_of_tiny, tiny};
use host::effect::{Effect, Image, Shape};
use host::props::Value;
use host::quick::{GENERATOR, frame, pixels, render, shape, values};
use host::{FAILED, Host, OK, Quirks};
use std::sync::atomic::Ordering;

#[test]
fn buttons_compute_ahead_report_stop_and_free() {
    let host = Host::load(bundle(), Quirks::default());
    let effect = host.create(GENERATOR, &values());
    assert_eq!(effect.value("status"), Value::text("Nothing loaded yet"));
    assert_eq!(host.edited(&effect, "prepare"), OK);
    let told = effect.progress.lock().unwrap().clone();
    assert_eq!((told[0], told[told.len() - 1]), (-1.0, 2.0), "begun and ended: {told:?}");
    assert!(told[1..told.len() - 1].iter().all(|p| (0.0..=1.0).contains(p)), "{told:?}");
    let Value::S(status) = effect.value("status") else { panic!("no text") };
    assert!(status.to_str().unwrap().starts_with("Pre-computed: 128x128"), "{status:?}");
    let Value::S(version) = effect.value("version") else { panic!("no text") };
    assert!(version.to_str().unwrap().contains("engine 0."), "{version:?}");

    // Stopped: what there is is kept, and nothing is wrong.
    effect.set("steps", Value::I(150));
    effect.progress.lock().unwrap().clear();
    effect.stop_after.store(3, Ordering::SeqCst);
    assert_eq!(host.edited(&effect, "prepare"), OK);
    let Value::S(status) = effect.value("status") else { panic!("no text") };
    assert!(status.to_str().unwrap().starts_with("Pre-computation stopped"), "{status:?}");
    assert!(effect.progress.lock().unwrap().len() < 8);
    assert_eq!(effect.progress.lock().unwrap().last(), Some(&2.0));

    assert_eq!(host.edited(&effect, "freeMemory"), OK);
    assert_eq!(effect.value("status"), Value::text("Memory freed"));
    effect.set("steps", Value::I(3));
    let image = Image::new(&shape());
    assert_eq!(render(&host, &effect, &image), OK, "{}", effect.message());
    assert!(pixels(&image) == frame(0.5));
    host.destroy(effect);
}

/// What the status line says is in memory.
fn held(host: &Host, effect: &Effect) -> String {
    assert_eq!(host.edited(effect, "negative"), OK);
    let Value::S(status) = effect.value("status") else { panic!("no text") };
    status.to_str().unwrap().to_owned()
}

#[test]
fn a_model_that_makes_room_takes_its_transitions_along() {
    let host = Host::load(bundle(), Quirks::default());
    let effect = host.create(GENERATOR, &values());
    let image = Image::new(&shape());
    let other = tiny().replace("base", "v");
    // The same files once more are another model, if they are to compute otherwise.
    let models = [(tiny(), 0), (tiny(), 1), (other, 0)];
    let mut said = Vec::new();
    for (path, precision) in &models {
        effect.set("modelPath", Value::text(path));
        effect.set("precision", Value::I(*precision));
        for (seed, even) in [(1, 0), (2, 0), (2, 1)] {
            effect.set("seedA", Value::I(seed));
            effect.set("evenTime", Value::I(even));
            assert_eq!(render(&host, &effect, &image), OK, "{}", effect.message());
        }
        said.push(held(&host, &effect));
    }
    assert_eq!(
        said,
        [
            "1 model, 2 transitions in memory",
            "2 models, 4 transitions in memory",
            "2 models, 4 transitions in memory"
        ]
    );
    // The last two are there still; the first comes back, and gives the same frame.
    effect.set("modelPath", Value::text(&tiny()));
    effect.set("precision", Value::I(0));
    effect.set("seedA", Value::I(420));
    effect.set("evenTime", Value::I(0));
    assert_eq!(render(&host, &effect, &image), OK, "{}", effect.message());
    assert!(pixels(&image) == frame(0.5));
    assert_eq!(held(&host, &effect), "2 models, 3 transitions in memory");
    // Purged, all are held, and the frame stays the same bytes.
    assert_eq!(host.act("OfxActionPurgeCaches", effect.handle(), None, None), OK);
    assert_eq!(held(&host, &effect), "2 models, 3 transitions in memory");
    let again = Image::new(&shape());
    assert_eq!(render(&host, &effect, &again), OK, "{}", effect.message());
    assert!(pixels(&again) == pixels(&image));
    host.destroy(effect);
}

#[test]
fn weights_go_when_the_host_purges_its_caches_and_come_again() {
    let folder = tempfile::tempdir().unwrap();
    copy_of_tiny(folder.path());
    let host = Host::load(bundle(), Quirks::default());
    let mut values = values();
    values.retain(|(name, _)| *name != "modelPath");
    values.push(("modelPath", Value::text(folder.path().to_str().unwrap())));
    let effect = host.create(GENERATOR, &values);
    let image = Image::new(&shape());
    assert_eq!(render(&host, &effect, &image), OK, "{}", effect.message());
    assert!(pixels(&image) == frame(0.5));
    // Damaged: nothing to a model that is held.
    let unet = folder.path().join("unet/diffusion_pytorch_model.safetensors");
    let whole = std::fs::read(&unet).unwrap();
    std::fs::write(&unet, "no weights").unwrap();
    effect.set("seedA", Value::I(7));
    assert_eq!(render(&host, &effect, &image), OK, "{}", effect.message());
    assert_eq!(host.act("OfxActionPurgeCaches", effect.handle(), None, None), OK);
    assert_eq!(render(&host, &effect, &image), FAILED, "the weights had stayed");
    assert!(effect.message().contains(unet.to_str().unwrap()), "{}", effect.message());
    std::fs::write(&unet, whole).unwrap();
    effect.set("seedA", Value::I(420));
    assert_eq!(render(&host, &effect, &image), OK, "{}", effect.message());
    assert!(pixels(&image) == frame(0.5));
    host.destroy(effect);
}

#[test]
fn an_abort_is_asked_for_while_pictures_are_looked_at() {
    let host = Host::load(bundle(), Quirks::default());
    let mut values = values();
    // There, but no model: whoever comes as far as that fails.
    values.retain(|(name, _)| *name != "modelPath");
    values.push(("modelPath", Value::text(env!("CARGO_MANIFEST_DIR"))));
    values.extend([("inpaint", Value::I(1)), ("hold", Value::I(1)), ("holdFrame", Value::I(1))]);
    let effect = host.create("OfxImageEffectContextGeneral", &values);
    let large = Shape { depth: "OfxBitDepthFloat", ..Shape::new(640, 512) };
    let plates = [Image::new(&large), Image::new(&large)];
    for (time, plate) in [1.0, 2.0].into_iter().zip(&plates) {
        plate.paint(|x, y| [x as f32 / 640.0, y as f32 / 512.0, 0.5, 1.0]);
        effect.show_at("Source", time, plate);
    }
    let image = Image::new(&large);
    effect.target(&image);
    let times = |after: i32| {
        effect.abort_after.store(after, Ordering::SeqCst);
        effect.abort_asked.store(0, Ordering::SeqCst);
        let status = host.render(&effect, 2.0, large.bounds, &[]);
        assert_eq!((image.written(), effect.images_held()), (0, 0));
        (status, effect.abort_asked.load(Ordering::SeqCst))
    };
    // Two pictures of 5 MiB are looked at.
    let (status, asked) = times(-1);
    assert_eq!(status, FAILED);
    assert!(asked >= 10, "asked {asked} times");
    for after in [0, 1, 7] {
        assert_eq!(times(after), (OK, after as usize + 1));
    }
    host.destroy(effect);
}
