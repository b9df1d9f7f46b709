#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: Vec<u8>| {
    if let Ok(leaf) = repo_format::tree::Leaf::parse(data.clone()) {
        assert_eq!(repo_format::tree::node::encode_leaf(leaf.len(), leaf.records()), data);
    }
});
