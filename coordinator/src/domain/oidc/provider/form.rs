//! Text as forms and queries want it.

/// `application/x-www-form-urlencoded`.
pub(super) fn form(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(key, value)| format!("{key}={}", encoded(value)))
        .collect();
    pairs.join("&")
}

/// Text for a form or a query: everything but RFC 3986's unreserved characters as `%XX`.
pub fn encoded(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
            out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_sent_is_escaped() {
        let pairs = [("a", "x y&b=ü"), ("c", "-._~/+%")];
        assert_eq!(super::form(&pairs), "a=x%20y%26b%3D%C3%BC&c=-._~%2F%2B%25");
    }
}
