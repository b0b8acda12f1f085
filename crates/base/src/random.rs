//! The one door to chance. Everything is drawn from the operating system through the same provider the cipher uses.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};

/// Fills `bytes` with random bytes fit for keys.
pub fn fill_random(bytes: &mut [u8]) {
    SystemRandom::new()
        .fill(bytes)
        .expect("the operating system's random source answers; without it nothing may go on");
}

/// `bytes` random bytes as lower-case hex, for names.
pub fn random_hex(bytes: usize) -> String {
    use std::fmt::Write as _;
    let mut raw = vec![0u8; bytes];
    fill_random(&mut raw);
    raw.iter().fold(String::with_capacity(bytes * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

/// A number in `0.0 .. 1.0`, for jitter.
pub fn random_unit() -> f64 {
    let mut raw = [0u8; 4];
    fill_random(&mut raw);
    f64::from(u32::from_le_bytes(raw)) / (f64::from(u32::MAX) + 1.0)
}
