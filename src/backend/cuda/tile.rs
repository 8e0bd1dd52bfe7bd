//! In: a product's sizes. Out: the tile that its blocks compute. Any tile gives the same bits: each output is the sum of one
//! accumulator over k in one order. So the one that occupies the device is taken.

use super::kernels;

/// Outputs up to this fill no more than half of a large tile.
const NARROW: usize = 64;

/// How tiles are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CudaTile {
    /// By what occupies the device.
    #[default]
    Auto,
    /// 64 by 64.
    Small,
    /// 128 by 128, for products of more than 64 outputs.
    Large,
}

impl CudaTile {
    /// The kernels' names, and the side of the tile, for `rows` by `outputs` in `splits` parts on a device of so many
    /// multiprocessors.
    pub(super) fn of(
        self,
        [rows, outputs, splits]: [usize; 3],
        multiprocessors: u32,
    ) -> ([&'static str; 2], usize) {
        let large = match self {
            CudaTile::Auto => tiles(rows, outputs, 128) * splits as u64 >= multiprocessors.into(),
            CudaTile::Small => false,
            CudaTile::Large => true,
        };
        match large && outputs > NARROW {
            true => (kernels::PRODUCT_LARGE, 128),
            false => (kernels::PRODUCT_SMALL, 64),
        }
    }
}

/// How many tiles of that side cover a product.
pub(super) fn tiles(rows: usize, outputs: usize, side: usize) -> u64 {
    (rows.div_ceil(side) * outputs.div_ceil(side)) as u64
}
