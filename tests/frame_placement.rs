//! A picture lies where the caller wants it: tiles, proxies, bars, pixels that aren't square.

use latentblend::{Filter, Fit, Format, Frame, ImageMut, Layout, Placement, Transfer};

/// A smooth picture with some detail.
fn waves(width: usize, height: usize) -> Frame {
    let mut rgb = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let (x, y) = (x as f32 / width as f32, y as f32 / height as f32);
            rgb.extend([0.5 + 0.5 * (9.0 * x).sin(), 0.3 + 0.4 * (7.0 * y).cos(), x * y]);
        }
    }
    Frame::new(width, height, rgb).unwrap()
}

fn flat(width: usize, height: usize, value: f32) -> Frame {
    Frame::new(width, height, vec![value; width * height * 3]).unwrap()
}

/// What the placement's window shows: its size and its pixels.
fn shown(frame: &Frame, format: Format, placement: &Placement) -> (usize, Vec<u8>) {
    let [x1, y1, x2, y2] = placement.window;
    let (width, height) = ((x2 - x1) as usize, (y2 - y1) as usize);
    let layout = Layout::packed(width, height, format, Transfer::Srgb);
    let mut bytes = vec![0xa5; height * layout.row_bytes as usize];
    let mut image = ImageMut::new(&mut bytes, 0, layout).unwrap();
    frame.write(&mut image, Some(placement)).unwrap();
    (width, bytes)
}

fn floats(frame: &Frame, placement: &Placement) -> (usize, Vec<f32>) {
    let (width, bytes) = shown(frame, Format::RgbF32, placement);
    (width, bytes.chunks(4).map(|b| f32::from_ne_bytes(b.try_into().unwrap())).collect())
}

/// Some placements of all kinds: (bounds, pixel aspect).
const PLACES: [([i32; 4], f64); 7] = [
    ([0, 0, 96, 54], 1.0),
    ([-31, -17, 70, 60], 1.0),
    ([5, 7, 25, 100], 1.0),
    ([0, 0, 9, 5], 1.0),
    ([-400, -300, 500, 777], 1.0),
    ([0, -54, 48, 0], 2.0),
    ([3, 3, 100, 40], 0.9),
];

#[test]
fn tiles_are_the_whole_byte_for_byte() {
    let frame = waves(40, 24);
    for (bounds, pixel_aspect) in PLACES {
        for fit in Fit::ALL {
            for filter in Filter::ALL {
                // A window that shows some of what lies outside.
                let window = [-12, -9, 77, 46];
                let whole = Placement { bounds, window, fit, filter, pixel_aspect };
                let (width, all) = shown(&frame, Format::RgbaF16, &whole);
                for (tile_width, tile_height) in [(1, 55), (89, 1), (16, 16), (31, 7)] {
                    for y in (window[1]..window[3]).step_by(tile_height) {
                        for x in (window[0]..window[2]).step_by(tile_width) {
                            let right = (x + tile_width as i32).min(window[2]);
                            let below = (y + tile_height as i32).min(window[3]);
                            let tile = Placement { window: [x, y, right, below], ..whole };
                            let (tile_width, part) = shown(&frame, Format::RgbaF16, &tile);
                            for (index, row) in part.chunks(tile_width * 8).enumerate() {
                                let line = (y - window[1]) as usize + index;
                                let start = (line * width + (x - window[0]) as usize) * 8;
                                assert_eq!(row, &all[start..start + row.len()], "{tile:?}");
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_picture_moves_with_its_bounds() {
    let frame = waves(40, 24);
    for (bounds, pixel_aspect) in PLACES {
        for filter in Filter::ALL {
            let near = Placement {
                bounds,
                window: [-12, -9, 77, 46],
                fit: Fit::Letterbox,
                filter,
                pixel_aspect,
            };
            let by = |[a, b, c, d]: [i32; 4]| {
                [a + 900_000_001, b - 999_999_000, c + 900_000_001, d - 999_999_000]
            };
            let far = Placement { bounds: by(near.bounds), window: by(near.window), ..near };
            assert_eq!(shown(&frame, Format::RgbaU16, &near), shown(&frame, Format::RgbaU16, &far));
        }
    }
}

#[test]
fn its_own_size_is_the_frame_bit_for_bit() {
    for (width, height) in [(1, 1), (2, 1), (7, 9), (40, 24), (65, 3)] {
        let frame = waves(width, height);
        for fit in Fit::ALL {
            for filter in Filter::ALL {
                let whole = Placement::whole(width as i32, height as i32);
                let (_, got) = floats(&frame, &Placement { fit, filter, ..whole });
                assert_eq!(got, frame.rgb(), "{fit:?} {filter:?} {width}x{height}");
            }
        }
    }
}

#[test]
fn a_flat_picture_stays_flat_at_every_size() {
    for size in [1, 2, 3, 5, 8, 13, 50, 131] {
        for filter in Filter::ALL {
            for fit in [Fit::Crop, Fit::Stretch] {
                let placement =
                    Placement { filter, fit, ..Placement::whole(size, (size * 7) % 11 + 1) };
                let (_, got) = floats(&flat(23, 17, 0.7), &placement);
                assert!(got.iter().all(|v| (v - 0.7).abs() < 1e-6), "{placement:?}");
            }
        }
    }
}

#[test]
fn shrinking_averages_and_doubling_repeats() {
    // Stripes of one pixel turn grey instead of flickering.
    let stripes: Vec<f32> =
        (0..64 * 64).flat_map(|i| [f32::from(u8::from(i % 2 == 0)); 3]).collect();
    let stripes = Frame::new(64, 64, stripes).unwrap();
    for filter in [Filter::Bicubic, Filter::Lanczos, Filter::Bilinear] {
        let (_, got) = floats(&stripes, &Placement { filter, ..Placement::whole(13, 13) });
        assert!(
            got[3 * 13 * 6..].iter().take(13 * 3 - 6).skip(6).all(|v| (v - 0.5).abs() < 0.06),
            "{got:?}"
        );
    }
    let frame = waves(5, 4);
    let nearest = Placement { filter: Filter::Nearest, ..Placement::whole(10, 8) };
    let (width, got) = floats(&frame, &nearest);
    for (index, pixel) in got.chunks(3).enumerate() {
        let (x, y) = (index % width, index / width);
        assert_eq!(pixel, &frame.rgb()[(y / 2 * 5 + x / 2) * 3..][..3]);
    }
}

#[test]
fn a_circle_stays_round() {
    let size = 96usize;
    let disc = (0..size * size).flat_map(|i| {
        let (x, y) = ((i % size) as f64 - 47.5, (i / size) as f64 - 47.5);
        [f32::from(u8::from(x.hypot(y) < 30.0)); 3]
    });
    let disc = Frame::new(size, size, disc.collect()).unwrap();
    for pixel_aspect in [1.0, 2.0, 0.5, 1.4587] {
        for fit in [Fit::Crop, Fit::Letterbox] {
            for (w, h) in [(200, 150), (90, 211), (64, 64)] {
                let placement = Placement { fit, pixel_aspect, ..Placement::whole(w, h) };
                let (width, got) = floats(&disc, &placement);
                let value = |x: usize, y: usize| f64::from(got[(y * width + x) * 3]);
                let across: f64 = (0..width).map(|x| value(x, h as usize / 2)).sum();
                let down: f64 = (0..h as usize).map(|y| value(width / 2, y)).sum();
                let (shown_w, shown_h) = (f64::from(w) * pixel_aspect, f64::from(h));
                let scales = [shown_w / 96.0, shown_h / 96.0];
                let scale = match fit {
                    Fit::Crop => scales[0].max(scales[1]),
                    _ => scales[0].min(scales[1]),
                };
                let wanted = [60.0 * scale / pixel_aspect, 60.0 * scale];
                for (got, wanted, bound) in [(across, wanted[0], w), (down, wanted[1], h)] {
                    let wanted = wanted.min(f64::from(bound));
                    assert!(
                        (got - wanted).abs() < 1.0 + 0.01 * wanted,
                        "{placement:?}: {got} {wanted}"
                    );
                }
            }
        }
    }
}

#[test]
fn bars_are_black_and_opaque_and_beyond_the_bounds_is_nothing() {
    // A square frame in 40x20: bars of 10 pixels on both sides, and 2 pixels around the bounds.
    let placement = Placement {
        bounds: [0, 0, 40, 20],
        window: [-2, -2, 42, 22],
        fit: Fit::Letterbox,
        ..Placement::whole(1, 1)
    };
    for filter in Filter::ALL {
        let (width, got) =
            shown(&flat(16, 16, 1.0), Format::RgbaU8, &Placement { filter, ..placement });
        for (index, pixel) in got.chunks(4).enumerate() {
            let (x, y) = (index % width, index / width);
            let wanted = match (x, y) {
                (2..42, 2..22) if (12..32).contains(&x) => [255; 4],
                (2..42, 2..22) => [0, 0, 0, 255],
                _ => [0; 4],
            };
            assert_eq!(pixel, wanted, "{filter:?} {x} {y}");
        }
    }
    // A square in 5x4: bars of half a pixel.
    let narrow = Placement { fit: Fit::Letterbox, ..Placement::whole(5, 4) };
    let (_, got) = floats(&flat(16, 16, 1.0), &narrow);
    let line: Vec<f32> = got[..15].chunks(3).map(|p| p[0]).collect();
    assert!(
        line.iter().zip([0.5, 1.0, 1.0, 1.0, 0.5]).all(|(g, w)| (g - w).abs() < 1e-6),
        "{line:?}"
    );
}

#[test]
fn a_window_beside_the_picture_is_empty() {
    let frame = waves(8, 8);
    for window in
        [[100, 0, 110, 10], [0, 100, 10, 110], [-10, -10, 0, 0], [1 << 29, 0, (1 << 29) + 4, 4]]
    {
        let placement = Placement { bounds: [0, 0, 64, 64], window, ..Placement::whole(1, 1) };
        for format in Format::ALL {
            let (_, got) = shown(&frame, format, &placement);
            assert!(got.iter().all(|&b| b == 0), "{window:?}");
        }
    }
}

#[test]
fn enormous_and_tiny_bounds_give_a_picture() {
    let frame = waves(40, 24);
    let huge = [-(1 << 30), -(1 << 30), 1 << 30, 1 << 30];
    for fit in Fit::ALL {
        for filter in Filter::ALL {
            // One colour fills a window in a picture of two thousand million pixels.
            let deep =
                Placement { bounds: huge, window: [7, 9, 17, 12], fit, filter, pixel_aspect: 1.0 };
            let (_, got) = floats(&frame, &deep);
            assert!(got.iter().all(|v| v.is_finite()));
            assert!(got.chunks(3).all(|p| (p[0] - got[0]).abs() < 1e-3), "{deep:?}");
            for bounds in [[0, 0, 1, 1], [0, 0, 1, 1 << 30], [0, 0, 1 << 30, 1]] {
                for pixel_aspect in [0.01, 1.0, 100.0] {
                    let window = [-3, -3, 4, 4];
                    let thin = Placement { bounds, window, fit, filter, pixel_aspect };
                    assert!(
                        floats(&frame, &thin).1.iter().all(|v| (-0.2..1.2).contains(v)),
                        "{thin:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_proxy_shows_the_same_picture() {
    let frame = waves(128, 72);
    for fit in Fit::ALL {
        let placement = |w, h| Placement { fit, ..Placement::whole(w, h) };
        let (width, full) = floats(&frame, &placement(400, 200));
        let (half_width, half) = floats(&frame, &placement(200, 100));
        for (index, pixel) in half.chunks(3).enumerate() {
            let (x, y) = (index % half_width * 2, index / half_width * 2);
            for (channel, &value) in pixel.iter().enumerate() {
                let at = |x: usize, y: usize| full[(y * width + x) * 3 + channel];
                let mean = (at(x, y) + at(x + 1, y) + at(x, y + 1) + at(x + 1, y + 1)) / 4.0;
                assert!((mean - value).abs() < 0.03, "{fit:?} {x} {y}: {value} {mean}");
            }
        }
    }
}

#[test]
fn turned_coordinates_turn_nothing_else() {
    // A host that counts upwards asks for the lower left quarter; its rows are written top row first.
    let frame = waves(16, 16);
    let up = Placement { window: [0, 0, 8, 8], ..Placement::whole(16, 16) };
    let (_, got) = floats(&frame, &up.from_y_up());
    for (y, row) in got.chunks(24).enumerate() {
        assert_eq!(row, &frame.rgb()[(8 + y) * 48..][..24]);
    }
}
