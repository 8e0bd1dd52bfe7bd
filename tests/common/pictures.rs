//! A picture that goes in as a keyframe, and a session between it and a prompt.

use latentblend::{
    BlendOptions, Call, Format, ImageMut, ImageRef, Keyframe, KeyframeImage, Layout, Model, Preset,
    Session, Source, Target, Transfer,
};

/// A smooth picture with fine detail that no latent holds.
pub fn picture(
    size: [usize; 2],
    format: Format,
    transfer: Transfer,
    scale: f32,
) -> (Vec<u8>, Source) {
    let [width, height] = size;
    let value = |i: usize| {
        let (x, y, c) = (i / 4 % width, i / 4 / width, i % 4);
        match c {
            3 => 1.0 - 0.3 * (x as f32 / width as f32),
            c => {
                let smooth = (x as f32 / 9.0 + c as f32).sin() * (y as f32 / 11.0).cos();
                scale * (0.5 + 0.3 * smooth + 0.1 * ((x + y) % 2) as f32)
            }
        }
    };
    let values = (0..width * height * 4).map(value);
    let values = values.enumerate().filter(|(i, _)| i % 4 < format.channels()).map(|(_, v)| v);
    let bytes: Vec<u8> = match format.bytes_per_pixel() / format.channels() {
        1 => values.map(|v| (v * 255.0) as u8).collect(),
        2 if format.is_float() => {
            values.flat_map(|v| half::f16::from_f32(v).to_ne_bytes()).collect()
        }
        2 => values.flat_map(|v| ((v * 65535.0) as u16).to_ne_bytes()).collect(),
        _ => values.flat_map(f32::to_ne_bytes).collect(),
    };
    let layout = Layout::packed(width, height, format, transfer);
    let source = Source::new(&ImageRef::new(&bytes, 0, layout).unwrap()).unwrap();
    (bytes, source)
}

pub fn options() -> BlendOptions {
    BlendOptions { size: Some([64, 48]), preset: Preset::Lowest, ..BlendOptions::default() }
}

pub fn between(model: &Model, image: impl Into<KeyframeImage>, options: &BlendOptions) -> Session {
    let keyframes = [Keyframe::default().image(image), Keyframe::new("a quiet lake", 420)];
    Session::new(model, &keyframes, options).unwrap()
}

pub fn rendered(session: &Session, t: f64, format: Format, transfer: Transfer) -> Vec<u8> {
    let [width, height] = session.size();
    let layout = Layout::packed(width, height, format, transfer);
    let mut bytes = vec![0xAA; width * height * format.bytes_per_pixel()];
    let target = Target::new(ImageMut::new(&mut bytes, 0, layout).unwrap());
    session.render_into(&[t], &mut [target], &Call::new()).unwrap();
    bytes
}
