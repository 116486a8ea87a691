//! The PROXY protocol, in which a proxy that passes on bytes tells whose they are: a line (version 1) or a binary block
//! (version 2) before anything else on the connection. Sections are those of HAProxy's `proxy-protocol.txt`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Which versions of the PROXY protocol are spoken on all connections (gunicorn's `proxy_protocol`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// None: a connection begins with a request.
    #[default]
    Off,
    /// The line.
    V1,
    /// The binary block.
    V2,
    /// Either.
    Auto,
}

/// A PROXY header that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyHeader {
    /// How many bytes it takes; what follows is the client's.
    pub length: usize,
    /// Between whom the connection is that the proxy passes on.
    pub ends: ProxyEnds,
    /// Whether the client speaks TLS with the proxy (2.2.6, `PP2_CLIENT_SSL`).
    pub tls: bool,
}

/// The addresses in a PROXY header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyEnds {
    /// None: the proxy speaks for itself (`LOCAL`), or does not know (`UNKNOWN`, `UNSPEC`). The socket's own hold.
    Socket,
    /// Those of a TCP connection.
    Inet {
        /// The client.
        source: SocketAddr,
        /// Where the client reached the proxy.
        destination: SocketAddr,
    },
    /// The paths of a connection by Unix sockets, without the zeros that fill them up; empty for one without a name.
    Unix {
        /// The client.
        source: Vec<u8>,
        /// Where the client reached the proxy.
        destination: Vec<u8>,
    },
}

/// Why a connection with the PROXY protocol is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyError {
    /// What came does not begin like a header of a version that is spoken.
    Missing,
    /// The header is longer than one can be: 107 bytes (2.1), or 4096 behind the first 16 of version 2.
    TooLong,
    /// It breaks a rule of the protocol; the text says which.
    Malformed(&'static str),
    /// Its CRC-32c is not that of its bytes (2.2.3).
    Checksum,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyError::Missing => f.write_str("it does not begin with a PROXY header"),
            ProxyError::TooLong => f.write_str("its PROXY header is too long"),
            ProxyError::Malformed(rule) => write!(f, "its PROXY header is malformed: {rule}"),
            ProxyError::Checksum => f.write_str("its PROXY header has a wrong checksum"),
        }
    }
}

impl std::error::Error for ProxyError {}

const V1: &[u8] = b"PROXY ";
const V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line with its CRLF (2.1).
const LONGEST_LINE: usize = 107;
/// The signature, version and command, family, length.
const FIXED: usize = 16;
/// Addresses and extensions of version 2. Certificates' names are the longest of what is sent in practice.
const LONGEST_REST: usize = 4096;

impl ProxyProtocol {
    /// The most bytes that [`ProxyProtocol::read`] has to see.
    pub const LONGEST: usize = FIXED + LONGEST_REST;

    /// Reads the header that a connection begins with. `None`: more input is needed, and all of `bytes` belongs to the header.
    /// Neither what is found nor which fault depends on how the input was cut. `Off` finds every header missing.
    ///
    /// # Errors
    /// There is no header, or it has a fault; the connection can't be used.
    pub fn read(self, bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
        let begins = |with: &[u8]| bytes.iter().zip(with).all(|(byte, other)| byte == other);
        let (line, block) = match self {
            ProxyProtocol::Off => (false, false),
            ProxyProtocol::V1 => (true, false),
            ProxyProtocol::V2 => (false, true),
            ProxyProtocol::Auto => (true, true),
        };
        if line && begins(V1) {
            read_line(bytes)
        } else if block && begins(V2) {
            read_block(bytes)
        } else {
            Err(ProxyError::Missing)
        }
    }
}

/// Version 1 (2.1).
fn read_line(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    let most = bytes.len().min(LONGEST_LINE);
    let Some(end) = memchr::memchr(b'\n', &bytes[..most]) else {
        return if most == LONGEST_LINE { Err(ProxyError::TooLong) } else { Ok(None) };
    };
    let line = bytes[..end].strip_suffix(b"\r").filter(|line| !line.contains(&b'\r'));
    let line = line.ok_or(ProxyError::Malformed("the line does not end in CRLF"))?;
    let ends = match line.strip_prefix(V1) {
        // What stands behind UNKNOWN is to be ignored.
        Some(rest) if rest == b"UNKNOWN" || rest.starts_with(b"UNKNOWN ") => ProxyEnds::Socket,
        Some(rest) => line_ends(rest)?,
        None => return Err(ProxyError::Missing),
    };
    Ok(Some(ProxyHeader { length: end + 1, ends, tls: false }))
}

fn line_ends(rest: &[u8]) -> Result<ProxyEnds, ProxyError> {
    let rest = std::str::from_utf8(rest).map_err(|_| ProxyError::Malformed("the line is not ASCII"))?;
    let mut words = rest.split(' ');
    let mut word = || words.next().ok_or(ProxyError::Malformed("the line has too few words"));
    let v6 = match word()? {
        "TCP4" => false,
        "TCP6" => true,
        _ => return Err(ProxyError::Malformed("the family is none of TCP4, TCP6 and UNKNOWN")),
    };
    let (source, destination) = (line_ip(v6, word()?)?, line_ip(v6, word()?)?);
    let (source_port, destination_port) = (line_port(word()?)?, line_port(word()?)?);
    if words.next().is_some() {
        return Err(ProxyError::Malformed("the line has too many words"));
    }
    Ok(ProxyEnds::Inet {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

/// std's parsers take the canonical forms only: no zeros in front, no octal, no zone.
fn line_ip(v6: bool, word: &str) -> Result<IpAddr, ProxyError> {
    match v6 {
        false => word.parse().map(IpAddr::V4).map_err(|_| ProxyError::Malformed("no IPv4 address")),
        true => word.parse().map(IpAddr::V6).map_err(|_| ProxyError::Malformed("no IPv6 address")),
    }
}

fn line_port(word: &str) -> Result<u16, ProxyError> {
    let canonical = word == "0" || !word.starts_with(['0', '+']);
    word.parse().ok().filter(|_| canonical).ok_or(ProxyError::Malformed("no port from 0 to 65535"))
}

/// Version 2 (2.2).
fn read_block(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else { return Ok(None) };
    let (version, command, family) = (fixed[12] >> 4, fixed[12] & 15, fixed[13]);
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if version != 2 {
        return Err(ProxyError::Malformed("the version is not 2"));
    }
    if command > 1 {
        return Err(ProxyError::Malformed("the command is neither LOCAL nor PROXY"));
    }
    if length > LONGEST_REST {
        return Err(ProxyError::TooLong);
    }
    let Some(rest) = rest.get(..length) else { return Ok(None) };
    let length = FIXED + length;
    // What a proxy says of itself is to be discarded, and addresses of no family can't be told from extensions.
    if command == 0 || family == 0 {
        return Ok(Some(ProxyHeader { length, ends: ProxyEnds::Socket, tls: false }));
    }
    let (ends, extensions) = block_ends(family, rest)?;
    let tls = read_extensions(&bytes[..length], length - extensions)?;
    Ok(Some(ProxyHeader { length, ends, tls }))
}

/// The addresses, and how many bytes are behind them.
fn block_ends(family: u8, rest: &[u8]) -> Result<(ProxyEnds, usize), ProxyError> {
    let short = ProxyError::Malformed("the block is shorter than its addresses");
    let port = |bytes: [u8; 4], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let inet = |source: IpAddr, destination: IpAddr, ports: [u8; 4]| ProxyEnds::Inet {
        source: SocketAddr::new(source, port(ports, 0)),
        destination: SocketAddr::new(destination, port(ports, 2)),
    };
    let mut rest = rest;
    let ends = match family {
        0x11 => {
            let (source, destination) = (take::<4>(&mut rest), take::<4>(&mut rest));
            let (source, destination) = source.zip(destination).ok_or(short)?;
            let ip = |bytes: [u8; 4]| IpAddr::V4(Ipv4Addr::from(bytes));
            inet(ip(source), ip(destination), take::<4>(&mut rest).ok_or(short)?)
        }
        0x21 => {
            let (source, destination) = (take::<16>(&mut rest), take::<16>(&mut rest));
            let (source, destination) = source.zip(destination).ok_or(short)?;
            let ip = |bytes: [u8; 16]| IpAddr::V6(Ipv6Addr::from(bytes));
            inet(ip(source), ip(destination), take::<4>(&mut rest).ok_or(short)?)
        }
        0x31 => {
            let (source, destination) = (take::<108>(&mut rest), take::<108>(&mut rest));
            let (source, destination) = source.zip(destination).ok_or(short)?;
            // A path ends with its first zero; a name in the abstract room, which begins with one, is none.
            let path = |bytes: [u8; 108]| bytes.into_iter().take_while(|byte| *byte != 0).collect();
            ProxyEnds::Unix { source: path(source), destination: path(destination) }
        }
        _ => return Err(ProxyError::Malformed("the family is not that of a stream")),
    };
    Ok((ends, rest.len()))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

/// Types of extensions (2.2).
const CRC32C: u8 = 0x03;
const SSL: u8 = 0x20;
/// In the first byte of `SSL`: the client speaks TLS.
const CLIENT_SSL: u8 = 1;

/// Goes through the extensions that `header` has from `at` on; gives whether the client speaks TLS.
fn read_extensions(header: &[u8], at: usize) -> Result<bool, ProxyError> {
    let (mut tls, mut checked) = (false, false);
    let mut rest = &header[at..];
    while !rest.is_empty() {
        let (kind, value) = extension(&mut rest)?;
        match kind {
            CRC32C => {
                let stated = value.try_into().map(u32::from_be_bytes);
                let stated = stated.map_err(|_| ProxyError::Malformed("a CRC-32c that has not 4 bytes"))?;
                if std::mem::replace(&mut checked, true) {
                    return Err(ProxyError::Malformed("there is more than one CRC-32c"));
                }
                // It is that of the header with zeros in its own place.
                let end = header.len() - rest.len();
                let crc = [&header[..end - 4], &[0; 4], &header[end..]].into_iter().fold(!0, crc32c);
                if !crc != stated {
                    return Err(ProxyError::Checksum);
                }
            }
            SSL => {
                let Some(([client, _verify @ ..], mut within)) = value.split_first_chunk::<5>() else {
                    return Err(ProxyError::Malformed("an SSL extension that is too short"));
                };
                while !within.is_empty() {
                    extension(&mut within)?;
                }
                tls |= client & CLIENT_SSL != 0;
            }
            _ => {}
        }
    }
    Ok(tls)
}

/// Takes off one extension: its type and its value.
fn extension<'h>(rest: &mut &'h [u8]) -> Result<(u8, &'h [u8]), ProxyError> {
    let cut = ProxyError::Malformed("an extension reaches beyond its end");
    let ([kind, high, low], behind) = rest.split_first_chunk().ok_or(cut)?;
    let (value, behind) =
        behind.split_at_checked(usize::from(u16::from_be_bytes([*high, *low]))).ok_or(cut)?;
    *rest = behind;
    Ok((*kind, value))
}

/// Adds `bytes` to a CRC of Castagnoli's polynomial (RFC 3720, B.4), which begins with all bits set and is inverted last.
fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| {
                if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 }
            },
        )
    })
}

#[cfg(test)]
mod tests;
