//! Pictures: their size, their paper, and widths that are refused.

use llm_blocks_plots::{FIGURES, Figure, PlotError, Theme, rope_decay};

/// Width, height, and the pixels as RGBA.
fn decode(bytes: &[u8]) -> (u32, u32, Vec<u8>) {
    let decoder = png::Decoder::new(std::io::Cursor::new(bytes));
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(info.color_type, png::ColorType::Rgba);
    (info.width, info.height, pixels)
}

#[test]
fn a_picture_has_the_shape_of_its_drawing_and_solid_paper() {
    for entry in &FIGURES {
        let figure = (entry.draw)().unwrap();
        let (own_width, own_height) = figure.size();
        for (theme, paper) in [
            (Theme::Light, [255, 255, 255, 255]),
            (Theme::Dark, [13, 17, 23, 255]),
        ] {
            let (width, height, pixels) = decode(&figure.to_png(901, theme).unwrap());
            assert_eq!(width, 901);
            let exact = 901.0 * f64::from(own_height) / f64::from(own_width);
            assert!((f64::from(height) - exact).abs() <= 0.5);
            let (pixels, []) = pixels.as_chunks::<4>() else {
                panic!("four bytes each");
            };
            assert!(pixels.iter().all(|pixel| pixel[3] == 255), "{}", entry.name);
            let row = width as usize;
            for corner in [0, row - 1, pixels.len() - row, pixels.len() - 1] {
                assert_eq!(pixels[corner], paper, "{}", entry.name);
            }
            assert!(pixels.iter().any(|&pixel| pixel != paper));
        }
    }
}

#[test]
fn the_same_picture_twice_is_the_same_bytes() {
    let figure = rope_decay().unwrap();
    let [one, two] = [(); 2].map(|()| figure.to_png(300, Theme::Light).unwrap());
    assert_eq!(one, two);
}

#[test]
fn widths_outside_the_limits_are_refused() {
    let figure = rope_decay().unwrap();
    for width in [0, Figure::MIN_WIDTH - 1, Figure::MAX_WIDTH + 1, u32::MAX] {
        let error = figure.to_png(width, Theme::Light).unwrap_err();
        let PlotError::Width { least, most, got } = error else {
            panic!("{error}");
        };
        assert_eq!((least, most, got), (64, 8192, width));
    }
    assert!(figure.to_png(Figure::MIN_WIDTH, Theme::Dark).is_ok());
}
