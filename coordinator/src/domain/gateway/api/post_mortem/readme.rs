//! What the archive says of itself.

use std::fmt::Write as _;

use shared::id::RentalId;

use super::parts::Part;

/// The text of `README.txt`.
pub(super) fn text(id: RentalId, parts: &[Part]) -> String {
    let mut text = format!("What is kept of the rental {id}, which is over.\n\nHere is:\n");
    for part in parts.iter().filter(|part| part.file.is_some()) {
        line(&mut text, part.name, part.what);
    }
    let missing: Vec<(&str, &str)> = parts
        .iter()
        .filter_map(|part| Some((part.name, part.missing.as_deref()?)))
        .collect();
    if missing.is_empty() {
        text.push_str("\nNothing is missing.\n");
    } else {
        text.push_str("\nMissing, or not whole:\n");
        for (name, why) in missing {
            line(&mut text, name, why);
        }
    }
    text.push_str(
        "\nTimes are UTC. A file that ends with .jsonl has a JSON object on each line, oldest first.\n\
         Logs and samples are kept by the rental's node for 7 days after its end as a rule, within its space; the rest is kept by the market.\n\
         Check the bill against what the node signed:  ramarket receipts verify receipts.json\n",
    );
    text
}

fn line(text: &mut String, name: &str, said: &str) {
    // writing into a string can't fail
    let _ = writeln!(text, "  {name:<14} {said}");
}

#[cfg(test)]
mod tests {
    use shared::id::Ids;

    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_reason() {
        let part = |name, missing: Option<&str>| Part {
            name,
            what: "lines",
            file: None,
            missing: missing.map(str::to_owned),
        };
        let id = Ids::counting().mint();
        let whole = text(id, &[part("logs.jsonl", None)]);
        assert!(whole.contains("Nothing is missing") && whole.contains(&id.to_string()));
        let cut = text(id, &[part("logs.jsonl", Some("its node is away"))]);
        assert!(
            cut.contains("logs.jsonl     its node is away") && !cut.contains("Nothing is missing"),
            "{cut}"
        );
    }
}
