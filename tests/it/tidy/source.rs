//! One Rust file as the tidy rules see it: where its code, its strings and its functions are.
//!
//! Not a compiler: a lexer that knows strings, raw strings, character literals, lifetimes and nested comments, which is
//! what it takes to count braces and to read paths without being fooled by text.
//!
//! # Invariants
//! - [`Source::code`] and [`Source::shipped`] have the same length and the same line breaks as the file.

/// A string literal in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Literal {
    /// Byte offset of its opening quote (or of the `r`, `b` or `c` before it).
    pub(super) start: usize,
    /// What stands between the quotes, escapes as written.
    pub(super) text: String,
}

/// A function and the lines that it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Function {
    /// Its name.
    pub(super) name: String,
    /// Line of the `fn` keyword, from 1.
    pub(super) line: usize,
    /// Lines from `fn` to the closing brace, both counted.
    pub(super) lines: usize,
}

/// A file, cut up.
#[derive(Debug)]
pub(super) struct Source {
    /// The file as it is.
    pub(super) text: String,
    /// The file with comments and the inside of literals blanked.
    pub(super) code: String,
    /// As [`Source::code`], without what is compiled for tests only.
    pub(super) shipped: String,
    /// Its string literals, in order.
    pub(super) literals: Vec<Literal>,
}

impl Source {
    /// Cuts up a file.
    pub(super) fn read(text: &str) -> Self {
        let (code, literals) = blank(text);
        let shipped = without_tests(&code);
        Self {
            text: text.to_owned(),
            code,
            shipped,
            literals,
        }
    }

    /// The line, from 1, of a byte offset.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        line_of(&self.code, offset)
    }

    /// Every function that has a body.
    pub(super) fn functions(&self) -> Vec<Function> {
        words(&self.code)
            .filter(|(_, word)| *word == "fn")
            .filter_map(|(at, _)| function_at(&self.code, at))
            .collect()
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
        + 1
}

/// Whether a byte can stand in an identifier.
pub(super) const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The identifiers and numbers of blanked code, with their offsets.
pub(super) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let bytes = code.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() && !is_word(bytes[at]) {
            at += 1;
        }
        let start = at;
        while at < bytes.len() && is_word(bytes[at]) {
            at += 1;
        }
        (at > start).then(|| (start, &code[start..at]))
    })
}

/// The offset just behind the brace that closes the one at `open`.
pub(super) fn behind_block(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return Some(at + 1),
            b'}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

fn function_at(code: &str, keyword: usize) -> Option<Function> {
    let (_, name) = words(&code[keyword + 2..]).next()?;
    // `fn(u32) -> u32` is a type
    if code[keyword + 2..].trim_start().starts_with('(') {
        return None;
    }
    let mut nesting = 0_i32;
    for (at, byte) in code.bytes().enumerate().skip(keyword) {
        match byte {
            b'(' | b'[' => nesting += 1,
            b')' | b']' => nesting -= 1,
            b';' if nesting == 0 => return None,
            b'{' if nesting == 0 => {
                let line = line_of(code, keyword);
                let last = line_of(code, behind_block(code, at)? - 1);
                return Some(Function {
                    name: name.to_owned(),
                    line,
                    lines: last - line + 1,
                });
            }
            _ => {}
        }
    }
    None
}

/// Blanks each item behind `#[cfg(test)]`: a block, or up to the semicolon.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = code.to_owned();
    let mut from = 0;
    while let Some(found) = kept[from..].find(MARK) {
        let start = from + found;
        let body = start + MARK.len();
        let end = match kept[body..].find(['{', ';']) {
            Some(at) if kept.as_bytes()[body + at] == b'{' => behind_block(&kept, body + at),
            Some(at) => Some(body + at + 1),
            None => None,
        }
        .unwrap_or(kept.len());
        let blanked: String = kept[start..end]
            .bytes()
            .map(|byte| if byte == b'\n' { '\n' } else { ' ' })
            .collect();
        kept.replace_range(start..end, &blanked);
        from = end;
    }
    kept
}

/// What a lexer stands in.
enum Piece {
    Code,
    Blank,
    Text { from: usize, to: usize },
}

fn blank(text: &str) -> (String, Vec<Literal>) {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut literals = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let (end, piece) = piece_at(bytes, at);
        match piece {
            Piece::Code => code.extend_from_slice(&bytes[at..end]),
            Piece::Blank => code.extend(bytes[at..end].iter().map(blanked)),
            Piece::Text { from, to } => {
                literals.push(Literal {
                    start: at,
                    text: text[from..to].to_owned(),
                });
                code.extend(bytes[at..from].iter().map(|_| b'"'));
                code.extend(bytes[from..to].iter().map(blanked));
                code.extend(bytes[to..end].iter().map(|_| b'"'));
            }
        }
        at = end;
    }
    // what is left of non-ASCII text are bytes of identifiers, which we don't use: replace them
    let code = code
        .into_iter()
        .map(|byte| {
            if byte.is_ascii() {
                char::from(byte)
            } else {
                ' '
            }
        })
        .collect();
    (code, literals)
}

const fn blanked(byte: &u8) -> u8 {
    if *byte == b'\n' { b'\n' } else { b' ' }
}

/// The piece that starts at `at`, and where it ends.
fn piece_at(bytes: &[u8], at: usize) -> (usize, Piece) {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        let end = rest.iter().position(|byte| *byte == b'\n');
        return (at + end.unwrap_or(rest.len()), Piece::Blank);
    }
    if rest.starts_with(b"/*") {
        return (at + comment_length(rest), Piece::Blank);
    }
    if rest[0] == b'\'' {
        return match character_length(rest) {
            Some(length) => (at + length, Piece::Blank),
            None => (at + 1, Piece::Code),
        };
    }
    let behind_word = at > 0 && is_word(bytes[at - 1]);
    let prefix = rest.iter().take_while(|byte| b"bcr".contains(byte)).count();
    if (rest[0] == b'"' || !behind_word) && prefix <= 2 {
        let raw = rest[..prefix].contains(&b'r');
        let hashes = if raw {
            rest[prefix..]
                .iter()
                .take_while(|byte| **byte == b'#')
                .count()
        } else {
            0
        };
        if rest.get(prefix + hashes) == Some(&b'"') {
            let from = prefix + hashes + 1;
            let to = from + text_length(&rest[from..], raw, hashes);
            let end = (to + 1 + hashes).min(rest.len());
            return (
                at + end,
                Piece::Text {
                    from: at + from,
                    to: at + to,
                },
            );
        }
    }
    (at + 1, Piece::Code)
}

fn comment_length(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of a character literal, or none when a lifetime stands here.
fn character_length(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        let close = rest.iter().skip(3).position(|byte| *byte == b'\'')?;
        return Some(close + 4);
    }
    // one character of one to four bytes
    (2..=5)
        .find(|close| rest.get(*close) == Some(&b'\''))
        .filter(|close| *close == 2 || !rest[1].is_ascii())
}

fn text_length(rest: &[u8], raw: bool, hashes: usize) -> usize {
    let mut at = 0;
    while at < rest.len() {
        match rest[at] {
            b'\\' if !raw => at += 2,
            b'"' if rest[at + 1..]
                .iter()
                .take_while(|byte| **byte == b'#')
                .count()
                >= hashes =>
            {
                return at;
            }
            _ => at += 1,
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comments_and_characters_are_blanked_and_lifetimes_are_not() {
        let source = Source::read(
            "let a = \"x { \\\" y\"; // {\nlet b = r#\"{ \" }\"#; /* { /* { */ */ let c: &'a str = b\"}\"; let d = '{'; let e = '\\'';",
        );
        assert!(!source.code.contains(['{', '}']), "{}", source.code);
        assert_eq!(source.code.len(), source.text.len());
        assert!(source.code.contains("&'a str"));
        let texts: Vec<_> = source.literals.iter().map(|l| l.text.as_str()).collect();
        assert_eq!(texts, ["x { \\\" y", "{ \" }", "}"]);
    }

    #[test]
    fn functions_are_measured_to_their_closing_brace() {
        let source = Source::read(
            "trait T { fn no_body(&self, f: fn(u8) -> [u8; 2]); }\nasync fn long<'a>(x: [u8; 3]) -> u8\nwhere u8: Copy,\n{\n  if x { \"}\" }\n}\nfn one() {}\n",
        );
        let found: Vec<_> = source
            .functions()
            .into_iter()
            .map(|f| (f.name, f.line, f.lines))
            .collect();
        assert_eq!(found, [("long".to_owned(), 2, 5), ("one".to_owned(), 7, 1)]);
    }

    #[test]
    fn what_is_compiled_for_tests_only_is_not_shipped() {
        let source = Source::read(
            "use a;\n#[cfg(test)]\nuse b;\n#[cfg(test)]\nmod tests { use c; fn x() {} }\nuse d;\n",
        );
        let kept: Vec<_> = words(&source.shipped).map(|(_, word)| word).collect();
        assert_eq!(kept, ["use", "a", "use", "d"]);
        assert_eq!(source.shipped.len(), source.text.len());
    }
}
