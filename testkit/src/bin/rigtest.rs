//! Runs scenarios inside a rig, one after the other: `rigtest SCENARIO ADDRESS... + SCENARIO ...`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    for words in arguments.split(|word| word == "+") {
        let (name, functions) =
            words.split_first().map_or(("", words), |(name, rest)| (name, rest));
        match testkit::rig::run(name, functions, &|line| println!("{line}")) {
            Ok(()) => println!("passed {name}"),
            Err(why) => {
                println!("FAILED {name}: {why}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
