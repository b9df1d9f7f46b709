#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(node) = repo_format::tree::Node::parse(data, 1) {
        assert_eq!(repo_format::tree::node::encode_node(1, &node.entries), data);
    }
});
