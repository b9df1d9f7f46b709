//! Huts, paths, weather and pictures.

use bson::spec::BinarySubtype;
use bson::{Binary, RawArrayBuf, RawDocumentBuf, rawdoc};

use super::dice::{DAY_MS, Dice, MONDAY_MS, date, money};

pub const HUTS: usize = 180;
pub const SECTIONS: usize = 20_000;
pub const STATIONS: usize = 30;
pub const MEASUREMENTS: usize = 24_000;
pub const TAGS: usize = 200;
pub const PHOTOS: usize = 8;

/// Bytes of a chunk of GridFS.
const CHUNK: usize = 255 * 1024;

const FIRST: [&str; 12] = [
    "ash", "birch", "cloud", "deer", "eagle", "fern", "grouse", "heather", "ice", "juniper", "kestrel",
    "lynx",
];
const LAST: [&str; 15] = [
    "beck", "cairn", "dale", "edge", "fell", "gill", "holm", "knott", "moor", "pass", "ridge", "scree",
    "tarn", "vale", "water",
];

/// The word in a hut's name; there are as many as huts.
pub fn hut_id(number: usize) -> String {
    format!("{}-{}", FIRST[number % FIRST.len()], LAST[number / FIRST.len() % LAST.len()])
}

fn position(dice: &mut Dice) -> [f64; 2] {
    [6.0 + f64::from(dice.roll(40_000)) / 10_000.0, 60.0 + f64::from(dice.roll(30_000)) / 10_000.0]
}

fn pair([east, north]: [f64; 2]) -> RawArrayBuf {
    RawArrayBuf::from_iter([east, north])
}

pub fn hut(number: usize) -> RawDocumentBuf {
    let mut dice = Dice::new("hut", number);
    let place = pair(position(&mut dice));
    let rate = 30_000 + dice.roll(20) * 1_000;
    let mut facilities = RawArrayBuf::new();
    for facility in ["stove", "sauna", "solar power", "boat", "bookshelf"] {
        if dice.roll(3) == 0 {
            facilities.push(facility);
        }
    }
    rawdoc! {
        "_id": hut_id(number),
        "name": format!("The hut at {}", hut_id(number).replace('-', " ")),
        "place": { "type": "Point", "coordinates": place },
        "altitude": 300 + dice.roll(1_400),
        "beds": 6 + dice.roll(40),
        "facilities": facilities,
        "seasons": [
            { "name": "winter", "from": "02-15", "to": "04-30", "rate": money(rate + 5_000) },
            { "name": "summer", "from": "06-20", "to": "10-05", "rate": money(rate) },
        ],
    }
}

/// A piece of a path, as a line on the map.
pub fn section(number: usize) -> RawDocumentBuf {
    let mut dice = Dice::new("section", number);
    let [mut east, mut north] = position(&mut dice);
    let mut line = RawArrayBuf::new();
    for _ in 0..3 + dice.roll(6) {
        line.push(pair([east, north]));
        east += f64::from(dice.roll(200) - 100) / 10_000.0;
        north += f64::from(dice.roll(200) - 100) / 10_000.0;
    }
    rawdoc! {
        "_id": number as i32,
        "line": { "type": "LineString", "coordinates": line },
        "grade": dice.pick(&["easy", "moderate", "hard", "alpine"]),
        "marked": dice.roll(10) > 0,
        "metres": 200 + dice.roll(4_000),
    }
}

/// What a station measured; `number` counts on from hour to hour through all stations.
pub fn measurement(number: usize) -> RawDocumentBuf {
    let mut dice = Dice::new("weather", number);
    let hour = (number / STATIONS) as i64;
    let at = MONDAY_MS - 40 * DAY_MS + hour * 3_600_000;
    rawdoc! {
        "at": date(at),
        "station": { "number": (number % STATIONS) as i32, "hut": hut_id(number % STATIONS * 6) },
        "celsius": f64::from(dice.roll(300) - 150) / 10.0,
        "wind": dice.roll(30),
        "_id": dice.object_id(at),
    }
}

pub fn tag(number: usize) -> RawDocumentBuf {
    let mut dice = Dice::new("tag", number);
    let id = format!("{} {}", dice.pick(&["Über", "ny", "Øst", "lang", "Höhe"]), number);
    rawdoc! { "_id": id, "colour": dice.pick(&["moss", "slate", "ochre", "ember"]), "uses": dice.roll(900) }
}

/// A picture in GridFS: its file and its chunks.
pub fn photo(number: usize) -> (RawDocumentBuf, Vec<RawDocumentBuf>) {
    let mut dice = Dice::new("photo", number);
    let taken = MONDAY_MS - 30 * DAY_MS + number as i64 * DAY_MS;
    let (id, length) = (dice.object_id(taken), 500_000 + number * 37_501);
    let file = rawdoc! {
        "_id": id,
        "length": length as i64,
        "chunkSize": CHUNK as i32,
        "uploadDate": date(taken),
        "filename": format!("{}.jpg", hut_id(number * 11)),
        "metadata": { "hut": hut_id(number * 11), "type": "image/jpeg" },
    };
    let chunk = |n: usize| {
        let len = CHUNK.min(length - n * CHUNK);
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&dice.bits().to_le_bytes());
        }
        bytes.truncate(len);
        let data = Binary { subtype: BinarySubtype::Generic, bytes };
        rawdoc! { "_id": dice.object_id(taken), "files_id": id, "n": n as i32, "data": data }
    };
    (file, (0..length.div_ceil(CHUNK)).map(chunk).collect())
}
