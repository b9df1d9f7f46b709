#![no_main]
use libfuzzer_sys::fuzz_target;

use repo_format::bson::{self, Elements};
use repo_format::keys::RowKey;
use repo_format::order::bson::{push_id, push_key};

fuzz_target!(|data: &[u8]| {
    let _ = (bson::text(data), bson::binary(data), bson::regex(data), bson::db_pointer(data));
    let _ = bson::code_with_scope(data);
    let mut key = vec![7];
    assert!(
        push_key(&mut key, data, &RowKey::new([3; 32])).is_ok() || key == [7],
        "a refusal leaves nothing behind"
    );

    // Every value of a document stands alone as well, and no key begins with another.
    let Ok(elements) = Elements::new(data) else { return };
    let mut keys = Vec::new();
    for element in elements.map_while(Result::ok).take(8) {
        assert_eq!(bson::value_len(element.kind, element.value), Ok(element.value.len()));
        let mut key = vec![7];
        match push_id(&mut key, element.kind, element.value) {
            Ok(()) => keys.push(key),
            Err(_) => assert_eq!(key, [7], "a refusal leaves nothing behind"),
        }
    }
    keys.sort();
    assert!(
        keys.windows(2).all(|pair| pair[0] == pair[1] || !pair[1].starts_with(&pair[0])),
        "a key is a prefix"
    );
});
