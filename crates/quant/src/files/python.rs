//! JSON as Python writes it.

/// A number as `json.dumps` writes it: the shortest digits that say it, an exponent below 1e-4 and from 1e16.
pub(crate) fn number(x: f64) -> String {
    let scientific = format!("{x:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific; // not finite: the callers refuse it
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = x.to_string();
        return if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// A list of sizes as `json.dumps` writes it.
pub(crate) fn sizes(sizes: &[usize]) -> String {
    let sizes: Vec<String> = sizes.iter().map(usize::to_string).collect();
    format!("[{}]", sizes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_written_as_python_does() {
        // CPython 3.11: json.dumps of each.
        for (x, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.142_532_765_865_325_93, "0.14253276586532593"),
            (0.0001, "0.0001"),
            (0.000_099_9, "9.99e-05"),
            (1e-5, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (1.401_298_464_324_817e-45, "1.401298464324817e-45"),
            (5e-324, "5e-324"),
            (123_456_789_012_345.6, "123456789012345.6"),
            (9_007_199_254_740_993.0, "9007199254740992.0"),
            (1e16, "1e+16"),
            (3.402_823_466_385_288_6e38, "3.4028234663852886e+38"),
            (1.7e308, "1.7e+308"),
        ] {
            assert_eq!(number(x), text);
        }
    }
}
