//! What can happen in a world.

use model::settle_tokens;

use super::end::{End, Gateway};
use super::world::{DESTINATION, Message, SOURCE, World};
use crate::handshake::state::{Action, Forgetting};

/// How long a gateway that is alive may take to take its configuration, in seconds.
const LONGEST_LAG: u64 = 60;

/// When a call is given up, in seconds.
const LONGEST_CALL: u64 = 35;

/// How long the source may have a token before the destination hears of it, in seconds.
const LONGEST_UNHEARD: u64 = 50;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// A gateway of the source does what is next, with a gateway of the destination.
    Act {
        gateway: usize,
        with: usize,
        fate: Fate,
    },
    /// A message arrives; `again`: and will once more.
    Deliver {
        message: usize,
        to: usize,
        again: bool,
    },
    Lose {
        message: usize,
    },
    GiveUp {
        gateway: usize,
    },
    Answer {
        gateway: usize,
        serving: usize,
    },
    /// An Envoy takes its configuration.
    Program {
        end: usize,
        gateway: usize,
    },
    /// A gateway says that its Envoy has done so.
    List {
        end: usize,
        gateway: usize,
    },
    Settle {
        gateway: usize,
    },
    Forget {
        gateway: usize,
    },
    /// An application's.
    Request {
        from: usize,
        to: usize,
    },
    /// A mesh ends; its Envoy goes on.
    Crash {
        end: usize,
        gateway: usize,
    },
    Start {
        end: usize,
        gateway: usize,
    },
    Die {
        end: usize,
        gateway: usize,
    },
    Revive {
        end: usize,
        gateway: usize,
    },
    Pass {
        seconds: u64,
    },
    Jump {
        end: usize,
        seconds: i64,
    },
    Forge {
        to: usize,
    },
    LoseStatus {
        end: usize,
    },
    ChangeKey {
        end: usize,
    },
}

/// What becomes of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fate {
    Through,
    RequestLost,
    AnswerLost,
}

impl World {
    /// What both ends do by themselves.
    pub(super) fn work(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let running = |end: usize| {
            let gateways = self.ends[end].gateways.iter().enumerate();
            gateways.filter(|(_, gateway)| gateway.is_running)
        };
        for end in [SOURCE, DESTINATION] {
            let wanted = self.wanted(end);
            let newest = &self.ends[end].status.revision_token;
            for (gateway, known) in running(end) {
                if known.envoy != wanted {
                    steps.push(Step::Program { end, gateway });
                }
                let has_newest = !newest.token.is_empty() && known.envoy.contains_key(&newest.revision);
                if has_newest && known.envoy == wanted && !newest.effective_instances.contains(&known.name) {
                    steps.push(Step::List { end, gateway });
                }
            }
        }
        for (gateway, _) in running(SOURCE) {
            let is_idle = matches!(self.next(gateway), None | Some(Action::Wait(_)));
            if !is_idle {
                let with = running(DESTINATION).map(|(with, _)| with);
                steps.extend(with.map(|with| Step::Act { gateway, with, fate: Fate::Through }));
            }
        }
        let newest = &self.ends[DESTINATION].status.revision_token;
        for (gateway, known) in running(DESTINATION) {
            let answers = known
                .serving
                .iter()
                .enumerate()
                .filter(|(_, serving)| newest.revision != serving.revision || newest.is_ready);
            steps.extend(answers.map(|(serving, _)| Step::Answer { gateway, serving }));
            let settles =
                settle_tokens(&self.ends[DESTINATION].status, &self.ends[DESTINATION].live()).is_some();
            if settles && newest.effective_instances.contains(&known.name) {
                steps.push(Step::Settle { gateway });
            }
            if matches!(self.clone().forgetting(gateway), Forgetting::Now(_)) {
                steps.push(Step::Forget { gateway });
            }
        }
        for (message, sent) in self.messages.iter().enumerate() {
            match sent {
                Message::Ask { .. } => steps.extend(running(DESTINATION).map(|(to, _)| Step::Deliver {
                    message,
                    to,
                    again: false,
                })),
                Message::Answer { .. } => steps.push(Step::Deliver { message, to: 0, again: false }),
            }
        }
        steps
    }

    /// What strangers, the network and accidents do.
    pub(super) fn accidents(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for step in self.work() {
            match step {
                Step::Act { gateway, with, .. } => {
                    steps.extend([Fate::RequestLost, Fate::AnswerLost].map(|fate| Step::Act {
                        gateway,
                        with,
                        fate,
                    }));
                }
                Step::Deliver { message, to, .. } => {
                    steps.extend([Step::Deliver { message, to, again: true }, Step::Lose { message }]);
                }
                _ => {}
            }
        }
        let gateways = |end: usize| self.ends[end].gateways.iter().enumerate();
        for end in [SOURCE, DESTINATION] {
            let alive = gateways(end).filter(|(_, gateway)| gateway.is_alive).count();
            for (gateway, known) in gateways(end) {
                match known {
                    Gateway { is_running: true, .. } => {
                        steps.push(Step::Crash { end, gateway });
                        if alive > 1 {
                            steps.push(Step::Die { end, gateway });
                        }
                    }
                    Gateway { is_alive: true, .. } => steps.push(Step::Start { end, gateway }),
                    Gateway { .. } => steps.push(Step::Revive { end, gateway }),
                }
            }
        }
        steps.extend(
            gateways(SOURCE)
                .filter(|(_, known)| known.call.is_some())
                .map(|(gateway, _)| Step::GiveUp { gateway }),
        );
        let running = |(to, known): (usize, &Gateway)| known.is_running.then_some(to);
        if self.rules.is_open {
            steps.extend(gateways(DESTINATION).filter_map(running).map(|to| Step::Forge { to }));
        }
        for (from, _) in gateways(SOURCE) {
            steps.extend(gateways(DESTINATION).filter_map(running).map(|to| Step::Request { from, to }));
        }
        steps
    }

    /// Whether every gateway that is alive has its configuration.
    pub(super) fn nobody_is_behind(&self) -> bool {
        self.ends.iter().flat_map(|end| &end.gateways).all(|gateway| gateway.behind_since.is_none())
    }

    /// Whether besides the source waits for no token, and the destination knows of the one that it has.
    pub(super) fn is_at_rest(&self) -> bool {
        let End { status, gateways, .. } = &self.ends[SOURCE];
        let is_heard_of = !status.revision_token.is_ready || status.revision_token.heart_beat_time.is_some();
        self.nobody_is_behind() && is_heard_of && gateways.iter().all(|gateway| gateway.call.is_none())
    }

    /// Whether so much time can pass before something else happens.
    pub(super) fn can_pass(&self, seconds: u64) -> bool {
        let then = self.time + seconds;
        let mut gateways = self.ends.iter().flat_map(|end| &end.gateways);
        let newest = &self.ends[SOURCE].status.revision_token;
        let is_unheard = newest.is_ready && newest.heart_beat_time.is_none();
        (!is_unheard || then <= self.stored_at + LONGEST_UNHEARD)
            && gateways.all(|gateway| {
                gateway.behind_since.is_none_or(|since| then <= since + LONGEST_LAG)
                    && gateway.call.is_none_or(|(_, since)| then <= since + LONGEST_CALL)
            })
    }
}
