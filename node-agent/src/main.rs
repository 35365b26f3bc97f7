//! `ramarket-agent`: see [`node_agent::cli`].

fn main() -> std::process::ExitCode {
    node_agent::runtime::network::probe::asked().unwrap_or_else(node_agent::cli::main)
}
