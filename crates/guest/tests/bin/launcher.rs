//! The launcher alone: a launch, `--`, a program and its arguments. As `start -- USER` it is a
//! parent instead: it starts itself as the launcher of a long sleep, tells its number and sleeps.

use std::ffi::OsString;
use std::process::{Command, ExitCode};
use std::time::Duration;

use kireji_guest::launch::{Launch, exec};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some((first, program)) = arguments.next().zip(arguments.nth(1)) else {
        return ExitCode::from(2);
    };
    if first == "start" {
        return parent(&program);
    }
    let Some(launch) = first.to_str().and_then(|text| Launch::from_argument(text).ok()) else {
        return ExitCode::from(2);
    };
    let arguments: Vec<OsString> = arguments.collect();
    let _failure = exec(&launch, &program, &arguments);
    ExitCode::from(70)
}

fn parent(user: &OsString) -> ExitCode {
    let launch = Launch {
        parent: std::process::id(),
        locked_memory: None,
        open: vec![],
        user: user.to_str().and_then(|text| serde_json::from_str(text).ok()).flatten(),
        environment: [].into(),
    };
    let (Ok(program), Ok(launch)) = (std::env::current_exe(), launch.to_argument()) else {
        return ExitCode::from(2);
    };
    let started = Command::new(program).args([&*launch, "--", "sleep", "600"]).spawn();
    let Ok(child) = started else { return ExitCode::from(2) };
    println!("{}", child.id());
    std::thread::sleep(Duration::from_secs(600));
    ExitCode::SUCCESS
}
