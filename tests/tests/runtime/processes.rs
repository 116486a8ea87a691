//! Programs are started and waited for without stopping the hub.

use std::cell::Cell;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Command as StdCommand;
use std::rc::Rc;
use std::time::Duration;

use greenlet::process::{Child, Command, Stdio};
use greenlet::signal::Signal;
use greenlet::{sleep, spawn, stats, timeout, yield_now};
use greenserve_tests::{eventually, in_time};

use crate::{FOREVER, SHORT};

/// A shell that runs this.
fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// A program that goes on until it is killed.
fn endless() -> Command {
    let mut command = Command::new("sleep");
    command.arg("1000");
    command
}

/// Whether there is such a process, be it a zombie.
fn exists(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

#[test]
fn a_program_that_is_not_there_is_an_error_at_once() {
    in_time(|| {
        for error in [
            Command::new("/no/such/program").spawn().map(drop).unwrap_err(),
            Command::new("no-such-program-at-all").status().map(drop).unwrap_err(),
            Command::new("/no/such/program").output().map(drop).unwrap_err(),
            Command::new("/no/such/program").run("input", None).map(drop).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
        assert_eq!(stats().descriptors, 0);
    });
}

#[test]
fn status_tells_codes_and_signals() {
    in_time(|| {
        assert!(Command::new("true").status().unwrap().success());
        assert_eq!(shell("exit 3").status().unwrap().code(), Some(3));
        assert_eq!(shell("kill -TERM $$").status().unwrap().signal(), Some(libc::SIGTERM));
    });
}

#[test]
fn others_run_while_a_child_is_waited_for() {
    in_time(|| {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut child = Command::new("cat").stdin(reader).stdout(Stdio::null()).spawn().unwrap();
        let turns = Rc::new(Cell::new(0));
        let other = spawn({
            let turns = Rc::clone(&turns);
            move || {
                for _ in 0..10 {
                    yield_now();
                    turns.set(turns.get() + 1);
                }
                // only now does the child end
                writer.write_all(b"end").unwrap();
            }
        });
        assert!(child.wait().unwrap().success());
        assert_eq!(turns.get(), 10);
        other.join().unwrap();
    });
}

#[test]
fn a_second_wait_gives_the_same_again() {
    in_time(|| {
        let mut child = shell("exit 5").spawn().unwrap();
        let first = child.wait().unwrap();
        assert_eq!(child.wait().unwrap(), first);
        assert_eq!(child.try_wait().unwrap(), Some(first));
        assert_eq!(child.wait_timeout(Duration::ZERO).unwrap(), first);
        child.kill().expect("no error once it has ended");
        child.signal(Signal::TERM).expect("no error once it has ended");
    });
}

#[test]
fn a_timed_out_wait_leaves_the_child_running_and_nothing_behind() {
    in_time(|| {
        let mut child = endless().spawn().unwrap();
        assert_eq!(child.try_wait().unwrap(), None);
        assert_eq!(child.wait_timeout(SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(child.wait_timeout(Duration::ZERO).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(timeout(SHORT, || child.wait()).is_err());
        assert_eq!((stats().descriptors, stats().timers), (0, 0));
        assert_eq!(child.try_wait().unwrap(), None, "it still runs");
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    });
}

#[test]
fn a_killed_waiter_leaves_nothing_behind_and_the_others_wait_on() {
    in_time(|| {
        let child = endless().spawn().unwrap();
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let handle = child.handle();
                spawn(move || handle.wait().unwrap().signal())
            })
            .collect();
        sleep(SHORT);
        // each has a descriptor or, where there are none for processes, a timer
        let held = || stats().descriptors + stats().timers;
        assert_eq!(held(), 3);
        waiters[0].kill().unwrap();
        assert_eq!(held(), 2);
        child.handle().signal(Signal::TERM).unwrap();
        assert_eq!(waiters[1].join().unwrap(), Some(libc::SIGTERM));
        assert_eq!(waiters[2].join().unwrap(), Some(libc::SIGTERM));
        assert_eq!((stats().descriptors, stats().greenlets), (0, 0));
    });
}

#[test]
fn many_children_of_one_hub_run_at_once() {
    in_time(|| {
        let (reader, writer) = std::io::pipe().unwrap();
        // each runs until all have been started: one at a time would never end
        let jobs: Vec<_> = (0..40)
            .map(|n| {
                let reader = reader.try_clone().unwrap();
                spawn(move || shell(&format!("cat; exit {n}")).stdin(reader).status().unwrap().code())
            })
            .collect();
        sleep(SHORT);
        drop(writer);
        for (n, job) in jobs.iter().enumerate() {
            assert_eq!(job.join().unwrap(), Some(n as i32));
        }
        assert_eq!(stats().descriptors, 0);
    });
}

#[test]
fn pipes_park_and_tell_the_end_and_the_broken_pipe() {
    in_time(|| {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let echo = spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        // more than two pipes hold
        for _ in 0..1000 {
            stdin.write_all(&[b'x'; 1000]).unwrap();
        }
        drop(stdin);
        assert_eq!(echo.join().unwrap().len(), 1_000_000);
        assert!(child.wait().unwrap().success());

        let mut child = Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        child.wait().unwrap();
        assert_eq!(stdin.write_all(b"nobody reads").unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_pipes_timeout_is_an_error_and_the_pipe_goes_on() {
    in_time(|| {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.as_mut().unwrap();
        stdout.set_timeout(SHORT).unwrap();
        assert_eq!(stdout.set_timeout(Duration::ZERO).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(stdout.read(&mut [0; 4]).unwrap_err().kind(), ErrorKind::TimedOut);
        stdout.set_timeout(None).unwrap();
        child.stdin.as_mut().unwrap().write_all(b"late").unwrap();
        let mut text = [0; 4];
        child.stdout.as_mut().unwrap().read_exact(&mut text).unwrap();
        assert_eq!(&text, b"late");
    });
}

#[test]
fn a_pipe_of_one_child_can_be_the_input_of_the_next() {
    in_time(|| {
        let mut first = shell("echo b; echo a").stdout(Stdio::piped()).spawn().unwrap();
        let between = Stdio::try_from(first.stdout.take().unwrap()).unwrap();
        let output = Command::new("sort").stdin(between).output().unwrap();
        assert_eq!(output.stdout, b"a\nb\n");
        assert!(first.wait().unwrap().success());
    });
}

#[test]
fn output_reads_both_streams_at_once_however_much_there_is() {
    in_time(|| {
        // each alone fills its pipe many times over, in turn
        let script = "i=0; while [ $i -lt 40 ]; do head -c 20000 /dev/zero; head -c 20000 /dev/zero >&2; i=$((i+1)); done";
        let output = shell(script).output().unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (800_000, 800_000));
        assert!(output.status.success());
        let child =
            shell("echo out; echo err >&2; exit 9").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let output = child.unwrap().wait_with_output().unwrap();
        assert_eq!(
            (&output.stdout[..], &output.stderr[..], output.status.code()),
            (&b"out\n"[..], &b"err\n"[..], Some(9))
        );
    });
}

#[test]
fn output_sets_the_streams_that_were_not_set_and_only_for_itself() {
    in_time(|| {
        let mut command = shell("cat; echo out");
        assert_eq!(command.output().unwrap().stdout, b"out\n", "standard input is empty");
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        assert!(child.stdout.is_none() && child.stderr.is_none(), "they are this process's again");
        let kept = command.stdout(Stdio::null()).output().unwrap();
        assert_eq!(kept.stdout, b"", "what was set stays");
    });
}

#[test]
fn input_and_output_larger_than_pipes_do_not_wait_for_each_other() {
    in_time(|| {
        let input: Vec<u8> = (0..500_000).map(|n| b'a' + (n % 26) as u8).collect();
        let output = Command::new("cat").run(&input, Duration::from_secs(25)).unwrap();
        assert_eq!(output.stdout, input);
    });
}

#[test]
fn input_that_is_not_read_is_no_error() {
    in_time(|| {
        let output = shell("exec 0<&-; echo done").run(vec![b'x'; 1_000_000], None).unwrap();
        assert_eq!(output.stdout, b"done\n");
    });
}

#[test]
fn input_without_a_pipe_is_an_error_that_says_so() {
    in_time(|| {
        let mut child = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
        let error = child.communicate("input", None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("piped"), "{error}");
        child.wait().unwrap();
    });
}

#[test]
fn communicate_can_be_called_again_after_a_timeout_and_loses_nothing() {
    in_time(|| {
        let mut child = shell("read a; echo $a; read b; echo $b; sleep 0.3; cat; echo end")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut timeouts = 0;
        let output = loop {
            match child.communicate("one\ntwo\nthree\n", SHORT) {
                Ok(output) => break output,
                Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}"),
            }
            timeouts += 1;
        };
        assert!(timeouts > 0);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "one\ntwo\nthree\nend\n");
        assert_eq!((stats().descriptors, stats().timers), (0, 0));
    });
}

#[test]
fn a_timeout_holds_although_there_is_always_something_to_read() {
    in_time(|| {
        let mut child = Command::new("yes").stdout(Stdio::piped()).spawn().unwrap();
        let error = child.communicate("", SHORT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(child.try_wait().unwrap(), None, "it still runs");
        child.kill().unwrap();
        child.wait().unwrap();
    });
}

#[test]
fn run_kills_the_program_when_its_time_is_over() {
    in_time(|| {
        let file = greenserve_tests::Scratch::new();
        let path = file.path().join("pid");
        let script = format!("echo $$ > {}; exec sleep 1000", path.display());
        let error = loop {
            let error = shell(&script).run("", SHORT * 10).unwrap_err();
            // on a busy machine it may not have got that far
            if fs::read_to_string(&path).is_ok_and(|pid| pid.ends_with('\n')) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        ends_and_is_reaped(&path);
    });
}

#[test]
fn output_of_a_killed_greenlet_kills_the_program() {
    in_time(|| {
        let file = greenserve_tests::Scratch::new();
        let path = file.path().join("pid");
        let script = format!("echo $$ > {}; exec sleep 1000", path.display());
        let job = spawn(move || shell(&script).output());
        while !fs::read_to_string(&path).is_ok_and(|pid| pid.ends_with('\n')) {
            sleep(SHORT);
        }
        job.kill().unwrap();
        assert_eq!((stats().descriptors, stats().greenlets), (0, 0));
        ends_and_is_reaped(&path);
    });
}

/// The process whose number is in the file ends, and later children see to it that it leaves no zombie.
fn ends_and_is_reaped(path: &std::path::Path) {
    let pid: u32 = fs::read_to_string(path).unwrap().trim().parse().unwrap();
    eventually(Duration::from_secs(20), || {
        Command::new("true").status().unwrap();
        !exists(pid)
    });
}

#[test]
fn a_dropped_child_runs_on_and_is_reaped_when_it_has_ended() {
    in_time(|| {
        let child = endless().spawn().unwrap();
        let pid = child.id();
        drop(child);
        Command::new("true").status().unwrap();
        assert!(exists(pid), "it runs on");
        greenserve_tests::send_signal(pid, libc::SIGTERM);
        eventually(Duration::from_secs(20), || {
            Command::new("true").status().unwrap();
            !exists(pid)
        });
    });
}

#[test]
fn kill_on_drop_kills_with_the_last_handle_and_not_before() {
    in_time(|| {
        let child = endless().kill_on_drop(true).spawn().unwrap();
        let handle = child.handle();
        drop(child);
        assert_eq!(handle.try_wait().unwrap(), None);
        let pid = handle.id();
        drop(handle);
        eventually(Duration::from_secs(20), || {
            Command::new("true").status().unwrap();
            !exists(pid)
        });
    });
}

#[test]
fn a_child_that_std_has_started_or_even_reaped_can_be_taken_over() {
    in_time(|| {
        let child = StdCommand::new("sh").args(["-c", "exit 4"]).spawn().unwrap();
        assert_eq!(Child::from_std(child).unwrap().wait().unwrap().code(), Some(4));
        let mut child = StdCommand::new("sh").args(["-c", "exit 6"]).spawn().unwrap();
        child.wait().unwrap();
        assert_eq!(Child::from_std(child).unwrap().wait().unwrap().code(), Some(6));
    });
}

#[test]
fn waiting_for_a_child_is_no_loop_exit_and_waiting_while_unwinding_is_an_error() {
    in_time(|| {
        struct WaitsInDrop(Child);
        impl Drop for WaitsInDrop {
            fn drop(&mut self) {
                assert!(self.0.wait().is_err());
                self.0.kill().unwrap();
            }
        }
        let job = spawn(|| {
            let _child = WaitsInDrop(endless().spawn().unwrap());
            sleep(FOREVER);
        });
        sleep(SHORT);
        job.kill().unwrap();
        assert!(shell("sleep 0.05").status().unwrap().success());
    });
}

#[test]
fn environment_directory_and_arguments_arrive() {
    in_time(|| {
        let mut command = Command::new("sh");
        command.arg("-c").arg("echo $A $B $1; pwd").args(["sh", "arg"]);
        command.env("A", "a").envs([("B", "b")]).env_remove("C").current_dir("/");
        assert_eq!((command.get_program(), command.get_args().len()), ("sh".as_ref(), 4));
        assert_eq!((command.get_envs().len(), command.get_current_dir()), (3, Some("/".as_ref())));
        assert_eq!(command.output().unwrap().stdout, b"a b arg\n/\n");
        assert_eq!(
            Command::from(StdCommand::new("pwd")).current_dir("/").output().unwrap().stdout,
            b"/\n",
            "std's command"
        );
    });
}
