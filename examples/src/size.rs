//! Sizes as people write them: `256M`, `1G`, `4096K`, or plain bytes.

use core::fmt;

/// Why a text is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeError {
    /// Not a whole number with an optional K, M, G or T.
    Malformed,
    /// More bytes than a 64-bit number holds.
    TooLarge,
}

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "a size is a whole number of bytes, or of K, M, G or T (such as 256M)",
            Self::TooLarge => "larger than any memory",
        })
    }
}

impl core::error::Error for SizeError {}

/// Reads a size in bytes; K, M, G and T are powers of 1024.
///
/// # Errors
/// [`SizeError`] where it is none, or does not fit.
pub fn parse(text: &str) -> Result<u64, SizeError> {
    let (number, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (text.get(..text.len() - 1), 10),
        Some(b'M' | b'm') => (text.get(..text.len() - 1), 20),
        Some(b'G' | b'g') => (text.get(..text.len() - 1), 30),
        Some(b'T' | b't') => (text.get(..text.len() - 1), 40),
        _ => (Some(text), 0),
    };
    let number = number.ok_or(SizeError::Malformed)?;
    // `parse` would accept a plus sign.
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(SizeError::Malformed);
    }
    let number: u64 = number.parse().map_err(|_| SizeError::TooLarge)?;
    number.checked_mul(1 << shift).ok_or(SizeError::TooLarge)
}

/// Reads a number in decimal, or with `0x` before it.
pub(crate) fn number(text: &str) -> Result<u64, core::num::ParseIntError> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    }
}

/// Reads a whole number, also one that is written with an exponent.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    let wrong = || "a whole number, such as 10000000 or 1e7".to_owned();
    let Some((digits, exponent)) = text.split_once(['e', 'E']) else {
        return text.parse().map_err(|_| wrong());
    };
    let (digits, exponent): (u64, u32) = (
        digits.parse().map_err(|_| wrong())?,
        exponent.parse().map_err(|_| wrong())?,
    );
    let power = 10u64.checked_pow(exponent);
    power
        .and_then(|power| digits.checked_mul(power))
        .ok_or_else(|| "more than can be counted".to_owned())
}

/// Prints a size in bytes with the unit that keeps it short.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            let whole = self.0 >> shift;
            if whole > 0 {
                let tenth = ((self.0 - (whole << shift)) >> (shift - 10)) * 10 / 1024;
                return if tenth == 0 || whole >= 100 {
                    write!(f, "{whole} {unit}")
                } else {
                    write!(f, "{whole}.{tenth} {unit}")
                };
            }
        }
        write!(f, "{} bytes", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_bytes_and_powers_of_1024() {
        assert_eq!(parse("256M"), Ok(256 << 20));
        assert_eq!(parse("1G"), Ok(1 << 30));
        assert_eq!(parse("4096K"), Ok(4 << 20));
        assert_eq!(parse("8m"), Ok(8 << 20));
        assert_eq!(parse("12345"), Ok(12345));
        assert_eq!(parse("0"), Ok(0));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "M", "-1", "+1", "1.5G", "12MB", "0x10", " 1", "1 M", "é"] {
            assert_eq!(parse(text), Err(SizeError::Malformed), "{text:?}");
        }
        for text in ["99999999999999999999", "99999999T"] {
            assert_eq!(parse(text), Err(SizeError::TooLarge), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_printed_short() {
        assert_eq!(Bytes(0).to_string(), "0 bytes");
        assert_eq!(Bytes(4096).to_string(), "4 KiB");
        assert_eq!(Bytes(3 << 29).to_string(), "1.5 GiB");
        assert_eq!(Bytes(u64::MAX).to_string(), "16777215 TiB");
    }
}
