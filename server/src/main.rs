//! The `greenserve` program.

fn main() -> greenserve::ExitCode {
    greenserve::program()
}
