//! Frames that cost their sender less than who reads them.

use std::net::SocketAddr;

use tokio::io::{AsyncWriteExt as _, copy, sink};
use tokio::time::timeout;

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, HEADERS, PING, PREFACE, PRIORITY, RST_STREAM, SETTINGS, WHOLE,
    WINDOW_UPDATE, block, frame, of_alice, setting,
};
use super::wire::{Draft, connect};
use super::{all_served, assert_from_alice};
use crate::figures::figure;
use crate::stream::Traffic;
use crate::world::{DEADLINE, Source, World, token};

/// Frames of each flood. Envoy allows a thousand or less of any.
const FRAMES: u32 = 50_000;

/// What Envoy may hold longer than it should of all floods together.
const MAX_GROWTH_BYTES: u64 = 64 << 20;

const CANCEL: [u8; 4] = 8_u32.to_be_bytes();

#[tokio::test]
async fn floods_of_frames_are_cut_off_and_partners_are_answered_meanwhile() {
    let world = World::two_domains(Source::Directory).await;
    let right = token(&world.alice, "bob").await;
    let traffic = Traffic::start(&world.alice, "echo.bob.svc").await;
    let allocated = figure(&world.bob, "server.memory_allocated").await;
    let cut = figure(&world.bob, "http.external_http.downstream_cx_destroy_local").await;

    let head = |token| block(&of_alice(token));
    let (alices, strangers) = (head(Some(&right)), head(None));
    let resets = |head: &[u8]| {
        let each = |number: u32| {
            let stream = 2 * number + 1;
            [frame(HEADERS, WHOLE, stream, head), frame(RST_STREAM, 0, stream, &CANCEL)].concat()
        };
        (0..FRAMES).flat_map(each).collect::<Vec<u8>>()
    };
    let opened = |flags| frame(HEADERS, flags, 1, &strangers);
    let long = block(&[("x-long".to_owned(), "x".repeat(1000))]);
    let floods = [
        ("resets by a stranger", Reads::Yes, resets(&strangers)),
        ("resets by a partner", Reads::Yes, resets(&alices)),
        ("resets of what nobody opened", Reads::Yes, many(|n| frame(RST_STREAM, 0, 2 * n + 1, &CANCEL))),
        ("a head without end", Reads::Yes, [opened(0), many(|_| frame(CONTINUATION, 0, 1, &long))].concat()),
        ("a head of empty parts", Reads::Yes, [opened(0), many(|_| frame(CONTINUATION, 0, 1, &[]))].concat()),
        ("a body of empty parts", Reads::Yes, {
            [frame(HEADERS, END_HEADERS, 1, &alices), many(|_| frame(DATA, 0, 1, &[]))].concat()
        }),
        ("settings", Reads::No, many(|number| setting(4, number))),
        ("pings", Reads::No, many(|_| frame(PING, 0, 0, b"whatever"))),
        ("empty settings", Reads::No, many(|_| frame(SETTINGS, 0, 0, &[]))),
        ("priorities", Reads::Yes, many(|number| frame(PRIORITY, 0, 2 * number + 1, &[0, 0, 0, 0, 1]))),
        ("windows", Reads::Yes, many(|_| frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()))),
    ];
    let count = floods.len() as u64;
    for (flood, reads, frames) in floods {
        push(flood, world.bob.addresses.external, reads, &frames).await;
    }

    traffic.more(10).await;
    assert_eq!(traffic.failures().await, Vec::<String>::new());
    let (case, seen) =
        all_served(&world, [("a new connection afterwards", Draft::of_alice(Some(&right)))]).await.remove(0);
    assert_from_alice(&case, &seen);
    let resets = figure(&world.bob, "http.external_http.downstream_rq_too_many_premature_resets").await;
    assert!(resets >= 1, "the resets were cut off for another reason");
    let cut = figure(&world.bob, "http.external_http.downstream_cx_destroy_local").await - cut;
    assert!(cut >= count, "Envoy closed {cut} connections");
    let grown = figure(&world.bob, "server.memory_allocated").await.saturating_sub(allocated);
    assert!(grown < MAX_GROWTH_BYTES, "{grown} bytes");
}

/// Whether who sends a flood reads what comes back. Who does not lets answers pile up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    Yes,
    No,
}

fn many(each: impl FnMut(u32) -> Vec<u8>) -> Vec<u8> {
    (0..FRAMES).flat_map(each).collect()
}

/// Sends all this on a connection of its own, until the server closes that.
async fn push(flood: &str, server: SocketAddr, reads: Reads, frames: &[u8]) {
    let (mut from, mut to) = connect(server).await.into_split();
    let mut sink = sink();
    let pushed = async {
        let begin = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        to.write_all(&begin).await?;
        to.write_all(frames).await
    };
    // A reset is an end, too.
    let ended = async {
        match reads {
            Reads::Yes => tokio::join!(pushed, copy(&mut from, &mut sink)).1,
            Reads::No => {
                let _ = pushed.await;
                copy(&mut from, &mut sink).await
            }
        }
    };
    let _ = timeout(DEADLINE, ended).await.unwrap_or_else(|_| panic!("{flood}: the connection lives on"));
}
