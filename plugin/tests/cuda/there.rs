//! A host's images in the memory of a played CUDA device, which nobody but its driver can reach.

use super::host::effect::{Effect, Image};
use super::host::props::Value;
use super::host::{Host, OK};
use super::played::Played;

/// The host's own stream on the played device.
pub const STREAM: usize = 5000;

impl Image {
    fn data(&self) -> usize {
        match self.props.get("OfxImagePropData", 0) {
            Some(Value::P(data)) => data,
            _ => panic!("no pixels"),
        }
    }

    /// Moves it there: what the host hands over is an address of the device's.
    pub fn lift(&self, played: &Played) {
        let memory = self.memory.lock().unwrap();
        let at = played.guarded(0, memory.len());
        played.opened(|| {
            // SAFETY: as many bytes, and nobody else knows of them.
            let there = unsafe { std::slice::from_raw_parts_mut(at as *mut u8, memory.len()) };
            there.copy_from_slice(&memory);
        });
        let data = at as usize + (self.data() - memory.as_ptr() as usize);
        self.props.put("OfxImagePropData", Value::P(data));
        self.props.put("test.there", Value::P(at as usize));
    }

    /// Back, with what is there by now.
    pub fn land(&self, played: &Played) {
        let Some(Value::P(at)) = self.props.get("test.there", 0) else { panic!("not there") };
        let data = self.data() - at;
        let mut memory = self.memory.lock().unwrap();
        let length = memory.len();
        played.opened(|| {
            // SAFETY: as above.
            memory.copy_from_slice(unsafe { std::slice::from_raw_parts(at as *const u8, length) });
        });
        let data = memory.as_ptr() as usize + data;
        self.props.put("OfxImagePropData", Value::P(data));
    }
}

/// What a render into CUDA memory is told, on a stream of the host's or without one.
pub fn enabled(stream: bool) -> Vec<(&'static str, Value)> {
    let mut told = vec![("OfxImageEffectPropCudaEnabled", Value::I(1))];
    if stream {
        told.push(("OfxImageEffectPropCudaStream", Value::P(STREAM)));
    }
    told
}

/// Renders into the CPU's memory, then with every image in the device's, with a stream and without: the same bytes, in
/// every place. `target` makes the output.
pub fn same_in_both(
    played: &Played,
    (host, effect): (&Host, &Effect),
    sources: &[&Image],
    target: &dyn Fn() -> Box<Image>,
    (time, window, more): (f64, [i32; 4], &[(&str, Value)]),
) {
    let wanted = target();
    effect.target(&wanted);
    assert_eq!(host.render(effect, time, window, more), OK, "{}", effect.message());
    assert!(wanted.written() > 0, "a picture of nothing");
    sources.iter().for_each(|source| source.lift(played));
    for stream in [true, false] {
        let got = target();
        got.lift(played);
        effect.target(&got);
        let mut told = enabled(stream);
        told.extend_from_slice(more);
        let waits = played.get("waits");
        assert_eq!(host.render(effect, time, window, &told), OK, "{}", effect.message());
        assert_eq!(effect.images_held(), 0, "an image was not released");
        assert!(stream || played.get("waits") > waits, "the picture may not be there yet");
        got.land(played);
        let same = *got.memory.lock().unwrap() == *wanted.memory.lock().unwrap();
        assert!(same, "another picture at {time}, {:?}, stream {stream}", wanted.shape);
    }
    sources.iter().for_each(|source| source.land(played));
}
