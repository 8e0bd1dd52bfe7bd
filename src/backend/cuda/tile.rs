//! In: a product's sizes. Out: the tile that its blocks compute. Any tile gives the same bits: each output is the sum of one
//! accumulator over k in one order. So the one that occupies the device is taken.

use super::kernels;

/// Outputs up to this fill no more than half of a large tile.
const NARROW: usize = 64;

/// Devices whose blocks may have less shared memory than this don't hold two blocks of a large tile at once: those of
/// compute capability 7.5 (64 KiB), 8.6, 8.9 and 12 (99 KiB). Those of 8.0, 9.0 and 10 do (163 and 227 KiB).
const ROOMY: u32 = 132 << 10;

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
    /// The same, with less shared memory.
    Lean,
}

impl CudaTile {
    /// The kernels' names, the side of the tile and the stages that it is loaded in, for `rows` by `outputs` in `splits`
    /// parts on a device of so many multiprocessors, and so much shared memory of a block.
    pub(super) fn of(
        self,
        [rows, outputs, splits]: [usize; 3],
        multiprocessors: u32,
        shared_memory: u32,
    ) -> ([&'static str; 2], usize, u32) {
        let fills = tiles(rows, outputs, 128) * splits as u64 >= multiprocessors.into();
        let small = (kernels::PRODUCT_SMALL, 64, 4);
        let large = (kernels::PRODUCT_LARGE, 128, 4);
        let lean = (kernels::PRODUCT_LEAN, 128, 3);
        match self {
            _ if outputs <= NARROW => small,
            CudaTile::Auto if !fills => small,
            CudaTile::Auto if shared_memory < ROOMY => lean,
            CudaTile::Auto | CudaTile::Large => large,
            CudaTile::Small => small,
            CudaTile::Lean => lean,
        }
    }
}

/// How many tiles of that side cover a product.
pub(super) fn tiles(rows: usize, outputs: usize, side: usize) -> u64 {
    (rows.div_ceil(side) * outputs.div_ceil(side)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_blocks_of_the_tile_that_is_chosen_fit_into_a_multiprocessor() {
        // The most of a block, and the whole: of 8.0, 8.6, 9.0 and 12.0.
        for [block, all] in [[163, 164], [99, 100], [227, 228], [99, 100]] {
            let (_, side, stages) = CudaTile::Auto.of([1 << 14, 320, 1], 100, block << 10);
            // Two operands of 32 values of 2 bytes, and 1 KiB that the system keeps.
            let taken = stages * 2 * side as u32 * 32 * 2 + 1024;
            assert!(side == 128 && 2 * taken <= all << 10, "{stages} stages in {all} KiB");
        }
        // Of 7.5 one, which may not have more than 64 KiB.
        let (_, _, stages) = CudaTile::Auto.of([1 << 14, 320, 1], 40, 64 << 10);
        assert_eq!(stages, 3);
        assert_eq!(CudaTile::Auto.of([64, 320, 1], 100, 227 << 10).1, 64, "too few to fill it");
        assert_eq!(CudaTile::Large.of([1 << 14, 64, 1], 100, 227 << 10).1, 64, "too narrow");
    }
}
