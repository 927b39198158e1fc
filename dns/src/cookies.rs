//! DNS cookies (RFC 7873), of the form that all servers understand (RFC 9018).

use std::hash::Hasher as _;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use siphasher::sip::SipHasher24;

/// Makes and knows the cookies of this server. They show that a client gets what is sent to its address.
pub(crate) struct Cookies(Mutex<Secrets>);

struct Secrets {
    newest: Secret,
    /// When the newest one was made. It is not for cookies of before.
    since: u32,
    before: Secret,
}

type Secret = [u8; 16];

/// A COOKIE option of a query (RFC 7873, 4).
#[derive(Debug)]
pub(crate) struct CookieOption<'o> {
    client: [u8; 8],
    server: &'o [u8],
}

/// How old a cookie may be, in seconds (RFC 9018, 4.3).
const MAX_AGE: i32 = 60 * 60;

/// How far ahead the clock of another server may be, in seconds (RFC 9018, 4.3).
const MAX_AHEAD: i32 = 5 * 60;

/// How long new cookies are made with the same secret, in seconds (RFC 7873, 7.1: 26 hours at most). Those that were made
/// with the one before are known until they are too old.
const SECRET_LIFETIME: i32 = 24 * 60 * 60;

/// Version 1, and three bytes that a new cookie leaves zero.
const VERSION: [u8; 4] = [1, 0, 0, 0];

impl<'o> CookieOption<'o> {
    /// `None`: no cookies have such a length, and the query is malformed (RFC 7873, 5.2.2).
    pub(crate) fn parse(option: &'o [u8]) -> Option<Self> {
        let (client, server) = option.split_first_chunk()?;
        matches!(server.len(), 0 | 8..=32).then_some(Self { client: *client, server })
    }
}

impl Cookies {
    /// With a new secret: cookies do not outlive the process, and clients then get new ones.
    ///
    /// # Errors
    /// Where the system has no random numbers.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let secrets =
            Secrets { newest: random_secret()?, since: seconds_since_1970(), before: random_secret()? };
        Ok(Self(Mutex::new(secrets)))
    }

    /// Whether the client sends a cookie that this server gave to this address. `now` is in seconds since 1970.
    pub(crate) fn knows(&self, option: &CookieOption<'_>, address: IpAddr, now: u32) -> bool {
        let Some((start, hash)) = option.server.split_first_chunk::<8>() else { return false };
        let [version, _, _, _, time @ ..] = *start;
        let time = u32::from_be_bytes(time);
        let secret = self.lock().at(time);
        let expected = hash_of(&secret, &option.client, start, address);
        // A comparison in constant time: otherwise its time would tell how much of a guess is right.
        let difference = expected.iter().zip(hash).fold(0, |all, (a, b)| all | (a ^ b));
        version == VERSION[0]
            && (-MAX_AHEAD..=MAX_AGE).contains(&seconds(time, now))
            && hash.len() == 8
            && difference == 0
    }

    /// The option of the response: the client's cookie, and a new one of this server.
    pub(crate) fn reply(&self, option: &CookieOption<'_>, address: IpAddr, now: u32) -> [u8; 24] {
        let [v, r1, r2, r3] = VERSION;
        let [t1, t2, t3, t4] = now.to_be_bytes();
        let start = [v, r1, r2, r3, t1, t2, t3, t4];
        let mut reply = [0; 24];
        reply[..8].copy_from_slice(&option.client);
        reply[8..16].copy_from_slice(&start);
        reply[16..].copy_from_slice(&hash_of(&self.secret(now), &option.client, &start, address));
        reply
    }

    /// The secret of cookies that are made now: a new one where it is time for that, if the system has one.
    fn secret(&self, now: u32) -> Secret {
        let mut secrets = self.lock();
        // Where the clock was set back, the newest one would be for cookies of a time to come.
        if !(-MAX_AHEAD..SECRET_LIFETIME).contains(&seconds(secrets.since, now))
            && let Ok(newest) = random_secret()
        {
            *secrets = Secrets { newest, since: now, before: secrets.newest };
        }
        secrets.at(now)
    }

    fn lock(&self) -> MutexGuard<'_, Secrets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Secrets {
    /// That of cookies that were made at `time`.
    fn at(&self, time: u32) -> Secret {
        if seconds(self.since, time) >= 0 { self.newest } else { self.before }
    }
}

/// The clock of cookies, which wraps around (RFC 9018, 4.3).
pub(crate) fn seconds_since_1970() -> u32 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs() as u32
}

/// From one time to another, as serial numbers (RFC 1982).
fn seconds(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from).cast_signed()
}

fn random_secret() -> Result<Secret, getrandom::Error> {
    let mut secret = Secret::default();
    getrandom::fill(&mut secret)?;
    Ok(secret)
}

fn hash_of(secret: &Secret, client: &[u8; 8], start: &[u8; 8], address: IpAddr) -> [u8; 8] {
    let mut hasher = SipHasher24::new_with_key(secret);
    hasher.write(client);
    hasher.write(start);
    match address.to_canonical() {
        IpAddr::V4(address) => hasher.write(&address.octets()),
        IpAddr::V6(address) => hasher.write(&address.octets()),
    }
    hasher.finish().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vector of RFC 9018, Appendix A.
    struct Vector {
        secret: u128,
        address: &'static str,
        client: u64,
        sent: Option<u128>,
        now: u32,
        reply: u128,
    }

    impl Vector {
        fn cookies(&self) -> Cookies {
            let secret = self.secret.to_be_bytes();
            Cookies(Mutex::new(Secrets { newest: secret, since: self.now - 3600, before: secret }))
        }

        fn option(&self, server: Option<u128>) -> Vec<u8> {
            let server = server.map(u128::to_be_bytes);
            [&self.client.to_be_bytes()[..], server.as_ref().map_or(&[], |server| &server[..])].concat()
        }

        fn knows(&self, server: u128, now: u32) -> bool {
            let option = self.option(Some(server));
            let option = CookieOption::parse(&option).unwrap();
            self.cookies().knows(&option, self.address.parse().unwrap(), now)
        }
    }

    const LEARNT: Vector = Vector {
        secret: 0xe5e9_73e5_a6b2_a43f_48e7_dc84_9e37_bfcf,
        address: "198.51.100.100",
        client: 0x2464_c4ab_cf10_c957,
        sent: None,
        now: 1_559_731_985,
        reply: 0x0100_0000_5cf7_9f11_1f81_30c3_eee2_9480,
    };

    const RENEWED: Vector = Vector {
        sent: Some(0x0100_0000_5cf7_9f11_1f81_30c3_eee2_9480),
        now: 1_559_734_385,
        reply: 0x0100_0000_5cf7_a871_d4a5_64a1_442a_ca77,
        ..LEARNT
    };

    const OF_ANOTHER_CLIENT: Vector = Vector {
        address: "203.0.113.203",
        client: 0xfc93_fc62_807d_db86,
        sent: Some(0x01ab_cdef_5cf7_8f71_a314_227b_6679_ebf5),
        now: 1_559_734_700,
        reply: 0x0100_0000_5cf7_a9ac_f73a_7810_aca2_381e,
        ..LEARNT
    };

    const OVER_IPV6: Vector = Vector {
        secret: 0x4455_36bc_d251_3298_075a_5d37_9663_c962,
        address: "2001:db8:220:1:59de:d0f4:8769:82b8",
        client: 0x2268_1ab9_7d52_c298,
        sent: None,
        now: 1_559_741_961,
        reply: 0x0100_0000_5cf7_c609_a6bb_79d1_6625_507a,
    };

    #[test]
    fn cookies_are_those_of_rfc_9018() {
        for vector in [LEARNT, RENEWED, OF_ANOTHER_CLIENT, OVER_IPV6] {
            let option = vector.option(vector.sent);
            let option = CookieOption::parse(&option).unwrap();
            let reply = vector.cookies().reply(&option, vector.address.parse().unwrap(), vector.now);
            assert_eq!(reply[..8], vector.client.to_be_bytes());
            assert_eq!(u128::from_be_bytes(*reply[8..].first_chunk().unwrap()), vector.reply);
        }
    }

    #[test]
    fn a_cookie_is_known_for_an_hour_to_the_address_that_got_it() {
        for vector in [LEARNT, OF_ANOTHER_CLIENT, OVER_IPV6] {
            assert!(vector.knows(vector.reply, vector.now));
            assert!(vector.knows(vector.reply, vector.now + 3600));
            assert!(!vector.knows(vector.reply, vector.now + 3601));
            assert!(vector.knows(vector.reply, vector.now - 300));
            assert!(!vector.knows(vector.reply, vector.now - 301));
            assert!(!vector.knows(vector.reply ^ 1, vector.now));
            assert!(!vector.knows(vector.reply ^ (1 << 120), vector.now), "another version");
            let elsewhere = Vector { address: "192.0.2.1", ..vector };
            assert!(!elsewhere.knows(elsewhere.reply, elsewhere.now));
        }
        // Other servers may use the three bytes that this one leaves zero; they are part of the hash.
        assert!(OF_ANOTHER_CLIENT.knows(OF_ANOTHER_CLIENT.sent.unwrap(), 1_559_728_585));
    }

    #[test]
    fn the_secret_changes_every_day_and_cookies_of_the_one_before_live_on() {
        let cookies = LEARNT.cookies();
        let (address, day) = (LEARNT.address.parse().unwrap(), SECRET_LIFETIME.cast_unsigned());
        let give = |now| {
            let option = LEARNT.option(None);
            cookies.reply(&CookieOption::parse(&option).unwrap(), address, now)
        };
        let knows = |cookie: &[u8], now| cookies.knows(&CookieOption::parse(cookie).unwrap(), address, now);
        let start = LEARNT.now - 3600;
        let last = give(start + day - 1);
        let secret = |cookies: &Cookies| cookies.lock().newest;
        let old = secret(&cookies);
        let first = give(start + day);
        assert_ne!(secret(&cookies), old);
        for now in [start + day, start + day + 3599] {
            assert!(knows(&last, now) && knows(&first, now));
        }
        assert!(!knows(&last, start + day + 3600));
        // Whoever got hold of the old secret cannot make cookies of now.
        let mut forged = first;
        let (client, cookie) = forged.split_first_chunk_mut::<8>().unwrap();
        let (stamp, hash) = cookie.split_first_chunk_mut::<8>().unwrap();
        hash.copy_from_slice(&hash_of(&old, client, stamp, address));
        assert!(!knows(&forged, start + day));
        give(start + 2 * day);
        assert!(knows(&first, start + day + 1));
        assert!(!knows(&last, start + day - 1), "two secrets ago");
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_make_new_cookies_unknown() {
        let (address, option) = (LEARNT.address.parse().unwrap(), LEARNT.option(None));
        for back in [1, 30, 7200, 7 * SECRET_LIFETIME.cast_unsigned()] {
            let cookies = LEARNT.cookies();
            let now = LEARNT.now - 3600 - back;
            let cookie = cookies.reply(&CookieOption::parse(&option).unwrap(), address, now);
            assert!(cookies.knows(&CookieOption::parse(&cookie).unwrap(), address, now + 1), "{back}");
        }
    }

    #[test]
    fn options_have_8_or_16_to_40_bytes() {
        for length in 0..50 {
            let option = vec![7; length];
            assert_eq!(CookieOption::parse(&option).is_some(), matches!(length, 8 | 16..=40), "{length}");
        }
        let longer = LEARNT.option(LEARNT.sent.or(Some(LEARNT.reply)));
        let longer = [longer, vec![0]].concat();
        let option = CookieOption::parse(&longer).unwrap();
        assert!(!LEARNT.cookies().knows(&option, LEARNT.address.parse().unwrap(), LEARNT.now));
    }
}
