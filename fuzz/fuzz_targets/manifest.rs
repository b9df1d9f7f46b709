#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(manifest) = repo_format::manifest::Manifest::from_bytes(data) {
        assert_eq!(manifest.to_bytes(), data);
    }
});
