//! `ramarket-helper`: see [`node_agent::boundary`].

fn main() -> std::process::ExitCode {
    node_agent::boundary::program::main()
}
