//! In: a seed. Out: the normal noise that PyTorch draws from it, so that seeds mean here what they
//! mean elsewhere.
//!
//! CUDA generator: Philox 4x32-10 (Salmon et al. 2011) with one thread per value, as `torch.randn` on
//! a CUDA device gives it wherever one wave of threads covers the tensor (every card of the last years
//! for latents up to 768x768 pixels). CPU generator: MT19937 (Matsumoto & Nishimura 1998), with the
//! blockwise Box-Muller transform of ATen's CPU kernel.

use super::latent::Latent;
use crate::error::{Error, Result};
use std::f32::consts::TAU;

/// Whose random numbers a seed stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoiseKind {
    /// `torch.Generator("cuda")`, as the original draws its noise.
    #[default]
    Cuda,
    /// `torch.Generator("cpu")`; reads the low 32 bits of a seed.
    Cpu,
}

/// Values of the largest latent: 16384 x 16384 pixels with 64 channels.
const MOST: usize = 1 << 28;

/// The start latent of `seed`: the first draw of a fresh generator, of `shape` (channels, height,
/// width).
pub fn noise(kind: NoiseKind, seed: u64, shape: [usize; 3]) -> Result<Latent> {
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let count = count.filter(|count| (1..=MOST).contains(count)).ok_or_else(|| {
        Error::invalid(format!("noise of shape {shape:?}: wanted 1 to {MOST} values"))
    })?;
    let values = match kind {
        NoiseKind::Cuda => cuda_normals(seed, 0, count),
        NoiseKind::Cpu => cpu_normals(seed, count),
    };
    Latent::new(shape, values)
}

/// `count` normals of the CUDA generator, as the draw number `draw` after seeding.
pub fn cuda_normals(seed: u64, draw: u32, count: usize) -> Vec<f32> {
    let key = [seed as u32, (seed >> 32) as u32];
    (0..count as u64)
        .map(|index| {
            let counter = [draw, 0, index as u32, (index >> 32) as u32];
            let [x, y, ..] = philox(counter, key);
            // curand's Box-Muller, in f32 as there; the first of its two values is the sine's.
            const UNIT: f32 = 1.0 / 4_294_967_296.0;
            let u = x as f32 * UNIT + UNIT / 2.0;
            let v = y as f32 * (UNIT * TAU) + UNIT * TAU / 2.0;
            let radius = ((-2.0 * f64::from(u).ln()) as f32).sqrt();
            radius * f64::from(v).sin() as f32
        })
        .collect()
}

/// Philox 4x32 with 10 rounds.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    let halves = |a: u32, b: u32| {
        let product = u64::from(a) * u64::from(b);
        ((product >> 32) as u32, product as u32)
    };
    for _ in 0..10 {
        let (high0, low0) = halves(counter[0], 0xD251_1F53);
        let (high1, low1) = halves(counter[2], 0xCD9E_8D57);
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

/// `count` normals of the CPU generator, as the first draw after seeding.
pub fn cpu_normals(seed: u64, count: usize) -> Vec<f32> {
    let mut twister = Twister::new(seed as u32);
    if count < BLOCK {
        return twister.few_normals(count);
    }
    let mut values: Vec<f32> = (0..count).map(|_| twister.uniform()).collect();
    for block in values.chunks_exact_mut(BLOCK) {
        box_muller(block);
    }
    if !count.is_multiple_of(BLOCK) {
        // ATen draws the last 16 anew, over values that are finished already.
        let tail = &mut values[count - BLOCK..];
        tail.iter_mut().for_each(|v| *v = twister.uniform());
        box_muller(tail);
    }
    values
}

/// Values that ATen transforms at a time.
const BLOCK: usize = 16;

fn box_muller(block: &mut [f32]) {
    let (first, second) = block.split_at_mut(BLOCK / 2);
    for (a, b) in first.iter_mut().zip(second) {
        let radius = ((-2.0 * f64::from(1.0 - *a).ln()) as f32).sqrt();
        let angle = f64::from(TAU * *b);
        *a = radius * angle.cos() as f32;
        *b = radius * angle.sin() as f32;
    }
}

/// MT19937 as PyTorch seeds it.
struct Twister {
    state: [u32; Twister::SIZE],
    next: usize,
}

impl Twister {
    const SIZE: usize = 624;
    const SHIFT: usize = 397;

    fn new(seed: u32) -> Self {
        let mut state = [seed; Twister::SIZE];
        for j in 1..Twister::SIZE {
            let before = state[j - 1];
            state[j] = 1_812_433_253u32.wrapping_mul(before ^ before >> 30).wrapping_add(j as u32);
        }
        Twister { state, next: Twister::SIZE }
    }

    fn regenerate(&mut self) {
        for j in 0..Twister::SIZE {
            let following = self.state[(j + 1) % Twister::SIZE];
            let mixed = self.state[j] & 0x8000_0000 | following & 0x7fff_ffff;
            let twist = if following & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[j] = self.state[(j + Twister::SHIFT) % Twister::SIZE] ^ mixed >> 1 ^ twist;
        }
        self.next = 0;
    }

    fn draw(&mut self) -> u32 {
        if self.next == Twister::SIZE {
            self.regenerate();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= y << 7 & 0x9d2c_5680;
        y ^= y << 15 & 0xefc6_0000;
        y ^ y >> 18
    }

    /// 24 bits in 0..1.
    fn uniform(&mut self) -> f32 {
        (self.draw() & 0x00ff_ffff) as f32 / 16_777_216.0
    }

    /// 53 bits in 0..1.
    fn uniform64(&mut self) -> f64 {
        let high = u64::from(self.draw());
        let bits = high << 32 | u64::from(self.draw());
        (bits & ((1 << 53) - 1)) as f64 / (1u64 << 53) as f64
    }

    /// Fewer than 16 values are drawn in f64, two at a time.
    fn few_normals(&mut self, count: usize) -> Vec<f32> {
        let mut values = Vec::with_capacity(count + 1);
        while values.len() < count {
            let angle = std::f64::consts::TAU * self.uniform64();
            let radius = (-2.0 * (-self.uniform64()).ln_1p()).sqrt();
            values.push((radius * angle.cos()) as f32);
            values.push((radius * angle.sin()) as f32);
        }
        values.truncate(count);
        values
    }
}
