#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(packs) = repo_format::index::parse(data) {
        assert_eq!(repo_format::index::encode(&packs), data);
    }
});
