//! `ureq` with rustls: blocking sockets of std, a pool of connections under a lock, names resolved on threads of its own.

use std::sync::Arc;

use greenserve_guests::tls::https;
use greenserve_guests::together;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

fn agent() -> Agent {
    let certificate = Certificate::from_pem(https().certificate.as_bytes()).expect("a certificate");
    let roots = RootCerts::Specific(Arc::new(vec![certificate]));
    let tls = TlsConfig::builder().root_certs(roots).build();
    Agent::config_builder().tls_config(tls).proxy(None).build().into()
}

fn get(agent: &Agent, path: &str) {
    let url = format!("https://localhost:{}{path}", https().addr.port());
    let body = agent.get(url).call().expect("an answer").body_mut().read_to_string().expect("a body");
    assert_eq!(body, "done");
}

#[test]
fn requests_wait_together() {
    https();
    let connected = |_| {
        let agent = agent();
        get(&agent, "/");
        agent
    };
    together(20, connected, |agent| get(agent, "/slow"));
}

#[test]
fn one_agent_serves_all() {
    let agent = agent();
    together(10, move |_| agent.clone(), |agent| get(agent, "/slow"));
}
