//! Members and what they do: bookings, reviews, tokens, events.

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, RawArrayBuf, RawDocumentBuf, rawdoc};

use super::dice::{DAY_MS, Dice, MONDAY_MS, date, money};
use super::places::{HUTS, hut_id};

pub const MEMBERS: usize = 12_000;
pub const BOOKINGS: usize = 36_000;
pub const REVIEWS: usize = 6_000;
pub const TOKENS: usize = 2_500;
pub const EVENTS: usize = 8_000;

const GIVEN: [&str; 12] = [
    "Åse", "Bjørn", "Chiara", "Dagny", "Émile", "Femke", "Gudrun", "Håkon", "Inés", "Jarle", "Žofie",
    "Łukasz",
];
const FAMILY: [&str; 10] =
    ["Bakken", "Dupont", "Fjeld", "Hämäläinen", "Li", "Moen", "Novák", "Østby", "Schmidt", "Vik"];
const SKILLS: [&str; 6] = ["glacier", "first aid", "ski", "rope", "map", "dogs"];

pub fn member_id(number: usize) -> ObjectId {
    let mut dice = Dice::new("member id", number);
    let joined = dice.moment();
    dice.object_id(joined)
}

pub fn member(number: usize) -> RawDocumentBuf {
    let mut dice = Dice::new("member", number);
    let (given, family) = (dice.pick(&GIVEN), dice.pick(&FAMILY));
    let kind = match number % 40 {
        0 => "guide",
        1..=5 => "family",
        _ => "single",
    };
    let mut member = rawdoc! {
        "_id": member_id(number),
        "name": { "given": given, "family": family },
        "email": format!("member{number}@example.org"),
        "membership": { "kind": kind, "since": date(dice.moment()), "fee": money(4_500 + dice.roll(40) * 100) },
    };
    if number.is_multiple_of(3) {
        let mut skills = RawArrayBuf::new();
        for _ in 0..=dice.roll(3) {
            skills.push(rawdoc! { "name": dice.pick(&SKILLS), "level": dice.roll(5) });
        }
        member.append(bson::raw::cstr!("skills"), skills);
    }
    if number.is_multiple_of(7) {
        member.append(bson::raw::cstr!("phone"), format!("+47 9{:07}", dice.roll(9_999_999)));
    }
    member
}

/// A booking; its `_id` is a long number.
pub fn booking(number: usize) -> RawDocumentBuf {
    let mut dice = Dice::new("booking", number);
    let made = dice.moment();
    let (beds, rate) = (1 + dice.roll(4), 28_000 + dice.roll(20) * 1_000);
    let count = 1 + dice.roll(3);
    let mut nights = RawArrayBuf::new();
    for night in 0..count {
        let at = date((made / DAY_MS + 20 + i64::from(night)) * DAY_MS);
        nights.push(rawdoc! { "night": at, "beds": beds, "rate": money(rate) });
    }
    let mut history = RawArrayBuf::new();
    if !number.is_multiple_of(4) {
        history.push(rawdoc! { "status": "confirmed", "at": date(made + 3_600_000) });
    }
    history.push(rawdoc! { "status": "reserved", "at": date(made) });
    rawdoc! {
        "_id": 1_000_000 + number as i64,
        "hut": hut_id(dice.roll(HUTS as i32) as usize),
        "member": member_id(dice.roll(MEMBERS as i32) as usize),
        "status": if number.is_multiple_of(4) { "reserved" } else { "confirmed" },
        "nights": nights,
        "total": money(rate * beds * count),
        "history": history,
        "guests": 1 + (number % 5) as i32,
    }
}

/// A review; its `_id` says of what and by whom.
pub fn review(number: usize) -> RawDocumentBuf {
    let mut dice = Dice::new("review", number);
    let stars = 1 + dice.roll(5);
    // No two reviews have the same member, so no two have the same _id.
    rawdoc! {
        "_id": { "hut": hut_id(dice.roll(HUTS as i32) as usize), "member": member_id(number) },
        "stars": stars,
        "text": dice.pick(&["Warm stove, cold beer.", "The path is marked well.", "Crowded, but who would not come?",
            "We saw the northern lights.", "Bring earplugs."]),
        "answers": { "quiet": dice.roll(2) == 0, "food": { "soup": dice.roll(6), "bread": f64::from(dice.roll(50)) / 10.0 } },
        "at": date(dice.moment()),
    }
}

/// What a device logs in with; its `_id` is a UUID.
pub fn token(number: usize) -> RawDocumentBuf {
    let mut dice = Dice::new("token", number);
    let id = Binary { subtype: BinarySubtype::Uuid, bytes: dice.bytes::<16>().to_vec() };
    // Ten years ahead: a demo lasts longer than a login.
    let expires = MONDAY_MS + 3_650 * DAY_MS + i64::from(dice.roll(86_400)) * 1000;
    rawdoc! { "_id": id, "n": number as i32, "member": member_id(dice.roll(MEMBERS as i32) as usize), "expires": date(expires) }
}

/// An event of the log, in the order they happen.
pub fn event(number: usize) -> RawDocumentBuf {
    let mut dice = Dice::new("event", number);
    let at = MONDAY_MS - 10 * DAY_MS + number as i64 * 107_000;
    rawdoc! {
        "_id": dice.object_id(at),
        "at": date(at),
        "what": dice.pick(&["door opened", "door closed", "stove lit", "water low", "battery charged"]),
        "hut": hut_id(dice.roll(HUTS as i32) as usize),
    }
}
