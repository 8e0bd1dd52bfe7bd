//! A CUDA device that the kernels are not made for: nothing is offered, and who asks all the same is sent to the CPU.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(unsafe_code, reason = "a host is called through pointers")]
#![allow(missing_docs, unreachable_pub, reason = "a test's own")]

mod host;
#[path = "../../tests/common/played.rs"]
#[allow(dead_code, reason = "shared with the library's tests")]
mod played;
#[path = "cuda/there.rs"]
#[allow(dead_code, reason = "shared with the other tests of CUDA memory")]
mod there;

use host::bundle::bundle;
use host::effect::Image;
use host::props::Value;
use host::quick::{GENERATOR, frame, pixels, render, shape, values};
use host::{Host, OK, Quirks};
use played::machine;
use there::enabled;

#[test]
fn a_device_that_is_of_no_use_is_not_offered() {
    const GPU_RENDER_FAILED: i32 = 1002;
    let (played, _guard) = machine();
    played.set("major", 6);
    let host = Host::load(bundle(), Quirks::default());
    host.data.props.put("OfxImageEffectPropCudaRenderSupported", Value::text("true"));
    let described = host.describe();
    for name in ["OfxImageEffectPropCudaRenderSupported", "OfxImageEffectPropCudaStreamSupported"] {
        assert_eq!(described.props.text(name), "false");
    }
    let effect = host.create(GENERATOR, &values());
    let image = Image::new(&shape());
    image.lift(played);
    effect.target(&image);
    assert_eq!(host.render(&effect, 0.0, shape().bounds, &enabled(true)), GPU_RENDER_FAILED);
    assert!(effect.message().contains("capability 6.0, wanted 7.5"), "{}", effect.message());
    let image = Image::new(&shape());
    assert_eq!(render(&host, &effect, &image), OK, "{}", effect.message());
    assert!(pixels(&image) == frame(0.5));
    host.destroy(effect);
}
