//! In: what a caller wants. Out: the 16-bit numbers that a model on a device is held in.

/// The kind of 16-bit numbers of weights and activations. Sums are f32 with either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HalfKind {
    /// IEEE 754 binary16: 11 significant bits, up to 65504.
    #[default]
    F16,
    /// The upper half of an f32: 8 significant bits, its range.
    Bf16,
}

impl HalfKind {
    /// Which of the two names of a kernel.
    pub(super) fn index(self) -> usize {
        match self {
            HalfKind::F16 => 0,
            HalfKind::Bf16 => 1,
        }
    }

    /// "f16" or "bf16".
    pub fn name(self) -> &'static str {
        ["f16", "bf16"][self.index()]
    }
}
