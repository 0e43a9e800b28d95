//! Gateway API durations ("24h", "1h30m", "90s", "500ms") as whole seconds.

/// The seconds of a duration, rounded up.
///
/// # Errors
/// Where the text is no duration, as a sentence.
pub fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no duration: write numbers with h, m, s or ms, such as 24h or 1h30m");
    let mut milliseconds: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(end);
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let factor = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1000,
            "ms" => 1,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        milliseconds = number.checked_mul(factor).and_then(|part| milliseconds.checked_add(part)).ok_or_else(wrong)?;
        rest = tail;
    }
    if milliseconds == 0 { Err(wrong()) } else { Ok(milliseconds.div_ceil(1000)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_summed_and_rounded_up() {
        for (text, expected) in [("24h", 86_400), ("1h30m", 5400), ("90s", 90), ("1500ms", 2), ("1s1ms", 2)] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_the_text() {
        for text in ["", "0s", "5", "h", "1d", "1.5h", "-1h", "1h-1m", "99999999999999999999h"] {
            assert!(seconds(text).is_err_and(|e| e.starts_with(&format!("{text:?} is no duration"))), "{text}");
        }
    }
}
