//! In: what kernels/build.py has compiled, a device's compute capability, its driver's version. Out: the code for that device.
//!
//! A .code file begins with 8 bytes of magic and a number of parts, 32 bits as all that follows, little-endian. Then, for each part: 0
//! for machine code or 1 for PTX, the compute capability that it is for (two numbers), the version of CUDA whose compiler made it,
//! and where its bytes begin in the file, how many there are, and how many they are when zlib has unpacked them.

use super::calls::Loadable;
#[cfg(test)]
use super::kernels;
use crate::error::{Error, ErrorKind, Result};
use std::io::Read;

/// All kernels but the one below.
pub(super) static KERNELS: &[u8] = include_bytes!("kernels/kernels.code");
/// The kernel that writes a host's images.
pub(super) static CONVERT: &[u8] = include_bytes!("kernels/convert.code");

const MAGIC: &[u8; 8] = b"lb code1";

/// One of the parts.
#[derive(Clone, Copy)]
struct Part<'a> {
    is_ptx: bool,
    capability: [i32; 2],
    version: i32,
    packed: &'a [u8],
    length: usize,
}

fn parts(file: &[u8]) -> Option<Vec<Part<'_>>> {
    let number = |index: usize| {
        let bytes = file.get(8 + 4 * index..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*bytes))
    };
    file.strip_prefix(MAGIC)?;
    let part = |index: usize| {
        let field = |field: usize| number(1 + 7 * index + field);
        let start = field(4)? as usize;
        Some(Part {
            is_ptx: field(0)? == 1,
            capability: [field(1)? as i32, field(2)? as i32],
            version: field(3)? as i32,
            packed: file.get(start..start.checked_add(field(5)? as usize)?)?,
            length: field(6)? as usize,
        })
    };
    (0..number(0)? as usize).map(part).collect()
}

/// What a driver of CUDA `version` (12000 is 12.0) is to load onto a device of `capability`.
///
/// Machine code runs on its own generation's devices, of its own or a later minor number (Tegras are left out: nothing is made
/// for them); PTX on those of any later number, for which the driver compiles it (NVIDIA, "CUDA C++ Programming Guide", sections 3.1.2 and 3.1.3, "Binary" and "PTX
/// Compatibility").
fn best<'a>(parts: &[Part<'a>], capability: [i32; 2], version: i32) -> Option<Part<'a>> {
    let [major, minor] = capability;
    let known = parts.iter().filter(|part| part.version <= version);
    let fits = known.filter(|part| match part.is_ptx {
        true => part.capability <= capability,
        false => part.capability[0] == major && part.capability[1] <= minor,
    });
    fits.max_by_key(|part| (!part.is_ptx, part.capability)).copied()
}

/// The code in `file` for a device of `capability` and a driver of CUDA `version`.
///
/// # Errors
/// `Unsupported` where there is none.
pub(super) fn of(file: &[u8], capability: [i32; 2], version: i32) -> Result<Loadable> {
    let broken = || Error::internal("the embedded kernels are no such file as build.py writes");
    let part = best(&parts(file).ok_or_else(broken)?, capability, version).ok_or_else(|| {
        let [major, minor] = capability;
        let what = format!(
            "CUDA: no kernels for compute capability {major}.{minor} and a driver of CUDA {}.{}",
            version / 1000,
            version % 1000 / 10
        );
        Error::new(ErrorKind::Unsupported, what)
    })?;
    let mut code = Vec::with_capacity(part.length);
    let mut unpacked = flate2::read::ZlibDecoder::new(part.packed);
    unpacked.read_to_end(&mut code).map_err(|_| broken())?;
    if code.len() != part.length {
        return Err(broken());
    }
    Ok(Loadable::new(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number behind `sm_` of machine code, which is an ELF file for machine 190.
    fn generation(code: &Loadable) -> Option<u32> {
        let bytes = code.bytes();
        let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let elf = bytes.starts_with(b"\x7fELF") && word(18)? & 0xffff == 190;
        // Of files of the first layout the lowest byte, of those of the second (since CUDA 12.8) the one above.
        let flags = word(48)?;
        elf.then_some(if bytes[8] >= 8 { flags >> 8 & 0xff } else { flags & 0xff })
    }

    /// The kernels by their names, one of each file of sources at least.
    fn assert_has_all(file: &[u8], code: &Loadable) {
        let names: &[&str] = match file.as_ptr() == CONVERT.as_ptr() {
            true => &[kernels::CONVERT],
            false => &[
                kernels::PRODUCT_LARGE[0],
                kernels::PRODUCT_JOIN[1],
                kernels::ATTENTION_WIDE[1],
                kernels::GROUP_APPLY_ODD[0],
                kernels::LAYER[1],
                kernels::COMBINE[0],
                kernels::GATHER,
            ],
        };
        for name in names {
            let found = code.bytes().windows(name.len()).any(|bytes| bytes == name.as_bytes());
            assert!(found, "no kernel {name}");
        }
    }

    #[test]
    fn every_device_has_its_own_machine_code_or_older_ptx() {
        for file in [KERNELS, CONVERT] {
            for (capability, version, wanted) in [
                ([7, 5], 12000, 75),
                ([8, 0], 12000, 80),
                ([8, 6], 12040, 86),
                ([8, 9], 12000, 89),
                ([9, 0], 12000, 90),
                ([10, 0], 12080, 100),
                ([10, 3], 13000, 100),
                ([12, 1], 13000, 120),
            ] {
                let code = of(file, capability, version).unwrap();
                assert_eq!(generation(&code), Some(wanted), "{capability:?}, {version}");
                assert_has_all(file, &code);
            }
            // What came after all machine code, and what the driver is too old to have machine code for.
            for (capability, version) in [([11, 0], 13000), ([13, 0], 14000), ([10, 0], 12000)] {
                let code = of(file, capability, version).unwrap();
                assert_has_all(file, &code);
                let text = std::str::from_utf8(code.bytes()).unwrap();
                assert!(text.contains("\n.version 8.0\n.target sm_90\n"), "{capability:?}");
                assert!(text.trim_end_matches(['\0', '\n', ' ']).ends_with('}'));
                assert!(text.ends_with('\0'), "a text that doesn't end");
            }
        }
    }

    #[test]
    fn what_nothing_was_compiled_for_is_refused_with_the_numbers() {
        for (capability, version) in [([7, 0], 13000), ([8, 0], 11080)] {
            let error = of(KERNELS, capability, version).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            let [major, minor] = capability;
            let wanted =
                format!("capability {major}.{minor} and a driver of CUDA {}", version / 1000);
            assert!(error.message().contains(&wanted), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_cut_off_is_an_error() {
        for length in [0, 7, 11, 12, 200, CONVERT.len() - 1] {
            let cut = &CONVERT[..length];
            let error = of(cut, [12, 0], 13000).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Internal, "{length}");
        }
    }
}
