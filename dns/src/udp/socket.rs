//! UDP sockets that take many packets at a time, and answer from the address that was asked.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::cmsg_space;
use nix::libc::{in_pktinfo, in6_pktinfo, timespec};
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage, recvmmsg, sendmsg,
    setsockopt,
};

use crate::address::socket_address;
use crate::intake::MAX_REQUEST;

/// A socket that blocks, but not for long.
pub(super) struct Socket(UdpSocket);

/// Where a packet came from, and so how an answer goes back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// The address of this host that was asked, where the socket is bound to all of them.
    asked: Option<Asked>,
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    V4(in_pktinfo),
    V6(in6_pktinfo),
}

/// Room for packets that have come.
pub(super) struct Inbox {
    headers: Headers,
    packets: Box<[[u8; MAX_REQUEST]; PACKETS]>,
}

type Headers = MultiHeaders<SockaddrStorage>;

/// Packets that are received at a time, if so many are there.
const PACKETS: usize = 32;

/// How long a socket blocks.
const PATIENCE: Duration = Duration::from_millis(100);

impl Socket {
    /// # Errors
    /// Where the socket cannot be set up.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        // Otherwise answers would come from the address that the system prefers, which clients do not take for the one
        // that they asked.
        match socket.local_addr()? {
            address if !address.ip().to_canonical().is_unspecified() => {}
            SocketAddr::V4(_) => setsockopt(&socket, Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, Ipv6RecvPacketInfo, &true)?,
        }
        Ok(Self(socket))
    }

    /// # Errors
    /// Where the packet cannot be sent.
    pub(super) fn send(&self, packet: &[u8], peer: Peer) -> io::Result<()> {
        let from = match &peer.asked {
            None => return self.0.send_to(packet, peer.address).map(drop),
            Some(Asked::V4(asked)) => ControlMessage::Ipv4PacketInfo(asked),
            Some(Asked::V6(asked)) => ControlMessage::Ipv6PacketInfo(asked),
        };
        let address = SockaddrStorage::from(peer.address);
        let packet = [IoSlice::new(packet)];
        sendmsg(self.0.as_raw_fd(), &packet, &[from], MsgFlags::empty(), Some(&address))?;
        Ok(())
    }
}

impl Inbox {
    /// Empty.
    pub(super) fn new() -> Self {
        Self { headers: new_headers(), packets: Box::new([[0; MAX_REQUEST]; PACKETS]) }
    }

    /// Waits for a packet, and gives `each` that one and those that are there as well.
    ///
    /// # Errors
    /// Where nothing comes for a while, and where nothing can be received.
    pub(super) fn receive(&mut self, socket: &Socket, mut each: impl FnMut(&[u8], Peer)) -> io::Result<()> {
        let mut slices = self.packets.each_mut().map(|packet| [IoSliceMut::new(packet)]);
        let descriptor = socket.0.as_raw_fd();
        let received = recvmmsg(descriptor, &mut self.headers, &mut slices, MsgFlags::MSG_WAITFORONE, None)?;
        let mut is_any_cut = false;
        for message in received {
            is_any_cut |= message.flags.contains(MsgFlags::MSG_CTRUNC);
            if let (Some(packet), Some(peer)) = (message.iovs().next(), Peer::of(&message)) {
                each(packet, peer);
            }
        }
        // nix leaves in the headers as much room for control messages as the last packets took: nothing after one that
        // had none (https://github.com/nix-rust/nix/pull/2813).
        if is_any_cut {
            self.headers = new_headers();
        }
        Ok(())
    }
}

fn new_headers() -> Headers {
    // With time stamps, which a service manager may have asked for.
    MultiHeaders::preallocate(PACKETS, Some(cmsg_space!(in6_pktinfo, [timespec; 3])))
}

impl Peer {
    fn of(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<Self> {
        let address = socket_address(&message.address?)?;
        let asked =
            message.cmsgs().ok().and_then(|mut told| told.find_map(|message| Asked::from_control(&message)));
        Some(Self { address, asked })
    }
}

impl Asked {
    fn from_control(message: &ControlMessageOwned) -> Option<Self> {
        match message {
            // Any way out will do.
            ControlMessageOwned::Ipv4PacketInfo(asked) => {
                // An address of this host, also where the packet was sent to many; none for packets that came before the
                // socket was set up.
                let ours = Some(asked.ipi_spec_dst).filter(|address| address.s_addr != 0);
                let ipi_spec_dst = ours.unwrap_or(asked.ipi_addr);
                Some(Self::V4(in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ..*asked }))
            }
            ControlMessageOwned::Ipv6PacketInfo(asked) => {
                let address = Ipv6Addr::from(asked.ipi6_addr.s6_addr);
                let ipi6_ifindex = if address.is_unicast_link_local() { asked.ipi6_ifindex } else { 0 };
                // Nobody can send from an address of many.
                (!IpAddr::V6(address).to_canonical().is_multicast())
                    .then_some(Self::V6(in6_pktinfo { ipi6_ifindex, ..*asked }))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use nix::libc::{in_addr, in6_addr};

    use super::*;

    fn asked_v6(address: &str) -> Option<in6_pktinfo> {
        let address: Ipv6Addr = address.parse().unwrap();
        let told = in6_pktinfo { ipi6_addr: in6_addr { s6_addr: address.octets() }, ipi6_ifindex: 7 };
        match Asked::from_control(&ControlMessageOwned::Ipv6PacketInfo(told)) {
            Some(Asked::V6(asked)) => Some(asked),
            _ => None,
        }
    }

    fn asked_v4(ours: Ipv4Addr) -> Ipv4Addr {
        let address = |address: Ipv4Addr| in_addr { s_addr: address.to_bits().to_be() };
        let told = in_pktinfo {
            ipi_ifindex: 7,
            ipi_spec_dst: address(ours),
            ipi_addr: address(Ipv4Addr::new(192, 0, 2, 1)),
        };
        match Asked::from_control(&ControlMessageOwned::Ipv4PacketInfo(told)) {
            Some(Asked::V4(asked)) => Ipv4Addr::from_bits(u32::from_be(asked.ipi_spec_dst.s_addr)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn answers_take_any_way_but_from_addresses_of_a_link() {
        for (address, interface) in [("2001:db8::1", 0), ("::ffff:192.0.2.1", 0), ("fe80::1", 7)] {
            let asked = asked_v6(address).unwrap();
            assert_eq!(Ipv6Addr::from(asked.ipi6_addr.s6_addr).to_string(), address);
            assert_eq!(asked.ipi6_ifindex, interface, "{address}");
        }
    }

    #[test]
    fn nobody_answers_from_an_address_of_many() {
        for address in ["ff02::1", "::ffff:224.0.0.1"] {
            assert!(asked_v6(address).is_none(), "{address}");
        }
    }

    #[test]
    fn a_packet_from_before_the_socket_was_set_up_is_answered_from_where_it_went() {
        assert_eq!(asked_v4(Ipv4Addr::UNSPECIFIED), Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(asked_v4(Ipv4Addr::new(198, 51, 100, 1)), Ipv4Addr::new(198, 51, 100, 1));
    }
}
