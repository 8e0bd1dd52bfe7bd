//! In: bytes. Out: frames that were rendered, or not a byte of them.

use super::State;
use super::arguments::{Room, checked, made, odd, pointer, row, row_bytes, size, within};
use super::sessions::picture;
use arbitrary::{Result, Unstructured};
use latentblend::capi::*;
use std::ptr::null;

impl State {
    pub(super) fn render(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        const BUFFER: usize = 1 << 17;
        const FORMATS: [lb_format; 9] =
            [0x0301, 0x0401, 0x0302, 0x0402, 0x0312, 0x0412, 0x0314, 0x0414, 0x0999];
        let count = u.int_in_range(0..=2)?;
        let mut buffers: Vec<Vec<u8>> = (0..count).map(|_| vec![0xa5; BUFFER]).collect();
        let (mut rooms, mut places, mut times) = (Vec::new(), Vec::new(), Vec::new());
        let (mut plates, mut memory) = (Vec::new(), vec![0x77; BUFFER]);
        for buffer in &mut buffers {
            let mut image = lb_image {
                width: *u.choose(&[8, 8, 16, 24, 128, 5, 0, u32::MAX])?,
                height: *u.choose(&[8, 8, 16, 24, 128, 5, 0, u32::MAX])?,
                format: *u.choose(&FORMATS)?,
                transfer: u.int_in_range(0..=4)?,
                memory: if u.ratio(1, 16)? { u.int_in_range(0..=2)? } else { 0 },
                flags: u32::from(u.ratio(1, 16)?),
                ..made(lb_image_init)
            };
            let bytes = row(image.width, image.format);
            image.row_bytes = row_bytes(u, bytes)?;
            image.data = within(buffer, image.height, image.row_bytes, bytes).cast();
            image.output = if u.ratio(1, 8)? { u.int_in_range(0..=2)? } else { 0 };
            if u.ratio(1, 4)? {
                plates.push(picture(u, &mut memory)?);
                image.plate = plates.last_mut().expect("just pushed").ptr();
            }
            let mut place = made(lb_placement_init);
            let small = u.ratio(3, 4)?;
            for side in place.bounds.iter_mut().chain(&mut place.window) {
                *side = if small { u.int_in_range(-8..=40)? } else { u.arbitrary()? };
            }
            if small {
                let [x, y, ..] = place.window;
                let end = |from: i32, length: u32| from.saturating_add(length.min(4096) as i32);
                place.window = [x, y, end(x, image.width), end(y, image.height)];
            }
            place.fit = u.int_in_range(0..=3)?;
            place.filter = u.int_in_range(0..=4)?;
            place.pixel_aspect = odd(u)?;
            places.push(Room::new(place, size::<lb_placement>(u)?));
            let placed = u.ratio(1, 2)?;
            rooms.push((image, placed, size::<lb_image>(u)?));
            times.push(odd(u)?);
        }
        let mut images: Vec<Room> = rooms
            .into_iter()
            .zip(&mut places)
            .map(|((mut image, placed, size), place)| {
                image.placement = if placed { place.ptr() } else { null() };
                Room::new(image, size)
            })
            .collect();
        let images: Vec<*const lb_image> =
            images.iter_mut().map(|room| room.ptr::<lb_image>().cast_const()).collect();
        let session = pointer(self.sessions.any(u)?);
        let written = self.with_call(u, |call| {
            // SAFETY: as the header asks; the arrays have `count` elements.
            checked(|e| unsafe {
                match count {
                    1 => lb_session_render(session, times[0], images[0], call, e),
                    _ => lb_session_render_many(
                        session,
                        times.as_ptr(),
                        images.as_ptr(),
                        count,
                        call,
                        e,
                    ),
                }
            })
        })?;
        if !written {
            assert!(buffers.iter().flatten().all(|&b| b == 0xa5), "a failed call wrote pixels");
        }
        // A plate as it is, where it has an image's shape.
        if let (Some(plate), Some(&image)) = (plates.first_mut(), images.first()) {
            let from = plate.ptr();
            // SAFETY: as the header asks; plates lie in memory of their own.
            checked(|e| unsafe { lb_copy(from, image, e) });
        }
        Ok(())
    }
}
