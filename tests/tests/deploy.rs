//! `examples/deploy`: each file is taken by the tool it is for, and what it promises holds. What can't be looked at for want of
//! the tool is said to be NOT CHECKED.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine;
use greenserve_tests::{
    Binary, Client, Load, PATIENCE, Proxy, Scratch, ServerProcess, Tally, children_of, eventually,
    send_signal,
};
use serde_json::Value;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/deploy").join(name)
}

fn example(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The text with each of these replaced, all of which must be in it.
#[track_caller]
fn with(text: String, replaced: &[(&str, &str)]) -> String {
    replaced.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "there is no {from:?}");
        text.replace(from, to)
    })
}

/// What a tool says; `None` if there is no such tool here.
fn run(command: &mut Command) -> Option<Output> {
    let output = command.output();
    if output.is_err() {
        println!("NOT CHECKED: there is no {:?}", command.get_program());
    }
    output.ok()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn the_settings_file_is_a_settings_file() {
    let file = path("greenserve.toml");
    let output = Binary::run(&["demo", "--config", file.to_str().unwrap(), "--check-config"]);
    assert!(output.status.success(), "{}", words(&output));
    assert_eq!(words(&output), "");
}

/// A configuration of nginx that includes this site.
fn nginx_conf(scratch: &Scratch, site: &str) -> String {
    scratch.write("site.conf", site);
    let params = ["QUERY_STRING $query_string", "REQUEST_METHOD $request_method", "REQUEST_URI $request_uri"];
    scratch.write("uwsgi_params", params.map(|param| format!("uwsgi_param {param};\n")).concat());
    let dir = scratch.path().display();
    let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temp = temp.map(|of| format!("{of}_temp_path {dir}/{of};\n")).concat();
    format!(
        "daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/error.log info;
         events {{ worker_connections 1024; }}
         http {{ access_log off; {temp} include {dir}/site.conf; }}"
    )
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: String = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n").collect();
    format!("-----BEGIN {label}-----\n{lines}-----END {label}-----\n")
}

#[test]
fn nginx_takes_its_configuration() {
    if !Proxy::exists("nginx") {
        return;
    }
    let scratch = Scratch::new();
    let dir = scratch.path().display().to_string();
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["app.example".to_owned()]).unwrap();
    scratch.write("fullchain.pem", pem("CERTIFICATE", cert.der()));
    scratch.write("privkey.pem", pem("PRIVATE KEY", &signing_key.serialize_der()));
    // Ports that need no privileges and are nobody else's.
    let (plain, tls) = (format!("listen unix:{dir}/plain;"), format!("listen unix:{dir}/tls ssl;"));
    let site = with(
        example("nginx.conf"),
        &[
            ("listen 80;", &plain),
            ("listen [::]:80;", ""),
            ("listen 443 ssl;", &tls),
            ("listen [::]:443 ssl;", ""),
            ("/etc/ssl/app", &dir),
        ],
    );
    let conf = scratch.write("nginx.conf", nginx_conf(&scratch, &site));
    let mut command = Command::new("nginx");
    command.arg("-t").arg("-e").arg(scratch.join("error.log")).arg("-p").arg(&dir).arg("-c").arg(conf);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
    assert!(!words(&output).contains("[warn]"), "{}", words(&output));
}

/// nginx as the example has it, without TLS, before the server that listens there.
fn nginx_before(scratch: &Scratch, server: &str) -> Proxy {
    let plain = format!("listen unix:{};", scratch.join("plain").display());
    Proxy::nginx(scratch, |addr| {
        let listen = format!("listen {addr};");
        let replaced = [
            ("listen 80;", plain.as_str()),
            ("listen [::]:80;", ""),
            ("listen 443 ssl;", &listen),
            ("listen [::]:443 ssl;", ""),
            ("ssl_certificate ", "#"),
            ("ssl_certificate_key ", "#"),
            ("unix:/run/greenserve/app.sock", server),
        ];
        nginx_conf(scratch, &with(example("nginx.conf"), &replaced))
    })
}

#[test]
fn behind_nginx_a_reload_and_a_new_master_lose_nothing() {
    if !Proxy::exists("nginx") {
        return;
    }
    for bind in ["tcp", "unix"] {
        let scratch = Scratch::new();
        let bind = match bind {
            "tcp" => "127.0.0.1:0".to_owned(),
            _ => format!("unix:{}", scratch.join("app.sock").display()),
        };
        let settings = path("greenserve.toml");
        let mut server = ServerProcess::builder()
            .args(["demo", "-w", "2", "--config", settings.to_str().unwrap()])
            .bind(bind)
            .start();
        let before = server.wait_for_workers(2);
        let nginx = nginx_before(&scratch, server.listening()[0].trim_start_matches("http://"));
        let loads = Load::both(nginx.addr(), 4);
        loads.iter().for_each(|load| load.wait_for(50));
        for _ in 0..3 {
            let before = server.children();
            server.signal(libc::SIGHUP);
            eventually(PATIENCE, || {
                let now = server.children();
                now.len() == 2 && now.iter().all(|pid| !before.contains(pid))
            });
            loads.iter().for_each(|load| load.wait_for(30));
        }
        assert!(before.iter().all(|pid| !server.children().contains(pid)));
        server.signal(libc::SIGUSR2);
        let line = server.wait_for_log("Started a new master, process ");
        let new: u32 = line.rsplit(' ').next().and_then(|pid| pid.parse().ok()).unwrap();
        server.wait_for_log(&format!("[{new}] [INFO] All 2 workers are ready"));
        assert_eq!(children_of(new).len(), 2);
        server.signal(libc::SIGTERM);
        server.wait_for_log("The old master is gone");
        loads.iter().for_each(|load| load.wait_for(50));
        for Tally { answered, lost } in loads.into_iter().map(Load::finish) {
            assert!(lost.is_empty(), "{} beside {answered}: {:?}\n{}", lost.len(), lost.first(), nginx.log());
        }
        send_signal(new, libc::SIGTERM);
        assert!(server.wait_exit().success());
        assert!(!scratch.join("app.sock").exists(), "the file goes with the last master");
    }
}

#[test]
fn haproxy_takes_its_configuration_and_both_ways_work() {
    if !Proxy::exists("haproxy") {
        return;
    }
    let output = Command::new("haproxy").arg("-c").arg("-f").arg(path("haproxy.cfg")).output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
    assert!(!words(&output).contains("WARNING"), "{}", words(&output));

    let scratch = Scratch::new();
    let http = ServerProcess::start(["demo"]);
    let tcp = ServerProcess::start(["demo", "--proxy-protocol", "v2"]);
    let passed_on = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = Proxy::start(&scratch.join("log"), |addr| {
        let bind = |addr: SocketAddr| format!("bind {addr}");
        let replaced = [
            // As many as the limit on open files lets it have here.
            ("maxconn 20000", "maxconn 100".to_owned()),
            ("bind :8080", bind(addr)),
            ("bind :8443", bind(passed_on)),
            ("127.0.0.1:8000", http.addr().to_string()),
            ("127.0.0.1:8001 ", format!("{} ", tcp.addr())),
        ];
        let replaced = replaced.each_ref().map(|(from, to)| (*from, to.as_str()));
        let conf = scratch.write("haproxy.cfg", with(example("haproxy.cfg"), &replaced));
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(conf);
        command
    });
    let mut client = Client::tcp(proxy.addr());
    client.send("GET /echo HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n");
    let echo: Value = serde_json::from_str(client.response().text()).unwrap();
    let headers = echo["headers"].as_array().unwrap();
    let forwarded: Vec<_> = headers.iter().filter(|field| field[0] == "x-forwarded-for").collect();
    assert_eq!(
        forwarded,
        [&serde_json::json!(["x-forwarded-for", "127.0.0.1"])],
        "what the client says is gone"
    );
    let mut client = Client::tcp(passed_on);
    let who: Value = serde_json::from_str(client.get("/whoami").text()).unwrap();
    assert_eq!(who["peer"], client.local_addr().to_string(), "the client's address, not the proxy's");
    // The proxy looks after both: what a check does is no error of the server's.
    assert!(!tcp.log().contains("[ERROR]"), "{}", tcp.log());
}

#[test]
fn systemd_takes_its_units() {
    let Some(version) = run(Command::new("systemd-analyze").arg("--version")) else { return };
    let version: u32 = words(&version).split(' ').nth(1).and_then(|number| number.parse().ok()).unwrap_or(0);
    let program = Binary::path().to_str().unwrap();
    let mut replaced = vec![("/usr/local/bin/greenserve", program)];
    if version < 253 {
        println!("NOT CHECKED: systemd {version} has no Type=notify-reload");
        replaced.push(("Type=notify-reload", "Type=notify"));
    }
    let scratch = Scratch::new();
    let service = scratch.write("greenserve.service", with(example("greenserve.service"), &replaced));
    let socket = scratch.write("greenserve.socket", example("greenserve.socket"));
    let output = Command::new("systemd-analyze").arg("verify").arg(&service).arg(&socket).output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
    // A key that it does not know is a warning only.
    let about = words(&output).lines().filter(|line| line.contains("greenserve.")).count();
    assert_eq!(about, 0, "{}", words(&output));
}

#[test]
fn what_stops_the_server_waits_longer_than_the_server_does() {
    let number = |name: &str, after: &str| -> u64 {
        let text = example(name);
        let rest = text.lines().find_map(|line| line.trim().trim_start_matches("- ").strip_prefix(after));
        rest.and_then(|rest| rest.trim().parse().ok()).unwrap_or_else(|| panic!("{name}: no {after}"))
    };
    let graceful = number("greenserve.toml", "graceful_timeout =");
    assert!(number("greenserve.service", "TimeoutStopSec=") > graceful);
    let (grace, drain) = ("terminationGracePeriodSeconds:", "--drain-delay=");
    let pod = number("kubernetes.yaml", "--graceful-timeout=") + number("kubernetes.yaml", drain);
    assert!(number("kubernetes.yaml", grace) > pod);
    // nginx keeps idle connections for 60 s.
    assert!(number("greenserve.toml", "keepalive =") > 60);
    assert!(number("kubernetes.yaml", "--keep-alive=") > 60);
}

#[test]
fn the_manifests_fit_together() {
    const TO_JSON: &str =
        "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let mut command = Command::new("python3");
    let Some(output) = run(command.args(["-c", TO_JSON]).arg(path("kubernetes.yaml"))) else { return };
    if words(&output).contains("No module named 'yaml'") {
        println!("NOT CHECKED: python3 has no yaml");
        return;
    }
    assert!(output.status.success(), "{}", words(&output));
    let manifests: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let kind = |kind: &str| manifests.iter().find(|manifest| manifest["kind"] == kind).expect(kind);
    let (deployment, service) = (kind("Deployment"), kind("Service"));
    let template = &deployment["spec"]["template"];
    for selector in [
        &deployment["spec"]["selector"]["matchLabels"],
        &service["spec"]["selector"],
        &kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ] {
        assert_eq!(*selector, template["metadata"]["labels"]);
    }
    let target = &kind("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"];
    for field in ["apiVersion", "kind"] {
        assert_eq!(target[field], deployment[field]);
    }
    assert_eq!(target["name"], deployment["metadata"]["name"]);
    let container = &template["spec"]["containers"][0];
    let args: Vec<&str> = container["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let port = |name: &str| {
        let ports = container["ports"].as_array().unwrap().iter();
        ports.clone().find(|port| port["name"] == name).expect(name)["containerPort"].as_u64().unwrap()
    };
    assert!(args.contains(&format!("--bind=[::]:{}", port("http")).as_str()));
    assert!(args.contains(&format!("--metrics-bind=[::]:{}", port("health")).as_str()));
    assert_eq!(service["spec"]["ports"][0]["targetPort"], "http");
    for (probe, at) in [("readinessProbe", "ready"), ("livenessProbe", "live"), ("startupProbe", "live")] {
        let get = &container[probe]["httpGet"];
        assert_eq!(
            (&get["path"], &get["port"]),
            (&format!("/health/{at}").into(), &"health".into()),
            "{probe}"
        );
    }
    assert_eq!(template["spec"]["securityContext"]["runAsNonRoot"], true);
}

#[test]
fn the_image_runs_the_server_itself_and_as_nobody() {
    let file = example("Dockerfile").replace("\\\n", " ");
    let all = |name: &str| {
        let lines = file.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        lines.map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(all("FROM").len(), 2, "what builds is not what runs");
    // The exec form is JSON.
    let entry: Vec<String> = serde_json::from_str(&all("ENTRYPOINT")[0]).unwrap();
    let _: Vec<String> = serde_json::from_str(&all("CMD")[0]).unwrap();
    let health = all("HEALTHCHECK").remove(0);
    let _: Vec<String> = serde_json::from_str(health.split_once("CMD ").unwrap().1).unwrap();
    assert_eq!(entry, ["greenserve"]);
    assert_eq!(all("STOPSIGNAL"), ["SIGTERM"]);
    let user: u32 = all("USER")[0].split(':').next().unwrap().parse().expect("a number");
    assert_ne!(user, 0);
}
