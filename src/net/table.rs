//! In: a table in host memory. Out: [`Table`], the same numbers in as few bits as hold all of them: of a vocabulary
//! few rows are ever read, and most models' come from 16-bit files.

use crate::backend::HostTensor;
use half::{bf16, f16};

/// Rows of numbers that are looked up on the host.
pub(super) struct Table {
    shape: [usize; 2],
    values: Values,
}

/// Exactly what the table was made of.
enum Values {
    Full(Vec<f32>),
    Half(Vec<f16>),
    Brain(Vec<bf16>),
}

impl Table {
    /// The table `full`, which has two axes, or its outline.
    pub(super) fn new(full: HostTensor) -> Self {
        let columns = full.shape().get(1..).unwrap_or_default().iter().product();
        let shape = [full.shape().first().copied().unwrap_or_default(), columns];
        let same = |a: f32, b: f32| a.to_bits() == b.to_bits();
        let all = |narrowed: fn(f32) -> f32| full.data().iter().all(|&v| same(narrowed(v), v));
        let values = if all(|v| f16::from_f32(v).to_f32()) {
            Values::Half(full.data().iter().map(|&v| f16::from_f32(v)).collect())
        } else if all(|v| bf16::from_f32(v).to_f32()) {
            Values::Brain(full.data().iter().map(|&v| bf16::from_f32(v)).collect())
        } else {
            Values::Full(full.into_data())
        };
        Table { shape, values }
    }

    /// What it takes, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let each = match self.values {
            Values::Full(_) => size_of::<f32>(),
            Values::Half(_) | Values::Brain(_) => size_of::<f16>(),
        };
        self.numbers() * each as u64
    }

    /// What such a table takes whose numbers all are f16, or not, in bytes, at most.
    pub(super) fn bytes_of(&self, half: bool) -> u64 {
        self.numbers() * if half { size_of::<f16>() } else { size_of::<f32>() } as u64
    }

    fn numbers(&self) -> u64 {
        self.shape.iter().map(|&length| length as u64).product()
    }

    /// Adds row `row` to `sums`, value by value; false where there is none.
    pub(super) fn add(&self, row: usize, sums: &mut [f32]) -> bool {
        fn add<T: Copy>(row: Option<&[T]>, sums: &mut [f32], wide: impl Fn(T) -> f32) -> bool {
            let Some(row) = row else { return false };
            sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += wide(value));
            true
        }
        let range = row.saturating_mul(self.shape[1])..(row + 1).saturating_mul(self.shape[1]);
        match &self.values {
            Values::Full(values) => add(values.get(range), sums, |v| v),
            Values::Half(values) => add(values.get(range), sums, f16::to_f32),
            Values::Brain(values) => add(values.get(range), sums, bf16::to_f32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_two_bytes_where_they_hold_its_numbers_and_always_gives_them_back() {
        // The first has digits and sizes of f16, the second's 1e-30 only bf16 has, the third's 0.1 neither.
        let halves = [1.0, -0.0, 65504.0, 6e-8f32, 0.333_251_95, f32::NEG_INFINITY];
        let halves = halves.map(|v| f16::from_f32(v).to_f32());
        let brains = [1.0, -0.0, 1e-30, 3e38, 0.25, -7.0].map(|v| bf16::from_f32(v).to_f32());
        let full = [1.0, -0.0, 1e-30, 0.1, 0.25, -7.0];
        for (values, each) in [(halves, 2), (brains, 2), (full, 4)] {
            let table = Table::new(HostTensor::new([2, 3], values.to_vec()).unwrap());
            assert_eq!(table.bytes(), 6 * each);
            for row in 0..2 {
                let mut sums = [0.0; 3];
                assert!(table.add(row, &mut sums));
                assert_eq!(sums, values[3 * row..][..3]);
            }
            let mut sums = [5.0; 3];
            assert!(!table.add(2, &mut sums) && !table.add(usize::MAX - 1, &mut sums));
            assert_eq!(sums, [5.0; 3]);
        }
        let outline = Table::new(HostTensor::hollow([7, 3]));
        assert_eq!([outline.bytes_of(true), outline.bytes_of(false)], [42, 84]);
    }
}
