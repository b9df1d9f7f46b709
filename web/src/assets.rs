//! The files the pages load: one style sheet, one script module, one icon. Their addresses hold a
//! hash of their content, so a browser may keep them for ever.

/// A file and how it is served.
#[derive(Debug)]
pub struct Asset {
    stem: &'static str,
    extension: &'static str,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The file.
    pub bytes: &'static [u8],
    hash: u64,
}

/// `Cache-Control` of every asset.
pub const CACHE_CONTROL: &str = "public, max-age=31536000, immutable";

/// The path all assets are below, with the slash.
pub const PREFIX: &str = "/assets/";

/// The style sheet.
pub static STYLE: Asset =
    Asset::new("dbsnap", "css", "text/css; charset=utf-8", include_bytes!("../assets/dbsnap.css"));
/// The script module: live progress, copy buttons, keys. Nothing needs it.
pub static SCRIPT: Asset =
    Asset::new("dbsnap", "js", "text/javascript; charset=utf-8", include_bytes!("../assets/dbsnap.js"));
/// The icon of the tab.
pub static ICON: Asset = Asset::new("icon", "svg", "image/svg+xml", include_bytes!("../assets/icon.svg"));

static ALL: [&Asset; 3] = [&STYLE, &SCRIPT, &ICON];

impl Asset {
    const fn new(
        stem: &'static str,
        extension: &'static str,
        content_type: &'static str,
        bytes: &'static [u8],
    ) -> Self {
        Self { stem, extension, content_type, bytes, hash: fnv1a(bytes) }
    }

    /// The last segment of its address.
    pub fn file_name(&self) -> String {
        format!("{}-{:016x}.{}", self.stem, self.hash, self.extension)
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("{PREFIX}{}", self.file_name())
    }
}

/// The asset with this file name. An old hash finds nothing: the page that named it is old too.
pub fn find(file_name: &str) -> Option<&'static Asset> {
    ALL.into_iter().find(|asset| asset.file_name() == file_name)
}

/// All assets.
pub fn all() -> impl Iterator<Item = &'static Asset> {
    ALL.into_iter()
}

/// FNV-1a: enough to tell versions of our own files apart, and computable at compile time.
const fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut i = 0;
    while i < bytes.len() {
        hash ^= bytes[i] as u64;
        hash = hash.wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_asset_is_found_by_the_address_the_pages_use() {
        for asset in all() {
            let name = asset.url().strip_prefix(PREFIX).expect("because url() starts with it").to_owned();
            assert_eq!(find(&name).expect("known").bytes, asset.bytes);
        }
        assert!(find("dbsnap-0000000000000000.css").is_none());
    }

    #[test]
    fn the_hash_is_fnv1a() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
