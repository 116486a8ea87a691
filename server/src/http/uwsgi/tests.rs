use super::*;
use crate::http::framing::RequestBody;
use crate::http::{Head, HeadReader, KnownFields, Limits};

/// A packet of these variables, as nginx would send it.
fn packet(vars: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for text in vars.iter().flat_map(|(name, value)| [name, value]) {
        block.extend_from_slice(&u16::try_from(text.len()).unwrap().to_le_bytes());
        block.extend_from_slice(text.as_bytes());
    }
    let size = u16::try_from(block.len()).unwrap().to_le_bytes();
    [&[0, size[0], size[1], 0], &block[..]].concat()
}

pub(crate) fn vars(list: &[(&str, &str)]) -> Vars {
    read(&packet(list)).unwrap().unwrap().0
}

/// The head that the variables come to, or why there is none.
fn head(list: &[(&str, &str)]) -> Result<String, ParseError> {
    vars(list).head().map(|head| String::from_utf8(head).unwrap())
}

/// `GET /` with these further variables.
fn get(list: &[(&str, &str)]) -> Result<String, ParseError> {
    let plain = [("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/"), ("HTTP_HOST", "h")];
    head(&[&plain, list].concat())
}

fn judged(head: &[u8]) -> Result<(Head, usize), ParseError> {
    let found = HeadReader::default().read(head, &Limits::default(), &mut KnownFields::default())?;
    let found = found.expect("it is whole");
    found.head.map(|head| (head, found.extent.end))
}

#[test]
fn a_packet_byte_for_byte() {
    let bytes = b"\x00\x2c\x00\x00\
        \x0e\x00REQUEST_METHOD\x04\x00POST\
        \x0b\x00REQUEST_URI\x02\x00/a\
        \x01\x00X\x00\x00\
        body";
    let (vars, length) = read(bytes).unwrap().unwrap();
    assert_eq!(&bytes[length..], b"body");
    let all: Vec<_> = vars.iter().collect();
    assert_eq!(all, [("REQUEST_METHOD", &b"POST"[..]), ("REQUEST_URI", b"/a"), ("X", b"")]);
    assert_eq!(format!("{vars:?}"), r#"["REQUEST_METHOD", "REQUEST_URI", "X"]"#);
    assert_eq!(read(&packet(&[])).unwrap().unwrap().1, 4);
    // modifier2 chooses among a server's applications: there is one here
    assert!(read(&[0, 0, 0, 7]).unwrap().is_some());
}

#[test]
fn however_it_is_cut_a_packet_is_read_when_it_is_whole() {
    let bytes = packet(&[("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/"), ("LONG", &"x".repeat(300))]);
    for cut in 0..bytes.len() {
        assert!(read(&bytes[..cut]).unwrap().is_none(), "{cut}");
    }
    assert_eq!(read(&bytes).unwrap().unwrap().1, bytes.len());
}

#[test]
fn the_largest_packet_fits() {
    let bytes = packet(&[("X", &"x".repeat(65_535 - 5))]);
    assert_eq!(bytes.len(), 4 + 65_535);
    assert_eq!(vars(&[("X", &"x".repeat(65_530))]).get("X").unwrap().len(), 65_530);
}

#[test]
fn packets_that_are_malformed() {
    use ParseError::*;
    let many: Vec<_> = (0..=MOST).map(|_| ("A", "")).collect();
    let rows: &[(&str, &[u8], ParseError)] = &[
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n", Packet),
        ("TLS", b"\x16\x03\x01", Packet),
        ("another interpreter: PSGI", b"\x05\0\0\0", Packet),
        ("a WSGI request whose path is to be cut", b"\x1e\0\0\0", Packet),
        ("uWSGI's ping", b"\x64\0\0\0", Packet),
        ("half a length", b"\0\x01\0\0\x01", VariableLength),
        ("a name without end", b"\0\x03\0\0\x02\0a", VariableLength),
        ("no value", b"\0\x03\0\0\x01\0a", VariableLength),
        ("half a value's length", b"\0\x04\0\0\x01\0a\0", VariableLength),
        ("a value without end", b"\0\x06\0\0\x01\0a\x02\0b", VariableLength),
        ("a length far beyond the end", b"\0\x06\0\0\x01\0a\xff\xffb", VariableLength),
        ("an empty name", b"\0\x05\0\0\0\0\x01\0b", VariableName),
        ("a NUL in a name", b"\0\x06\0\0\x02\0a\0\0\0", VariableName),
        ("a space in a name", b"\0\x06\0\0\x02\0a \0\0", VariableName),
        ("a line's end in a name", b"\0\x06\0\0\x02\0a\n\0\0", VariableName),
        ("a name that is not ASCII", b"\0\x06\0\0\x02\0\xc3\xa4\0\0", VariableName),
        ("a NUL in a value", b"\0\x06\0\0\x01\0a\x01\0\0", VariableValue),
        ("too many", &packet(&many), TooManyFields),
    ];
    for (what, bytes, error) in rows {
        assert_eq!(read(bytes).unwrap_err(), *error, "{what}");
    }
    assert!(read(&packet(&many[1..])).is_ok());
}

#[test]
fn what_nginx_sends_becomes_a_head() {
    let all = [
        ("QUERY_STRING", "b=c"),
        ("REQUEST_METHOD", "POST"),
        ("CONTENT_TYPE", "text/plain"),
        ("CONTENT_LENGTH", "5"),
        ("REQUEST_URI", "/%C3%A4?b=c"),
        ("PATH_INFO", "/ä"),
        ("SERVER_PROTOCOL", "HTTP/2.0"),
        ("REMOTE_ADDR", "192.0.2.7"),
        ("REMOTE_PORT", "4711"),
        ("SERVER_PORT", "80"),
        ("SERVER_NAME", "_"),
        ("HTTP_HOST", "example.org"),
        ("HTTP_USER_AGENT", "curl/8"),
        ("HTTP_CONTENT_TYPE", "text/plain"),
        ("HTTP_CONTENT_LENGTH", "7"),
        ("HTTP_TRANSFER_ENCODING", "chunked"),
        ("HTTP_X_A", "1"),
        ("HTTP_X_A", "2"),
        ("HTTP_CONNECTION", "close"),
    ];
    let expected = "POST /%C3%A4?b=c HTTP/1.1\r\nhost: example.org\r\ncontent-type: text/plain\r\n\
        content-length: 5\r\nuser-agent: curl/8\r\nx-a: 1\r\nx-a: 2\r\nconnection: close\r\n\r\n";
    let made = head(&all).unwrap();
    assert_eq!(made, expected);
    assert_eq!(judged(made.as_bytes()).unwrap().0.body, RequestBody::Length(5));
    assert_eq!(vars(&all).client(), Some("192.0.2.7:4711".parse().unwrap()));
}

#[test]
fn the_version_is_that_of_the_client_if_it_is_old() {
    let line = |version| get(&[("SERVER_PROTOCOL", version)]).map(|head| head[..14].to_owned());
    for new in ["", "HTTP/1.1", "HTTP/2.0", "HTTP/2", "HTTP/3.0"] {
        assert_eq!(line(new).unwrap(), "GET / HTTP/1.1", "{new}");
    }
    for old in ["HTTP/1.0", "HTTP/0.9"] {
        assert_eq!(line(old).unwrap(), "GET / HTTP/1.0", "{old}");
    }
    for wrong in ["1.1", "http/1.1", "HTTP/x.y", "HTTP/1.1 ", "HTTP/1.1\r\nx: y"] {
        assert_eq!(line(wrong).unwrap_err(), ParseError::Version, "{wrong}");
    }
}

#[test]
fn a_host_is_made_of_the_servers_name_if_the_client_gave_none() {
    let line = |list: &[(&str, &str)]| {
        let asked = [("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/"), ("SERVER_PROTOCOL", "HTTP/1.0")];
        let made = head(&[&asked, list].concat()).unwrap();
        judged(made.as_bytes()).unwrap();
        made.lines().nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(line(&[("SERVER_NAME", "a"), ("SERVER_PORT", "81")]), "host: a:81");
    assert_eq!(line(&[("SERVER_NAME", "::1"), ("SERVER_PORT", "80")]), "");
    assert_eq!(line(&[("SERVER_NAME", "~^(www\\.)?(.+)$"), ("SERVER_PORT", "80")]), "");
    assert_eq!(line(&[("SERVER_NAME", "a"), ("HTTP_HOST", "")]), "host: a");
    assert_eq!(line(&[("SERVER_NAME", "a"), ("HTTP_HOST", "b:1")]), "host: b:1");
    // the one that an operator has set behind the included file
    assert_eq!(line(&[("HTTP_HOST", "b"), ("HTTP_HOST", "b:1")]), "host: b:1");
}

#[test]
fn the_target_is_what_the_client_sent_unless_the_path_was_rewritten() {
    let target = |list: &[(&str, &str)]| {
        let made = head(&[&[("REQUEST_METHOD", "GET")], list].concat()).unwrap();
        made.split(' ').nth(1).unwrap().to_owned()
    };
    let rows: &[(&[(&str, &str)], &str)] = &[
        (&[("REQUEST_URI", "/a%20b?c")], "/a%20b?c"),
        (&[("REQUEST_URI", "/a%2fb?c"), ("PATH_INFO", "/a/b"), ("QUERY_STRING", "c")], "/a%2fb?c"),
        (&[("REQUEST_URI", "/a?"), ("PATH_INFO", "/a"), ("QUERY_STRING", "")], "/a?"),
        (&[("REQUEST_URI", "/s/a"), ("SCRIPT_NAME", "/s"), ("PATH_INFO", "/a")], "/s/a"),
        (&[("REQUEST_URI", "/s/a"), ("SCRIPT_NAME", "/s"), ("PATH_INFO", "/s/a")], "/s/a"),
        (&[("REQUEST_URI", "http://h/a"), ("PATH_INFO", "/a")], "http://h/a"),
        (&[("REQUEST_URI", "*"), ("PATH_INFO", "*")], "*"),
        // rewritten or cleaned
        (&[("REQUEST_URI", "/old/a?b"), ("PATH_INFO", "/a"), ("QUERY_STRING", "b")], "/a?b"),
        (&[("REQUEST_URI", "/x/../a//b"), ("PATH_INFO", "/a/b")], "/a/b"),
        (&[("REQUEST_URI", "/a?b"), ("PATH_INFO", "/a"), ("QUERY_STRING", "c")], "/a?c"),
        (&[("REQUEST_URI", "/a?b"), ("PATH_INFO", "/a"), ("QUERY_STRING", "")], "/a"),
        (&[("REQUEST_URI", "/x"), ("PATH_INFO", "/ä b%?#[\n")], "/%C3%A4%20b%25%3F%23%5B%0A"),
        (&[("REQUEST_URI", "/s//a"), ("SCRIPT_NAME", "/s"), ("PATH_INFO", "/s/a")], "/s/a"),
        (&[("REQUEST_URI", "/s//a"), ("SCRIPT_NAME", "/s"), ("PATH_INFO", "/a")], "/s/a"),
        (&[("SCRIPT_NAME", "/s"), ("PATH_INFO", "/sa")], "/s/sa"),
        (&[("PATH_INFO", "/a"), ("QUERY_STRING", "b")], "/a?b"),
    ];
    for (list, expected) in rows {
        assert_eq!(target(list), *expected, "{list:?}");
    }
}

#[test]
fn no_variable_can_say_more_than_it_may() {
    use ParseError::*;
    let with = |name, value| {
        let plain = [("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/"), ("HTTP_HOST", "h"), (name, value)];
        head(&plain).and_then(|head| judged(head.as_bytes()).map(|(found, _)| found.body))
    };
    let rows = [
        ("REQUEST_METHOD", "", VariableMissing),
        ("REQUEST_METHOD", "GET /other HTTP/1.1\r\nx:", Method),
        ("REQUEST_METHOD", "G\tT", Method),
        ("REQUEST_METHOD", "G(T", Method),
        ("REQUEST_URI", "", VariableMissing),
        ("REQUEST_URI", "/a b", TargetByte),
        ("REQUEST_URI", "/a HTTP/1.1\r\nx: y", TargetByte),
        ("REQUEST_URI", "/ä", TargetByte),
        ("REQUEST_URI", "a", TargetForm),
        ("HTTP_X", "a\r\nb: c", FieldValue),
        ("HTTP_X", "a\nb: c", FieldValue),
        ("HTTP_X", "a\rb", FieldValue),
        ("HTTP_X", "a\u{7f}", FieldValue),
        ("HTTP_", "a", FieldName),
        ("HTTP_X:", "a", FieldName),
        ("HTTP_X(", "a", FieldName),
        ("HTTP_HOST", "a b", HostInvalid),
        ("HTTP_HOST", "a\r\nx: y", FieldValue),
        ("CONTENT_TYPE", "a\r\nx: y", FieldValue),
        ("CONTENT_LENGTH", "1\r\nx: y", FieldValue),
        ("CONTENT_LENGTH", "+1", ContentLength),
        ("CONTENT_LENGTH", "-1", ContentLength),
        ("CONTENT_LENGTH", "1, 1", ContentLength),
        ("CONTENT_LENGTH", "99999999999999999999", ContentLength),
        ("HTTP_TRANSFER_ENCODING", "chunked", LengthMissing),
        ("HTTP_EXPECT", "miracles", Expectation),
        ("SERVER_PROTOCOL", "HTTP/1.1 x", Version),
    ];
    for (name, value, error) in rows {
        assert_eq!(with(name, value).unwrap_err(), error, "{name}={value:?}");
    }
    let rewritten = [("REQUEST_METHOD", "GET"), ("PATH_INFO", "/"), ("QUERY_STRING", "a HTTP/1.1")];
    assert_eq!(head(&rewritten), Err(TargetByte));
    assert_eq!(with("CONTENT_LENGTH", ""), Ok(RequestBody::Length(0)));
    assert_eq!(with("CONTENT_LENGTH", "0"), Ok(RequestBody::Length(0)));
    assert_eq!(with("HTTP_CONTENT_LENGTH", "9"), Ok(RequestBody::Length(0)));
    assert_eq!(with("HTTP_TRANSFER_ENCODING", ""), Ok(RequestBody::Length(0)));
}

#[test]
fn the_last_of_equal_names_counts_as_with_other_servers() {
    let vars = vars(&[("CONTENT_LENGTH", "5"), ("A", "1"), ("CONTENT_LENGTH", ""), ("A", "2")]);
    assert_eq!((vars.get("A"), vars.get("CONTENT_LENGTH")), (Some(&b"2"[..]), Some(&b""[..])));
    assert_eq!((vars.get("a"), vars.iter().count()), (None, 4));
}

#[test]
fn a_client_without_an_address_is_none() {
    assert_eq!(vars(&[("REMOTE_ADDR", "::1")]).client(), Some("[::1]:0".parse().unwrap()));
    for wrong in ["", "unix:", "localhost", "1.2.3.4:5", "[::1]"] {
        assert_eq!(vars(&[("REMOTE_ADDR", wrong), ("REMOTE_PORT", "1")]).client(), None, "{wrong}");
    }
    assert_eq!(
        vars(&[("REMOTE_ADDR", "1.2.3.4"), ("REMOTE_PORT", "x")]).client(),
        Some("1.2.3.4:0".parse().unwrap())
    );
}

/// Whatever comes, nothing panics; and what makes a head makes exactly one, with nothing behind it.
#[test]
fn random_bytes_are_refused_or_make_one_head() {
    let names =
        ["REQUEST_METHOD", "REQUEST_URI", "PATH_INFO", "SCRIPT_NAME", "QUERY_STRING", "SERVER_PROTOCOL"];
    let more = ["HTTP_HOST", "HTTP_X", "HTTP_", "HTTP_TRANSFER_ENCODING", "CONTENT_LENGTH", "SERVER_NAME"];
    let values =
        ["GET", "/", "/a%0d?b", "HTTP/1.1", "HTTP/1.0", "h", "5", "", "\r\n", " ", "\r\n\r\nGET /", "x: y"];
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut heads = 0;
    for _ in 0..20_000 {
        let mut list = vec![("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/"), ("HTTP_HOST", "h")];
        for _ in 0..random(6) {
            let all = [&names[..], &more].concat();
            list.push((all[random(all.len())], values[random(values.len())]));
        }
        let mut bytes = packet(&list);
        for _ in 0..random(3) {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
        }
        bytes.truncate(bytes.len() - random(2) * random(bytes.len()));
        let Ok(Some((vars, length))) = read(&bytes) else { continue };
        assert!(length <= bytes.len());
        assert_eq!(vars.block.len() + HEADER, length);
        vars.client();
        let Ok(head) = vars.head() else { continue };
        if let Ok((_, end)) = judged(&head) {
            assert_eq!(end, head.len(), "{:?}", String::from_utf8_lossy(&head));
            heads += 1;
        }
    }
    assert!(heads > 1000, "{heads}");
}

#[test]
fn the_scheme_is_what_the_front_server_says_first() {
    for (list, expected) in [
        (&[][..], None),
        (&[("HTTPS", "")], None),
        (&[("HTTPS", "on")], Some(true)),
        (&[("HTTPS", "1"), ("REQUEST_SCHEME", "http")], Some(true)),
        (&[("HTTPS", "off"), ("REQUEST_SCHEME", "https")], Some(false)),
        (&[("HTTPS", ""), ("REQUEST_SCHEME", "https")], Some(true)),
        (&[("REQUEST_SCHEME", "http")], Some(false)),
        (&[("UWSGI_SCHEME", "HTTPS")], Some(true)),
        (&[("HTTP_HTTPS", "on"), ("HTTP_REQUEST_SCHEME", "https")], None),
    ] {
        assert_eq!(vars(list).is_secure(), expected, "{list:?}");
    }
}
