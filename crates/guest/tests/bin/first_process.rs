//! The first process of the reference guest alone; kireji has it built in.

use std::process::ExitCode;

fn main() -> ExitCode {
    if !guest::linux::init::is_inside() {
        return ExitCode::from(2);
    }
    let Err(error) = guest::linux::init::run();
    eprintln!("{error}");
    ExitCode::FAILURE
}
