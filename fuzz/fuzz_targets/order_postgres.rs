#![no_main]
use libfuzzer_sys::fuzz_target;

use repo_format::order::{KeyEncoding as E, postgres::push_key, take_escaped};

const ALL: [E; 9] =
    [E::Integer, E::Boolean, E::Uuid, E::Date, E::Timestamp, E::Bytes, E::Text, E::Numeric, E::Float];

fuzz_target!(|data: &[u8]| {
    let _ =
        (take_escaped(data), repo_format::catalog::parse_key(data), repo_format::catalog::parse_value(data));
    for encoding in ALL {
        let mut key = vec![7];
        assert!(push_key(&mut key, encoding, data).is_ok() || key == [7], "a refusal leaves nothing behind");
    }
});
