//! Rebuilds when a migration is added: the macro that embeds them sees only the files that were there before.

fn main() {
    for folder in ["sqlite", "postgres"] {
        println!("cargo:rerun-if-changed=../migrations/{folder}");
    }
}
