//! How a person gets into the guest of a run with ssh.
//!
//! Each run has a key pair of its own, and its guest a host key that is known beforehand, so that
//! nobody is asked whether to trust it. What the guest gets is [`haiku::login`]; what the run's
//! directory keeps:
//!
//! | file | holds |
//! |---|---|
//! | `ssh_key` | the private key (mode 0600), which goes when the run ends |
//! | `ssh_known_hosts` | the guest's host key |
//! | `ssh_config` | all that ssh needs (ssh_config(5)), once the guest's port is known: `ssh -F FILE guest` |
//! | `ssh.json` | how far that is, or why there is nothing of it |
//!
//! Keys are made by ssh-keygen: it is of the same package as ssh, which is needed to use them.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use haiku::login::Login;
use host::{Program, Runner};
use serde::{Deserialize, Serialize};

use crate::rundir::{self, RunDirectory, RunError};

/// The private key.
pub(crate) const KEY: &str = "ssh_key";
const HOST_KEY: &str = "ssh_host_key";
const KNOWN_HOSTS: &str = "ssh_known_hosts";
/// The file of a run's directory that ssh and scp are started with.
pub const CONFIG: &str = "ssh_config";
const RECORD: &str = "ssh.json";
/// What the guest is called in the configuration.
pub const ALIAS: &str = "guest";
/// What a server of ssh begins with (RFC 4253, 4.2).
const GREETING: &[u8] = b"SSH-";

/// How far a run is with letting somebody in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "access", rename_all = "kebab-case")]
pub enum Access {
    /// It does not let anybody in.
    None {
        /// Why, in a few words that follow "because".
        why: String,
    },
    /// What is needed is in the guest's disk.
    Prepared {
        /// The user to log in as.
        user: String,
    },
    /// A port of the loopback interface leads to the guest.
    Open {
        /// The user to log in as.
        user: String,
        /// The port.
        port: u16,
    },
}

#[derive(Serialize, Deserialize)]
struct Record {
    schema: u32,
    #[serde(flatten)]
    access: Access,
}

/// A run's keys could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// ssh-keygen could not be run.
    #[error(transparent)]
    Run(#[from] host::RunError),
    /// ssh-keygen failed.
    #[error("ssh-keygen failed: {0}")]
    Failed(String),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] RunError),
}

/// Makes the keys of a run; to be called with the rights of the user whom the run belongs to.
///
/// # Errors
/// There is no ssh-keygen, or a file cannot be made.
pub fn make_keys(runner: &dyn Runner, run: &RunDirectory) -> Result<Login, LoginError> {
    let (_, key) = pair(runner, run, KEY)?;
    let (host, known) = pair(runner, run, HOST_KEY)?;
    let host_key = read(&host)?;
    // From here on the guest alone has it.
    std::fs::remove_file(&host).map_err(RunError::at("remove", &host))?;
    run.put(KNOWN_HOSTS, format!("{ALIAS} {known}").as_bytes())?;
    Ok(Login { key, host_key })
}

/// Makes a key pair; returns the file of the private key, and the public key.
fn pair(
    runner: &dyn Runner,
    run: &RunDirectory,
    name: &str,
) -> Result<(PathBuf, String), LoginError> {
    let file = run.path().join(name);
    let program = Program::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "kireji", "-f"])
        .arg(&file);
    let finished = runner.run(&program)?;
    if !finished.status.success() {
        let said = String::from_utf8_lossy(&finished.stderr);
        return Err(LoginError::Failed(said.lines().last().unwrap_or("no word").to_owned()));
    }
    let public = file.with_extension("pub");
    let line = read(&public)?;
    std::fs::remove_file(&public).map_err(RunError::at("remove", &public))?;
    Ok((file, line))
}

fn read(path: &Path) -> Result<String, RunError> {
    std::fs::read_to_string(path).map_err(RunError::at("read", path))
}

/// Records how far a run is. When the port is known, ssh's configuration is written first.
///
/// # Errors
/// A file cannot be written.
pub fn record(run: &RunDirectory, access: &Access) -> Result<(), RunError> {
    if let Access::Open { user, port } = access {
        run.put(CONFIG, configuration(run.path(), user, *port).as_bytes())?;
    }
    let record = Record { schema: 1, access: access.clone() };
    let bytes = serde_json::to_vec_pretty(&record);
    let bytes =
        bytes.map_err(|error| RunError::at("write", &run.path().join(RECORD))(error.into()));
    run.put(RECORD, &bytes?)
}

/// Returns how far a run is; `None` where it has not come to that yet, or is older than that.
///
/// # Errors
/// The record cannot be read.
pub fn access(run: &Path) -> Result<Option<Access>, RunError> {
    let path = run.join(RECORD);
    let record: Option<Record> = rundir::read::json(&path).map_err(RunError::at("read", &path))?;
    Ok(record.map(|record| record.access))
}

fn configuration(run: &Path, user: &str, port: u16) -> String {
    let (key, known) = (quoted(&run.join(KEY)), quoted(&run.join(KNOWN_HOSTS)));
    format!(
        "# Written by kireji, for `ssh -F THIS_FILE {ALIAS}` and whatever else takes it.\n\
         Host {ALIAS}\n\
         \tHostName {}\n\
         \tPort {port}\n\
         \tUser {user}\n\
         \tIdentityFile {key}\n\
         \tIdentitiesOnly yes\n\
         \tIdentityAgent none\n\
         \tHostKeyAlias {ALIAS}\n\
         \tUserKnownHostsFile {known}\n\
         \tGlobalKnownHostsFile none\n\
         \tStrictHostKeyChecking yes\n\
         \tCheckHostIP no\n\
         \tUpdateHostKeys no\n\
         \tBatchMode yes\n\
         \tLogLevel ERROR\n",
        Ipv4Addr::LOCALHOST
    )
}

/// A path as ssh_config(5) takes it: in quotation marks, and `%` is doubled, for it begins a token.
fn quoted(path: &Path) -> String {
    let mut text = String::from("\"");
    for c in path.to_string_lossy().chars() {
        match c {
            '%' => text.push_str("%%"),
            '"' | '\\' => text.extend(['\\', c]),
            _ => text.push(c),
        }
    }
    text.push('"');
    text
}

/// Whether a server of ssh answers at this port of the loopback interface within `limit`. QEMU
/// takes the connection in any case, so it counts that the server speaks.
pub fn answers(port: u16, limit: Duration) -> bool {
    let greeting = || -> io::Result<[u8; GREETING.len()]> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        let mut heard = [0; GREETING.len()];
        stream.read_exact(&mut heard)?;
        Ok(heard)
    };
    greeting().is_ok_and(|heard| heard == *GREETING)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_path_is_quoted_as_ssh_takes_it() {
        for (path, expected) in [
            ("/run/ssh_key", r#""/run/ssh_key""#),
            ("/a b/100%/x", r#""/a b/100%%/x""#),
            (r#"/a"b\c"#, r#""/a\"b\\c""#),
        ] {
            assert_eq!(quoted(Path::new(path)), expected);
        }
    }

    #[test]
    fn only_who_speaks_ssh_answers() {
        for (says, expected) in
            [("SSH-2.0-OpenSSH_9.9\r\n", true), ("HTTP/1.1", false), ("", false)]
        {
            let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = server.local_addr().unwrap().port();
            let speaker = std::thread::spawn(move || {
                server.accept().unwrap().0.write_all(says.as_bytes()).unwrap();
            });
            assert_eq!(answers(port, Duration::from_secs(30)), expected, "{says}");
            speaker.join().unwrap();
            assert!(!answers(port, Duration::from_secs(30)), "nobody listens");
        }
    }
}
