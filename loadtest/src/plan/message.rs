//! A whole message, for those who append rather than send.

/// A message of about `size` bytes that is like no other, with the end of data.
pub fn message(number: usize, size: usize) -> Vec<u8> {
    let mut text = format!(
        "From: load@load.test\r\nTo: someone@load.test\r\nSubject: load {number}\r\n\
         Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{number}@load.test>\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    )
    .into_bytes();
    // A cheap generator: bodies that differ everywhere, in lines of 72 characters.
    let mut state = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    while text.len() + 5 < size {
        for _ in 0..72.min(size.saturating_sub(text.len() + 7)).max(1) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.push(b'a' + (state % 26) as u8);
        }
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b".\r\n");
    text
}
