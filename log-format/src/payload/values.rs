//! Fields with a known set of values, stored as strings.
//!
//! A value that a newer version has written is kept in `Other` and is written back unchanged.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// Reads a string and converts it without allocating for known values.
struct ValueVisitor<T>(core::marker::PhantomData<T>);

impl<T: for<'a> From<&'a str>> Visitor<'_> for ValueVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        Ok(T::from(text))
    }
}

/// Declares an enum that is stored as a string.
macro_rules! string_values {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident $text:literal),* $(,)? })*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
            /// A value that this version does not know.
            Other(String),
        }

        impl $name {
            /// Returns the stored string.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other(text) => text,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)*
                    _ => Self::Other(text.to_owned()),
                }
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                match text.as_str() {
                    $($text => Self::$variant,)*
                    _ => Self::Other(text),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(ValueVisitor(core::marker::PhantomData))
            }
        }
    )* };
}

string_values! {
    /// Which agents can see and join a room.
    RoomVisibility {
        /// All agents, on all nodes.
        Public "public",
        /// Invited agents only.
        InviteOnly "invite_only",
        /// All agents of this node.
        Local "local",
    }

    /// How far a message has come, according to a receipt.
    ReceiptLevel {
        /// It is in the recipient's mailbox.
        Delivered "delivered",
        /// It was displayed to the recipient.
        Acked "acked",
        /// A relay of the older generation accepted it. Such a relay sends no receipts.
        Unconfirmed "unconfirmed",
        /// It was rejected; the receipt has the error code.
        Rejected "refused",
    }

    /// What is known about the display of claimed messages.
    AckLevel {
        /// They were written to the output.
        Written "written",
        /// The client has read what was written.
        ReadByClient "read by client",
        /// The agent has acknowledged them.
        AckedByAgent "acked by agent",
    }

    /// Which side of a cursor reads.
    CursorDirection {
        /// This node reads the other log.
        In "in",
        /// The other node reads this log.
        Out "out",
    }

    /// Liveness of an agent as reported by its own node.
    #[derive(Default)]
    ReportedLiveness {
        /// Its process runs.
        Alive "alive",
        /// Its process has ended.
        Dead "dead",
        /// Its node cannot know.
        Unknown "unknown",
        /// Its node has reported nothing.
        #[default]
        NotReported "",
    }

    /// Why a session ended.
    SessionEndReason {
        /// Its process was dead in a sweep.
        Sweep "sweep",
        /// Another session took its mailbox.
        Superseded "superseded",
        /// It signed off.
        Left "left",
        /// At a relay: its lease expired.
        Expired "expired",
        /// At a relay: its alias was released from its key.
        Unbound "unbound",
    }

    /// Why a membership ended. `Other` holds the error code of a relay that did not admit the
    /// member.
    RoomLeaveReason {
        /// The member left.
        Left "left",
        /// The member's process was dead in a sweep.
        Sweep "sweep",
        /// At a relay: the member's lease expired.
        Expired "expired",
    }

    /// Why the messages of a claim returned to the mailbox.
    ClaimReturnReason {
        /// They could not be written to the output.
        OutputFailed "output_failed",
        /// The request was cancelled.
        Cancelled "cancelled",
        /// The process that displays them is dead.
        ProcessDead "process_dead",
        /// The claim timed out.
        Expired "expired",
        /// The client disconnected.
        Disconnected "disconnected",
        /// At a relay: the client did not confirm that it has stored them.
        NotConfirmed "not confirmed",
    }

    /// Why a message is a dead letter. `Other` holds the error code of a rejection.
    DeadLetterReason {
        /// The recipient's process was dead in a sweep.
        Sweep "sweep",
        /// At a relay: the recipient's lease expired.
        Expired "expired",
        /// At a relay: another key took over the recipient's address.
        Unbound "unbound",
    }

    /// Why an alias is no longer bound to a key.
    UnbindReason {
        /// The operator released it.
        Admin "admin",
        /// Its lease expired.
        Expired "expired",
    }
}

impl ReportedLiveness {
    /// Returns whether the node has reported nothing.
    pub fn is_not_reported(&self) -> bool {
        *self == Self::NotReported
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn known_and_unknown_values_are_written_back_unchanged() {
        for (text, value) in [
            ("invite_only", RoomVisibility::InviteOnly),
            ("secret", RoomVisibility::Other("secret".into())),
            ("", RoomVisibility::Other(String::new())),
        ] {
            let json = format!("\"{text}\"");
            let decoded: Option<RoomVisibility> = serde_json::from_str(&json).ok();
            assert_eq!(decoded.as_ref(), Some(&value));
            assert_eq!(RoomVisibility::from(String::from(text)), value);
            assert_eq!(serde_json::to_string(&value).ok(), Some(json));
            assert_eq!(format!("{value}"), text);
        }
    }

    #[test]
    fn a_value_that_is_not_a_string_is_an_error() {
        assert!(serde_json::from_str::<ReceiptLevel>("1").is_err());
    }
}
