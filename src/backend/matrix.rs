//! In: two matrices in host memory. Out: their product, f32. The one product of the reference backend,
//! by the `gemm` crate: the kernel that candle uses, without candle's way to it, which reads the number
//! of processors from the operating system before every single product (candle-core 0.11.1, `utils.rs`)
//! and so spends nine tenths of a small network's time in the kernel.
#![allow(unsafe_code, reason = "gemm takes raw pointers; all of them are checked here")]

use crate::error::{Error, Result};

/// A view of some columns of a row-major array, or its transpose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// All of `values`, in rows of `columns`.
    pub(super) fn rows(values: &'a [f32], columns: usize) -> Self {
        Matrix::columns(values, columns, 0, columns)
    }

    /// `width` columns from `start` on of `values`, whose rows are `length` long.
    pub(super) fn columns(values: &'a [f32], length: usize, start: usize, width: usize) -> Self {
        let rows = values.len() / length.max(1);
        let values = values.get(start..).unwrap_or_default();
        Matrix { values, rows, columns: width, row_stride: length, column_stride: 1 }
    }

    /// `count` rows from `start` on.
    pub(super) fn block(self, start: usize, count: usize) -> Self {
        let values = self.values.get(start * self.row_stride..).unwrap_or_default();
        Matrix { values, rows: count, ..self }
    }

    pub(super) fn transposed(self) -> Self {
        Matrix {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    /// Whether every element lies within the values.
    fn fits(&self) -> bool {
        let last = |count: usize, stride: usize| count.checked_sub(1)?.checked_mul(stride);
        let last = last(self.rows, self.row_stride)
            .zip(last(self.columns, self.column_stride))
            .and_then(|(row, column)| row.checked_add(column));
        last.is_some_and(|last| last < self.values.len())
    }
}

/// Writes a x b to `out`, row by row. On the threads of the current pool; sums run in one order whatever
/// their number, for only rows and columns are shared out.
pub(super) fn multiply(a: Matrix<'_>, b: Matrix<'_>, out: &mut [f32]) -> Result<()> {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    if !(a.fits() && b.fits() && b.rows == k && m.checked_mul(n) == Some(out.len())) {
        return Err(Error::internal(format!(
            "a product of ({m}, {k}) and ({}, {n}) into {} values",
            b.rows,
            out.len()
        )));
    }
    let parallelism = match rayon::current_num_threads() {
        1 => gemm::Parallelism::None,
        threads => gemm::Parallelism::Rayon(threads),
    };
    // Strides are no longer than slices, which are no longer than isize::MAX.
    let stride = |stride: usize| stride as isize;
    // SAFETY: `fits` has shown that every element of `a` and `b` that m, n, k and the strides reach lies
    // in their slices; `out` is exclusive, holds m x n values, and is written only within them. With
    // `read_dst` false it isn't read.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride(n),
            false,
            a.values.as_ptr(),
            stride(a.column_stride),
            stride(a.row_stride),
            b.values.as_ptr(),
            stride(b.column_stride),
            stride(b.row_stride),
            0.0f32,
            1.0f32,
            false,
            false,
            false,
            parallelism,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_views_multiply() {
        // Columns 1 and 2 of a 2 x 3 array, times the transpose of themselves.
        let values = [9.0, 1.0, 2.0, 9.0, 3.0, 4.0];
        let view = Matrix::columns(&values, 3, 1, 2);
        let mut out = [0.0; 4];
        multiply(view, view.transposed(), &mut out).unwrap();
        assert_eq!(out, [5.0, 11.0, 11.0, 25.0]);
        let mut row = [0.0; 2];
        multiply(view.block(1, 1), view.transposed(), &mut row).unwrap();
        assert_eq!(row, [11.0, 25.0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let values = [1.0; 6];
        let a = Matrix::rows(&values, 3);
        assert!(multiply(a, a, &mut [0.0; 4]).is_err());
        assert!(multiply(a, a.transposed(), &mut [0.0; 3]).is_err());
        assert!(multiply(a.block(1, 2), a.transposed(), &mut [0.0; 4]).is_err());
        assert!(multiply(Matrix::columns(&values, 3, 2, 2), a, &mut [0.0; 6]).is_err());
    }
}
