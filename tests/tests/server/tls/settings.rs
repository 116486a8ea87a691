//! Settings of no use are found at the start and by `--check-config`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use greenserve_tests::{Binary, ServerProcess};

use super::pki::pem;
use super::{Authority, Site, path, serve};

#[test]
fn what_is_wrong_names_the_setting_the_file_and_the_remedy() {
    let site = Site::new();
    let scratch = &site.authority.scratch;
    let other = path(&site.authority.issue(&["other"]).keyfile);
    let (cert, key) = (path(&site.identity.certfile), path(&site.identity.keyfile));
    let empty = path(&scratch.write("empty", ""));
    let damaged = path(&scratch.write("damaged", pem("CERTIFICATE", b"nonsense")));
    let broken =
        path(&scratch.write("broken", "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n"));
    let encrypted = path(&scratch.write("encrypted", pem("ENCRYPTED PRIVATE KEY", b"secret")));
    let old =
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let encrypted_before = path(&scratch.write("encrypted-before", old));
    let odd = path(&scratch.write("odd", pem("PRIVATE KEY", b"nonsense")));
    let missing = path(&scratch.join("missing"));

    let rows: &[(&[&str], &[&str])] = &[
        (&["--certfile", &missing, "--keyfile", &key], &["certfile", &missing, "PEM file"]),
        (&["--certfile", &cert, "--keyfile", &missing], &["keyfile", &missing, "PEM file"]),
        (&["--certfile", &empty, "--keyfile", &key], &["certfile", &empty, "BEGIN CERTIFICATE"]),
        (&["--certfile", &damaged, "--keyfile", &key], &["certfile", &damaged, "issued again"]),
        (&["--certfile", &broken, "--keyfile", &key], &["certfile", &broken, "PEM"]),
        (&["--certfile", &key, "--keyfile", &cert], &["certfile", &key, "swapped"]),
        (&["--certfile", &cert, "--keyfile", &cert], &["keyfile", &cert, "swapped"]),
        (&["--certfile", &cert], &["keyfile", &cert, "no private key"]),
        (&["--certfile", &cert, "--keyfile", &empty], &["keyfile", &empty, "BEGIN PRIVATE KEY"]),
        (&["--certfile", &cert, "--keyfile", &odd], &["keyfile", &odd, "RSA, ECDSA"]),
        (&["--certfile", &cert, "--keyfile", &other], &["keyfile", &other, &cert, "first"]),
        (&["--certfile", &cert, "--keyfile", &encrypted], &["keyfile", &encrypted, "openssl pkey"]),
        (&["--certfile", &cert, "--keyfile", &encrypted_before], &["keyfile", "openssl pkey"]),
        (&["--keyfile", &key], &["0 certfiles", "--certfile"]),
        (&["--certfile", &cert, "--certfile", &cert, "--keyfile", &key], &["2 certfiles", "1 keyfiles"]),
        (
            &["--certfile", &cert, "--keyfile", &key, "--cert-reqs", "required"],
            &["cert_reqs is required", "ca_certs"],
        ),
        (
            &["--certfile", &cert, "--keyfile", &key, "--cert-reqs", "1", "--ca-certs", &empty],
            &["ca_certs", &empty, "BEGIN CERTIFICATE"],
        ),
        (&["--cert-reqs", "maybe"], &["--cert-reqs", "maybe", "optional"]),
        (&["--tls-min-version", "1.1"], &["--tls-min-version", "1.1", "1.2 or 1.3"]),
    ];
    for (args, words) in rows {
        for check in [&["demo", "--bind", "127.0.0.1:0"][..], &["demo", "--check-config"]] {
            let output = Binary::run(&[check, *args].concat());
            let message = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && !message.contains("panicked"), "{args:?}: {message}");
            for word in *words {
                assert!(message.contains(word), "{args:?}: {word} is missing in {message}");
            }
        }
    }
    let good = ["demo", "--check-config", "--certfile", &cert, "--keyfile", &key];
    assert!(Binary::run(&good).status.success());
}

#[test]
fn a_key_that_everybody_can_read_is_worth_a_warning() {
    let site = Site::new();
    let (cert, key) = (path(&site.identity.certfile), path(&site.identity.keyfile));
    let warning = format!("keyfile '{key}' can be read by everybody");
    let check = || {
        let output = Binary::run(&["demo", "--check-config", "--certfile", &cert, "--keyfile", &key]);
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert_eq!(check(), "");
    fs::set_permissions(&site.identity.keyfile, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(check().contains(&warning) && check().contains("chmod"), "{}", check());
    site.serve(&[]).wait_for_log(&warning);
}

#[test]
fn certificate_and_key_may_be_one_file() {
    let site = Site::new();
    let both =
        [&site.identity.certfile, &site.identity.keyfile].map(|file| fs::read_to_string(file).unwrap());
    let file = path(&site.authority.scratch.write("both", both.concat()));
    let server = ServerProcess::start(["demo", "--certfile", &file]);
    assert_eq!(site.connect(&server).get("/plaintext").status, 200);
}

#[test]
fn the_addresses_in_the_log_say_what_is_spoken() {
    let authority = Authority::new();
    let server = serve(&[&authority.issue(&["localhost"])], &[]);
    assert_eq!(server.listening(), [format!("https://{}", server.addr())]);
}
