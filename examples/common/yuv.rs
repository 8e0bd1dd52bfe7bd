//! From sRGB-encoded RGB to the 4:2:0 YCbCr planes that H.264 players expect.
//!
//! Matrix BT.709, "limited" range: luma 16..=235, chroma 16..=240. A pair of chroma samples stands
//! for 2x2 pixels and sits, as H.264 has it by default, level with the left pixel column and between
//! the two rows; so it is filtered with 1-2-1 across and 1-1 down.

/// Fixed point: 16 bits after the point.
const BITS: u32 = 16;

const fn fixed(x: f64) -> i32 {
    (x * (1u32 << BITS) as f64 + if x < 0.0 { -0.5 } else { 0.5 }) as i32
}

const KR: f64 = 0.2126;
const KB: f64 = 0.0722;
const KG: f64 = 1.0 - KR - KB;
/// Luma has 219 steps and chroma 224 where RGB has 255.
const Y_SCALE: f64 = 219.0 / 255.0;
const C_SCALE: f64 = 224.0 / 255.0;

const Y: [i32; 3] = [fixed(KR * Y_SCALE), fixed(KG * Y_SCALE), fixed(KB * Y_SCALE)];
const HALF: i32 = fixed(0.5 * C_SCALE);
const CB_R: i32 = fixed(-0.5 * KR / (1.0 - KB) * C_SCALE);
const CR_B: i32 = fixed(-0.5 * KB / (1.0 - KR) * C_SCALE);
/// The middle weights follow from the others, so that greys give exactly 128.
const CB: [i32; 3] = [CB_R, -HALF - CB_R, HALF];
const CR: [i32; 3] = [HALF, -HALF - CR_B, CR_B];

/// The planes of one picture; sides are even.
pub(super) struct Yuv420 {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) y: Vec<u8>,
    pub(super) u: Vec<u8>,
    pub(super) v: Vec<u8>,
}

impl Yuv420 {
    /// Empty planes for RGB pictures of the given size; an odd side gets one more pixel.
    pub(super) fn for_rgb(width: usize, height: usize) -> Self {
        let (width, height) = (width.next_multiple_of(2), height.next_multiple_of(2));
        let chroma = width / 2 * (height / 2);
        Self {
            width,
            height,
            y: vec![16; width * height],
            u: vec![128; chroma],
            v: vec![128; chroma],
        }
    }

    /// Converts a picture; its last column and row are repeated where a side is odd.
    pub(super) fn fill(&mut self, rgb: &[u8], width: usize, height: usize) {
        let pixel = |x: usize, y: usize| {
            let at = 3 * (y.min(height - 1) * width + x.min(width - 1));
            [i32::from(rgb[at]), i32::from(rgb[at + 1]), i32::from(rgb[at + 2])]
        };

        for (y, row) in self.y.chunks_exact_mut(self.width).enumerate() {
            for (x, out) in row.iter_mut().enumerate() {
                *out = weigh(pixel(x, y), Y, 16, BITS);
            }
        }

        let half = self.width / 2;
        let chroma = self.u.chunks_exact_mut(half).zip(self.v.chunks_exact_mut(half));
        for (cy, (us, vs)) in chroma.enumerate() {
            for (cx, (u, v)) in us.iter_mut().zip(vs).enumerate() {
                let (x, y) = (2 * cx, 2 * cy);
                let mut sum = [0; 3];
                for row in [y, y + 1] {
                    let (left, mid, right) =
                        (pixel(x.saturating_sub(1), row), pixel(x, row), pixel(x + 1, row));
                    for c in 0..3 {
                        sum[c] += left[c] + 2 * mid[c] + right[c];
                    }
                }
                // The six pixels' weights sum to 8, three bits more to shift out.
                *u = weigh(sum, CB, 128, BITS + 3);
                *v = weigh(sum, CR, 128, BITS + 3);
            }
        }
    }
}

/// `offset` + `rgb` . `weights`, rounded to the nearest.
fn weigh(rgb: [i32; 3], weights: [i32; 3], offset: i32, shift: u32) -> u8 {
    let sum = rgb[0] * weights[0] + rgb[1] * weights[1] + rgb[2] * weights[2];
    (offset + ((sum + (1 << (shift - 1))) >> shift)).clamp(0, 255) as u8
}
