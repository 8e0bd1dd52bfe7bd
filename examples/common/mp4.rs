//! The index of an MP4 file with one H.264 track, as small as players allow (ISO/IEC 14496-12, -15).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// What the index says about the track.
pub(super) struct Track<'a> {
    pub(super) width: u16,
    pub(super) height: u16,
    /// Time units per second, and per frame.
    pub(super) timescale: u32,
    pub(super) frame_time: u32,
    /// Parameter sets, without start codes; `sps` has at least 4 bytes.
    pub(super) sps: &'a [u8],
    pub(super) pps: &'a [u8],
    /// Bytes of each frame.
    pub(super) sizes: &'a [u32],
    /// Which frames, counted from 0, are key frames; the first one must be.
    pub(super) keys: &'a [u32],
}

/// CICP codes of the pictures' colours: primaries BT.709 (sRGB has the same), transfer sRGB,
/// matrix BT.709. The stream's own header must agree.
const COLOURS: [u16; 3] = [1, 13, 1];

/// All that stands before the frames: file type, index and the head of the data box.
///
/// The frames' bytes must follow at once, in order. `None` when there is no frame, or when the file
/// would pass 4 GiB, which these 32-bit offsets cannot address.
pub(super) fn head(track: &Track<'_>) -> Option<Vec<u8>> {
    let ftyp = boxed(b"ftyp", &[b"isom", &0x200_u32.to_be_bytes(), b"isomiso2avc1mp41"]);
    let data: u64 = track.sizes.iter().map(|&n| u64::from(n)).sum();
    // The offsets' values do not change the index's size: measure it with zeros.
    let start = ftyp.len() + moov(track, 0)?.len() + 8;
    u32::try_from(data + start as u64).ok()?;
    let mut head = ftyp;
    head.extend(moov(track, start as u32)?);
    head.extend((data as u32 + 8).to_be_bytes());
    head.extend(b"mdat");
    Some(head)
}

/// Moves a file's content back, block by block from its end, and writes `head` where it began.
pub(super) fn put_in_front(file: &mut File, head: &[u8]) -> io::Result<()> {
    const BLOCK: u64 = 1 << 20;
    let mut at = file.seek(SeekFrom::End(0))?;
    let mut block = vec![0; BLOCK as usize];
    while at > 0 {
        let n = at.min(BLOCK);
        at -= n;
        let block = &mut block[..n as usize];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(block)?;
        file.seek(SeekFrom::Start(at + head.len() as u64))?;
        file.write_all(block)?;
    }
    file.seek(SeekFrom::Start(0))?;
    file.write_all(head)?;
    file.sync_all()
}

fn moov(track: &Track<'_>, data_start: u32) -> Option<Vec<u8>> {
    let frames = u32::try_from(track.sizes.len()).ok().filter(|&n| n > 0)?;
    let duration = frames.checked_mul(track.frame_time)?.to_be_bytes();
    let timescale = track.timescale.to_be_bytes();
    let (w, h) = (track.width.to_be_bytes(), track.height.to_be_bytes());
    let zero = [0_u8; 36];
    // The identity as 16.16 and 2.30 fixed-point numbers.
    let matrix = words(&[0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000]);

    let mvhd = boxed(
        b"mvhd",
        &[
            &zero[..12], // version, flags, times of creation and change
            &timescale,
            &duration,
            &words(&[0x1_0000]), // speed 1
            &[1, 0],             // volume 1
            &zero[..10],
            &matrix,
            &zero[..24],
            &words(&[2]), // next free track number
        ],
    );
    let tkhd = boxed(
        b"tkhd",
        &[
            &words(&[3, 0, 0, 1, 0]), // in use and shown; number 1
            &duration,
            &zero[..16],
            &matrix,
            &w,
            &zero[..2],
            &h,
            &zero[..2],
        ],
    );
    // 0x55c4 is the language "und", undetermined.
    let mdhd = boxed(b"mdhd", &[&zero[..12], &timescale, &duration, &[0x55, 0xc4, 0, 0]]);
    let hdlr = boxed(b"hdlr", &[&zero[..8], b"vide", &zero[..12], b"video\0"]);
    let vmhd = boxed(b"vmhd", &[&words(&[1]), &zero[..8]]);
    let in_this_file = boxed(b"url ", &[&words(&[1])]);
    let dref = boxed(b"dref", &[&words(&[0, 1]), &in_this_file]);
    let dinf = boxed(b"dinf", &[&dref]);
    let stbl = sample_tables(track, frames, data_start)?;
    let minf = boxed(b"minf", &[&vmhd, &dinf, &stbl]);
    let mdia = boxed(b"mdia", &[&mdhd, &hdlr, &minf]);
    let trak = boxed(b"trak", &[&tkhd, &mdia]);
    Some(boxed(b"moov", &[&mvhd, &trak]))
}

fn sample_tables(track: &Track<'_>, frames: u32, data_start: u32) -> Option<Vec<u8>> {
    let stsd = boxed(b"stsd", &[&words(&[0, 1]), &avc1(track)?]);
    let stts = boxed(b"stts", &[&words(&[0, 1, frames, track.frame_time])]);

    // One chunk of data per key frame and those that build on it. Chunks of equal length in a row
    // share an entry: the first one's number, frames in each, format.
    let chunks = u32::try_from(track.keys.len()).ok()?;
    let keys: Vec<u32> = track.keys.iter().map(|frame| frame + 1).collect();
    let stss = boxed(b"stss", &[&words(&[0, chunks]), &words(&keys)]);
    let ends = track.keys.iter().skip(1).chain([&frames]);
    let lengths: Vec<u32> = track.keys.iter().zip(ends).map(|(key, end)| end - key).collect();
    let mut runs: Vec<[u32; 3]> = Vec::new();
    for (number, &length) in (1..).zip(&lengths) {
        if runs.last().is_none_or(|run| run[1] != length) {
            runs.push([number, length, 1]);
        }
    }
    let stsc = boxed(b"stsc", &[&words(&[0, runs.len() as u32]), &words(runs.as_flattened())]);
    let stsz = boxed(b"stsz", &[&words(&[0, 0, frames]), &words(track.sizes)]);

    let mut at = data_start;
    let mut sizes = track.sizes.iter();
    let mut offsets = Vec::with_capacity(lengths.len());
    for length in lengths {
        offsets.push(at);
        for size in sizes.by_ref().take(length as usize) {
            at = at.checked_add(*size)?;
        }
    }
    let stco = boxed(b"stco", &[&words(&[0, chunks]), &words(&offsets)]);
    Some(boxed(b"stbl", &[&stsd, &stts, &stss, &stsc, &stsz, &stco]))
}

/// The track's format: size, parameter sets and colours.
fn avc1(track: &Track<'_>) -> Option<Vec<u8>> {
    let len16 = |bytes: &[u8]| u16::try_from(bytes.len()).ok().map(u16::to_be_bytes);
    let avcc = boxed(
        b"avcC",
        &[
            &[1],
            track.sps.get(1..4)?, // profile, its constraints, level
            &[0xff, 0xe1],        // frames hold 4-byte lengths; one SPS
            &len16(track.sps)?,
            track.sps,
            &[1],
            &len16(track.pps)?,
            track.pps,
        ],
    );
    let codes: Vec<u8> = COLOURS.iter().flat_map(|code| code.to_be_bytes()).collect();
    let colr = boxed(b"colr", &[b"nclx", &codes, &[0]]); // 0: limited range
    let pasp = boxed(b"pasp", &[&words(&[1, 1])]); // square pixels
    let zero = [0_u8; 32];
    Some(boxed(
        b"avc1",
        &[
            &[0, 0, 0, 0, 0, 0, 0, 1],
            &zero[..16],
            &track.width.to_be_bytes(),
            &track.height.to_be_bytes(),
            &words(&[72 << 16, 72 << 16, 0]), // dots per inch, by custom
            &[0, 1],                          // frames per sample
            &zero,                            // encoder's name
            &[0, 24, 0xff, 0xff],             // depth
            &avcc,
            &colr,
            &pasp,
        ],
    ))
}

fn boxed(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut out = (body.len() as u32 + 8).to_be_bytes().to_vec();
    out.extend(kind);
    out.extend(body);
    out
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}
