//! Weights that go when the host leaves the node alone, and come again. Alone in its program, whose environment it sets.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(unsafe_code, reason = "a host is called through pointers")]
#![allow(missing_docs, reason = "a test's own")]

mod host;

use host::bundle::{bundle, copy_of_tiny};
use host::effect::Image;
use host::props::Value;
use host::quick::{GENERATOR, frame, pixels, render, shape, values};
use host::{FAILED, Host, OK, Quirks};
use std::time::Duration;

const IDLE: Duration = Duration::from_millis(50);

#[test]
fn weights_go_when_the_host_leaves_the_node_alone_and_come_again() {
    let folder = tempfile::tempdir().unwrap();
    copy_of_tiny(folder.path());
    // Nobody else reads or writes the environment: it is the only test here.
    unsafe { std::env::set_var("LATENTBLEND_OFX_IDLE_SECONDS", IDLE.as_secs_f64().to_string()) };
    let host = Host::load(bundle(), Quirks::default());
    let mut values = values();
    values.retain(|(name, _)| *name != "modelPath");
    values.push(("modelPath", Value::text(folder.path().to_str().unwrap())));
    let effect = host.create(GENERATOR, &values);
    let image = Image::new(&shape());
    assert_eq!(render(&host, &effect, &image), OK, "{}", effect.message());
    assert!(pixels(&image) == frame(0.5));
    // Damaged: nothing to a model that is held, and so seen once it isn't, however long that takes.
    let unet = folder.path().join("unet/diffusion_pytorch_model.safetensors");
    let whole = std::fs::read(&unet).unwrap();
    std::fs::write(&unet, "no weights").unwrap();
    let gone = (1..100).any(|seed| {
        std::thread::sleep(2 * IDLE);
        effect.set("seedA", Value::I(seed));
        render(&host, &effect, &image) == FAILED
    });
    assert!(gone, "the weights have stayed");
    assert!(effect.message().contains(unet.to_str().unwrap()), "{}", effect.message());
    std::fs::write(&unet, whole).unwrap();
    effect.set("seedA", Value::I(420));
    let again = Image::new(&shape());
    assert_eq!(render(&host, &effect, &again), OK, "{}", effect.message());
    assert!(pixels(&again) == frame(0.5));
    host.destroy(effect);
}
