//! PNG files, 8 or 16 bits per channel, tagged as sRGB.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use png::{BitDepth, ColorType, Decoder, Encoder, SrgbRenderingIntent, Transformations};

/// A picture from a file: interleaved samples of 8 or 16 bits (in the machine's byte order), top row
/// first.
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// 1 grey, 2 with alpha, 3 RGB, 4 with alpha.
    pub(crate) channels: usize,
    pub(crate) deep: bool,
    pub(crate) bytes: Vec<u8>,
}

/// Reads a PNG file, as it is: what it says of its colours is not looked at.
pub(crate) fn read_png(path: &Path) -> Result<Picture> {
    let wrong = |e: &dyn std::fmt::Display| OutputError::new(path, e);
    let file = File::open(path).map_err(|e| wrong(&e))?;
    let mut decoder = Decoder::new(BufReader::new(file));
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(|e| wrong(&e))?;
    let size = reader.output_buffer_size().ok_or_else(|| wrong(&"too large"))?;
    let mut bytes = vec![0; size];
    let info = reader.next_frame(&mut bytes).map_err(|e| wrong(&e))?;
    bytes.truncate(info.buffer_size());
    let deep = info.bit_depth == BitDepth::Sixteen;
    if deep {
        // PNG stores the high byte first, whatever the machine does.
        for sample in bytes.as_chunks_mut::<2>().0 {
            *sample = u16::from_be_bytes(*sample).to_ne_bytes();
        }
    }
    let (width, height) = (info.width as usize, info.height as usize);
    Ok(Picture { width, height, channels: info.color_type.samples(), deep, bytes })
}

use super::{OutputError, Result, check_rgb};

/// Writes an RGB picture with 8 bits per channel.
pub(crate) fn write_png8(
    path: impl AsRef<Path>,
    width: usize,
    height: usize,
    rgb: &[u8],
) -> Result<()> {
    let path = path.as_ref();
    check_rgb(path, width, height, rgb.len())?;
    write_png(path, width, height, BitDepth::Eight, rgb)
}

/// Writes an RGB picture with 16 bits per channel.
pub(crate) fn write_png16(
    path: impl AsRef<Path>,
    width: usize,
    height: usize,
    rgb: &[u16],
) -> Result<()> {
    let path = path.as_ref();
    check_rgb(path, width, height, rgb.len())?;
    // PNG stores the high byte first, whatever the machine does.
    let bytes: Vec<u8> = rgb.iter().flat_map(|sample| sample.to_be_bytes()).collect();
    write_png(path, width, height, BitDepth::Sixteen, &bytes)
}

fn write_png(
    path: &Path,
    width: usize,
    height: usize,
    depth: BitDepth,
    bytes: &[u8],
) -> Result<()> {
    let fail = |reason: &dyn std::fmt::Display| OutputError::new(path, reason);
    let side = |n: usize| u32::try_from(n).map_err(|e| fail(&e));

    let mut file = BufWriter::new(File::create(path).map_err(|e| fail(&e))?);
    let mut encoder = Encoder::new(&mut file, side(width)?, side(height)?);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(depth);
    // The sRGB chunk: says how the values are meant, where PNG alone leaves it open.
    encoder.set_source_srgb(SrgbRenderingIntent::Perceptual);
    let mut writer = encoder.write_header().map_err(|e| fail(&e))?;
    writer.write_image_data(bytes).map_err(|e| fail(&e))?;
    writer.finish().map_err(|e| fail(&e))?;
    // The encoder may have left bytes in the buffer: a full disk shows here, not in silence on drop.
    file.flush().map_err(|e| fail(&e))
}
