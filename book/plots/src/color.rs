//! Colors that can be told apart on white and on black, by readers who see fewer colors too.

/// Red, green, blue.
pub(crate) type Rgb = [u8; 3];

/// Lines of one figure, in this order. Their brightness lies between that of both papers.
pub(crate) const SERIES: [&str; 4] = ["#3399cc", "#cc7014", "#9f40ff", "#f21861"];

/// What must catch the eye.
pub(crate) const ALARM: &str = SERIES[3];

/// From a share to a color.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColorMap {
    /// A rainbow with even steps (Google's Turbo), for values around zero.
    Rainbow,
    /// From cyan to magenta.
    Cool,
    /// From dark violet to yellow (matplotlib's viridis).
    Brightness,
}

impl ColorMap {
    /// The color of a share in `[0, 1]`; shares outside get the color of the nearer end.
    pub(crate) fn color(self, share: f64) -> Rgb {
        self.step(step(share))
    }

    /// The color of a step.
    fn step(self, step: u8) -> Rgb {
        let share = f64::from(step) / 255.0;
        let gradient = match self {
            Self::Cool => return [step, 255 - step, 255],
            Self::Rainbow => colorous::TURBO,
            Self::Brightness => colorous::VIRIDIS,
        };
        gradient.eval_continuous(share).into_array()
    }

    /// All 256 colors, from low to high.
    pub(crate) fn palette(self) -> [Rgb; 256] {
        std::array::from_fn(|index| self.step(index as u8))
    }
}

/// The step of a share, of 256.
pub(crate) fn step(share: f64) -> u8 {
    // As for coordinates: a last bit that differs must not decide.
    let steady = (share * 255.0 * 1e6).round() / 1e6;
    steady.clamp(0.0, 255.0).round() as u8
}

/// As SVG writes it.
pub(crate) fn hex([r, g, b]: Rgb) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// Black or white: what can be read on this color.
pub(crate) fn ink_on(color: Rgb) -> &'static str {
    // Where both have the same contrast by WCAG 2.1.
    if luminance(color) > 0.179 {
        "#000000"
    } else {
        "#ffffff"
    }
}

/// Relative luminance, WCAG 2.1.
pub(crate) fn luminance(color: Rgb) -> f64 {
    let [r, g, b] = color.map(linear);
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

fn linear(channel: u8) -> f64 {
    let share = f64::from(channel) / 255.0;
    if share <= 0.04045 {
        share / 12.92
    } else {
        ((share + 0.055) / 1.055).powf(2.4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Theme;

    fn rgb(hex: &str) -> Rgb {
        let channel = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        [channel(1), channel(3), channel(5)]
    }

    fn contrast(a: Rgb, b: Rgb) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// What somebody without one kind of cone sees: Machado, Oliveira and Fernandes 2009, table 1, severity 1.0.
    fn seen(color: Rgb, matrix: [[f64; 3]; 3]) -> [f64; 3] {
        let linear = color.map(linear);
        matrix.map(|row| {
            row.iter()
                .zip(linear)
                .map(|(weight, channel)| weight * channel)
                .sum::<f64>()
                .clamp(0.0, 1.0)
        })
    }

    /// CIE 1976 L*a*b* from linear sRGB with white point D65.
    fn lab([r, g, b]: [f64; 3]) -> [f64; 3] {
        let x = (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505;
        let y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
        let z = (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089;
        let [x, y, z] = [x, y, z].map(|t: f64| {
            if t > 0.008_856 {
                t.cbrt()
            } else {
                7.787 * t + 16.0 / 116.0
            }
        });
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }

    /// Between two areas side by side: Mahy, Van Eycken and Oosterlinck 1994.
    const JUST_NOTICEABLE: f64 = 2.3;

    const EYES: [(&str, [[f64; 3]; 3]); 4] = [
        (
            "all cones",
            [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        ),
        (
            "protanopia",
            [
                [0.152_286, 1.052_583, -0.204_868],
                [0.114_503, 0.786_281, 0.099_216],
                [-0.003_882, -0.048_116, 1.051_998],
            ],
        ),
        (
            "deuteranopia",
            [
                [0.367_322, 0.860_646, -0.227_968],
                [0.280_085, 0.672_501, 0.047_413],
                [-0.011_820, 0.042_940, 0.968_881],
            ],
        ),
        (
            "tritanopia",
            [
                [1.255_528, -0.076_749, -0.178_779],
                [-0.078_411, 0.930_809, 0.147_602],
                [0.004_733, 0.691_367, 0.303_900],
            ],
        ),
    ];

    fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| (a - b).powi(2))
            .sum::<f64>()
            .sqrt()
    }

    #[test]
    fn lines_stand_out_on_both_papers() {
        // WCAG 2.1, 1.4.11: graphical objects need a contrast of 3.
        for theme in [Theme::Light, Theme::Dark] {
            for color in SERIES {
                let contrast = contrast(rgb(color), rgb(theme.paper()));
                assert!(contrast >= 3.0, "{color} on {theme:?}: {contrast:.2}");
            }
        }
    }

    #[test]
    fn text_stands_out_on_both_papers() {
        // WCAG 2.1, 1.4.6, the stricter level: 7.
        for theme in [Theme::Light, Theme::Dark] {
            let contrast = contrast(rgb(theme.ink()), rgb(theme.paper()));
            assert!(contrast >= 7.0, "{theme:?}: {contrast:.2}");
        }
    }

    #[test]
    fn lines_can_be_told_apart_with_fewer_cones() {
        for (eye, matrix) in EYES {
            for (i, a) in SERIES.iter().enumerate() {
                for b in &SERIES[..i] {
                    let [a_seen, b_seen] = [a, b].map(|color| lab(seen(rgb(color), matrix)));
                    let distance = distance(a_seen, b_seen);
                    // Thin lines apart from each other need more than areas.
                    assert!(
                        distance >= 10.0 * JUST_NOTICEABLE,
                        "{eye}: {a} and {b}: {distance:.1}"
                    );
                }
            }
        }
    }

    #[test]
    fn ends_and_middle_of_a_map_can_be_told_apart_with_fewer_cones() {
        for map in [ColorMap::Rainbow, ColorMap::Cool, ColorMap::Brightness] {
            for (eye, matrix) in EYES {
                let [low, middle, high] =
                    [0.0, 0.5, 1.0].map(|share| lab(seen(map.color(share), matrix)));
                for (a, b) in [(low, middle), (middle, high), (low, high)] {
                    let distance = distance(a, b);
                    assert!(
                        distance >= 5.0 * JUST_NOTICEABLE,
                        "{eye}: {map:?}: {distance:.1}"
                    );
                }
            }
        }
    }

    #[test]
    fn cool_goes_from_cyan_to_magenta() {
        assert_eq!(ColorMap::Cool.color(0.0), [0, 255, 255]);
        assert_eq!(ColorMap::Cool.color(1.0), [255, 0, 255]);
        assert_eq!(ColorMap::Cool.color(7.0), [255, 0, 255]);
        assert_eq!(ColorMap::Cool.color(-7.0), [0, 255, 255]);
    }

    #[test]
    fn brightness_grows_all_the_way() {
        let palette = ColorMap::Brightness.palette().map(luminance);
        assert!(palette.windows(2).all(|pair| pair[0] <= pair[1] + 2e-3));
        assert!(palette[255] - palette[0] > 0.7);
    }

    #[test]
    fn numbers_on_a_color_can_be_read() {
        for map in [ColorMap::Rainbow, ColorMap::Cool, ColorMap::Brightness] {
            for color in map.palette() {
                assert!(contrast(rgb(ink_on(color)), color) >= 4.5);
            }
        }
    }

    #[test]
    fn a_color_is_written_with_six_digits() {
        assert_eq!(hex([0, 10, 255]), "#000aff");
    }
}
