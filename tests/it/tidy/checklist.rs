//! Holds `docs/SECURITY-CHECKLIST.md`: each item of the standard's levels 1 and 2 is there once and at its level, says how it
//! stands and why, and the tests that it names exist.
//!
//! A test is named by its path, `module::function`: each part before the function is a folder, a file or a crate on the way to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use super::collect;

const LIST: &str = include_str!("../../../docs/SECURITY-CHECKLIST.md");
/// The sections of the Application Security Verification Standard 5.0.0, with the level of each of their items.
const LEVELS: [(&str, &str); 80] = [
    ("1.1", "22"),
    ("1.2", "1111122223"),
    ("1.3", "112222222223"),
    ("1.4", "222"),
    ("1.5", "123"),
    ("2.1", "122"),
    ("2.2", "112"),
    ("2.3", "12223"),
    ("2.4", "23"),
    ("3.1", "3"),
    ("3.2", "113"),
    ("3.3", "12223"),
    ("3.4", "11222233"),
    ("3.5", "11122333"),
    ("3.6", "3"),
    ("3.7", "22333"),
    ("4.1", "12233"),
    ("4.2", "23333"),
    ("4.3", "22"),
    ("4.4", "1222"),
    ("5.1", "2"),
    ("5.2", "112333"),
    ("5.3", "113"),
    ("5.4", "222"),
    ("6.1", "122"),
    ("6.2", "111111112222"),
    ("6.3", "11223333"),
    ("6.4", "112233"),
    ("6.5", "22222333"),
    ("6.6", "2223"),
    ("6.7", "33"),
    ("6.8", "2222"),
    ("7.1", "222"),
    ("7.2", "1111"),
    ("7.3", "22"),
    ("7.4", "11222"),
    ("7.5", "223"),
    ("7.6", "22"),
    ("8.1", "1233"),
    ("8.2", "1123"),
    ("8.3", "133"),
    ("8.4", "23"),
    ("9.1", "111"),
    ("9.2", "1222"),
    ("10.1", "22"),
    ("10.2", "223"),
    ("10.3", "22223"),
    ("10.4", "1111122222233333"),
    ("10.5", "22222"),
    ("10.6", "22"),
    ("10.7", "222"),
    ("11.1", "2233"),
    ("11.2", "22233"),
    ("11.3", "11233"),
    ("11.4", "1222"),
    ("11.5", "23"),
    ("11.6", "23"),
    ("11.7", "33"),
    ("12.1", "12233"),
    ("12.2", "11"),
    ("12.3", "22223"),
    ("13.1", "2333"),
    ("13.2", "222223"),
    ("13.3", "2233"),
    ("13.4", "1222233"),
    ("14.1", "22"),
    ("14.2", "12223333"),
    ("14.3", "122"),
    ("15.1", "12233"),
    ("15.2", "12233"),
    ("15.3", "1222222"),
    ("15.4", "3333"),
    ("16.1", "2"),
    ("16.2", "22222"),
    ("16.3", "2222"),
    ("16.4", "222"),
    ("16.5", "2223"),
    ("17.1", "23"),
    ("17.2", "22223333"),
    ("17.3", "22"),
];
/// How an item may stand.
const STANDS: [&str; 4] = ["met", "in part", "not met", "n/a"];

/// Where tests are, by the name of their function: the parts of the file's path.
type Tests = BTreeMap<String, Vec<BTreeSet<String>>>;

/// The items of levels 1 and 2, with their level.
fn wanted() -> BTreeMap<String, char> {
    let numbered = |(section, levels): &(&str, &'static str)| {
        let section = (*section).to_owned();
        let items = levels.chars().enumerate();
        items.map(move |(at, level)| (format!("{section}.{}", at + 1), level))
    };
    let all = LEVELS.iter().flat_map(numbered);
    all.filter(|(_, level)| *level != '3').collect()
}

/// The cells of each row that is about an item.
fn rows(list: &str) -> impl Iterator<Item = Vec<&str>> {
    list.lines()
        .filter(|line| line.starts_with("| "))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .filter(|cells: &Vec<&str>| cells[0].starts_with(|first: char| first.is_ascii_digit()))
}

/// The paths of tests that a text names between backticks.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let is_path = |word: &&str| {
        let of_names = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c);
        word.contains("::") && word.chars().all(of_names)
    };
    text.split('`').skip(1).step_by(2).filter(is_path)
}

fn exists(tests: &Tests, path: &str) -> bool {
    let mut parts: Vec<&str> = path.split("::").collect();
    let name = parts.pop().unwrap_or_default();
    tests.get(name).is_some_and(|places| {
        let lies_in = |place: &BTreeSet<String>| parts.iter().all(|part| place.contains(*part));
        places.iter().any(lies_in)
    })
}

/// What is wrong with the list.
fn faults(list: &str, tests: &Tests) -> Vec<String> {
    let mut missing = wanted();
    let mut found = Vec::new();
    for cells in rows(list) {
        let [item, level, asks, stands, shown] = cells[..] else {
            found.push(format!("{}: a row has five cells", cells[0]));
            continue;
        };
        match missing.remove(item) {
            Some(wanted) if level == wanted.to_string() => {}
            Some(wanted) => found.push(format!("{item} is of level {wanted}")),
            None => found.push(format!(
                "{item} is there twice, or isn't an item of level 1 or 2"
            )),
        }
        if !STANDS.contains(&stands) {
            found.push(format!("{item}: how it stands is one of {STANDS:?}"));
        }
        if asks.is_empty() || shown.is_empty() {
            found.push(format!("{item} lacks a reason"));
        }
        let unknown = named(shown).filter(|path| !exists(tests, path));
        found.extend(unknown.map(|path| format!("{item}: there is no test {path}")));
    }
    found.extend(missing.keys().map(|item| format!("{item} is missing")));
    found
}

/// The tests of a file: functions with the attribute, and those that a macro makes tests of.
fn tests_of(text: &str) -> impl Iterator<Item = &str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let by_macro: BTreeSet<&str> = text
        .split("on_both_stores!(")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .flat_map(|names| names.split(|c| !is_name(c)))
        .collect();
    let parts: Vec<(usize, &str)> = text.match_indices("fn ").collect();
    parts.into_iter().filter_map(move |(at, _)| {
        let name = text[at + 3..].split(|c| !is_name(c)).next()?;
        let before = &text[..at];
        // its attributes begin behind the item before it
        let start = before.rfind(['}', ';', '{']).map_or(0, |end| end + 1);
        let is_test = ["#[test]", "#[tokio::test"]
            .iter()
            .any(|attribute| before[start..].contains(attribute));
        (is_test || by_macro.contains(name)).then_some(name)
    })
}

fn all_tests() -> Tests {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    let mut tests = Tests::new();
    for path in paths
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
    {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let relative = path.strip_prefix(&root).unwrap().with_extension("");
        let parts: BTreeSet<String> = relative
            .iter()
            .map(|part| part.to_string_lossy().replace('-', "_"))
            .collect();
        for name in tests_of(&text) {
            tests
                .entry(name.to_owned())
                .or_default()
                .push(parts.clone());
        }
    }
    tests
}

#[test]
fn every_item_is_there_and_every_test_that_it_names_exists() {
    assert_eq!(wanted().len(), 253, "70 items of level 1, 183 of level 2");
    let faults = faults(LIST, &all_tests());
    assert!(
        faults.is_empty(),
        "docs/SECURITY-CHECKLIST.md is wrong here:\n{}",
        faults.join("\n")
    );
    let tests: BTreeSet<&str> = rows(LIST).flat_map(|cells| named(cells[4])).collect();
    assert!(tests.len() > 100, "it names {} tests", tests.len());
}

#[test]
fn what_is_wrong_with_a_list_is_found() {
    let source =
        "#[test]\nfn here() {}\n\nfn helper() {}\non_both_stores!(both);\nasync fn both() {}\n";
    let parts = BTreeSet::from(["auth".to_owned(), "tests".to_owned()]);
    let tests: Tests = tests_of(source)
        .map(|name| (name.to_owned(), vec![parts.clone()]))
        .collect();
    let all = |word: &str| {
        let row = |(item, level)| format!("| {item} | {level} | asks | met | {word} |\n");
        wanted().into_iter().map(row).collect::<String>()
    };
    let good = all("`auth::tests::here`, `auth::both`, `a = \"b\"`");
    assert_eq!(faults(&good, &tests), Vec::<String>::new());
    for (bad, fault) in [
        (good.replace("| 6.2.1 |", "| 6.2.2 |"), "6.2.1 is missing"),
        (
            good.replace("| 6.2.1 |", "| 6.2.2 |"),
            "6.2.2 is there twice",
        ),
        (
            good.replace("| 1.1.1 | 2", "| 1.1.1 | 1"),
            "1.1.1 is of level 2",
        ),
        (good.replace("| met |", "| nearly |"), "how it stands"),
        (good.replace("| asks |", "|"), "five cells"),
        (good.replace("| asks |", "| |"), "lacks a reason"),
        (all(""), "lacks a reason"),
        (all("`auth::tests::gone`"), "no test auth::tests::gone"),
        (all("`auth::helper`"), "no test auth::helper"),
        (all("`oidc::tests::here`"), "no test oidc::tests::here"),
        (
            format!("{good}| 3.1.1 | 3 | asks | met | it |"),
            "3.1.1 is there twice, or isn't",
        ),
    ] {
        let found = faults(&bad, &tests);
        assert!(
            found.iter().any(|line| line.contains(fault)),
            "{fault}: {:?}",
            found.first()
        );
    }
}
