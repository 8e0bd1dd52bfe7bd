//! In: nothing. Out: [`Footprint`], what a backend takes in memory for shapes that are known: so that a need can be
//! told before it is met.

use super::ConvSpec;

/// How much memory a backend takes for what.
#[derive(Clone, Copy)]
pub struct Footprint {
    /// Bytes of one value of an activation of so many channels.
    pub value: fn(usize) -> usize,
    /// What is kept of activations that are gone, at most, for those to come.
    pub idle: u64,
    /// What each thread takes while it computes.
    pub thread: u64,
    /// Bytes of what a convolution copies of its operand before it begins.
    pub copied: fn(Operand) -> u64,
    /// Bytes of the packed weights of a convolution (out, in, height, width); of numbers that all are f16, or not.
    pub conv: fn([usize; 4], ConvSpec, bool) -> u64,
    /// Bytes of those of a linear layer (out, in).
    pub linear: fn([usize; 2], bool) -> u64,
}

/// What a convolution reads.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// (samples, height, width, channels of the first source), as it is convolved.
    pub shape: [usize; 4],
    /// Channels of the second source, or 0.
    pub second: usize,
    /// Whether it is normalised first.
    pub normed: bool,
    /// Whether it is first enlarged to another size than twice its own.
    pub resized: bool,
    /// Channels of the result.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// The geometry of the convolution.
    pub spec: ConvSpec,
}

impl Operand {
    /// (samples, height, width, channels of both sources)
    pub(super) fn joined(&self) -> [usize; 4] {
        let [n, h, w, c] = self.shape;
        [n, h, w, c + self.second]
    }
}

impl Default for Footprint {
    /// That of a backend that keeps everything in f32, as it comes.
    fn default() -> Self {
        Footprint {
            value: |_| size_of::<f32>(),
            idle: 0,
            thread: 4 << 20,
            // Two sources are put together for a kernel whose patches are taken from one picture.
            copied: |x| {
                let copied = x.normed || x.second > 0 && x.kernel == [3, 3];
                if copied { plain(&x.joined()) } else { 0 }
            },
            conv: |shape, _, _| plain(&shape),
            linear: |shape, _| plain(&shape),
        }
    }
}

/// Bytes of as many f32.
fn plain(shape: &[usize]) -> u64 {
    numbers(shape).saturating_mul(size_of::<f32>() as u64)
}

/// How many numbers an array of `shape` holds; a size beyond all memory stays one.
pub(super) fn numbers(shape: &[usize]) -> u64 {
    shape.iter().fold(1, |all: u64, &length| all.saturating_mul(length as u64))
}
