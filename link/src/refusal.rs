//! Why the inviter refuses: a word for metrics and for the wire, a line for people.

use std::fmt;

macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident = $number:literal $word:literal,)+) => {
        /// The kinds of refusals.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Refusal { $($(#[$doc])* $variant,)+ }

        impl Refusal {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// A word for metrics and logs.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Its number on the wire.
            pub(crate) const fn number(self) -> u32 {
                match self { $(Self::$variant => $number,)+ }
            }

            /// The refusal with this number; [`Self::Other`] for those of a newer version.
            pub(crate) fn numbered(number: u32) -> Self {
                Self::ALL.iter().copied().find(|refusal| refusal.number() == number).unwrap_or(Self::Other)
            }
        }
    };
}

refusals! {
    /// No such invitation, or another secret. Which of both is not said.
    WrongProof = 1 "wrong_proof",
    /// The invitation was used.
    Used = 2 "used",
    /// The invitation is over.
    Expired = 3 "expired",
    /// The joiner is of another clusterset.
    Clusterset = 4 "clusterset",
    /// The joiner has the inviter's own name.
    SameName = 5 "same_name",
    /// The joiner's certificate does not come from the bundle that it gave.
    Identity = 6 "identity",
    /// The link is there already, and not of this making, or with another CA.
    Conflict = 7 "conflict",
    /// What the joiner said could not be read.
    Malformed = 8 "malformed",
    /// The inviter could not write what it had to.
    Failed = 9 "failed",
    /// Anything else.
    Other = 10 "other",
}

/// A refusal, with a line that says what was found and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refused {
    /// The kind.
    pub reason: Refusal,
    /// The line. What a peer sent is cut and without control characters.
    pub detail: String,
}

impl Refused {
    /// A refusal.
    pub fn new(reason: Refusal, detail: impl fmt::Display) -> Self {
        let detail = detail.to_string().chars().filter(|c| !c.is_control()).take(600).collect();
        Self { reason, detail }
    }
}
