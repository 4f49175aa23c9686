//! Runs a command in a rig: `lab RIG COMMAND…`.

use host::{Sysroot, SystemRunner};
use std::path::Path;

fn main() {
    if lab::init::is_inside() {
        let error = lab::init::run().unwrap_err();
        eprintln!("{error:?}");
        return;
    }
    let mut args = std::env::args().skip(1);
    let host = Sysroot::host().unwrap();
    let rig = lab::rig::Rig::find(&host, &args.next().unwrap()).unwrap();
    let dir = std::env::var_os("KIREJI_LAB_DIR").unwrap();
    let tools = lab::tools::Tools::provisioned(&host, Path::new(&dir)).unwrap();
    let program = std::env::current_exe().unwrap();
    let command: Vec<String> = args.collect();
    let request = lab::run::Request {
        rig: &rig,
        tools: &tools,
        program: &program,
        command: &command,
        environment: &[],
        put: &[],
        kernel: None,
        time_limit: None,
        kvm: false,
        console: Some(Path::new("/tmp/labx/console.log")),
        cancel: None,
    };
    match lab::run::run(
        &host,
        &SystemRunner,
        request,
        &mut std::io::stdout(),
        &mut std::io::stderr(),
    ) {
        Ok(ended) => {
            eprintln!("{ended:?}");
            std::process::exit(ended.code)
        }
        Err(error) => {
            eprintln!("{error} ({error:?})");
            std::process::exit(90)
        }
    }
}
