//! Passwords that attackers try first, told apart by rule: a password is refused when it falls into at most
//! [`PIECES_MAX`] guessable pieces: a common word or name (letters written as digits included), a walk over the keyboard, a
//! number, one character repeated, or a part of the account's address.
//!
//! The word list has some six hundred entries, written for this check. It isn't a list of breached passwords: it covers the patterns of
//! those that head such lists, and misses a long password that is known only because it leaked.

use std::{collections::HashSet, sync::OnceLock};

/// A password of so many guessable pieces is refused.
const PIECES_MAX: usize = 3;
/// Longer ones are no word with a number behind it.
const LOOKED_AT_CHARS_MAX: usize = 32;
const WORD_CHARS_MAX: usize = 16;
const WORDS: &str = include_str!("common_words.txt");
const WALKS: [&str; 14] = [
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "qwertzuiop",
    "yxcvbnm",
    "azertyuiop",
    "qsdfghjklm",
    "wxcvbn",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
    "1q2w3e4r5t6y7u8i9o0p",
    "qazwsxedcrfvtgbyhnujm",
    "!@#$%^&*()",
];

/// Whether `password` is one that attackers try first; `email` is the address of its account, if there is one.
#[must_use]
pub(super) fn is_guessable(password: &str, email: Option<&str>) -> bool {
    let chars: Vec<char> = password.to_lowercase().chars().collect();
    if chars.len() > LOOKED_AT_CHARS_MAX {
        return repeats(&chars);
    }
    let own: Vec<String> = email
        .into_iter()
        .flat_map(|email| email.split(|c: char| !c.is_alphanumeric()))
        .filter(|part| part.len() >= 3)
        .map(str::to_lowercase)
        .collect();
    repeats(&chars) || pieces(&chars, &own).is_some_and(|count| count <= PIECES_MAX)
}

/// The least number of guessable pieces that make up `chars`; nothing when they don't.
fn pieces(chars: &[char], own: &[String]) -> Option<usize> {
    let mut least: Vec<Option<usize>> = vec![None; chars.len() + 1];
    least[0] = Some(0);
    for start in 0..chars.len() {
        let Some(before) = least[start] else { continue };
        for end in start + 1..=chars.len() {
            let Some(cost) = cost_of(&chars[start..end], own) else {
                continue;
            };
            let count = before + cost;
            if least[end].is_none_or(|known| count < known) {
                least[end] = Some(count);
            }
        }
    }
    least[chars.len()]
}

/// What a piece counts for; nothing when it isn't guessable. A sign or two between the others is free.
fn cost_of(piece: &[char], own: &[String]) -> Option<usize> {
    let all = |is: fn(char) -> bool| piece.iter().all(|c| is(*c));
    if piece.len() <= 2 && all(|c| c.is_ascii_punctuation() || c == ' ') {
        return Some(0);
    }
    let is_number = piece.len() <= 8 && all(|c| c.is_ascii_digit());
    let is_one_char = piece.len() >= 3 && piece.iter().all(|c| *c == piece[0]);
    (is_number || is_one_char || is_walk(piece) || is_word(piece, own)).then_some(1)
}

fn is_walk(piece: &[char]) -> bool {
    let there: String = piece.iter().collect();
    let back: String = piece.iter().rev().collect();
    let on = |walk: &str| walk.contains(&there) || walk.contains(&back);
    piece.len() >= 3 && WALKS.iter().any(|walk| on(walk))
}

fn is_word(piece: &[char], own: &[String]) -> bool {
    static KNOWN: OnceLock<HashSet<&str>> = OnceLock::new();
    let words = KNOWN.get_or_init(|| WORDS.split_whitespace().collect());
    if piece.len() > WORD_CHARS_MAX.max(own.iter().map(String::len).max().unwrap_or(0)) {
        return false;
    }
    let known = |text: &str| words.contains(text) || own.iter().any(|part| part == text);
    let plain: String = piece.iter().collect();
    known(&plain) || known(&letters(piece, 'i')) || known(&letters(piece, 'l'))
}

/// Digits and signs as the letters that they stand for; `one` is what a 1 stands for.
fn letters(piece: &[char], one: char) -> String {
    let letter = |c: &char| match c {
        '0' => 'o',
        '1' | '!' => one,
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        other => *other,
    };
    piece.iter().map(letter).collect()
}

/// Few different characters, or a short part again and again.
fn repeats(chars: &[char]) -> bool {
    let different: HashSet<&char> = chars.iter().collect();
    let again = |part: usize| {
        chars
            .iter()
            .zip(chars.iter().skip(part))
            .all(|(one, next)| one == next)
    };
    different.len() <= 3 || (1..=4).any(|part| chars.len() >= 2 * part && again(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_heads_every_list_is_refused() {
        for password in [
            "password",
            "Password1",
            "P@ssw0rd",
            "passw0rd123!",
            "12345678",
            "123456789",
            "11111111",
            "qwertyuiop",
            "qwerty123",
            "1qaz2wsx",
            "1q2w3e4r",
            "iloveyou",
            "ILoveYou2",
            "letmein1",
            "Welcome2026!",
            "Summer2026",
            "dragon123",
            "monkey12",
            "football1",
            "superman",
            "trustno1",
            "abc12345",
            "abcd1234",
            "aaaaaaaa",
            "abababab",
            "87654321",
            "admin123",
            "Admin@123",
            "michelle",
            "jordan23",
            "michael1",
            "changeme",
            "asdfghjkl",
            "test1234",
            "baseball",
            "princess1",
            "sunshine",
            "starwars",
            "00000000",
            "password password",
            "Berlin2024",
            "01011990",
        ] {
            assert!(is_guessable(password, None), "{password}");
        }
    }

    #[test]
    fn ones_own_address_is_refused() {
        let email = Some("ada.lovelace@countess.example");
        for password in [
            "lovelace",
            "Lovelace1815",
            "ada.lovelace",
            "ada@countess",
            "l0vel4ce!!",
        ] {
            assert!(is_guessable(password, email), "{password}");
        }
        assert!(!is_guessable("lovelace likes looms", email));
    }

    #[test]
    fn what_is_hard_to_guess_passes() {
        for password in [
            "a long password",
            "a long password of tests",
            "a wrong password",
            "correct horse battery staple",
            "kX9#vQ2m",
            "c0d4f1e9a7b3",
            "Tr0ub4dor&3 was weak",
            "ünïcödé wörter",
            "v7kq2pz8",
        ] {
            assert!(!is_guessable(password, None), "{password}");
        }
        assert!(is_guessable(&"ab".repeat(128), None));
    }

    #[test]
    fn the_longest_password_takes_no_time() {
        let long: String = (0..256_u32)
            .filter_map(|n| char::from_u32(33 + n % 90))
            .collect();
        assert!(!is_guessable(&long, Some("ada@example.org")));
    }
}
