//! `ramarket-inside`: see [`node_agent::inside`].

fn main() -> std::process::ExitCode {
    node_agent::inside::main()
}
