//! Single layers of Stable Diffusion 2.0 at 512x512, each with the share that it reaches of what the processor's
//! products can do when they touch no memory, which is measured in the same run. (In f32 a convolution may reach more
//! than all of it: Winograd's method multiplies less than is counted here.)
//!
//! ```text
//! cargo bench --bench kernels [-- LEVEL [LAYER [PRECISION]]]     LAYER: part of a layer's name; f32 or bf16 (default)
//! ```
//!
//! `benches/peer/layers.py` puts PyTorch beside it.
#![allow(unsafe_code, reason = "loops of single instructions")]

use latentblend::backend::{
    Activation, Add, Backend, ConvSpec, Cpu, CpuBf16, HostTensor, Level, NormSpec, Precision,
};
use std::time::Instant;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Repeatable values between -1 and 1.
fn values(shape: &[usize], scale: f32) -> Result<HostTensor, latentblend::Error> {
    let length: usize = shape.iter().product();
    let value = |i: usize| {
        let bits = (i as u64).wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((bits >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * scale
    };
    HostTensor::new(shape, (0..length).map(value).collect())
}

/// Seconds that `work` takes: the best of some runs, for whatever else the machine does only adds to it.
fn seconds(mut work: impl FnMut() -> Outcome) -> Result<f64, Box<dyn std::error::Error>> {
    work()?;
    let start = Instant::now();
    work()?;
    let runs = (0.25 / start.elapsed().as_secs_f64()).clamp(3.0, 200.0) as usize;
    let mut best = f64::INFINITY;
    for _ in 0..runs {
        let start = Instant::now();
        work()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// Multiplications a second of all threads, by products that stay within the registers.
#[cfg(target_arch = "x86_64")]
mod peak {
    use std::arch::asm;

    #[repr(C, align(64))]
    struct Form([u8; 64]);

    pub(super) fn amx(rounds: usize) -> usize {
        let mut form = Form([0; 64]);
        form.0[0] = 1;
        for tile in 0..8 {
            form.0[16 + 2 * tile] = 64;
            form.0[48 + tile] = 16;
        }
        // SAFETY: the caller's level has the instructions; no memory but the form is touched.
        unsafe {
            asm!(
                "ldtilecfg [{form}]",
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
                "2:",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "dec {rounds}",
                "jnz 2b",
                "tilerelease",
                form = in(reg) &form,
                rounds = inout(reg) rounds => _,
            );
        }
        rounds * 4 * 16 * 16 * 32
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn vectors(rounds: usize) -> usize {
        use std::arch::x86_64::*;
        let mut sums = [_mm512_setzero_ps(); 12];
        // SAFETY: 512 bits without meaning.
        let a: __m512bh = unsafe { std::mem::transmute(_mm512_setzero_si512()) };
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, a, a);
                // SAFETY: nothing happens; the compiler must not see that sums stay zero.
                unsafe { asm!("/* {0} */", inout(zmm_reg) * sum, options(nomem, nostack)) };
            }
        }
        rounds * 12 * 32
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn wide(rounds: usize) -> usize {
        use std::arch::x86_64::*;
        let mut sums = [_mm512_setzero_ps(); 12];
        let a = _mm512_set1_ps(0.5);
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, a, a);
                // SAFETY: as above.
                unsafe { asm!("/* {0} */", inout(zmm_reg) * sum, options(nomem, nostack)) };
            }
        }
        rounds * 12 * 16
    }
}

/// Billions of multiplications a second that all threads reach together; none where this isn't known.
fn peak(level: Level) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    {
        let work: fn(usize) -> usize = match level {
            Level::Amx => |rounds| peak::amx(rounds / 16),
            // SAFETY: the level has the instructions.
            Level::Avx512Bf16 => |rounds| unsafe { peak::vectors(rounds) },
            // SAFETY: as above.
            Level::Avx512 => |rounds| unsafe { peak::wide(rounds) },
            _ => return None,
        };
        let run = |rounds: usize| {
            let start = Instant::now();
            let counts = rayon::broadcast(|_| work(rounds));
            counts.into_iter().sum::<usize>() as f64 / start.elapsed().as_secs_f64() / 1e9
        };
        run(1 << 20);
        Some((0..5).map(|_| run(1 << 22)).fold(0.0, f64::max))
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = level;
        None
    }
}

struct Bench<B> {
    cpu: B,
    peak: Option<f64>,
    wanted: String,
}

impl<B: Backend> Bench<B> {
    fn line(&self, name: &str, products: f64, work: impl FnMut() -> Outcome) -> Outcome {
        if !name.contains(&self.wanted) {
            return Ok(());
        }
        let seconds = seconds(work)?;
        let rate = products / seconds / 1e9;
        let share = self.peak.map_or("not known".into(), |p| format!("{:.0} %", 100.0 * rate / p));
        println!("| {name} | {:.2} | {rate:.0} | {share} |", seconds * 1e3);
        Ok(())
    }

    /// A convolution of 3x3 by itself, then behind norm and SiLU.
    fn conv(&self, [n, side, c, outputs]: [usize; 4]) -> Outcome {
        let cpu = &self.cpu;
        let name = format!("3x3, {c} to {outputs}, {n} x {side}x{side}");
        if !name.contains(&self.wanted) && !format!("norm, SiLU, {name}").contains(&self.wanted) {
            return Ok(());
        }
        let weight = values(&[outputs, c, 3, 3], 0.02)?;
        let conv = cpu.conv(weight, Some(values(&[outputs], 0.1)?), ConvSpec::same(1))?;
        let ones = || HostTensor::new([c], vec![1.0; c]);
        let norm = cpu.norm(ones()?, ones()?, NormSpec::Group { groups: 32, epsilon: 1e-5 })?;
        let id = cpu.norm(ones()?, ones()?, NormSpec::Layer { epsilon: 1e-5 })?;
        let x = cpu.normalize(&cpu.upload(&values(&[n, side, side, c], 1.0)?)?, &id)?;
        let products = (n * side * side * 9 * c * outputs) as f64;
        self.line(&name, products, || {
            cpu.conv2d((&x).into(), &conv, Add::Nothing)?;
            Ok(())
        })?;
        self.line(&format!("norm, SiLU, {name}"), products, || {
            cpu.norm_conv2d((&x).into(), &norm, Activation::Silu, &conv, Add::Nothing)?;
            Ok(())
        })
    }

    fn dense(&self, [rows, c, outputs]: [usize; 3]) -> Outcome {
        let cpu = &self.cpu;
        let plain = format!("linear, {c} to {outputs}, {rows} rows");
        let gated = format!("norm, GEGLU, {c} to {outputs}, {rows} rows");
        if !plain.contains(&self.wanted) && !gated.contains(&self.wanted) {
            return Ok(());
        }
        let linear = cpu.linear(values(&[outputs, c], 0.02)?, Some(values(&[outputs], 0.1)?))?;
        let ones = || HostTensor::new([c], vec![1.0; c]);
        let norm = cpu.norm(ones()?, ones()?, NormSpec::Layer { epsilon: 1e-5 })?;
        let x = cpu.normalize(&cpu.upload(&values(&[1, 1, rows, c], 1.0)?)?, &norm)?;
        let products = (rows * c * outputs) as f64;
        self.line(&plain, products, || {
            cpu.dense(&x, &linear, Activation::Identity, Add::Nothing)?;
            Ok(())
        })?;
        if outputs == 8 * c {
            self.line(&gated, products, || {
                cpu.norm_geglu(&x, &norm, &linear)?;
                Ok(())
            })?;
        }
        Ok(())
    }

    fn attention(&self, [n, tokens, heads, width]: [usize; 4]) -> Outcome {
        let cpu = &self.cpu;
        let c = 3 * heads * width;
        let ones = || HostTensor::new([c], vec![1.0; c]);
        let norm = cpu.norm(ones()?, ones()?, NormSpec::Layer { epsilon: 1e-5 })?;
        let x = cpu.normalize(&cpu.upload(&values(&[n, 1, tokens, c], 1.0)?)?, &norm)?;
        let products = (n * heads * tokens * tokens * width * 2) as f64;
        let name = format!("attention, {n} x {tokens} tokens, {heads} heads of {width}");
        self.line(&name, products, || {
            cpu.self_attention(&x, heads, false)?;
            Ok(())
        })
    }
}

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    let level = match arguments.next() {
        Some(name) if name != "best" => Level::named(&name)?,
        _ => Level::best(),
    };
    let wanted = arguments.next().unwrap_or_default();
    let precision: Precision = arguments.next().as_deref().unwrap_or("bf16").parse()?;
    if precision == Precision::F32 {
        let peak = peak(level.min(Level::Avx512));
        Bench { cpu: Cpu::new(level), peak, wanted }.all(level)
    } else {
        Bench { cpu: CpuBf16::new(level), peak: peak(level), wanted }.all(level)
    }
}

impl<B: Backend> Bench<B> {
    fn all(&self, level: Level) -> Outcome {
        let precision = self.cpu.numerics().precision;
        println!("{precision}, level {level}, {} threads", rayon::current_num_threads());
        if let Some(peak) = self.peak {
            println!("products in the registers: {peak:.0} GMAC/s");
        }
        println!("\n| layer | ms | GMAC/s | of the peak |\n|---|---|---|---|");
        for shape in [
            [2, 64, 320, 320],
            [2, 64, 640, 320],
            [2, 32, 640, 640],
            [2, 16, 1280, 1280],
            [2, 8, 1280, 1280],
            [1, 64, 512, 512],
            [1, 256, 256, 256],
            [1, 512, 128, 128],
        ] {
            self.conv(shape)?;
        }
        for shape in [
            [8192, 320, 960],
            [8192, 320, 2560],
            [8192, 1280, 320],
            [2048, 640, 5120],
            [2048, 2560, 640],
            [512, 1280, 10240],
            [512, 5120, 1280],
        ] {
            self.dense(shape)?;
        }
        for shape in [[2, 4096, 5, 64], [2, 1024, 10, 64], [2, 256, 20, 64], [1, 4096, 1, 512]] {
            self.attention(shape)?;
        }
        Ok(())
    }
}
