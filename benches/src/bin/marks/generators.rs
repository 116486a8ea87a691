//! The load generators beside each other: how much of what is measured is theirs.

use std::io;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use greenserve_benches::blast::{Blast, Pace};
use greenserve_benches::load;
use greenserve_benches::marks::{Generator, PEAK, PEERS, ROWS, Running, own_cpu};

use crate::bench::{Bench, fire};

impl Bench<'_> {
    /// The load generators beside each other, against bare.
    pub(crate) fn generators(&mut self) -> io::Result<Vec<Generator>> {
        let Some(bare) = PEERS.iter().find(|peer| peer.name == "bare") else { return Ok(Vec::new()) };
        let seconds = self.options.seconds;
        let duration = Duration::from_secs_f64(seconds);
        let Some(row) = ROWS.iter().find(|row| row.name == PEAK) else { return Ok(Vec::new()) };
        let server = self.server(bare, *row)?;
        let address = server.running.address;
        let mut all = Vec::new();

        let blast = Blast {
            address,
            request: server.request.clone(),
            answer: server.answer,
            connections: 64,
            pace: Pace::Closed { depth: 1 },
            spread: Duration::ZERO,
            warmup: duration / 4,
            duration,
        };
        let (_, sample) = fire(&blast, &server.running)?;
        let cpu = sample.client_busy / sample.rate;
        all.push(Generator {
            name: "blast (this program's)",
            rate: sample.rate,
            cpu,
            server_cpu: sample.cpu,
        });

        let mut plan = load::Plan::get(address, "/plaintext", 64);
        (plan.warmup, plan.duration) = (duration / 4, duration);
        let mut looks = Vec::new();
        let tally = load::run(load::Green, plan, |moment| {
            if matches!(moment, load::Moment::Begin | load::Moment::End) {
                looks.push((server.running.cpu()?, own_cpu()?));
            }
            Ok(())
        })?;
        if let [first, last] = looks[..] {
            let answers = tally.successes().max(1) as f64;
            all.push(Generator {
                name: "load (compare's, on green threads)",
                rate: tally.rate(),
                cpu: (last.1 - first.1).as_secs_f64() / answers,
                server_cpu: (last.0 - first.0).as_secs_f64() / answers,
            });
        }
        if let Some(generator) = wrk(address, &server.running, seconds.ceil())? {
            all.push(generator);
        }
        Ok(all)
    }
}

/// The usual load generator, where it is installed. Its processor time is looked at shortly before it ends.
fn wrk(address: SocketAddr, running: &Running, seconds: f64) -> io::Result<Option<Generator>> {
    let child = Command::new("wrk")
        .args(["-t1", "-c64", &format!("-d{seconds}"), &format!("http://{address}/plaintext")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(child) = child else { return Ok(None) };
    let cpu = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id()))?;
        let total: u64 = tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
            .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
            .sum();
        Ok::<_, io::Error>((Duration::from_nanos(total), running.cpu()?, Instant::now()))
    };
    let (first, last) = (
        {
            std::thread::sleep(Duration::from_secs_f64(seconds * 0.2));
            cpu()?
        },
        {
            std::thread::sleep(Duration::from_secs_f64(seconds * 0.6));
            cpu()?
        },
    );
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")?.trim().parse::<f64>().ok());
    let elapsed = (last.2 - first.2).as_secs_f64();
    Ok(rate.map(|rate| Generator {
        name: "wrk",
        rate,
        cpu: (last.0 - first.0).as_secs_f64() / elapsed / rate,
        server_cpu: (last.1 - first.1).as_secs_f64() / elapsed / rate,
    }))
}
