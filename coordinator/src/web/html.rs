//! Text into HTML.

/// `text` with everything escaped that means something in HTML, in an element or in a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_escapes() {
        assert_eq!(
            super::escape("<a href=\"x\" on='y'>&"),
            "&lt;a href=&quot;x&quot; on=&#39;y&#39;&gt;&amp;"
        );
    }
}
