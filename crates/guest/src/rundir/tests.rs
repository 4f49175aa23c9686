use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, UNIX_EPOCH};

use host::Sysroot;

use super::*;

fn meta(owner: Owner) -> Meta {
    Meta {
        schema: 1,
        started: timestamp(UNIX_EPOCH),
        owner,
        command: vec!["kireji".into(), "run".into()],
        guest: "haiku".into(),
        image: Some("/images/haiku.iso".into()),
        devices: vec!["0000:29:00.0".into()],
    }
}

fn now(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_795_365_753_000 + millis)
}

fn finished() -> End {
    End { ended: timestamp(UNIX_EPOCH), outcome: "the guest shut down".into(), exit_code: 0 }
}

struct Fixture {
    _dir: tempfile::TempDir,
    base: PathBuf,
    host: Sysroot,
    owner: Owner,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("state/kireji/runs");
    let host = Sysroot::host().unwrap();
    let owner = Owner::current(&host).unwrap();
    Fixture { _dir: dir, base, host, owner }
}

#[test]
fn a_run_has_its_own_directory_and_files() {
    let f = fixture();
    let run = RunDirectory::create(&f.base, now(7), &meta(f.owner.clone()), None).unwrap();
    assert_eq!(run.id(), "20261122-164233-007");
    let twin = RunDirectory::create(&f.base, now(7), &meta(f.owner.clone()), None).unwrap();
    assert_eq!(twin.id(), "20261122-164233-007-1");
    run.write_arguments(Path::new("/usr/bin/qemu"), &["-m".into(), "512M".into()]).unwrap();
    run.event(&serde_json::json!({"event": "one"})).unwrap();
    run.event(&serde_json::json!({"event": "two"})).unwrap();
    run.sync().unwrap();
    let text = |name: &str| std::fs::read_to_string(run.path().join(name)).unwrap();
    assert_eq!(text("events.jsonl"), "{\"event\":\"one\"}\n{\"event\":\"two\"}\n");
    assert_eq!(text("argv.json").replace(['\n', ' '], ""), r#"["/usr/bin/qemu","-m","512M"]"#);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(run.path()), mode(&run.serial_log())), (0o700, 0o600));
    assert_eq!(mode(f.base.parent().unwrap()), 0o700);
}

#[test]
fn tells_what_became_of_each_run() {
    let f = fixture();
    let create = |millis, owner: &Owner| {
        RunDirectory::create(&f.base, now(millis), &meta(owner.clone()), None).unwrap()
    };
    let killed = Owner { start_time: f.owner.start_time + 1, ..f.owner.clone() };
    let before = Owner { boot_id: "another boot".into(), ..f.owner.clone() };
    create(4, &f.owner);
    create(3, &before);
    create(2, &killed);
    create(1, &before).end(&finished()).unwrap();
    let damaged = create(5, &f.owner);
    std::fs::write(damaged.path().join("meta.json"), "{").unwrap();
    std::fs::write(f.base.join("stray file"), "").unwrap();

    let states: Vec<State> = list(&f.host, &f.base).unwrap().into_iter().map(|r| r.state).collect();
    assert_eq!(
        states,
        [
            State::Finished(finished()),
            State::Abandoned,
            State::HostWentDown,
            State::Running,
            State::Damaged
        ]
    );
}

#[test]
fn only_what_killed_runs_left_is_swept() {
    let f = fixture();
    let killed = Owner { start_time: f.owner.start_time + 1, ..f.owner.clone() };
    let disk = |millis, owner: &Owner| {
        let run = RunDirectory::create(&f.base, now(millis), &meta(owner.clone()), None).unwrap();
        let disk = run.path().join("disk");
        std::fs::write(&disk, "").unwrap();
        disk
    };
    let goes_on = disk(1, &f.owner);
    let left = disk(2, &killed);
    let linked = disk(4, &killed);
    std::fs::remove_file(&linked).unwrap();
    std::os::unix::fs::symlink(&goes_on, &linked).unwrap();
    let swept = sweep(&f.host, &f.base, &["disk", "absent"]).unwrap();
    assert_eq!(swept, [left]);
    assert!(goes_on.exists());
}

#[test]
fn a_run_is_found_by_name_by_its_start_and_as_the_last() {
    let f = fixture();
    assert!(matches!(find(&f.host, &f.base, None), Err(RunError::None { .. })));
    for millis in [1, 2, 100] {
        RunDirectory::create(&f.base, now(millis), &meta(f.owner.clone()), None).unwrap();
    }
    let id = |wanted| find(&f.host, &f.base, wanted).map(|run| run.id).ok();
    assert_eq!(id(None).unwrap(), "20261122-164233-100");
    assert_eq!(id(Some("20261122-164233-002")).unwrap(), "20261122-164233-002");
    assert_eq!(id(Some("20261122-164233-1")).unwrap(), "20261122-164233-100");
    for wanted in ["20261122-164233-0", "20271122", "", "../runs"] {
        assert_eq!(id(Some(wanted)), None, "{wanted}");
    }
}

#[test]
fn files_belong_to_the_user_who_is_named() {
    use std::os::unix::fs::MetadataExt;
    if !testkit::only_root::is_root() {
        // Only root can give files away; everything else is covered above.
        return;
    }
    let f = fixture();
    let user = User { uid: 1234, gid: 5678, groups: vec![] };
    let home = f.base.ancestors().nth(3).unwrap();
    std::os::unix::fs::chown(home, Some(1234), Some(5678)).unwrap();
    let run = RunDirectory::create(&f.base, now(1), &meta(f.owner.clone()), Some(&user)).unwrap();
    run.end(&finished()).unwrap();
    let mut paths: Vec<_> =
        std::fs::read_dir(run.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(paths.len(), 5);
    paths.extend([run.path().to_owned(), f.base.clone()]);
    for path in paths {
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (1234, 5678), "{}", path.display());
    }
}

#[test]
fn a_directory_that_cannot_be_made_leaves_nothing() {
    let f = fixture();
    std::fs::create_dir_all(f.base.parent().unwrap()).unwrap();
    std::fs::write(&f.base, "a file").unwrap();
    let error = RunDirectory::create(&f.base, now(1), &meta(f.owner), None).unwrap_err();
    assert!(matches!(error, RunError::Io { verb: "create", .. }), "{error}");
    assert_eq!(std::fs::read(&f.base).unwrap(), b"a file");
}

/// Root alone may become another user, so only root's tests can tell.
#[test]
fn nothing_is_created_where_the_owner_may_not() {
    use std::os::unix::fs::MetadataExt;

    if !testkit::only_root::is_root() {
        return;
    }
    let f = fixture();
    let homes = f.base.ancestors().nth(3).unwrap();
    std::fs::set_permissions(homes, std::fs::Permissions::from_mode(0o755)).unwrap();
    let user = User { uid: 4711, gid: 4711, groups: Vec::new() };
    let create = |base: &Path| {
        RunDirectory::create(base, now(1), &meta(f.owner.clone()), Some(&user)).map(|_| ())
    };
    let missing = homes.join("home/.local/state/kireji/runs");
    let error = create(&missing).unwrap_err();
    assert!(matches!(error, RunError::Io { verb: "create", .. }), "{error}");
    assert!(!homes.join("home").exists());

    let home = homes.join("home");
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(4711), Some(4711)).unwrap();
    create(&missing).unwrap();
    for path in missing.ancestors().take(4) {
        let metadata = path.metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o777), (4711, 4711, 0o700));
    }
}
