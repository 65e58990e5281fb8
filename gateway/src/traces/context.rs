//! ● Which trace a stream is part of: W3C trace context, and what is sampled.

use std::{
    cell::Cell,
    hash::{BuildHasher, RandomState},
    num::NonZeroU64,
};

/// A sampled stream's place in its trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Context {
    /// The trace. Never 0.
    pub(super) trace: u128,
    /// The stream's own span. Never 0.
    pub(super) span: u64,
    /// The span that it is part of, if that is known.
    pub(super) parent: Option<u64>,
}

/// The beginning of a trace, whose ids are made when somebody wants them: the count that they are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Root(NonZeroU64);

/// What a `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parent {
    pub(super) trace: u128,
    pub(super) span: u64,
    /// Whether who has sent it records its own span.
    pub(super) sampled: bool,
}

/// Draws ids: one core's. They tell nothing of what else is random here, since peers see them.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    keys: RandomState,
    drawn: Cell<u64>,
}

/// Decides on traces that begin here: the part of them whose 56 random bits reach a threshold, which is how OpenTelemetry's samplers agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sampler {
    threshold: u64,
}

/// Bits of a trace's id that samplers take for random: the last ones.
const RANDOM_BITS: u32 = 56;
/// The whole, of which a ratio is a part.
const WHOLE: u32 = 1_000_000;

impl Context {
    /// A span beneath one of somebody else's.
    pub(super) fn child(parent: &Parent, ids: &Ids) -> Self {
        Self { trace: parent.trace, span: ids.draw(), parent: Some(parent.span) }
    }

    /// What tells a peer of it.
    pub(crate) fn traceparent(&self) -> String {
        Parent { trace: self.trace, span: self.span, sampled: true }.text()
    }
}

impl Parent {
    /// Reads a `traceparent`, of this version or a later one; `None` if it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = hex(parts.next()?, 2)?;
        let (trace, span) = (hex(parts.next()?, 32)?, hex(parts.next()?, 16)?);
        let flags = hex(parts.next()?, 2)?;
        let is_whole = match version {
            0 => parts.next().is_none(),
            // Never a version.
            0xff => false,
            _ => true,
        };
        let span = u64::try_from(span).ok()?;
        (is_whole && trace != 0 && span != 0).then_some(Self { trace, span, sampled: flags & 1 == 1 })
    }

    /// The `traceparent` that says this.
    pub(super) fn text(&self) -> String {
        let mut text = String::with_capacity(LENGTH);
        text.push_str("00-");
        add_hex(&mut text, &self.trace.to_be_bytes());
        text.push('-');
        add_hex(&mut text, &self.span.to_be_bytes());
        text.push_str(if self.sampled { "-01" } else { "-00" });
        text
    }
}

/// Bytes of a `traceparent` of this version.
const LENGTH: usize = 55;

/// Adds bytes as hexadecimal digits, by hand: each stream has a `traceparent`, and formatting takes five times as long.
fn add_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// A number of exactly so many small hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let fits = text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if fits { u128::from_str_radix(text, 16).ok() } else { None }
}

impl Ids {
    /// A trace begins. Its ids are always the same.
    pub(super) fn root(&self) -> Root {
        Root(self.reserve(3))
    }

    /// Its first span.
    pub(super) fn first(&self, root: Root) -> Context {
        let [low, high, span] = [0, 1, 2].map(|more| self.number(root.0.saturating_add(more)));
        Context { trace: (u128::from(high) << 64) | u128::from(low), span, parent: None }
    }

    /// What tells a peer that it is not sampled, so that the peer does not begin a trace by itself.
    pub(crate) fn unsampled(&self, root: Root) -> String {
        let Context { trace, span, .. } = self.first(root);
        Parent { trace, span, sampled: false }.text()
    }

    fn draw(&self) -> u64 {
        self.number(self.reserve(1))
    }

    /// The first of so many counts that nobody has had yet.
    fn reserve(&self, many: u64) -> NonZeroU64 {
        let before = self.drawn.replace(self.drawn.get().wrapping_add(many));
        NonZeroU64::MIN.saturating_add(before)
    }

    /// A number above 0 that nobody can foresee without the keys: SipHash of a count.
    fn number(&self, count: NonZeroU64) -> u64 {
        self.keys.hash_one(count.get()).max(1)
    }
}

impl Sampler {
    /// Takes `per_million` of a million traces; of more, all.
    pub(crate) fn new(per_million: u32) -> Self {
        let left_out = u128::from(WHOLE.saturating_sub(per_million)) << RANDOM_BITS;
        // At most 2 to the 56.
        Self { threshold: u64::try_from(left_out / u128::from(WHOLE)).unwrap_or(u64::MAX) }
    }

    /// It needs no more of the ids than what it decides by.
    pub(super) fn takes(self, root: Root, ids: &Ids) -> bool {
        self.takes_bits(ids.number(root.0))
    }

    /// By the last bits of a trace's id.
    fn takes_bits(self, low: u64) -> bool {
        low & ((1 << RANDOM_BITS) - 1) >= self.threshold
    }
}

#[cfg(test)]
mod tests;
