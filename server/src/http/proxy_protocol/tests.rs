use super::*;

const GET: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// What `mode` makes of `header` and a request behind it: shown whole, byte by byte and cut in two at every position, which
/// must all agree.
fn every_way(name: &str, mode: ProxyProtocol, header: &[u8]) -> Result<ProxyHeader, ProxyError> {
    let input = [header, GET].concat();
    let read = |cuts: &mut dyn Iterator<Item = usize>| {
        for cut in cuts.chain([input.len()]) {
            if let Some(found) = mode.read(&input[..cut]).transpose() {
                return found;
            }
        }
        panic!("{name}: neither found nor refused");
    };
    let whole = read(&mut std::iter::empty());
    assert_eq!(read(&mut (0..input.len())), whole, "{name}, byte by byte");
    for cut in 0..input.len() {
        assert_eq!(read(&mut std::iter::once(cut)), whole, "{name}, cut at {cut}");
    }
    if let Ok(found) = &whole {
        assert_eq!(&input[found.length..], GET, "{name}");
    }
    whole
}

/// A block of version 2.
fn block(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    [V2.as_slice(), &[version_command, family], &length, rest].concat()
}

fn extension_of(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &(value.len() as u16).to_be_bytes(), value].concat()
}

/// 192.0.2.1:256 to 192.0.2.2:443.
const FOUR: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 1, 0, 1, 187];

fn inet(source: &str, destination: &str) -> ProxyEnds {
    ProxyEnds::Inet { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

#[test]
fn lines_that_are_well_formed() {
    let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    let max = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
    let unknown = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_LINE - 16));
    assert_eq!(unknown.len(), LONGEST_LINE);
    let rows = [
        ("2.1: TCP4", "PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\n", inet("192.0.2.1:5", "192.0.2.2:80")),
        (
            "2.1: ports of 0",
            "PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
            inet("0.0.0.0:0", "255.255.255.255:65535"),
        ),
        ("2.1: TCP6", "PROXY TCP6 2001:DB8::1 ::1 5 80\r\n", inet("[2001:db8::1]:5", "[::1]:80")),
        (
            "2.1: a mapped address",
            "PROXY TCP6 ::ffff:192.0.2.1 ::1 5 80\r\n",
            inet("[::ffff:192.0.2.1]:5", "[::1]:80"),
        ),
        ("2.1: the longest addresses", longest, inet(max, max)),
        ("2.1: UNKNOWN", "PROXY UNKNOWN\r\n", ProxyEnds::Socket),
        ("2.1: what follows UNKNOWN is ignored", "PROXY UNKNOWN a  b \x7f\r\n", ProxyEnds::Socket),
        ("2.1: 107 bytes", &unknown, ProxyEnds::Socket),
    ];
    for (name, line, ends) in rows {
        for mode in [ProxyProtocol::V1, ProxyProtocol::Auto] {
            let found = every_way(name, mode, line.as_bytes()).unwrap();
            assert_eq!((found.length, &found.ends, found.tls), (line.len(), &ends, false), "{name}");
        }
        assert_eq!(every_way(name, ProxyProtocol::V2, line.as_bytes()), Err(ProxyError::Missing));
        assert_eq!(every_way(name, ProxyProtocol::Off, line.as_bytes()), Err(ProxyError::Missing));
    }
}

#[test]
fn lines_that_are_refused() {
    let words = |rest: &str| format!("PROXY {rest}\r\n");
    for rest in [
        "",
        "TCP4",
        "TCP4 ",
        "UDP4 1.2.3.4 1.2.3.4 1 2",
        "tcp4 1.2.3.4 1.2.3.4 1 2",
        "UNKNOWNx",
        "TCP4 1.2.3.4 1.2.3.4 1",
        "TCP4 1.2.3.4 1.2.3.4 1 2 3",
        "TCP4 1.2.3.4 1.2.3.4 1 2 ",
        "TCP4  1.2.3.4 1.2.3.4 1 2",
        " TCP4 1.2.3.4 1.2.3.4 1 2",
        "TCP4 1.2.3.4\t1.2.3.4 1 2",
        "TCP4 01.2.3.4 1.2.3.4 1 2",
        "TCP4 1.2.3 1.2.3.4 1 2",
        "TCP4 1.2.3.256 1.2.3.4 1 2",
        "TCP4 ::1 1.2.3.4 1 2",
        "TCP6 1.2.3.4 ::1 1 2",
        "TCP6 ::1%lo ::1 1 2",
        "TCP6 [::1] ::1 1 2",
        "TCP6 1::2::3 ::1 1 2",
        "TCP4 1.2.3.4 1.2.3.4 65536 2",
        "TCP4 1.2.3.4 1.2.3.4 01 2",
        "TCP4 1.2.3.4 1.2.3.4 +1 2",
        "TCP4 1.2.3.4 1.2.3.4 -1 2",
        "TCP4 1.2.3.4 1.2.3.4 1 00",
        "TCP4 1.2.3.4 1.2.3.4 1  2",
        "TCP4 1.2.3.4 1.2.3.4 0x1 2",
        "TCP4 1.2.3.4 1.2.3.4 1 \u{ff12}",
        "TCP4 1.2.3.4\r 1.2.3.4 1 2",
        "UNKNOWN\r",
    ] {
        let found = every_way(rest, ProxyProtocol::Auto, words(rest).as_bytes());
        assert!(matches!(found, Err(ProxyError::Malformed(_))), "{rest}: {found:?}");
    }
    let bare = every_way("a bare LF", ProxyProtocol::V1, b"PROXY UNKNOWN\n");
    assert!(matches!(bare, Err(ProxyError::Malformed(_))), "{bare:?}");
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_LINE - 15));
    assert_eq!(every_way("108 bytes", ProxyProtocol::V1, long.as_bytes()), Err(ProxyError::TooLong));
    for other in
        ["", "proxy UNKNOWN\r\n", " PROXY UNKNOWN\r\n", "\r\nPROXY UNKNOWN\r\n", "PROXY\tUNKNOWN\r\n"]
    {
        assert_eq!(
            every_way(other, ProxyProtocol::Auto, other.as_bytes()),
            Err(ProxyError::Missing),
            "{other:?}"
        );
    }
}

#[test]
fn blocks_that_are_well_formed() {
    let six = [&[0; 15][..], &[1], &[0; 15], &[2], &[0, 80, 1, 187]].concat();
    let mut paths = [0; 216];
    paths[..4].copy_from_slice(b"/a.s");
    paths[108..].fill(b'b');
    let unix = ProxyEnds::Unix { source: b"/a.s".to_vec(), destination: vec![b'b'; 108] };
    let four = inet("192.0.2.1:256", "192.0.2.2:443");
    let with = |kind: u8, value: &[u8]| [&FOUR[..], &extension_of(kind, value)].concat();
    let rows = [
        ("2.2: TCP over IPv4", block(0x21, 0x11, &FOUR), &four, false),
        ("2.2: TCP over IPv6", block(0x21, 0x21, &six), &inet("[::1]:80", "[::2]:443"), false),
        ("2.2: Unix stream", block(0x21, 0x31, &paths), &unix, false),
        ("2.2: LOCAL", block(0x20, 0, b""), &ProxyEnds::Socket, false),
        (
            "2.2: all of LOCAL is discarded, its family too",
            block(0x20, 0x11, b"?"),
            &ProxyEnds::Socket,
            false,
        ),
        ("2.2: UNSPEC", block(0x21, 0, b"?"), &ProxyEnds::Socket, false),
        ("2.2.5: NOOP and others are skipped", block(0x21, 0x11, &with(4, b"xy")), &four, false),
        ("2.2: an empty extension", block(0x21, 0x11, &with(0xee, b"")), &four, false),
        ("2.2.6: SSL", block(0x21, 0x11, &with(SSL, &[1, 0, 0, 0, 0, 0x21, 0, 1, b'v'])), &four, true),
        ("2.2.6: SSL without TLS", block(0x21, 0x11, &with(SSL, &[6, 0, 0, 0, 0])), &four, false),
        ("4096 bytes", block(0x21, 0x11, &with(0xee, &[0; LONGEST_REST - 15])), &four, false),
    ];
    for (name, header, ends, tls) in rows {
        for mode in [ProxyProtocol::V2, ProxyProtocol::Auto] {
            let found = every_way(name, mode, &header).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!((found.length, &found.ends, found.tls), (header.len(), ends, tls), "{name}");
        }
        assert_eq!(every_way(name, ProxyProtocol::V1, &header), Err(ProxyError::Missing));
    }
}

#[test]
fn blocks_that_are_refused() {
    let with = |bytes: &[u8]| block(0x21, 0x11, &[&FOUR[..], bytes].concat());
    let rows = [
        ("2.2: version 1", block(0x11, 0x11, &FOUR)),
        ("2.2: version 3", block(0x31, 0x11, &FOUR)),
        ("2.2: another command", block(0x22, 0x11, &FOUR)),
        ("2.2: datagrams", block(0x21, 0x12, &FOUR)),
        ("2.2: no transport", block(0x21, 0x10, &FOUR)),
        ("2.2: another family", block(0x21, 0x41, &FOUR)),
        ("2.2: too short for IPv4", block(0x21, 0x11, &FOUR[..11])),
        ("2.2: too short for IPv6", block(0x21, 0x21, &[0; 35])),
        ("2.2: too short for paths", block(0x21, 0x31, &[0; 215])),
        ("2.2: half an extension", with(&[4, 0])),
        ("2.2: an extension beyond the end", with(&[4, 0, 2, 0])),
        ("2.2.6: a short SSL", with(&extension_of(SSL, &[1, 0, 0, 0]))),
        ("2.2.6: an extension beyond the end of SSL", with(&extension_of(SSL, &[1, 0, 0, 0, 0, 0x21, 0, 9]))),
        ("2.2.3: a short CRC-32c", with(&extension_of(CRC32C, &[0; 3]))),
    ];
    for (name, header) in rows {
        let found = every_way(name, ProxyProtocol::Auto, &header);
        assert!(matches!(found, Err(ProxyError::Malformed(_))), "{name}: {found:?}");
    }
    let long = block(0x21, 0x11, &[0; LONGEST_REST + 1]);
    assert_eq!(every_way("4097 bytes", ProxyProtocol::V2, &long), Err(ProxyError::TooLong));
    let mut other = block(0x21, 0x11, &FOUR);
    other[11] = b'\r';
    assert_eq!(every_way("another signature", ProxyProtocol::V2, &other), Err(ProxyError::Missing));
}

#[test]
fn a_checksum_is_checked_if_there_is_one() {
    assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283, "RFC 3720, B.4");
    let extensions = [extension_of(4, b"a"), extension_of(CRC32C, &[0; 4]), extension_of(4, b"b")].concat();
    let mut header = block(0x21, 0x11, &[&FOUR[..], &extensions].concat());
    let at = FIXED + FOUR.len() + 4 + 3;
    let crc = !crc32c(!0, &header);
    header[at..at + 4].copy_from_slice(&crc.to_be_bytes());
    every_way("2.2.3: right", ProxyProtocol::V2, &header).unwrap();
    for bit in FIXED * 8..header.len() * 8 {
        let mut wrong = header.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        // One bit may also make it malformed, or the checksum another extension.
        let is_kind = bit / 8 == at - 3;
        assert_eq!(ProxyProtocol::V2.read(&wrong).is_err(), !is_kind, "bit {bit}");
    }
    let twice = [extension_of(CRC32C, &crc.to_be_bytes()), extension_of(CRC32C, &[0; 4])].concat();
    assert!(ProxyProtocol::V2.read(&block(0x21, 0x11, &[&FOUR[..], &twice].concat())).is_err());
}
