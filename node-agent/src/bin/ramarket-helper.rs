//! `ramarket-helper`: see [`node_agent::boundary`].

fn main() -> std::process::ExitCode {
    node_agent::runtime::network::probe::asked().unwrap_or_else(node_agent::boundary::program::main)
}
