//! Sets of addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::app::Addr;

/// Addresses and networks of which something may be believed: `forwarded_allow_ips`, `proxy_allow_ips`.
///
/// Written with commas, as gunicorn has them: addresses, networks in CIDR notation, `*` for everybody. The empty text is
/// nobody. A peer that came by a Unix socket is always one of them, as in gunicorn: who may connect there is a matter of that
/// file's mode. IPv4 addresses in IPv6's form are the IPv4 addresses that they stand for.
///
/// ```
/// let networks: greenserve::Networks = "10.0.0.0/8, ::1".parse()?;
/// assert!(networks.contain_ip("10.1.2.3".parse()?) && networks.contain_ip("::ffff:10.1.2.3".parse()?));
/// assert!(!networks.contain_ip("192.0.2.1".parse()?));
/// assert!("10.0.0.1/8".parse::<greenserve::Networks>().is_err(), "not the first address of that network");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    everybody: bool,
    /// An address and how many of its bits count.
    networks: Vec<(IpAddr, u32)>,
}

impl Networks {
    /// `127.0.0.1,::1`, which is gunicorn's default.
    pub fn loopback() -> Networks {
        let networks = vec![(Ipv4Addr::LOCALHOST.into(), 32), (Ipv6Addr::LOCALHOST.into(), 128)];
        Networks { everybody: false, networks }
    }

    /// Whether the address is one of them.
    pub fn contain_ip(&self, ip: IpAddr) -> bool {
        let (bits, width) = bits(ip.to_canonical());
        let within = |network: &(IpAddr, u32)| {
            let (other, other_width) = self::bits(network.0);
            // Shifted by 128 nothing is left to be different.
            width == other_width && (bits ^ other).checked_shr(width - network.1).unwrap_or(0) == 0
        };
        self.everybody || self.networks.iter().any(within)
    }

    /// Whether that peer is one of them: its address is, or it came by a Unix socket.
    pub fn contain(&self, peer: &Addr) -> bool {
        match peer {
            Addr::Inet(peer) => self.contain_ip(peer.ip()),
            Addr::Unix(_) => true,
        }
    }

    /// The first of a list that is none of them, or the last if all are; `Some(None)` if something that is no address comes
    /// before that. `None`: there is no list.
    pub(super) fn first_beyond(&self, list: impl Iterator<Item = Option<IpAddr>>) -> Option<Option<IpAddr>> {
        let mut last = None;
        for ip in list {
            last = Some(ip);
            if !ip.is_some_and(|ip| self.contain_ip(ip)) {
                break;
            }
        }
        last
    }
}

/// An address as a number, and how many bits it has.
fn bits(ip: IpAddr) -> (u128, u32) {
    match ip {
        IpAddr::V4(ip) => (ip.to_bits().into(), 32),
        IpAddr::V6(ip) => (ip.to_bits(), 128),
    }
}

impl FromStr for Networks {
    type Err = String;

    fn from_str(text: &str) -> Result<Networks, String> {
        let mut networks = Networks::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part {
                "*" => networks.everybody = true,
                _ => networks.networks.push(network(part)?),
            }
        }
        Ok(networks)
    }
}

fn network(text: &str) -> Result<(IpAddr, u32), String> {
    let wrong =
        || format!("{text:?} is no address and no network; expected such as 10.0.0.1, 10.0.0.0/8, ::1 or *");
    let (ip, length) = match text.split_once('/') {
        Some((ip, length)) => {
            let digits = length.bytes().all(|byte| byte.is_ascii_digit());
            (ip, Some(length.parse::<u32>().ok().filter(|_| digits).ok_or_else(wrong)?))
        }
        None => (text, None),
    };
    let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
    let (number, width) = bits(ip);
    let length = length.unwrap_or(width);
    if length > width {
        return Err(wrong());
    }
    let host = number & !(!0u128).checked_shl(width - length).unwrap_or(0);
    if host != 0 {
        return Err(format!(
            "{text:?} is not the first address of its network: bits behind the /{length} are set"
        ));
    }
    Ok(match ip.to_canonical() {
        canonical @ IpAddr::V4(_) if ip.is_ipv6() && length >= 96 => (canonical, length - 96),
        _ => (ip, length),
    })
}

/// As they may be parsed again.
impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let everybody = self.everybody.then(|| "*".to_owned());
        let networks = self.networks.iter().map(|(ip, length)| match bits(*ip).1 == *length {
            true => ip.to_string(),
            false => format!("{ip}/{length}"),
        });
        f.write_str(&everybody.into_iter().chain(networks).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_their_networks() {
        for (networks, inside, outside) in [
            ("127.0.0.1,::1", &["127.0.0.1", "::1", "::ffff:127.0.0.1"][..], &["127.0.0.2", "::2", "::"][..]),
            (
                "10.0.0.0/8",
                &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"],
                &["9.255.255.255", "11.0.0.0", "::a00:1"],
            ),
            ("10.0.0.6/31", &["10.0.0.6", "10.0.0.7"], &["10.0.0.5", "10.0.0.8"]),
            ("0.0.0.0/0", &["0.0.0.0", "255.255.255.255", "::ffff:1.2.3.4"], &["::1"]),
            ("::/0", &["::", "ffff::1"], &["1.2.3.4", "::ffff:1.2.3.4"]),
            ("2001:db8::/33", &["2001:db8:7fff::1"], &["2001:db8:8000::1", "2001:db7::"]),
            ("::ffff:10.0.0.0/104", &["10.1.2.3", "::ffff:10.1.2.3"], &["11.1.2.3"]),
            ("::ffff:10.0.0.1", &["10.0.0.1"], &["10.0.0.2"]),
            (" 1.2.3.4 ,, *", &["9.9.9.9", "::9"], &[]),
            ("", &[], &["127.0.0.1", "::1", "0.0.0.0"]),
        ] {
            let networks: Networks = networks.parse().unwrap();
            let contain = |ip: &&&str| networks.contain_ip(ip.parse().unwrap());
            assert_eq!(inside.iter().find(|ip| !contain(ip)), None, "{networks}");
            assert_eq!(outside.iter().find(contain), None, "{networks}");
            assert!(networks.contain(&Addr::Unix(None)));
            assert_eq!(networks.to_string().parse::<Networks>().as_ref(), Ok(&networks));
        }
        assert_eq!("127.0.0.1, ::1".parse(), Ok(Networks::loopback()));
    }

    #[test]
    fn what_is_no_network_says_what_would_be() {
        for (text, hint) in [
            ("localhost", "10.0.0.0/8"),
            ("10.0.0.0/33", "10.0.0.0/8"),
            ("::/129", "10.0.0.0/8"),
            ("10.0.0.0/", "10.0.0.0/8"),
            ("10.0.0.0/+8", "10.0.0.0/8"),
            ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
            ("10.0/8", "10.0.0.0/8"),
            ("192.168.1.1/24", "/24 are set"),
            ("1.0.0.0/0", "/0 are set"),
            ("::1/0", "/0 are set"),
        ] {
            let error = text.parse::<Networks>().unwrap_err();
            assert!(error.contains(hint) && error.contains(text), "{text}: {error}");
        }
    }
}
