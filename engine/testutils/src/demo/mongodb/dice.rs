//! Chance that is the same every time.

use bson::oid::ObjectId;
use bson::{DateTime, Decimal128};

/// Milliseconds of a day.
pub const DAY_MS: i64 = 86_400_000;
/// 2026-03-02, a Monday: the day that the seed ends with.
pub const MONDAY_MS: i64 = 1_772_409_600_000;

/// Throws for one document of one kind, in their order.
pub struct Dice(u64);

impl Dice {
    pub fn new(kind: &str, number: usize) -> Self {
        // FNV-1a: any mixture will do, if it never changes.
        let seed = kind.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(seed ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The next 64 bits, by splitmix64.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to one less than `sides`.
    pub fn roll(&mut self, sides: i32) -> i32 {
        (self.bits() % u64::from(sides.unsigned_abs())) as i32
    }

    pub fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.bits() as usize % choices.len()]
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.bits() as u8)
    }

    /// An id that begins with the time, as those of drivers do.
    pub fn object_id(&mut self, at_ms: i64) -> ObjectId {
        let mut bytes = self.bytes::<12>();
        bytes[..4].copy_from_slice(&((at_ms / 1000) as u32).to_be_bytes());
        ObjectId::from_bytes(bytes)
    }

    /// A time within the year before Monday.
    pub fn moment(&mut self) -> i64 {
        MONDAY_MS - i64::from(self.roll(364)) * DAY_MS - i64::from(self.roll(86_400)) * 1000
    }
}

pub fn date(ms: i64) -> DateTime {
    DateTime::from_millis(ms)
}

/// An amount with two decimals.
pub fn money(cents: i32) -> Decimal128 {
    let text = format!("{}.{:02}", cents / 100, cents % 100);
    text.parse().expect("because it is a decimal number")
}
