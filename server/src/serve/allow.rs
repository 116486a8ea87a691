//! Lists of addresses that may do something.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Addresses that are trusted, as gunicorn's settings of this kind have them: addresses and networks with commas between them,
/// or `*` for all. The default is `127.0.0.1,::1`.
///
/// An IPv4 address that came over IPv6 (`::ffff:192.0.2.1`) is the IPv4 address.
///
/// ```
/// use greenserve::AllowIps;
///
/// let allowed: AllowIps = "10.0.0.0/8, ::1".parse()?;
/// assert!(allowed.contains("10.1.2.3".parse().unwrap()));
/// assert!(!allowed.contains("192.0.2.1".parse().unwrap()));
/// # Ok::<_, String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowIps {
    all: bool,
    networks: Vec<(IpAddr, u8)>,
}

impl AllowIps {
    /// Whether this address is among them.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.all || self.networks.iter().any(|(network, length)| same_start(*network, ip, *length))
    }
}

impl Default for AllowIps {
    fn default() -> AllowIps {
        let networks = [IpAddr::from([127, 0, 0, 1]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)];
        AllowIps { all: false, networks: networks.map(|ip| (ip, bits(ip))).to_vec() }
    }
}

impl FromStr for AllowIps {
    type Err = String;

    /// # Errors
    /// What would be right, if an element is no address, network or `*`. An empty list is nobody.
    fn from_str(text: &str) -> Result<AllowIps, String> {
        let mut list = AllowIps { all: false, networks: Vec::new() };
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            if part == "*" {
                list.all = true;
                continue;
            }
            let (ip, length) = match part.split_once('/') {
                Some((ip, length)) => (ip, Some(length)),
                None => (part, None),
            };
            let wrong = || {
                format!("{part:?} is no address such as 192.0.2.1, no network such as 10.0.0.0/8, and not *")
            };
            let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
            let length = match length {
                None => bits(ip),
                Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                    digits.parse().map_err(|_| wrong())?
                }
                Some(_) => return Err(wrong()),
            };
            if length > bits(ip) {
                return Err(wrong());
            }
            list.networks.push((ip, length));
        }
        Ok(list)
    }
}

/// As it would be typed.
impl fmt::Display for AllowIps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks = self.networks.iter().map(|(ip, length)| match *length == bits(*ip) {
            true => ip.to_string(),
            false => format!("{ip}/{length}"),
        });
        let all = self.all.then(|| "*".to_owned());
        f.write_str(&all.into_iter().chain(networks).collect::<Vec<_>>().join(","))
    }
}

fn bits(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// Whether the first `length` bits of two addresses of one kind are equal.
fn same_start(a: IpAddr, b: IpAddr, length: u8) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(32 - u32::from(length)).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(128 - u32::from(length)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks() {
        let rows = [
            ("127.0.0.1,::1", "127.0.0.1", true),
            ("127.0.0.1,::1", "::1", true),
            ("127.0.0.1,::1", "::ffff:127.0.0.1", true),
            ("127.0.0.1,::1", "127.0.0.2", false),
            ("127.0.0.1,::1", "::2", false),
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3/8", "10.9.9.9", true),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/33", "2001:db8:7fff::1", true),
            ("2001:db8::/33", "2001:db8:8000::1", false),
            ("::/0", "2001:db8::1", true),
            ("*", "192.0.2.1", true),
            ("", "127.0.0.1", false),
        ];
        for (list, ip, expected) in rows {
            let list: AllowIps = list.parse().unwrap();
            assert_eq!(list.contains(ip.parse().unwrap()), expected, "{list} {ip}");
        }
        assert_eq!(AllowIps::default(), "127.0.0.1,::1".parse().unwrap());
    }

    #[test]
    fn what_is_shown_can_be_read() {
        for text in ["127.0.0.1,::1", "10.0.0.0/8", "*", "*,::/0", ""] {
            assert_eq!(text.parse::<AllowIps>().unwrap().to_string(), text);
        }
        assert_eq!(" ::1 , ,*".parse::<AllowIps>().unwrap().to_string(), "*,::1");
    }

    #[test]
    fn what_is_no_address_is_told() {
        for wrong in ["localhost", "1.2.3", "1.2.3.4/33", "::/129", "1.2.3.4/", "1.2.3.4/+8", "**", "[::1]"] {
            let error = wrong.parse::<AllowIps>().unwrap_err();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
