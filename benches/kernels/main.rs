//! Single layers of Stable Diffusion 2.0 at 512x512, each with the share that it reaches of what the processor's
//! products can do when they touch no memory, which is measured in the same run. (A convolution may reach more than all
//! of it: Winograd's method multiplies less than is counted here.)
//!
//! ```text
//! cargo bench --bench kernels [-- LEVEL [LAYER [PRECISION [cold] [direct]]]]
//!     LAYER: part of a layer's name; PRECISION: f32 or bf16 (default)
//!     cold: each run has operands of its own, as a network's layers do
//!     direct: not by Winograd's method, in bf16
//! ```
//!
//! `benches/peer/layers.py` puts PyTorch beside it.
#![allow(unsafe_code, reason = "loops of single instructions")]

use latentblend::backend::{
    Activation, Add, Backend, ConvSpec, Cpu, CpuBf16, HostTensor, Level, NormSpec, Precision,
};
use std::cell::Cell;
use std::collections::VecDeque;
use std::time::Instant;

/// Bytes of operands that no cache of one core holds.
const COLD_BYTES: usize = 64 << 20;

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

/// Seconds that `work` takes, which is given the numbers of runs: the best of some, for whatever else the machine does
/// only adds to it. Between them the products in the registers are measured anew, in the same seconds.
/// The last `kept` results are held, so that each is written elsewhere.
fn seconds<T>(
    kept: usize,
    peak: Option<&Peak>,
    mut work: impl FnMut(usize) -> Result<T, latentblend::Error>,
) -> Result<f64, latentblend::Error> {
    let mut results = VecDeque::new();
    let mut run = |number: usize| {
        let start = Instant::now();
        results.push_back(work(number)?);
        let seconds = start.elapsed().as_secs_f64();
        if results.len() > kept {
            results.pop_front();
        }
        Ok::<f64, latentblend::Error>(seconds)
    };
    for number in 0..=kept {
        run(number)?;
    }
    let once = run(kept + 1)?;
    let runs = (0.4 / once).clamp(5.0, 200.0) as usize;
    let mut best = f64::INFINITY;
    for number in 0..runs {
        best = best.min(run(number)?);
        if let Some(peak) = peak {
            peak.measure(once / 4.0);
        }
    }
    Ok(best)
}

/// Operands in turn, as many of each as keep them from the caches if that is wanted.
struct Turns<T>(Vec<T>);

impl<T> Turns<T> {
    fn new(
        cold: bool,
        bytes: usize,
        make: impl Fn() -> Result<T, latentblend::Error>,
    ) -> Result<Self, latentblend::Error> {
        let count = if cold { (COLD_BYTES / bytes).clamp(2, 64) } else { 1 };
        (0..count).map(|_| make()).collect::<Result<_, _>>().map(Turns)
    }

    fn of(&self, run: usize) -> &T {
        &self.0[run % self.0.len()]
    }
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

/// Products that stay within the registers, on all threads.
struct Peak {
    work: fn(usize) -> usize,
    /// Multiplications a second of all threads together, the best that was seen.
    best: Cell<f64>,
}

impl Peak {
    /// None where it isn't known.
    fn of(level: Level) -> Option<Self> {
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
            let peak = Peak { work, best: Cell::new(0.0) };
            (0..100).for_each(|_| peak.measure(1e-3));
            Some(peak)
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = level;
            None
        }
    }

    /// Measures for about so many seconds, 2 ms at the most: what each thread does, all of them together. Where they don't run
    /// at the same moment this is more than they can do together, and the shares of it are too small.
    fn measure(&self, seconds: f64) {
        // 12 products a round, one a cycle or half of that.
        let rounds = (seconds.clamp(1e-4, 2e-3) * 1.5e8) as usize;
        let work = self.work;
        let rates = rayon::broadcast(|_| {
            let start = Instant::now();
            work(rounds) as f64 / start.elapsed().as_secs_f64()
        });
        self.best.set(self.best.get().max(rates.into_iter().sum()));
    }
}

struct Bench<B> {
    cpu: B,
    peak: Option<Peak>,
    wanted: String,
    /// Whether each run has operands of its own, as a network's layers do.
    cold: bool,
}

impl<B: Backend> Bench<B> {
    /// `bytes`: of a result.
    fn line(
        &self,
        name: &str,
        (products, bytes): (f64, usize),
        work: impl FnMut(usize) -> Result<B::Tensor, latentblend::Error>,
    ) -> Outcome {
        if !name.contains(&self.wanted) {
            return Ok(());
        }
        let kept = if self.cold { (COLD_BYTES / bytes).clamp(2, 64) } else { 0 };
        let seconds = seconds(kept, self.peak.as_ref(), work)?;
        let rate = products / seconds;
        let share = self.peak.as_ref().map(|peak| 100.0 * rate / peak.best.get());
        let (rate, share) = (rate / 1e9, share.map_or("not known".into(), |p| format!("{p:.0} %")));
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
        let bias = values(&[outputs], 0.1)?;
        let weight = values(&[outputs, c, 3, 3], 0.02)?;
        let conv = Turns::new(self.cold, 18 * c * outputs, || {
            cpu.conv(weight.clone(), Some(bias.clone()), ConvSpec::same(1))
        })?;
        let ones = || HostTensor::new([c], vec![1.0; c]);
        let norm = cpu.norm(ones()?, ones()?, NormSpec::Group { groups: 32, epsilon: 1e-5 })?;
        let id = cpu.norm(ones()?, ones()?, NormSpec::Layer { epsilon: 1e-5 })?;
        let x = cpu.upload(&values(&[n, side, side, c], 1.0)?)?;
        let x = Turns::new(self.cold, 2 * n * side * side * c, || cpu.normalize(&x, &id))?;
        let work = ((n * side * side * 9 * c * outputs) as f64, 2 * n * side * side * outputs);
        self.line(&name, work, |run| cpu.conv2d(x.of(run).into(), conv.of(run), Add::Nothing))?;
        self.line(&format!("norm, SiLU, {name}"), work, |run| {
            let (x, conv) = (x.of(run), conv.of(run));
            cpu.norm_conv2d(x.into(), &norm, Activation::Silu, conv, Add::Nothing)
        })
    }

    fn dense(&self, [rows, c, outputs]: [usize; 3]) -> Outcome {
        let cpu = &self.cpu;
        let plain = format!("linear, {c} to {outputs}, {rows} rows");
        let gated = format!("norm, GEGLU, {c} to {outputs}, {rows} rows");
        if !plain.contains(&self.wanted) && !gated.contains(&self.wanted) {
            return Ok(());
        }
        let (weight, bias) = (values(&[outputs, c], 0.02)?, values(&[outputs], 0.1)?);
        let linear = Turns::new(self.cold, 2 * c * outputs, || {
            cpu.linear(weight.clone(), Some(bias.clone()))
        })?;
        let ones = || HostTensor::new([c], vec![1.0; c]);
        let norm = cpu.norm(ones()?, ones()?, NormSpec::Layer { epsilon: 1e-5 })?;
        let x = cpu.upload(&values(&[1, 1, rows, c], 1.0)?)?;
        let x = Turns::new(self.cold, 2 * rows * c, || cpu.normalize(&x, &norm))?;
        let products = (rows * c * outputs) as f64;
        let work = (products, 2 * rows * outputs);
        self.line(&plain, work, |run| {
            cpu.dense(x.of(run), linear.of(run), Activation::Identity, Add::Nothing)
        })?;
        if outputs == c {
            self.line(&format!("residual, {plain}"), work, |run| {
                let (x, other) = (x.of(run), Add::Residual(x.of(run + 1)));
                cpu.dense(x, linear.of(run), Activation::Identity, other)
            })?;
        }
        if outputs == 8 * c {
            self.line(&gated, (products, rows * outputs), |run| {
                cpu.norm_geglu(x.of(run), &norm, linear.of(run))
            })?;
        }
        Ok(())
    }

    fn attention(&self, [n, tokens, heads, width]: [usize; 4]) -> Outcome {
        let cpu = &self.cpu;
        let c = 3 * heads * width;
        let ones = || HostTensor::new([c], vec![1.0; c]);
        let norm = cpu.norm(ones()?, ones()?, NormSpec::Layer { epsilon: 1e-5 })?;
        let x = cpu.upload(&values(&[n, 1, tokens, c], 1.0)?)?;
        let x = Turns::new(self.cold, 2 * n * tokens * c, || cpu.normalize(&x, &norm))?;
        let products = (n * heads * tokens * tokens * width * 2) as f64;
        let name = format!("attention, {n} x {tokens} tokens, {heads} heads of {width}");
        let work = (products, 2 * n * tokens * heads * width);
        self.line(&name, work, |run| cpu.self_attention(x.of(run), heads, false))
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
    let words: Vec<String> = arguments.collect();
    let [cold, direct] = ["cold", "direct"].map(|wanted| words.iter().any(|word| word == wanted));
    if precision == Precision::F32 {
        let peak = Peak::of(level.min(Level::Avx512));
        Bench { cpu: Cpu::new(level), peak, wanted, cold }.all(level)
    } else {
        let cpu = if direct { CpuBf16::direct(level) } else { CpuBf16::new(level) };
        Bench { cpu, peak: Peak::of(level), wanted, cold }.all(level)
    }
}

impl<B: Backend> Bench<B> {
    fn all(&self, level: Level) -> Outcome {
        let precision = self.cpu.numerics().precision;
        println!("{precision}, level {level}, {} threads", rayon::current_num_threads());
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
            [8192, 320, 320],
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
        if let Some(peak) = &self.peak {
            println!("\nproducts in the registers: {:.0} GMAC/s", peak.best.get() / 1e9);
        }
        Ok(())
    }
}
