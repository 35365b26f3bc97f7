//! Which paths a Rust file names, each written out from the root: `crate::domain::nodes::store::find`, `axum::Router`.
//!
//! `use` trees are taken apart, `self` and `super` and the names that a `use` or a `mod` brought in are replaced.

use std::collections::BTreeMap;

use super::source::{Source, is_word, words};

/// A path and the line that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// Its segments from the root.
    pub(super) segments: Vec<String>,
    /// The line, from 1.
    pub(super) line: usize,
}

impl Named {
    /// Whether the path starts with these segments.
    pub(super) fn starts_with(&self, first: &[&str]) -> bool {
        self.segments.len() >= first.len() && self.segments.iter().zip(first).all(|(a, b)| a == b)
    }

    /// The path as written in code.
    pub(super) fn text(&self) -> String {
        self.segments.join("::")
    }
}

/// The module of a file, for example `crate::domain::nodes` of `src/domain/nodes/mod.rs`. `path` is relative to `src`.
pub(super) fn module_of(path: &str) -> Vec<String> {
    let stem = path.trim_end_matches(".rs");
    let mut module = vec!["crate".to_owned()];
    module.extend(stem.split('/').map(str::to_owned));
    if matches!(
        module.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        module.pop();
    }
    module
}

/// Every path that the shipped part of `source` names; `module` is the file's own.
pub(super) fn named(source: &Source, module: &[String]) -> Vec<Named> {
    let code = &source.shipped;
    let mut aliases = BTreeMap::new();
    for (at, word) in words(code) {
        if word == "mod"
            && let Some((_, name)) = words(&code[at + 3..]).next()
        {
            let mut child = module.to_vec();
            child.push(name.to_owned());
            aliases.insert(name.to_owned(), child);
        }
    }
    let mut found = Vec::new();
    let mut uses = Vec::new();
    for (at, word) in words(code) {
        // `+ use<'a>` in a return type is no import
        if word != "use" || code[at + 3..].starts_with('<') {
            continue;
        }
        let end = code[at..]
            .find(';')
            .map_or(code.len(), |length| at + length);
        uses.push(at..end);
        let mut leaves = Vec::new();
        take_apart(&code[at + 3..end], &mut Vec::new(), &mut leaves);
        for (path, alias) in leaves {
            let segments = from_root(path, module, &aliases);
            aliases.insert(alias, segments.clone());
            found.push(Named {
                segments,
                line: source.line_of(at),
            });
        }
    }
    for (at, path) in inline(code) {
        if !uses.iter().any(|range| range.contains(&at)) {
            found.push(Named {
                segments: from_root(path, module, &aliases),
                line: source.line_of(at),
            });
        }
    }
    found
}

/// Splits a use tree into its leaves, each with the name that it brings in.
fn take_apart(tree: &str, prefix: &mut Vec<String>, leaves: &mut Vec<(Vec<String>, String)>) {
    let tree = tree.trim();
    if tree.is_empty() {
        return;
    }
    if let Some(inner) = tree.strip_prefix('{') {
        for part in split_list(inner.strip_suffix('}').unwrap_or(inner)) {
            take_apart(part, &mut prefix.clone(), leaves);
        }
        return;
    }
    if let Some((first, rest)) = tree.split_once("::")
        && !first.contains('{')
    {
        if !first.trim().is_empty() {
            prefix.push(first.trim().to_owned());
        }
        take_apart(rest, prefix, leaves);
        return;
    }
    let (name, alias) = tree.split_once(" as ").unwrap_or((tree, tree));
    if name.trim() != "self" || prefix.is_empty() {
        prefix.push(name.trim().to_owned());
    }
    let alias = match alias.trim() {
        "self" => prefix.last().cloned().unwrap_or_default(),
        alias => alias.to_owned(),
    };
    leaves.push((prefix.clone(), alias));
}

/// The parts between commas that are not inside braces.
fn split_list(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_i32, 0, Vec::new());
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&list[start..]);
    parts
}

/// Every `a::b…` in code, with its offset.
fn inline(code: &str) -> Vec<(usize, Vec<String>)> {
    let bytes = code.as_bytes();
    let mut found: Vec<(usize, Vec<String>)> = Vec::new();
    let mut end_of_last = 0;
    for (at, word) in words(code) {
        let joined = at >= 2 && &bytes[at - 2..at] == b"::";
        if joined
            && end_of_last + 2 == at
            && let Some((_, path)) = found.last_mut()
        {
            path.push(word.to_owned());
        } else if !joined {
            found.push((at, vec![word.to_owned()]));
        }
        end_of_last = at + word.len();
    }
    found.retain(|(at, path)| path.len() > 1 && (*at == 0 || !is_word(bytes[*at - 1])));
    found
}

/// Replaces `self`, `super` and names brought in.
fn from_root(
    path: Vec<String>,
    module: &[String],
    aliases: &BTreeMap<String, Vec<String>>,
) -> Vec<String> {
    let mut base = match path.first().map(String::as_str) {
        Some("self" | "super") => module.to_vec(),
        Some(first)
            if first != "crate"
                && let Some(full) = aliases.get(first) =>
        {
            let mut full = full.clone();
            full.extend_from_slice(&path[1..]);
            return full;
        }
        _ => return path,
    };
    let mut rest = path.as_slice();
    while let [first, tail @ ..] = rest {
        match first.as_str() {
            "super" => drop(base.pop()),
            "self" => {}
            _ => break,
        }
        rest = tail;
    }
    base.extend_from_slice(rest);
    base
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(path: &str, text: &str) -> Vec<String> {
        named(&Source::read(text), &module_of(path))
            .iter()
            .map(Named::text)
            .collect()
    }

    #[test]
    fn use_trees_are_taken_apart() {
        let found = texts(
            "domain/nodes/mod.rs",
            "pub use crate::{domain::{ledger, offers::model::{self, Offer as O}}, store::Tx};\nuse super::auth::*;\n",
        );
        assert_eq!(
            found,
            [
                "crate::domain::ledger",
                "crate::domain::offers::model",
                "crate::domain::offers::model::Offer",
                "crate::store::Tx",
                "crate::domain::auth::*",
            ]
        );
    }

    #[test]
    fn names_brought_in_are_written_out() {
        let found = texts(
            "domain/nodes/api.rs",
            "mod store;\nuse crate::domain::ledger as l;\nfn f() { l::store::find(super::store::x::<u8>(), store::y, self::z::<A>) }\nfn g() -> impl Fn() + use<> {}",
        );
        assert_eq!(
            found,
            [
                "crate::domain::ledger",
                "crate::domain::ledger::store::find",
                "crate::domain::nodes::store::x",
                "crate::domain::nodes::api::store::y",
                "crate::domain::nodes::api::z",
            ]
        );
    }

    #[test]
    fn tests_in_a_file_may_name_what_they_like() {
        assert!(texts("a.rs", "#[cfg(test)]\nmod tests { use axum::Router; }").is_empty());
    }
}
