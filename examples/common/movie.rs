//! Movies that any browser plays: H.264 in an MP4 file, index first.
//!
//! The encoder is Cisco's OpenH264, compiled into the example: nothing needs to be installed. It runs
//! at one fixed quantiser, which keeps the quality the same throughout, never drops a frame, and puts
//! a key frame, which needs no other, at least once a second, so that players can jump about.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use openh264::OpenH264API;
use openh264::encoder::{
    BitRate, Complexity, EncodedBitStream, Encoder, EncoderConfig, FrameRate, IntraFramePeriod,
    QpRange, RateControlMode, TransferCharacteristics, VuiConfig,
};
use openh264::formats::YUVSlices;

use super::mp4::{self, Track};
use super::yuv::Yuv420;
use super::{OutputError, Result, check_rgb};

/// The quantiser, of 12 (best) to 51: visually lossless.
const QP: u8 = 16;
/// The encoder gives up on frames like white noise at full contrast: those are tried again, coarser.
const QP_STEP: u8 = 4;
const QP_COARSEST: u8 = 36;

/// Units of the movie's clock that one frame lasts.
const FRAME_TIME: u32 = 1000;

/// A movie being written.
///
/// Frames are spooled to `<path>.part`, which becomes `path` in [`Movie::finish`]: the name that was
/// asked for never holds half a movie. Dropping an unfinished movie removes the spool file.
///
/// H.264 as browsers play it has even sides only: where a side is odd, the last column or row is
/// repeated once, and the movie is one pixel larger than its frames.
pub(crate) struct Movie {
    path: PathBuf,
    part: PathBuf,
    spool: BufWriter<File>,
    encoder: Encoder,
    settings: EncoderConfig,
    width: usize,
    height: usize,
    yuv: Yuv420,
    timescale: u32,
    sps: Vec<u8>,
    pps: Vec<u8>,
    sizes: Vec<u32>,
    /// Which frames are key frames.
    keys: Vec<u32>,
    finished: bool,
}

impl Movie {
    /// Begins a movie of `width` x `height` pixels, up to 3840x2160 or 2160x3840, `fps` frames a
    /// second (1 to 240, fractions such as 23.976 allowed).
    pub(crate) fn create(
        path: impl AsRef<Path>,
        width: usize,
        height: usize,
        fps: f64,
    ) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let fail = |reason: String| OutputError::new(&path, reason);
        let (long, short) = (width.max(height), width.min(height));
        if short < 16 || long > 3840 || short > 2160 {
            return Err(fail(format!(
                "cannot make a movie of {width}x{height} pixels (16x16 to 3840x2160)"
            )));
        }
        if !(1.0..=240.0).contains(&fps) {
            return Err(fail(format!("cannot make a movie of {fps} frames per second (1 to 240)")));
        }

        let yuv = Yuv420::for_rgb(width, height);
        // Not a target: the quantiser is fixed. It sets the level, which says what a player must
        // be able to take: one bit per pixel is more than such frames need.
        let bits = ((width * height) as f64 * fps).clamp(1e6, 240e6);
        let settings = EncoderConfig::new()
            .rate_control_mode(RateControlMode::Bufferbased)
            .bitrate(BitRate::from_bps(bits as u32))
            .skip_frames(false)
            .max_frame_rate(FrameRate::from_hz(fps.min(60.0) as f32))
            .intra_frame_period(IntraFramePeriod::from_num_frames(fps as u32))
            .complexity(Complexity::High)
            .scene_change_detect(false)
            .adaptive_quantization(false)
            // It would take slow change for stillness.
            .background_detection(false)
            .num_threads(1)
            // The frames are sRGB; "BT.709" would have some players lift the shadows.
            .vui(VuiConfig::bt709().transfer_characteristics(TransferCharacteristics::Srgb));
        let encoder = encoder(settings, QP).map_err(fail)?;

        if path.is_dir() {
            return Err(fail("is a directory".into()));
        }
        let mut part = path.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        let spool = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&part)
            .map_err(|e| OutputError::new(&part, e))?;
        Ok(Self {
            path,
            part,
            spool: BufWriter::new(spool),
            encoder,
            settings,
            width,
            height,
            yuv,
            timescale: (fps * f64::from(FRAME_TIME)).round() as u32,
            sps: Vec::new(),
            pps: Vec::new(),
            sizes: Vec::new(),
            keys: Vec::new(),
            finished: false,
        })
    }

    /// Appends a frame.
    pub(crate) fn push(&mut self, rgb8: &[u8]) -> Result<()> {
        check_rgb(&self.path, self.width, self.height, rgb8.len())?;
        self.yuv.fill(rgb8, self.width, self.height);
        let yuv = &self.yuv;
        let planes = YUVSlices::new(
            (&yuv.y, &yuv.u, &yuv.v),
            (yuv.width, yuv.height),
            (yuv.width, yuv.width / 2, yuv.width / 2),
        );
        let number = self.sizes.len();
        let fail =
            |reason: String| OutputError::new(&self.path, format!("frame {number}: {reason}"));

        // After a failure an encoder is of no more use; a new one starts with a key frame.
        let mut qp = QP;
        let units = loop {
            match self.encoder.encode(&planes) {
                Ok(stream) => break units(&stream),
                Err(_) if qp < QP_COARSEST => {
                    qp += QP_STEP;
                    self.encoder = encoder(self.settings, qp).map_err(fail)?;
                }
                Err(e) => return Err(fail(format!("the H.264 encoder fails: {e}"))),
            }
        };
        if qp != QP {
            self.encoder = encoder(self.settings, QP).map_err(fail)?;
        }

        // The file holds each unit after its length; the parameter sets go into the index.
        let mut sample = Vec::new();
        let mut key = false;
        for unit in units {
            match unit.first().map(|head| head & 0x1f) {
                Some(7) => keep(&mut self.sps, unit).map_err(fail)?,
                Some(8) => keep(&mut self.pps, unit).map_err(fail)?,
                Some(kind) => {
                    key |= kind == 5;
                    sample.extend((unit.len() as u32).to_be_bytes());
                    sample.extend(unit);
                }
                None => {}
            }
        }
        if sample.is_empty() {
            return Err(fail("the H.264 encoder left it out".into()));
        }
        self.spool.write_all(&sample).map_err(|e| OutputError::new(&self.part, e))?;
        if key {
            self.keys.push(number as u32);
        }
        self.sizes.push(sample.len() as u32);
        Ok(())
    }

    /// Writes the index in front of the frames and gives the file its name.
    pub(crate) fn finish(mut self) -> Result<()> {
        if self.sizes.is_empty() {
            return Err(OutputError::new(&self.path, "a movie needs at least one frame"));
        }
        let head = mp4::head(&Track {
            width: self.yuv.width as u16,
            height: self.yuv.height as u16,
            timescale: self.timescale,
            frame_time: FRAME_TIME,
            sps: &self.sps,
            pps: &self.pps,
            sizes: &self.sizes,
            keys: &self.keys,
        })
        .ok_or_else(|| {
            OutputError::new(&self.path, "the movie is too large for an MP4 file (4 GiB)")
        })?;
        self.spool
            .flush()
            .and_then(|()| mp4::put_in_front(self.spool.get_mut(), &head))
            .map_err(|e| OutputError::new(&self.part, e))?;
        fs::rename(&self.part, &self.path).map_err(|e| OutputError::new(&self.path, e))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Movie {
    fn drop(&mut self) {
        if !self.finished {
            // Best effort: there is nobody to tell any more.
            let _ = fs::remove_file(&self.part);
        }
    }
}

fn encoder(settings: EncoderConfig, qp: u8) -> std::result::Result<Encoder, String> {
    Encoder::with_api_config(OpenH264API::from_source(), settings.qp(QpRange::new(qp, qp)))
        .map_err(|e| format!("the H.264 encoder does not start: {e}"))
}

/// The units of one encoded frame, without the start codes between them.
fn units(stream: &EncodedBitStream<'_>) -> Vec<Vec<u8>> {
    let mut units = Vec::new();
    for layer in (0..stream.num_layers()).filter_map(|i| stream.layer(i)) {
        let found = (0..layer.nal_count()).filter_map(|i| layer.nal_unit(i));
        units.extend(found.map(|unit| without_start_code(unit).to_vec()));
    }
    units
}

fn without_start_code(unit: &[u8]) -> &[u8] {
    let unit = unit.strip_prefix(&[0, 0, 0, 1]).unwrap_or(unit);
    unit.strip_prefix(&[0, 0, 1]).unwrap_or(unit)
}

/// Remembers a parameter set, of which the index has room for one.
fn keep(slot: &mut Vec<u8>, unit: Vec<u8>) -> std::result::Result<(), String> {
    if !slot.is_empty() && *slot != unit {
        return Err("the H.264 encoder changes its parameters".into());
    }
    *slot = unit;
    Ok(())
}
