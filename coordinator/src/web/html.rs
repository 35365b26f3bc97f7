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

/// A page of ours: a title and what is below it, both HTML.
pub(super) fn page(title: &str, body: &str) -> String {
    whole(title, "", "", body)
}

/// A page whose head has this HTML besides.
pub(super) fn page_with(title: &str, head: &str, body: &str) -> String {
    whole(title, head, "", body)
}

/// A page that takes all the width; `head` is HTML that its head has besides.
pub(super) fn wide_page(title: &str, head: &str, body: &str) -> String {
    whole(title, head, " class=\"wide\"", body)
}

fn whole(title: &str, head: &str, class: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}: RAMarket</title>\n\
         <link rel=\"stylesheet\" href=\"/static/site.css\">\n{head}</head>\n<body>\n\
         <header><strong><a href=\"/\">RAMarket</a></strong></header>\n\
         <main id=\"main\"{class}>\n<h1>{title}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )
}

/// What went wrong, above a form.
pub(super) fn alert(said: &str) -> String {
    format!("<p role=\"alert\" id=\"said\">{}</p>\n", escape(said))
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
