//! Which certificate a client gets, and what clients must show.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::pki::curious;
use super::{Authority, KINDS, Site, connect, path, seen, serve};

#[test]
fn the_name_asked_for_chooses_the_certificate_and_the_first_one_is_for_all_others() {
    let authority = Authority::new();
    let [first, any, exact] =
        [&["a.test", "also.test"][..], &["*.b.test"], &["c.test"]].map(|names| authority.issue(names));
    let server = serve(&[&first, &any, &exact], &[]);
    for (name, identity) in [
        ("a.test", &first),
        ("also.test", &first),
        ("www.b.test", &any),
        ("WWW.B.test", &any),
        ("c.test", &exact),
        // a wildcard is one label, no more and no less (RFC 6125, 6.4.3)
        ("b.test", &first),
        ("x.www.b.test", &first),
        ("unknown.test", &first),
        // no name at all: addresses are not sent
        ("127.0.0.1", &first),
    ] {
        let mut client = connect(&server, curious(), name);
        client.handshake().unwrap();
        let got = client.tls_state().peer_certificates().unwrap();
        assert!(got == [identity.certificate.clone()], "{name}");
        let asked = name.parse::<std::net::IpAddr>().is_err().then(|| name.to_lowercase());
        assert_eq!(seen(&mut client)["server_name"].as_str(), asked.as_deref());
    }
    // and the client can really verify it
    assert_eq!(connect(&server, authority.client(), "www.b.test").get("/plaintext").status, 200);
}

#[test]
fn clients_show_certificates_as_cert_reqs_has_it() {
    for kind in KINDS {
        let site = Site::new();
        let (known, unknown) = (site.authority.issue(&["me"]), Authority::new().issue(&["stranger"]));
        let root = path(&site.authority.root());
        // asked for, may be missing, may be a stranger's
        for (reqs, asked, missing) in [("none", false, true), ("optional", true, true), ("2", true, false)] {
            let mut args = vec!["-k", kind, "--cert-reqs", reqs];
            if asked {
                args.extend(["--ca-certs", &root]);
            }
            let server = site.serve(&args);

            let mut client = connect(&server, site.authority.client_as(&known), "localhost");
            let shown = seen(&mut client)["client_certificates"].clone();
            let own = BASE64_STANDARD.encode(&known.certificate);
            let expected = if asked { serde_json::json!([own]) } else { serde_json::json!([]) };
            assert_eq!(shown, expected, "{kind} {reqs}");

            let mut client = site.connect(&server);
            client.send(greenserve_tests::request("GET", "/tls", &[], b""));
            match client.try_response() {
                Ok(response) => {
                    assert!(missing, "{kind} {reqs}");
                    assert!(response.text().contains("\"client_certificates\":[]"));
                }
                Err(error) => {
                    assert!(!missing, "{kind} {reqs}: {error}");
                    assert!(error.to_string().contains("CertificateRequired"), "{error}");
                    server.wait_for_log("the TLS handshake failed: peer sent no certificates");
                }
            }

            let mut client = connect(&server, site.authority.client_as(&unknown), "localhost");
            client.send(greenserve_tests::request("GET", "/plaintext", &[], b""));
            match client.try_response() {
                Ok(_) => assert!(!asked, "{kind} {reqs}"),
                Err(error) => {
                    assert!(asked, "{kind} {reqs}: {error}");
                    server.wait_for_log("the TLS handshake failed: invalid peer certificate");
                }
            }
        }
    }
}

#[test]
fn the_application_sees_version_suite_and_protocol() {
    let site = Site::new();
    let server = site.serve(&[]);
    for (version, name, suite) in [
        (&rustls::version::TLS12, "TLSv1.2", "TLS_ECDHE_ECDSA_"),
        (&rustls::version::TLS13, "TLSv1.3", "TLS_AES_"),
    ] {
        let mut config = site.authority.client_of_version(version);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let seen = seen(&mut connect(&server, config, "localhost"));
        assert_eq!(seen["version"], name);
        assert!(seen["cipher_suite"].as_str().unwrap().starts_with(suite), "{seen}");
        assert_eq!(seen["alpn_protocol"], "http/1.1");
    }
    // and knows plain connections
    let plain = greenserve_tests::ServerProcess::start(["demo"]);
    assert_eq!(plain.get("/tls").text(), "null\n");
}
