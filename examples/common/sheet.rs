//! Contact sheets: a movie at one glance, as a grid of thumbnails with their times.

use std::path::Path;

use super::{OutputError, Result, check_rgb};

/// Widest sheet, unless the columns are so many that thumbnails would shrink to nothing.
const SHEET_WIDTH: usize = 1600;
/// Small frames are enlarged up to this width.
const ENLARGED_WIDTH: usize = 256;
const SMALLEST_THUMBNAIL: usize = 24;
const GAP: usize = 6;
const BACKGROUND: u8 = 24;
const INK: u8 = 208;

/// Lays frames of `width` x `height` pixels out in rows of `columns`, each with its time `t` below;
/// returns the sheet's pixels, width and height.
///
/// Large frames are scaled down by averaging over areas, in linear light; small ones are enlarged by
/// a whole factor, pixels staying sharp squares. Take every so manieth frame with [`evenly`].
pub(crate) fn contact_sheet(
    frames: &[(f64, &[u8])],
    width: usize,
    height: usize,
    columns: usize,
) -> Result<(Vec<u8>, usize, usize)> {
    let what = Path::new("contact sheet");
    if frames.is_empty() || columns == 0 {
        return Err(OutputError::new(what, "there is nothing to show"));
    }
    for (_, rgb) in frames {
        check_rgb(what, width, height, rgb.len())?;
    }

    let columns = columns.min(frames.len());
    let widest =
        (SHEET_WIDTH.saturating_sub(GAP * (columns + 1)) / columns).max(SMALLEST_THUMBNAIL);
    let (thumb_w, thumb_h) = if width > widest {
        (widest, ((height * widest + width / 2) / width).max(1))
    } else {
        let times = (widest.min(ENLARGED_WIDTH) / width).max(1);
        (width * times, height * times)
    };
    let ink = if thumb_w >= 96 { 2 } else { 1 };
    let label_h = ink * (GLYPH_H + 4);

    let sheet_w = GAP + columns * (thumb_w + GAP);
    let sheet_h = GAP + frames.len().div_ceil(columns) * (thumb_h + label_h + GAP);
    let mut sheet = vec![BACKGROUND; 3 * sheet_w * sheet_h];
    let linear = linear_table();
    for ((i, (_, rgb)), label) in frames.iter().enumerate().zip(labels(frames)) {
        let left = GAP + i % columns * (thumb_w + GAP);
        let top = GAP + i / columns * (thumb_h + label_h + GAP);
        let thumb = if thumb_w < width {
            shrink(rgb, (width, height), (thumb_w, thumb_h), &linear)
        } else {
            enlarge(rgb, width, thumb_w / width)
        };
        for (y, row) in thumb.chunks_exact(3 * thumb_w).enumerate() {
            let at = 3 * ((top + y) * sheet_w + left);
            sheet[at..at + row.len()].copy_from_slice(row);
        }
        // Centred below; a label wider than its thumbnail is left out.
        let label_w = ink * ((GLYPH_W + 1) * label.len() - 1);
        if label_w <= thumb_w {
            let x = left + (thumb_w - label_w) / 2;
            write_label(&mut sheet, sheet_w, x, top + thumb_h + 2 * ink, &label, ink);
        }
    }
    Ok((sheet, sheet_w, sheet_h))
}

/// At most `wanted` indices out of `count`, evenly spaced, first and last among them.
pub(crate) fn evenly(count: usize, wanted: usize) -> Vec<usize> {
    match (count.min(wanted), count) {
        (0, _) => Vec::new(),
        (1, _) => vec![0],
        (n, count) => (0..n).map(|i| (i * (count - 1) + (n - 1) / 2) / (n - 1)).collect(),
    }
}

/// Times with two decimals, or as many more as tell them apart, at most four.
fn labels(frames: &[(f64, &[u8])]) -> Vec<String> {
    let with = |decimals: usize| -> Vec<String> {
        frames.iter().map(|(t, _)| format!("{:.decimals$}", t + 0.0)).collect()
    };
    (2..4)
        .map(with)
        .find(|all| all.windows(2).all(|pair| pair[0] != pair[1]))
        .unwrap_or_else(|| with(4))
}

/// The light of every 8-bit sRGB value.
fn linear_table() -> [f32; 256] {
    std::array::from_fn(|value| {
        let v = value as f32 / 255.0;
        if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
    })
}

fn to_srgb(light: f32) -> u8 {
    let v =
        if light <= 0.003_130_8 { 12.92 * light } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 };
    (255.0 * v + 0.5) as u8
}

/// Every pixel of the result is the mean light of the area it covers.
fn shrink(rgb: &[u8], from: (usize, usize), to: (usize, usize), linear: &[f32; 256]) -> Vec<u8> {
    let (across, down) = (cover(from.0, to.0), cover(from.1, to.1));
    let mut out = Vec::with_capacity(3 * to.0 * to.1);
    for rows in &down {
        for columns in &across {
            let mut sum = [0.0_f32; 3];
            for &(y, wy) in rows {
                for &(x, wx) in columns {
                    let at = 3 * (y * from.0 + x);
                    for (sum, &value) in sum.iter_mut().zip(&rgb[at..at + 3]) {
                        *sum += wy * wx * linear[usize::from(value)];
                    }
                }
            }
            out.extend(sum.map(to_srgb));
        }
    }
    out
}

/// Which of `from` pixels each of `to` pixels covers, and how much of itself each one fills.
fn cover(from: usize, to: usize) -> Vec<Vec<(usize, f32)>> {
    let step = from as f64 / to as f64;
    let span = |i: usize| {
        let (a, b) = (i as f64 * step, ((i + 1) as f64 * step).min(from as f64));
        let share = move |x: usize| (((x + 1) as f64).min(b) - (x as f64).max(a)) / (b - a);
        (a as usize..b.ceil() as usize).map(move |x| (x, share(x) as f32)).collect()
    };
    (0..to).map(span).collect()
}

fn enlarge(rgb: &[u8], width: usize, times: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(rgb.len() * times * times);
    for row in rgb.chunks_exact(3 * width) {
        let wide: Vec<u8> = row.chunks_exact(3).flat_map(|pixel| pixel.repeat(times)).collect();
        (0..times).for_each(|_| out.extend(&wide));
    }
    out
}

const GLYPH_W: usize = 5;
const GLYPH_H: usize = 7;

/// The digits 0 to 9 and the dot: one row per number, the leftmost pixel in bit 4.
const GLYPHS: [[u8; GLYPH_H]; 11] = [
    [0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110],
    [0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110],
    [0b01110, 0b10001, 0b00001, 0b00110, 0b01000, 0b10000, 0b11111],
    [0b01110, 0b10001, 0b00001, 0b00110, 0b00001, 0b10001, 0b01110],
    [0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010],
    [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110],
    [0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110],
    [0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000],
    [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110],
    [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100],
    [0b00000, 0b00000, 0b00000, 0b00000, 0b00000, 0b01100, 0b01100],
];

/// Draws digits and dots, `ink` pixels per dot of the font; leaves gaps for anything else.
fn write_label(sheet: &mut [u8], sheet_w: usize, left: usize, top: usize, label: &str, ink: usize) {
    for (i, byte) in label.bytes().enumerate() {
        let glyph = match byte {
            b'0'..=b'9' => GLYPHS[usize::from(byte - b'0')],
            b'.' => GLYPHS[10],
            _ => continue,
        };
        for y in 0..GLYPH_H * ink {
            for x in 0..GLYPH_W * ink {
                if glyph[y / ink] >> (GLYPH_W - 1 - x / ink) & 1 == 1 {
                    let at = 3 * ((top + y) * sheet_w + left + i * (GLYPH_W + 1) * ink + x);
                    sheet[at..at + 3].fill(INK);
                }
            }
        }
    }
}
