//! The runner hides the developer's environment, keeps time, and kills for real.

use std::time::Duration;

use ballast_testkit::program::Program;

#[test]
fn a_run_sees_only_what_was_set() {
    let mut program = Program::new("/bin/sh");
    program.env("GIVEN", "yes");
    program.write("sub/file.txt", "content");
    let output = program
        .run(["-c", "env; pwd; cat sub/file.txt; echo oops >&2; exit 7"])
        .expect(7);
    assert!(
        output.stdout.contains("GIVEN=yes\n") && output.stdout.ends_with("content"),
        "{}",
        output.stdout
    );
    assert!(!output.stdout.contains("CARGO"), "{}", output.stdout);
    assert!(
        output.stdout.contains(&format!("{}\n", program.dir().display())),
        "{}",
        output.stdout
    );
    assert_eq!(output.stderr, "oops\n");
}

#[test]
fn a_kill_is_told_from_an_end() {
    let program = Program::new("/bin/sh");
    let killed = program
        .spawn(["-c", "echo begun; exec sleep 60"])
        .kill_after(Duration::from_millis(300));
    assert_eq!(
        (killed.code, killed.signal, killed.stdout.as_str()),
        (None, Some(9), "begun\n")
    );
    let ended = program.spawn(["-c", "exit 3"]).kill_after(Duration::from_secs(30));
    assert_eq!((ended.code, ended.signal), (Some(3), None));
    let random = program
        .spawn(["-c", "exec sleep 60"])
        .kill_at_random(Duration::from_millis(200));
    assert_eq!(random.signal, Some(9));
}

#[test]
#[should_panic(expected = "no end within")]
fn a_run_that_does_not_end_fails() {
    let mut program = Program::new("/bin/sh");
    program.limit(Duration::from_millis(200));
    program.run(["-c", "exec sleep 60"]);
}
