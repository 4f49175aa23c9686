//! Runs one scenario inside a rig: `rigtest SCENARIO ADDRESS...`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let functions: Vec<String> = arguments.collect();
    match testkit::rig::run(&name, &functions, &|line| println!("{line}")) {
        Ok(()) => {
            println!("passed {name}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("FAILED {name}: {why}");
            ExitCode::FAILURE
        }
    }
}
