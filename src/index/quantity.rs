//! Kubernetes quantities ("50M", "1.5Gi", "2e6", "100m") as whole numbers.

/// Why a text is no quantity that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It has no digits, or something follows them that is no known suffix.
    #[error(
        "\"{0}\" is no quantity: write a number with an optional suffix (k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei), such as 50M"
    )]
    Syntax(String),
    /// It does not fit into 64 bits, or is negative.
    #[error("quantity \"{0}\" is out of range: it must lie between 0 and 18446744073709551615")]
    Range(String),
}

/// The value of a quantity, rounded up to a whole number as Kubernetes does.
///
/// # Errors
/// Where the text is no quantity, is negative or does not fit.
pub fn parse(text: &str) -> Result<u64, QuantityError> {
    let syntax = || QuantityError::Syntax(text.to_owned());
    let range = || QuantityError::Range(text.to_owned());
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(syntax());
    }
    let (multiplier, divisor) = scale(suffix).ok_or_else(syntax)?;

    // value = digits * multiplier / (divisor * 10^decimals), in integers so that no digit is lost.
    let mut digits: u128 = 0;
    for digit in whole.chars().chain(fraction.chars()).filter_map(|c| c.to_digit(10)) {
        digits = digits.checked_mul(10).and_then(|d| d.checked_add(u128::from(digit))).ok_or_else(range)?;
    }
    let decimals = u32::try_from(fraction.len()).map_err(|_| range())?;
    let divisor = 10u128.checked_pow(decimals).and_then(|d| d.checked_mul(divisor)).ok_or_else(range)?;
    let value = digits.checked_mul(multiplier).ok_or_else(range)?.div_ceil(divisor);
    if negative && value > 0 {
        return Err(range());
    }
    u64::try_from(value).map_err(|_| range())
}

/// Multiplier and divisor of a suffix.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    const K: u128 = 1000;
    const KI: u128 = 1024;
    Some(match suffix {
        "n" => (1, K.pow(3)),
        "u" => (1, K.pow(2)),
        "m" => (1, K),
        "" => (1, 1),
        "k" => (K, 1),
        "M" => (K.pow(2), 1),
        "G" => (K.pow(3), 1),
        "T" => (K.pow(4), 1),
        "P" => (K.pow(5), 1),
        "E" => (K.pow(6), 1),
        "Ki" => (KI, 1),
        "Mi" => (KI.pow(2), 1),
        "Gi" => (KI.pow(3), 1),
        "Ti" => (KI.pow(4), 1),
        "Pi" => (KI.pow(5), 1),
        "Ei" => (KI.pow(6), 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let factor = 10u128.checked_pow(power.unsigned_abs())?;
            if power < 0 { (1, factor) } else { (factor, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_decimals_and_exponents() {
        for (text, value) in [
            ("0", 0),
            ("50M", 50_000_000),
            ("1k", 1000),
            ("1Ki", 1024),
            ("1.5Gi", 1_610_612_736),
            ("400G", 400_000_000_000),
            ("2T", 2_000_000_000_000),
            ("1Pi", 1 << 50),
            ("15E", 15_000_000_000_000_000_000),
            ("2e6", 2_000_000),
            ("2E6", 2_000_000),
            ("12e-1", 2),
            ("100m", 1),
            ("1500m", 2),
            ("+5", 5),
            (".5k", 500),
            ("5.", 5),
            ("-0", 0),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused_with_the_text() {
        for text in ["", ".", "M", "1X", "1 M", "1.2.3", "0x10", "1e", "1ee2", "--1", "ten", "1mi", "NaN"] {
            assert_eq!(parse(text), Err(QuantityError::Syntax(text.into())), "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let long = "9".repeat(60);
        for text in ["-1", "19E", "18446744073709551616", "1e30", long.as_str()] {
            assert_eq!(parse(text), Err(QuantityError::Range(text.into())), "{text}");
        }
    }
}
