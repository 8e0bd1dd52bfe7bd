//! In: the lightness of two pictures. Out: how far each pixel seems to have moved: dense optical flow.
//!
//! The method of Lucas & Kanade (1981) at every pixel, from coarse to fine over a pyramid: within a window the
//! flow is what explains the change by the slopes, in the least squares' sense. All sums are taken less the
//! window's means, so that a change of brightness that a window has as a whole is no motion. Where there are
//! no slopes (a plain sky) the flow is held at 0 by a floor.

use latentblend::Frame;

/// One value a pixel, row by row.
#[derive(Clone)]
pub(crate) struct Plane {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) data: Vec<f32>,
}

/// What is added to the slopes' squares: those of noise that nobody sees (values are 0 to 1).
const FLOOR: f32 = 2e-5;
/// Rounds at every scale, and the farthest that a pixel goes in one of them.
const ROUNDS: usize = 4;
const STRIDE: f32 = 1.0;
/// The coarsest scale's side, at the least.
const COARSEST: usize = 12;

impl Plane {
    /// 0.3 R + 0.59 G + 0.11 B, clamped to 0..=1.
    pub(crate) fn lightness(frame: &Frame) -> Self {
        let value = |p: &[f32]| (0.3 * p[0] + 0.59 * p[1] + 0.11 * p[2]).clamp(0.0, 1.0);
        let data = frame.rgb().chunks_exact(3).map(value).collect();
        Plane { width: frame.width(), height: frame.height(), data }
    }

    fn like(&self, data: Vec<f32>) -> Plane {
        Plane { width: self.width, height: self.height, data }
    }

    /// Convolved with (1, 4, 6, 4, 1) / 16 along both axes, edges repeated.
    pub(crate) fn blurred(&self) -> Plane {
        const TAPS: [f32; 5] = [1.0 / 16.0, 4.0 / 16.0, 6.0 / 16.0, 4.0 / 16.0, 1.0 / 16.0];
        let (width, height) = (self.width, self.height);
        let mut across: Vec<f32> = Vec::with_capacity(self.data.len());
        for row in self.data.chunks_exact(width) {
            for x in 0..width {
                let tap = |k: usize| TAPS[k] * row[(x + k).saturating_sub(2).min(width - 1)];
                across.push((0..5).map(tap).sum());
            }
        }
        let mut down = vec![0.0; across.len()];
        for y in 0..height {
            for (k, tap) in TAPS.iter().enumerate() {
                let from = (y + k).saturating_sub(2).min(height - 1) * width;
                let row = &mut down[y * width..(y + 1) * width];
                row.iter_mut().zip(&across[from..from + width]).for_each(|(d, a)| *d += tap * a);
            }
        }
        self.like(down)
    }

    fn halved(&self) -> Plane {
        let low = self.blurred();
        let (width, height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        let pixel = |p: usize| low.data[p / width * 2 * self.width + p % width * 2];
        Plane { width, height, data: (0..width * height).map(pixel).collect() }
    }

    /// The value between pixels, edges repeated.
    fn at(&self, x: f32, y: f32) -> f32 {
        let x = x.clamp(0.0, (self.width - 1) as f32);
        let y = y.clamp(0.0, (self.height - 1) as f32);
        let (left, top) = (x as usize, y as usize);
        let (right, bottom) = ((left + 1).min(self.width - 1), (top + 1).min(self.height - 1));
        let (u, v) = (x - left as f32, y - top as f32);
        let row = |y: usize| {
            let row = &self.data[y * self.width..];
            row[left] + u * (row[right] - row[left])
        };
        row(top) + v * (row(bottom) - row(top))
    }

    /// Half the difference of the neighbours along x and along y.
    fn slopes(&self) -> [Plane; 2] {
        let (width, height) = (self.width, self.height);
        let along = |p: usize, step: usize, at: usize, length: usize| {
            let before = if at > 0 { p - step } else { p };
            let behind = if at + 1 < length { p + step } else { p };
            0.5 * (self.data[behind] - self.data[before])
        };
        let pixels = 0..self.data.len();
        let across = pixels.clone().map(|p| along(p, 1, p % width, width)).collect();
        let down = pixels.map(|p| along(p, width, p / width, height)).collect();
        [self.like(across), self.like(down)]
    }
}

/// The mean over the window: the low pass, twice.
fn window(plane: Plane) -> Plane {
    plane.blurred().blurred()
}

/// Mean of the product less product of the means, in every window.
fn covariance(p: &Plane, q: &Plane, means: [&Plane; 2]) -> Vec<f32> {
    let product = p.data.iter().zip(&q.data).map(|(a, b)| a * b).collect();
    let both = window(p.like(product)).data;
    let pairs = means[0].data.iter().zip(&means[1].data);
    both.iter().zip(pairs).map(|(m, (a, b))| m - a * b).collect()
}

/// Where each pixel of `p` is found in `q`: its way along x and y, in pixels.
///
/// # Panics
/// Where the sizes differ.
pub(crate) fn flow(p: &Plane, q: &Plane) -> [Vec<f32>; 2] {
    assert_eq!((p.width, p.height), (q.width, q.height), "pictures of one size");
    let mut scales = vec![(p.clone(), q.clone())];
    while let Some((p, q)) = scales.last()
        && p.width.min(p.height) >= 2 * COARSEST
    {
        let coarser = (p.halved(), q.halved());
        scales.push(coarser);
    }
    let mut found: Option<[Plane; 2]> = None;
    for (p, q) in scales.iter().rev() {
        let start = match found.take() {
            None => [0, 1].map(|_| p.like(vec![0.0; p.data.len()])),
            // Twice as far on twice as many pixels.
            Some(coarse) => coarse.map(|c| {
                let pixel =
                    |i: usize| 2.0 * c.at((i % p.width) as f32 / 2.0, (i / p.width) as f32 / 2.0);
                p.like((0..p.data.len()).map(pixel).collect())
            }),
        };
        found = Some(refined(p, q, start));
    }
    found.unwrap_or_else(|| [0, 1].map(|_| p.like(vec![0.0; p.data.len()]))).map(|plane| plane.data)
}

/// The flow at one scale, from what the coarser one has found.
fn refined(p: &Plane, q: &Plane, [mut dx, mut dy]: [Plane; 2]) -> [Plane; 2] {
    let [sx, sy] = p.slopes();
    let means = [window(sx.clone()), window(sy.clone())];
    let xx = covariance(&sx, &sx, [&means[0], &means[0]]);
    let xy = covariance(&sx, &sy, [&means[0], &means[1]]);
    let yy = covariance(&sy, &sy, [&means[1], &means[1]]);
    for _ in 0..ROUNDS {
        let moved = |i: usize| {
            let (x, y) = ((i % p.width) as f32, (i / p.width) as f32);
            q.at(x + dx.data[i], y + dy.data[i]) - p.data[i]
        };
        let change = p.like((0..p.data.len()).map(moved).collect());
        let mean = window(change.clone());
        let xt = covariance(&sx, &change, [&means[0], &mean]);
        let yt = covariance(&sy, &change, [&means[1], &mean]);
        for i in 0..p.data.len() {
            let (a, b, c) = (xx[i] + FLOOR, xy[i], yy[i] + FLOOR);
            let determinant = a * c - b * b;
            let x = (b * yt[i] - c * xt[i]) / determinant;
            let y = (b * xt[i] - a * yt[i]) / determinant;
            dx.data[i] += x.clamp(-STRIDE, STRIDE);
            dy.data[i] += y.clamp(-STRIDE, STRIDE);
        }
        (dx, dy) = (dx.blurred(), dy.blurred());
    }
    [dx, dy]
}

/// The mean length of the flow, in pixels.
pub(crate) fn movement(p: &Plane, q: &Plane) -> f64 {
    let [dx, dy] = flow(p, q);
    let length = |(x, y): (&f32, &f32)| f64::from(x.hypot(*y));
    dx.iter().zip(&dy).map(length).sum::<f64>() / dx.len() as f64
}
