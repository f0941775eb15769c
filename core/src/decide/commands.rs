//! The rule that decides each command.

use c2c_log_format::payload::RootMoved;
use c2c_log_format::{Payload, Sequence};

use super::replication::{self, node, registration};
use super::{broadcast, dead_letters, import, inbox, room, session, sweep};
use crate::batch::{Pushed, Received};
use crate::command::{
    AckClaim, AdvanceCursor, ClaimInbox, CollectLeases, Command, ConfirmPosition, CreateRoom,
    DeleteRoom, DrainInbox, EndSession, Heartbeat, ImportFiles, InviteToRoom, JoinRoom,
    LeaseRenewal, LeaseRequest, LeaveRoom, MoveRoot, Prior, PurgeDeadLetters, ReceiveBatch,
    RecordAnswer, Register, RegisterLeases, ReleaseClaim, Rename, ReplayDeadLetters, RotateKey,
    Send, SendAll, SendToRoom, SetDnd, SetRoomVisibility, Sweep, UnbindAlias,
};
use crate::facts::Facts;
use crate::ids::MessageId;
use crate::rejection::Rejection;
use crate::reply::{
    BroadcastReply, Claimed, Collected, Decision, ImportReply, Leased, Registered, RoomReply, Sent,
    SweepPlan,
};
use crate::state::{State, sequence_in_key};

/// Implements [`Command`] by one expression over the command, the state and the facts.
macro_rules! command {
    ($command:ty => $reply:ty, |$this:ident, $state:ident, $facts:ident| $decide:expr
        $(, $extra:item)* $(,)?) => {
        impl Command for $command {
            type Reply = $reply;

            fn decide_on(
                &self,
                $state: &State,
                $facts: &Facts<'_>,
            ) -> Result<Decision<Self::Reply>, Rejection> {
                let $this = self;
                $decide
            }

            $($extra)*
        }
    };
}

command!(Register => Registered, |this, state, facts| {
    session::register(state, this.alias.as_deref(), facts)
});
command!(Rename => Registered, |this, state, facts| session::rename(state, &this.alias, facts));
command!(Heartbeat => (), |_this, state, facts| Ok(session::heartbeat(state, facts)));
command!(EndSession => (), |_this, state, facts| Ok(session::end(state, facts)));
command!(SetDnd => (), |this, state, facts| {
    session::dnd(state, this.on, this.until_us, facts)
});

command!(
    Send => Sent, |this, state, facts| super::send::send(state, this, facts),
    fn prior(&self, _: &State) -> Prior {
        ids(self.message_id.as_ref())
    },
);
command!(
    SendAll => BroadcastReply, |this, state, facts| broadcast::send_all(state, this, facts),
    fn prior(&self, state: &State) -> Prior {
        match &self.message_id {
            Some(id) => Prior::Ids(broadcast::part_ids(state, id)),
            None => Prior::None,
        }
    },
);

command!(ClaimInbox => Claimed, |this, state, facts| inbox::claim(state, this, facts));
command!(
    AckClaim => (), |this, state, facts| inbox::ack(state, &this.claim, &this.level, facts),
    fn imports_older_files(&self) -> bool {
        false
    },
);
command!(
    ReleaseClaim => (),
    |this, state, facts| inbox::release(state, &this.claim, &this.reason, facts),
    fn imports_older_files(&self) -> bool {
        false
    },
);
command!(DrainInbox => Claimed, |this, state, facts| inbox::drain(state, this, facts));

command!(CreateRoom => RoomReply, |this, state, facts| room::create(state, this, facts));
command!(JoinRoom => RoomReply, |this, state, facts| {
    room::join(state, &this.room_id, this.from.as_deref(), facts)
});
command!(LeaveRoom => RoomReply, |this, state, facts| {
    room::leave(state, &this.room_id, this.from.as_deref(), facts)
});
command!(
    SendToRoom => Sent,
    |this, state, facts| room::send(state, &this.room_id, &this.send, facts),
    fn prior(&self, _: &State) -> Prior {
        ids(self.send.message_id.as_ref())
    },
);
command!(InviteToRoom => RoomReply, |this, state, facts| {
    room::invite(state, &this.room_id, &this.alias, this.invited, facts)
});
command!(SetRoomVisibility => RoomReply, |this, state, facts| {
    room::set_visibility(state, &this.room_id, &this.visibility, facts)
});
command!(DeleteRoom => RoomReply, |this, state, facts| {
    room::delete(state, &this.room_id, this.force, facts)
});

command!(Sweep => SweepPlan, |_this, state, facts| Ok(sweep::sweep(state, facts)));
command!(
    ReplayDeadLetters => Vec<Sequence>,
    |this, state, facts| dead_letters::replay(state, &this.messages, this.to.as_deref(), facts),
    fn prior(&self, state: &State) -> Prior {
        if !self.messages.is_empty() {
            return Prior::Sequences(self.messages.clone());
        }
        let dead_letters = state.dead_letters.scan([]);
        Prior::Sequences(dead_letters.iter().map(|(key, _)| sequence_in_key(key)).collect())
    },
);
command!(PurgeDeadLetters => Vec<Sequence>, |this, state, _facts| {
    Ok(dead_letters::purge(state, &this.messages))
});
command!(
    ImportFiles => ImportReply,
    |this, state, facts| Ok(import::import(state, &this.files, facts)),
    fn imports_older_files(&self) -> bool {
        false
    },
);
command!(
    MoveRoot => (), |this, _state, _facts| {
        let event = Payload::RootMoved(RootMoved { to: this.to.clone() });
        Ok(Decision::durable(vec![event], ()))
    },
    fn opens_moved_root(&self) -> bool {
        self.to.is_empty()
    },
);

command!(LeaseRequest => Leased, |this, state, facts| registration::register(state, this, facts));
command!(RegisterLeases => Vec<Result<Leased, Rejection>>, |this, state, facts| {
    Ok(registration::register_all(state, &this.0, facts))
});
command!(LeaseRenewal => Leased, |this, state, facts| registration::renew(state, this, facts));
command!(CollectLeases => Collected, |_this, state, facts| {
    Ok(registration::collect(state, facts))
});
command!(UnbindAlias => bool, |this, state, _facts| {
    Ok(registration::unbind(state, &this.alias))
});
command!(RotateKey => (), |this, state, facts| {
    registration::rotate_key(state, &this.public_key, facts)
});

command!(
    ReceiveBatch => Received,
    |this, state, facts| replication::receive(state, &this.0, facts),
    fn prior(&self, _: &State) -> Prior {
        let sent = self.0.items.iter().filter_map(|item| match &item.payload {
            Payload::MessageSent(sent) => Some(sent.message_id.clone().into()),
            _ => None,
        });
        Prior::Ids(sent.collect())
    },
);
command!(Pushed => (), |this, state, facts| Ok(node::pushed(state, this, facts)));
command!(RecordAnswer => (), |this, state, facts| Ok(node::answered(state, this, facts)));
command!(AdvanceCursor => (), |this, _state, _facts| {
    Ok(Decision::durable(vec![replication::advance(this)], ()))
});
command!(ConfirmPosition => (), |this, state, facts| {
    replication::confirm(state, &this.log, &this.node_id, &this.position, facts)
});

/// The earlier message with an id that the caller gave.
fn ids(message_id: Option<&MessageId>) -> Prior {
    match message_id {
        Some(id) => Prior::Ids(vec![id.clone()]),
        None => Prior::None,
    }
}
